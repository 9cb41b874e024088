"""The samples on their way into the database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

import structlog

from hostwatch.store.batches import Delivery
from hostwatch.store.detail import DetailPlan
from hostwatch.store.errors import NoPartitionError
from hostwatch.store.rows import (
    COLLECTED_AT,
    INSERT,
    SERVER_ID,
    Row,
    is_in_range,
    to_columns,
    to_row,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from datetime import date, datetime

    import psycopg

    from hostwatch.model.sample import Sample
    from hostwatch.model.server import ServerId
    from hostwatch.store.batches import Outage
    from hostwatch.store.errors import BadRowsError
    from hostwatch.store.link import Link
    from hostwatch.store.meter import StoreMeter

_BATCH = 500
_LINGER = 1.0
"""Seconds that a batch waits for more rows: one commit then serves many servers."""

_AHEAD = timedelta(minutes=5)
_STATEMENT_TIMEOUT = b"SELECT set_config('statement_timeout', '8s', true)"
"""So that the server ends what its client is about to give up, and frees the locks. It
lasts for the transaction: a pooler would keep a session's setting for others."""

_DEADLINE = 10


class SampleWriter:
    """Takes samples at once, and writes them in batches as soon as it can.

    Holds ``limit`` rows at most: then the oldest goes. ``make_days`` makes partitions
    for days that have none.
    """

    def __init__(
        self,
        link: Link,
        *,
        meter: StoreMeter,
        outage: Outage,
        retention: timedelta,
        clock: Callable[[], datetime],
        make_days: Callable[[Collection[date]], Awaitable[None]],
        limit: int = 100_000,
    ) -> None:
        self._link = link
        self._meter = meter
        self._retention = retention
        self._clock = clock
        self._make_days = make_days
        self._limit = limit
        self._log = structlog.get_logger(component="store")
        self._plan = DetailPlan()
        self._queue: deque[Row] = deque()
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._stopping = False
        self._delivery = Delivery(self._insert, outage=outage)

    def put(self, sample: Sample) -> None:
        """Queue a sample; one that cannot be stored is counted and dropped."""
        why = self._objection(sample)
        if why is None:
            row = to_row(sample, detailed=self._plan.take(sample))
            if is_in_range(row):
                self._enqueue(row)
                return
            why = "refused"
            self._log.warning(
                "A sample is out of range and dropped",
                server=sample.server.name,
                namespace=sample.server.namespace,
                organization=sample.server.organization,
            )
        self._meter.dropped(1, why)

    def forget(self, server: ServerId) -> None:
        """Drop what is remembered of a server that is gone."""
        self._plan.forget(server)

    async def run(self) -> None:
        """Write until `stop` was called and nothing is left.

        Rows that a failed run had under way are dropped: they may be what it met.
        """
        self._drop_under_way()
        while rows := await self._next_batch():
            self._note_refused(await self._delivery.deliver(rows))
            self._tell_waiting()

    def stop(self) -> None:
        """Let `run` end once the queue is empty; later samples are dropped."""
        self._stopping = True
        self._some.set()
        self._enough.set()

    def abandon(self) -> None:
        """Count what was not written: `run` was cancelled."""
        left = len(self._queue) + len(self._delivery.abandon())
        if left:
            self._meter.dropped(left, "shutdown")
            self._log.warning("Samples are lost in the shutdown", rows=left)
        self._queue.clear()
        self._tell_waiting()

    def _objection(self, sample: Sample) -> str | None:
        if self._stopping:
            return "shutdown"
        now = self._clock()
        if sample.collected_at < now - self._retention:
            return "too_old"
        if sample.collected_at > now + _AHEAD:
            return "too_new"
        return None

    def _enqueue(self, row: Row) -> None:
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self._meter.dropped(1, "queue_full")
        self._queue.append(row)
        self._tell_waiting()
        self._some.set()
        if len(self._queue) >= _BATCH:
            self._enough.set()

    def _tell_waiting(self) -> None:
        self._meter.queued(len(self._queue) + self._delivery.left)

    def _drop_under_way(self) -> None:
        if left := self._delivery.abandon():
            self._meter.dropped(len(left), "unexpected")
            self._log.error("Samples under way are dropped", rows=len(left))
            self._tell_waiting()

    async def _next_batch(self) -> list[Row]:
        """Wait for rows; none only means the end."""
        await self._some.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._enough.wait()
        rows = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        if not self._stopping:
            if not self._queue:
                self._some.clear()
            if len(self._queue) < _BATCH:
                self._enough.clear()
        return rows

    async def _insert(self, rows: Sequence[Row]) -> None:
        try:
            await self._store(rows)
        except NoPartitionError:
            await self._make_days(
                {row[COLLECTED_AT].astimezone(UTC).date() for row in rows}
            )
            await self._store(rows)

    async def _store(self, rows: Sequence[Row]) -> None:
        columns = to_columns(rows)

        async def insert(connection: psycopg.AsyncConnection) -> int:
            # One round trip; the server takes a pipeline as one transaction.
            async with connection.pipeline():
                await connection.execute(_STATEMENT_TIMEOUT)
                cursor = await connection.execute(INSERT, columns)
            return cursor.rowcount

        started = time.monotonic()
        new = await self._link.run(insert, deadline=_DEADLINE)
        self._meter.written(new, time.monotonic() - started)
        if new < len(rows):
            self._meter.dropped(len(rows) - new, "duplicate")

    def _note_refused(self, refused: Sequence[tuple[Row, BadRowsError]]) -> None:
        """Count rows that the database refused; one line for the batch, no values."""
        if not refused:
            return
        causes = Counter(
            "no_partition" if isinstance(error, NoPartitionError) else "refused"
            for _, error in refused
        )
        for why, rows in causes.items():
            self._meter.dropped(rows, why)
        row, error = refused[0]
        self._log.warning(
            "The database refuses samples, they are dropped",
            rows=len(refused),
            server_id=row[SERVER_ID],
            organization=row[-6],
            error=str(error),
        )
