"""A D360 server's HTTP side, as C{d360ctl} calls it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8360"

#: Seconds that an answer may take.
TIMEOUT = 30.0


class Refused(Exception):
    """
    What was asked for was not done; the message is for the person.

    @ivar status: the HTTP status that says so, 0 where no server did.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def _trust(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no PEM"
        raise Refused(f"cannot read the CA {ca!r}: {why}; see --ca") from None


class Server:
    """
    A D360 server's HTTP side.

    @param url: such as C{http://127.0.0.1:8360}.
    @param token: its C{web.token}, or empty.
    @param ca: a PEM file of the CA of its certificate; empty for those that the
        system knows.
    """

    def __init__(self, url: str, token: str, ca: str = "") -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused(f"{url!r} is no URL; give one like {DEFAULT_URL}")
        self._url = url
        self._kind: Callable[..., http.client.HTTPConnection] = (
            partial(http.client.HTTPSConnection, context=_trust(ca))
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        self._where = parts.hostname, port
        # A header's value has bytes, which http.client takes as Latin 1; those
        # of the token are its UTF-8.
        shown = token.encode(errors="surrogateescape").decode("latin-1")
        self._headers = {"Authorization": f"Bearer {shown}"} if token else {}

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        timeout: float = TIMEOUT,
        kind: str = "application/json",
    ) -> Any:
        """
        Make a call and return the decoded answer; C{None} for one without a
        body.

        @param body: goes as it is if it is C{bytes}, else as JSON.
        @param timeout: seconds.
        @param kind: the body's content type.
        @raise Refused: no answer, or a 4xx or 5xx one.
        """
        try:
            connection = self._kind(*self._where, timeout=timeout)
        except http.client.InvalidURL:
            raise Refused(
                f"{self._url!r} is no URL; give one like {DEFAULT_URL}"
            ) from None
        headers = {"Content-Type": kind} | self._headers
        data = body if isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            data = response.read()
        except ssl.SSLCertVerificationError as error:
            raise Refused(
                f"the certificate of {self._url} is not to be trusted "
                f"({error.verify_message}); give the CA that signed it by --ca"
            ) from None
        except ssl.SSLError as error:
            raise Refused(
                f"what answers at {self._url} does not speak TLS as we do "
                f"({error.strerror}); is it http://?"
            ) from None
        except OSError as error:
            raise Refused(
                f"no D360 answers at {self._url} ({error}); is it running, and is "
                "this its web.address and web.port? Give another by --url"
            ) from None
        except http.client.HTTPException:
            raise Refused(f"what answers at {self._url} is no D360") from None
        except ValueError:
            raise Refused(
                f"nothing can be sent to {self._url!r}: the host of --url, or the "
                "--token, has characters that belong into none"
            ) from None
        finally:
            connection.close()
        if response.status == http.client.NO_CONTENT:
            return None
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Refused(f"what answers at {self._url} is no D360")
        if response.status >= 400:
            raise Refused(
                answer.get("error", f"HTTP status {response.status}"), response.status
            )
        return answer
