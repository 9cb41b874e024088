"""The tables, made and changed by the numbered files in ``migrations``."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import structlog

from hostwatch.store.errors import (
    BadRowsError,
    SchemaError,
    SchemaTooNewError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from hostwatch.store.link import Link

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")

# A transaction's lock, which a pooler and a lost connection cannot leave behind.
# The number is the ASCII of "hostwatc".
_TRY_LOCK = b"SELECT pg_try_advisory_xact_lock(7525360697158496355)"
_LOCK_PAUSE = 0.5
_DEADLINE = 600

_BOOTSTRAP = b"""
CREATE SCHEMA IF NOT EXISTS hostwatch;
CREATE TABLE hostwatch.migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: ``sql`` runs in a transaction of its own."""

    version: int
    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return hashlib.sha256(self.sql).hexdigest()


def known_migrations() -> list[Migration]:
    """Return the migrations of this version in order."""
    folder = files("hostwatch.store") / "migrations"
    found = [
        Migration(int(match["version"]), match["name"], file.read_bytes())
        for file in folder.iterdir()
        if (match := _FILE.fullmatch(file.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


class Schema:
    """Brings a database to the newest known schema."""

    def __init__(
        self, link: Link, *, migrations: Sequence[Migration] | None = None
    ) -> None:
        self._link = link
        self._migrations = known_migrations() if migrations is None else migrations
        self._log = structlog.get_logger(component="store")

    async def migrate(self) -> list[str]:
        """Apply what is missing, and return its names.

        Waits while another process migrates. Raises a `StoreError`.
        """
        applied: list[str] = []
        waits = False
        while True:
            try:
                step = await self._link.run(self._step, deadline=_DEADLINE)
            except BadRowsError as error:
                raise SchemaError(
                    "a migration cannot be applied to the data", sqlstate=error.sqlstate
                ) from None
            if step is _LOCKED:
                if not waits:
                    self._log.info("Another process migrates the database, waiting")
                waits = True
                await asyncio.sleep(_LOCK_PAUSE)
            elif step is None:
                return applied
            else:
                self._log.info("Migration is applied", migration=step)
                applied.append(step)

    async def _step(self, connection: psycopg.AsyncConnection) -> str | None:
        """Apply the first missing migration; None where there is none."""
        async with connection.transaction():
            locked = await (await connection.execute(_TRY_LOCK)).fetchone()
            if locked != (True,):
                return _LOCKED
            migration = self._first_missing(await _applied(connection))
            if migration is None:
                return None
            # Rather fail and try again than queue all readers behind a wait.
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO hostwatch.migrations (version, name, checksum)"
                " VALUES (%s, %s, %s)",
                [migration.version, migration.name, migration.checksum],
            )
            return f"{migration.version:04}_{migration.name}"

    def _first_missing(self, applied: dict[int, str]) -> Migration | None:
        newest = max((m.version for m in self._migrations), default=0)
        if applied and max(applied) > newest:
            raise SchemaTooNewError(found=max(applied), known=newest)
        for migration in self._migrations:
            checksum = applied.pop(migration.version, None)
            if checksum is None:
                return migration
            if checksum != migration.checksum:
                raise SchemaError(
                    f"migration {migration.version:04}_{migration.name} was changed "
                    "after it had been applied to this database"
                )
        if applied:
            raise SchemaError(f"unknown migration {min(applied):04} in the database")
        return None


_LOCKED = "locked"


async def _applied(connection: psycopg.AsyncConnection) -> dict[int, str]:
    """Read which migrations ran, by version; make their table where there is none.

    Looks first: CREATE ... IF NOT EXISTS asks for the privilege in any case.
    """
    exists = await (
        await connection.execute("SELECT to_regclass('hostwatch.migrations')")
    ).fetchone()
    if exists == (None,):
        await connection.execute(_BOOTSTRAP)
    rows = await connection.execute(
        "SELECT version, checksum FROM hostwatch.migrations"
    )
    return {version: checksum async for version, checksum in rows}
