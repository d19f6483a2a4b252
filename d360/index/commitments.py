"""The storage commitments that were asked for, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from zope.interface import implementer

from d360.asynchronous import asynchronous
from d360.index import sql
from d360.index.pool import ConnectionPool
from d360.interfaces import ICommitmentRequests
from d360.model import CommitmentRequest, PendingCommitment, Referenced


def _requestOf(row: Sequence[Any]) -> CommitmentRequest:
    identifier, aeTitle, transactionUID, attempts, age, *of = row
    classes, instances, found = of
    return CommitmentRequest(
        transactionUID,
        aeTitle,
        tuple(map(Referenced, classes, instances)),
        None if found is None else tuple(found),
        attempts,
        age,
        identifier,
    )


def _pendingOf(row: Sequence[Any]) -> PendingCommitment:
    # Times come in the time zone of the database.
    values: list[Any] = [
        value.astimezone(UTC) if isinstance(value, datetime) else value for value in row
    ]
    return PendingCommitment(*values)


@implementer(ICommitmentRequests)
class PostgreSQLCommitmentRequests:
    """See L{ICommitmentRequests}."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    @asynchronous
    async def add(
        self, request: CommitmentRequest, patience: float
    ) -> CommitmentRequest | None:
        statement = sql.addCommitment(
            request.aeTitle,
            request.transactionUID,
            [one.SOPClassUID for one in request.references],
            [one.SOPInstanceUID for one in request.references],
            patience,
        )
        rows = await self._pool.query("add commitment", statement, repeatable=False)
        return evolve(request, identifier=rows[0][0]) if rows else None

    @asynchronous
    async def due(
        self, patience: float, without: Collection[str] = ()
    ) -> CommitmentRequest | None:
        statement = sql.dueCommitment(patience, list(without))
        rows = await self._pool.query("due commitment", statement, repeatable=False)
        return _requestOf(rows[0]) if rows else None

    @asynchronous
    async def renew(self, request: CommitmentRequest, patience: float) -> bool:
        statement = sql.renewCommitment(request.identifier, request.attempts, patience)
        return bool(await self._pool.query("renew commitment", statement))

    @asynchronous
    async def postpone(self, identifier: int, patience: float, why: str = "") -> None:
        statement = sql.postponeCommitment(identifier, patience, why)
        await self._pool.query("postpone commitment", statement)

    @asynchronous
    async def putOff(self, aeTitle: str, patience: float) -> None:
        statement = sql.putOffCommitments(aeTitle, patience)
        await self._pool.query("put off commitments", statement)

    @asynchronous
    async def retry(self, identifier: int) -> bool:
        statement = sql.retryCommitment(identifier)
        return bool(await self._pool.query("retry commitment", statement))

    @asynchronous
    async def checked(self, identifier: int, reasons: Sequence[int]) -> None:
        statement = sql.commitmentChecked(identifier, list(reasons))
        await self._pool.query("commitment checked", statement)

    @asynchronous
    async def remove(self, identifier: int) -> bool:
        statement = sql.removeCommitment(identifier)
        return bool(await self._pool.query("remove commitment", statement))

    @asynchronous
    async def all(self, count: int) -> tuple[PendingCommitment, ...]:
        rows = await self._pool.query("commitments", sql.commitments(count))
        return tuple(map(_pendingOf, rows))
