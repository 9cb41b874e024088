"""One partition per UTC day: made ahead, dropped whole when it is too old."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from psycopg import sql

from hostwatch.store.backoff import Backoff
from hostwatch.store.errors import DatabaseBusyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import psycopg

    from hostwatch.store.link import Link

_SCHEMA = "hostwatch"
_BEHIND = timedelta(days=2)
_AHEAD = timedelta(days=7)
_DEADLINE = 60
_ATTEMPTS = 3

_NO_TABLE = "42P01"
_PASSING = ("55P03", "55000", _NO_TABLE)
"""A lock not given in time; and what another process that prunes leaves to see: a
detaching under way, a table gone."""

# The ASCII of "hostpart".
_LOCK = b"SELECT pg_advisory_xact_lock(7525360697024733812)"

_ATTACHED = """
SELECT c.relname, i.inhdetachpending FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %s::regclass
"""

_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r' AND NOT c.relispartition
"""


class Partitions:
    """The daily partitions of one table of the schema ``hostwatch``.

    ``lock_timeout`` is how many seconds a statement waits for readers before it gives
    way and tries again.
    """

    def __init__(
        self,
        link: Link,
        *,
        table: str = "server_resource_metrics",
        retention: timedelta,
        lock_timeout: float = 2,
    ) -> None:
        self._link = link
        self._table = table
        self._retention = retention
        self._lock_timeout = lock_timeout
        self._name = re.compile(rf"{re.escape(table)}_(\d{{8}})")
        self._log = structlog.get_logger(component="store")

    async def make_ahead(self, now: datetime) -> list[str]:
        """Make what is missing from two days ago to seven days ahead; return it."""
        today = now.astimezone(UTC).date()
        days = range((_BEHIND + _AHEAD).days + 1)
        return await self.make([today - _BEHIND + timedelta(days=n) for n in days])

    async def make(self, days: Collection[date]) -> list[str]:
        """Make the partitions of these days where they are missing; return them.

        LIKE and ATTACH lock the table so weakly that writers and readers go on.
        """

        async def work(connection: psycopg.AsyncConnection) -> list[str]:
            async with connection.transaction():
                await self._limit_waits(connection, local=True)
                await connection.execute(_LOCK)
                attached = await self._attached(connection)
                made = [d for d in sorted(days) if self._name_of(d) not in attached]
                for day in made:
                    await self._make_one(connection, day)
            return [self._name_of(day) for day in made]

        return await self._link.run(work, deadline=_DEADLINE)

    async def prune(self, now: datetime) -> list[str]:
        """Drop the days that are wholly older than the retention; return them.

        Whatever an interrupted run left half done is completed first. Raises
        `DatabaseBusyError` where a reader stays in the way; the next run goes on.
        Every error carries what was dropped before.
        """
        dropped: list[str] = []
        try:
            await self._prune_between_readers(now, dropped)
        except StoreError as error:
            error.dropped = tuple(dropped)
            raise
        return dropped

    async def _prune_between_readers(self, now: datetime, dropped: list[str]) -> None:
        backoff = Backoff(first=1)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._link.run(
                    lambda connection: self._prune(connection, now, dropped),
                    deadline=_DEADLINE,
                )
            except StoreError as error:
                # A table that stays away was never made.
                last = attempt == _ATTEMPTS and error.sqlstate == _NO_TABLE
                if last or error.sqlstate not in _PASSING:
                    raise
                if attempt < _ATTEMPTS:
                    await asyncio.sleep(backoff.next_delay())
            else:
                return
        raise DatabaseBusyError(
            f"a transaction keeps an old partition of {self._table} in use"
        )

    async def _prune(
        self, connection: psycopg.AsyncConnection, now: datetime, dropped: list[str]
    ) -> None:
        await self._limit_waits(connection, local=False)
        attached = await self._attached(connection)
        for name in sorted(name for name, pending in attached.items() if pending):
            # One that is pending keeps all others from being detached.
            await self._alter(connection, "DETACH PARTITION {} FINALIZE", name)
        for name in self._too_old(attached, now):
            if not attached[name]:
                await self._alter(connection, "DETACH PARTITION {} CONCURRENTLY", name)
            await self._drop(connection, name, dropped)
        tables = await connection.execute(_TABLES, [_SCHEMA])
        loose = [name async for (name,) in tables]
        for name in self._too_old(loose, now):
            await self._drop(connection, name, dropped)

    async def _drop(
        self, connection: psycopg.AsyncConnection, name: str, dropped: list[str]
    ) -> None:
        await connection.execute(
            sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(_SCHEMA, name))
        )
        dropped.append(name)

    def _too_old(self, names: Iterable[str], now: datetime) -> list[str]:
        """Choose the partitions whose last moment is older than the retention."""
        limit = now.astimezone(UTC) - self._retention
        return sorted(
            name
            for name in names
            if (day := self._day_of(name)) and _midnight(day, after=1) <= limit
        )

    async def _make_one(self, connection: psycopg.AsyncConnection, day: date) -> None:
        """Make one partition; a table of its name that stands loose is attached."""
        name = self._name_of(day)
        await connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (LIKE {} INCLUDING ALL)").format(
                sql.Identifier(_SCHEMA, name), sql.Identifier(_SCHEMA, self._table)
            )
        )
        await connection.execute(
            sql.SQL(
                "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})"
            ).format(
                sql.Identifier(_SCHEMA, self._table),
                sql.Identifier(_SCHEMA, name),
                sql.Literal(_midnight(day).isoformat()),
                sql.Literal(_midnight(day, after=1).isoformat()),
            )
        )

    async def _alter(
        self, connection: psycopg.AsyncConnection, action: str, name: str
    ) -> None:
        await connection.execute(
            sql.SQL("ALTER TABLE {} ").format(sql.Identifier(_SCHEMA, self._table))
            + sql.SQL(action).format(sql.Identifier(_SCHEMA, name))
        )

    async def _attached(self, connection: psycopg.AsyncConnection) -> dict[str, bool]:
        """Return the partitions by name, and whether their detaching is pending."""
        rows = await connection.execute(_ATTACHED, [f"{_SCHEMA}.{self._table}"])
        return {name: pending async for name, pending in rows}

    async def _limit_waits(
        self, connection: psycopg.AsyncConnection, *, local: bool
    ) -> None:
        await connection.execute(
            "SELECT set_config('lock_timeout', %s, %s)",
            [f"{self._lock_timeout}s", local],
        )

    def _name_of(self, day: date) -> str:
        return f"{self._table}_{day:%Y%m%d}"

    def _day_of(self, name: str) -> date | None:
        match = self._name.fullmatch(name)
        try:
            return date.fromisoformat(match[1]) if match else None
        except ValueError:
            return None


def _midnight(day: date, *, after: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=after)
