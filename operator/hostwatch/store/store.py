"""Everything that is kept in PostgreSQL, opened and closed in order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from hostwatch.store.alerts import AlertBook
from hostwatch.store.backoff import Backoff
from hostwatch.store.batches import Outage
from hostwatch.store.errors import DatabaseAwayError
from hostwatch.store.link import Link
from hostwatch.store.meter import NoMeter
from hostwatch.store.partitions import Partitions
from hostwatch.store.pins import PinStore
from hostwatch.store.roster import ServerRoster
from hostwatch.store.samples import SampleWriter
from hostwatch.store.schema import Schema
from hostwatch.store.upkeep import Upkeep

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Awaitable, Callable, Collection
    from datetime import date

    import psycopg

    from hostwatch.settings import PostgresSettings
    from hostwatch.store.meter import StoreMeter

_DSN = "HOSTWATCH_POSTGRES_DSN"
_MAINTENANCE_DSN = "HOSTWATCH_POSTGRES_MAINTENANCE_DSN"
_FLUSH = 5.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


def maintenance_link(settings: PostgresSettings) -> Link:
    """Return the link for migrations, partitions and the prune."""
    own = settings.postgres_maintenance_dsn
    if own is None:
        return Link(settings.postgres_dsn, setting=_DSN)
    return Link(own, setting=_MAINTENANCE_DSN)


class Store:
    """The samples, servers, pins and alerts of one cluster, and their tables.

    All may be used as soon as it is made: samples and servers that arrive before the
    database does are queued, pins and alerts say that it is away. The alerts are those
    of ``namespaces``; none named is all.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        cluster_id: str,
        namespaces: Collection[str] = (),
        meter: StoreMeter,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        retention = timedelta(days=settings.retention_days)
        self._clock = clock
        self._log = structlog.get_logger(component="store")
        self._outage = Outage("samples", meter)
        # Three connections for the work: no pin and no alert waits for a batch.
        self._rows = Link(settings.postgres_dsn, setting=_DSN)
        self._pins = Link(settings.postgres_dsn, setting=_DSN)
        self._alerts = Link(settings.postgres_dsn, setting=_DSN)
        self._maintenance = maintenance_link(settings)
        self._schema = Schema(self._maintenance)
        self._partitions = Partitions(self._maintenance, retention=retention)
        self._upkeep = Upkeep(
            self._partitions, link=self._maintenance, meter=meter, clock=clock
        )
        self.samples = SampleWriter(
            self._rows,
            meter=meter,
            outage=self._outage,
            retention=retention,
            clock=clock,
            make_days=self._make_days,
        )
        self.roster = ServerRoster(
            self._rows,
            cluster_id=cluster_id,
            outage=Outage("servers", NoMeter()),
            clock=clock,
            forget=self.samples.forget,
        )
        self.pins = PinStore(self._pins, cluster_id=cluster_id)
        self.alerts = AlertBook(
            self._alerts, cluster_id=cluster_id, namespaces=namespaces
        )
        self._prepared = asyncio.Event()
        self._writers: list[Task[None]] = []

    async def open(self) -> None:
        """Start writing; it begins once `prepare` has found or made the tables."""
        self._writers = [
            self._start("samples", self.samples.run),
            self._start("roster", self.roster.run),
        ]

    async def keep_up(self) -> None:
        """Make partitions ahead and prune, once a day, for ever.

        One replica's work; the others only wait to write. It begins once `prepare`
        has succeeded, and is cancelled before `close`.
        """
        await self._keep_running("upkeep", self._upkeep.run)

    async def prepare(self) -> None:
        """Migrate and make partitions; wait for the database as long as it takes.

        Raises `DatabaseRefusedError` or `SchemaError` when waiting would not help.
        """
        backoff = Backoff()
        while True:
            try:
                await self._schema.migrate()
                await self._partitions.make_ahead(self._clock())
                await self._rows.run(_log_in, deadline=10)
            except DatabaseAwayError as error:
                self._outage.goes_on(error)
                await asyncio.sleep(backoff.next_delay())
            else:
                self._outage.is_over()
                self._prepared.set()
                return

    async def close(self) -> None:
        """Write what is left, for 5 seconds at most, then stop."""
        self.samples.stop()
        self.roster.stop()
        if self._writers and self._prepared.is_set():
            await asyncio.wait(self._writers, timeout=_FLUSH)
        for task in self._writers:
            await _end(task)
        self.samples.abandon()
        for link in (self._rows, self._pins, self._alerts, self._maintenance):
            await link.close()

    async def _make_days(self, days: Collection[date]) -> None:
        await self._partitions.make(days)

    def _start(self, name: str, run: Callable[[], Awaitable[None]]) -> Task[None]:
        return asyncio.create_task(self._keep_running(name, run), name=f"store {name}")

    async def _keep_running(
        self, name: str, run: Callable[[], Awaitable[None]]
    ) -> None:
        """Run one of the tasks to its own end, whatever mistake of ours it meets."""
        await self._prepared.wait()
        backoff = Backoff()
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 - the one runner of these tasks
                self._log.exception("A task failed and starts again", task=name)
                await asyncio.sleep(backoff.next_delay())
            else:
                return


async def _log_in(_: psycopg.AsyncConnection) -> None:
    """Do nothing: the connection is made before."""


async def _end(task: Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
