"""Samples to store, and a look at what was stored."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from pydantic import SecretStr

from hostwatch.model.reading import CpuUsage, Filesystem, Interface
from hostwatch.model.reason import Reason
from hostwatch.model.sample import Health, Metrics, Sample
from hostwatch.model.server import (
    Organization,
    Server,
    ServerId,
    ServerKey,
    ServerSpec,
)
from hostwatch.settings import PostgresSettings
from hostwatch.store.link import Link
from hostwatch.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from hostwatch.store.meter import StoreMeter

CLUSTER = str(uuid.UUID(int=0xC1))
BOOT = datetime(2026, 10, 1, 8, tzinfo=UTC)
GIB = 2**30


def settings(dsn: str, **more: Any) -> PostgresSettings:
    return PostgresSettings(postgres_dsn=SecretStr(dsn), **more)


def link(dsn: str) -> Link:
    return Link(SecretStr(dsn), setting="HOSTWATCH_POSTGRES_DSN")


def server(number: int, *, organization: str = "acme") -> ServerKey:
    return ServerKey(
        id=ServerId(str(uuid.UUID(int=number))),
        namespace="acme",
        name=f"web-{number}",
        organization=Organization(organization),
    )


def resource(
    number: int, *, host: str | None = "web.example.com", **labels: str
) -> Server:
    """Make the resource of `server`; without a host it is an invalid one."""
    return Server(
        id=server(number).id,
        namespace="acme",
        name=f"web-{number}",
        generation=1,
        spec=ServerSpec(host=host, secret_name="ssh") if host else None,
        labels=labels,
    )


def metrics(*, mounts: int = 5, interfaces: int = 3, **changes: Any) -> Metrics:
    """Make a full document's worth."""
    values: dict[str, Any] = {
        "cpu": CpuUsage(total=12.5, user=8.25, system=2.5, iowait=1.25, steal=0.5),
        "memory_used": 3 * GIB,
        "memory_total": 8 * GIB,
        "disk_used": 72 * GIB,
        "disk_available": 28 * GIB,
        "disk_total": 105 * GIB,
        "disk_mount": "/mnt/0",
        "network_receive_bytes": 123_456_789_012,
        "network_transmit_bytes": 98_765_432_109,
        "load": (0.5, 0.25, 0.125),
        "uptime_seconds": 4_579_200,
        "boot_time": BOOT,
        "filesystems": tuple(
            Filesystem(
                mount_point=f"/mnt/{n}",
                device=f"/dev/sd{n}",
                type="ext4",
                total=105 * GIB,
                used=(72 - n) * GIB,
                available=28 * GIB,
            )
            for n in range(mounts)
        ),
        "interfaces": tuple(
            Interface(name=f"eth{n}", receive_bytes=1000 + n, transmit_bytes=2000 + n)
            for n in range(interfaces)
        ),
    }
    return Metrics(**{**values, **changes})


def sample(of: ServerKey, at: datetime, **changes: Any) -> Sample:
    return Sample(
        server=of,
        collected_at=at,
        status=Health.HEALTHY,
        reason=None,
        metrics=metrics(**changes),
    )


def failed_sample(of: ServerKey, at: datetime) -> Sample:
    return Sample(
        server=of,
        collected_at=at,
        status=Health.ERROR,
        reason=Reason.CONNECTION_REFUSED,
        metrics=Metrics(),
    )


class Tally:
    """The store's meter, for a test to read."""

    def __init__(self) -> None:
        self.rows = 0
        self.lost: Counter[str] = Counter()
        self.waiting = 0
        self.outages: list[bool] = []  # what `away` said, repeated words once
        self.upkeeps: list[bool] = []
        self.dropped_partitions: list[str] = []

    def written(self, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.rows += rows

    def dropped(self, rows: int, why: str) -> None:
        self.lost[why] += rows

    def queued(self, rows: int) -> None:
        self.waiting = rows

    def away(self, away: bool) -> None:  # noqa: FBT001 - as the protocol
        if self.outages[-1:] != [away]:
            self.outages.append(away)

    def maintained(self, *, succeeded: bool) -> None:
        self.upkeeps.append(succeeded)

    def pruned(self, partitions: Sequence[str]) -> None:
        self.dropped_partitions += partitions


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@asynccontextmanager
async def opened_store(
    dsn: str, *, meter: StoreMeter | None = None, prepared: bool = True, **more: Any
) -> AsyncIterator[Store]:
    options = {key: more.pop(key) for key in ("clock",) if key in more}
    store = Store(
        settings(dsn, **more), cluster_id=CLUSTER, meter=meter or Tally(), **options
    )
    await store.open()
    try:
        if prepared:
            async with asyncio.timeout(60):
                await store.prepare()
        yield store
    finally:
        await store.close()


def rows(dsn: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask the database over a connection of our own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


def execute(dsn: str, statement: str, *values: object) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode(), values or None)
