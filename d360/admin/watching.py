"""What the server does, for people who watch it: further calls of C{/api}."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import asdict
from twisted.web.server import Request

from d360.admin.resource import JSONResource
from d360.interfaces import (
    IAssociations,
    ILiveAssociations,
    IRates,
    IRecentEvents,
    IWorkers,
)

#: Associations that are listed at most: those established last.
MAX_ASSOCIATIONS = 100


def rfc3339(time: datetime) -> str:
    """RFC 3339, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class RatesResource(JSONResource):
    """C{/api/rates}: the last day's work, minute by minute."""

    def __init__(self, rates: IRates, workers: IWorkers) -> None:
        super().__init__()
        self._rates = rates
        self._workers = workers

    async def get(self, request: Request) -> dict[str, Any]:
        """All lists have the same length; their last number is still growing."""
        await self._workers.refresh("rates")
        history = self._rates.history()
        return {
            "interval_seconds": history.interval,
            "from": rfc3339(history.start),
            "stored": history.stored,
            "bytes": history.bytes,
            "queries": history.queries,
            "retrieved": history.retrieved,
            "failed": history.failed,
        }


class AssociationsResource(JSONResource):
    """C{/api/associations}: who is connected."""

    def __init__(
        self,
        associations: IAssociations,
        each: ILiveAssociations,
        workers: IWorkers,
    ) -> None:
        super().__init__()
        self._associations = associations
        self._each = each
        self._workers = workers

    async def get(self, request: Request) -> dict[str, Any]:
        """How many there are, and the latest of them one by one."""
        await self._workers.refresh("associations")
        return {
            "live": self._associations.live,
            "associations": [
                {
                    "number": one.number,
                    "calling": one.callingAETitle,
                    "called": one.calledAETitle,
                    "peer": one.peer,
                    "since": rfc3339(one.since),
                    "operation": one.operation,
                    "operations": one.operations,
                }
                for one in self._each.newest(MAX_ASSOCIATIONS)
            ],
        }


class ErrorsResource(JSONResource):
    """C{/api/errors}: the log's last warnings and errors."""

    def __init__(self, events: IRecentEvents) -> None:
        super().__init__()
        self._events = events

    async def get(self, request: Request) -> dict[str, Any]:
        """The latest first."""
        return {
            "errors": [
                asdict(event) | {"time": rfc3339(event.time)}
                for event in self._events.recent()
            ]
        }


class SettingsResource(JSONResource):
    """
    C{/api/settings}: the configuration in effect.

    @param settings: by key; no secret among them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self._settings = dict(settings)

    async def get(self, request: Request) -> dict[str, Any]:
        """Each key of the configuration file."""
        return {"settings": self._settings}
