"""pynetdicom as a client: a second implementation, with another mind."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE

from tests.interop.running import HOST, RunningServer


@contextmanager
def associated(
    server: RunningServer, contexts: Iterable[tuple[str, str]], **options: Any
) -> Iterator[Any]:
    """
    An association of pynetdicom's, with one presentation context for each
    pair of abstract syntax and transfer syntax.

    @param options: further ones of C{AE.associate}.

    Its background thread is kept still meanwhile: it looks for messages that
    nobody waits for, and between the calls of a client it now and then takes
    a response away that came faster than it expected.
    """
    client = AE("PYNETDICOM")
    for abstractSyntax, transferSyntax in contexts:
        client.add_requested_context(abstractSyntax, transferSyntax)
    association = client.associate(
        HOST, server.port, ae_title=server.aeTitle, **options
    )
    if not association.is_established:
        raise RuntimeError("the association was not accepted")
    checkpoint: Any = association._reactor_checkpoint
    checkpoint.clear()
    # Until it waits, or has ended.
    while association.is_alive() and not checkpoint._cond._waiters:
        time.sleep(0.001)
    checkpoint.set = lambda: None
    try:
        yield association
    finally:
        del checkpoint.set
        association.release()
