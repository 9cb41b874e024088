"""The record of which servers exist: the table ``servers``."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from hostwatch.model.server import ServerId
from hostwatch.store.batches import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    import psycopg

    from hostwatch.model.server import Server, ServerKey
    from hostwatch.store.batches import Outage
    from hostwatch.store.link import Link

_LINGER = 0.5
_BATCH = 500
_LIMIT = 100_000
_REFRESH = timedelta(hours=1)
_DEADLINE = 10

_UPSERT = b"""
INSERT INTO hostwatch.servers AS s (
    server_id, cluster_id, organization, namespace, name, host, labels,
    first_seen, last_seen, deleted_at
)
SELECT
    server_id, %s::uuid, organization, namespace, name, host, labels::jsonb,
    seen, seen, deleted_at
FROM unnest(
    %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::timestamptz[], %s::timestamptz[]
) AS t (server_id, organization, namespace, name, host, labels, seen, deleted_at)
ON CONFLICT (server_id) DO UPDATE SET
    organization = excluded.organization, namespace = excluded.namespace,
    name = excluded.name, host = coalesce(excluded.host, s.host),
    labels = excluded.labels, last_seen = greatest(s.last_seen, excluded.last_seen),
    deleted_at = excluded.deleted_at
WHERE excluded.last_seen >= greatest(s.last_seen, s.deleted_at)
    OR s.last_seen = s.host_key_pinned_at
"""
"""What is older than the row is another replica's to correct, and is not written; but a
row that only a pin has made says nothing yet. ``greatest`` passes over nulls."""

_DELETE = b"""
UPDATE hostwatch.servers AS s SET deleted_at = t.deleted_at
FROM unnest(%s::uuid[], %s::timestamptz[]) AS t (server_id, deleted_at)
WHERE s.server_id = t.server_id AND s.deleted_at IS NULL
"""

_KNOWN = b"""
SELECT server_id::text FROM hostwatch.servers
WHERE cluster_id = %s::uuid AND deleted_at IS NULL
    AND (cardinality(%s::text[]) = 0 OR namespace = ANY (%s::text[]))
"""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the table should say of one server."""

    server: ServerKey
    host: str | None
    labels: str
    seen: datetime
    deleted_at: datetime | None = None

    def says_the_same_as(self, other: _Entry) -> bool:
        """Compare all but when it was seen."""
        return self == replace(other, seen=self.seen)


class ServerRoster:
    """Keeps ``servers`` in step with the resources of one cluster.

    What changes a server twice before it is written is written once. An unchanged
    server is written once an hour, for its last_seen. ``forget`` hears who is gone.
    """

    def __init__(
        self,
        link: Link,
        *,
        cluster_id: str,
        outage: Outage,
        clock: Callable[[], datetime],
        forget: Callable[[ServerId], None] = lambda _: None,
    ) -> None:
        self._link = link
        self._forget = forget
        self._cluster_id = cluster_id
        self._clock = clock
        self._log = structlog.get_logger(component="store")
        self._told: dict[ServerId, _Entry] = {}
        self._waiting: dict[ServerId, _Entry | datetime] = {}
        self._some = asyncio.Event()
        self._stop = asyncio.Event()
        self._delivery = Delivery(self._write, outage=outage)

    def seen(self, server: ServerKey, resource: Server) -> None:
        """Note a server's name, host and labels; cheap when nothing changed."""
        entry = _Entry(
            server=server,
            host=resource.spec.host if resource.spec else None,
            labels=json.dumps(dict(resource.labels), sort_keys=True),
            seen=self._clock(),
        )
        told = self._told.get(server.id)
        if (
            told is None
            or entry.seen - told.seen >= _REFRESH
            or not entry.says_the_same_as(told)
        ):
            self._told[server.id] = entry
            self._wait(server.id, entry)

    def gone(self, server: ServerId, when: datetime) -> None:
        """Note that the resource was deleted."""
        self.forget(server)
        waiting = self._waiting.get(server)
        if isinstance(waiting, _Entry):
            self._wait(server, replace(waiting, deleted_at=when))
        else:
            self._wait(server, when)

    def forget(self, server: ServerId) -> None:
        """Drop what is remembered of a server; what waits is written still."""
        self._told.pop(server, None)
        self._forget(server)

    def forget_all(self) -> None:
        """Drop what was told and what waits: from now on another may write.

        What is `seen` later is written again, since the other may have changed it.
        """
        self._told.clear()
        self._waiting.clear()
        self._delivery.abandon()

    async def known(
        self, cluster_id: str, namespaces: Collection[str] = ()
    ) -> set[ServerId]:
        """Return the servers that the table has as not deleted; no namespace is all.

        Raises a `StoreError`.
        """
        names = list(namespaces)

        async def select(connection: psycopg.AsyncConnection) -> set[ServerId]:
            rows = await connection.execute(_KNOWN, [cluster_id, names, names])
            return {ServerId(row[0]) async for row in rows}

        return await self._link.run(select, deadline=_DEADLINE)

    async def run(self) -> None:
        """Write until `stop` was called and nothing is left.

        What a failed run had under way comes again, as what found no room.
        """
        for server, _ in self._delivery.abandon():
            self._told.pop(server, None)
        while entries := await self._next_batch():
            refused = await self._delivery.deliver(entries)
            for (server, _), error in refused:
                self._log.warning(
                    "The database refuses a server's row",
                    server_id=server,
                    error=str(error),
                )

    def stop(self) -> None:
        """Let `run` end once everything is written."""
        self._stop.set()
        self._some.set()

    def _wait(self, server: ServerId, entry: _Entry | datetime) -> None:
        if len(self._waiting) >= _LIMIT and server not in self._waiting:
            # Comes again: `seen` within the hour, `gone` with the next sweep.
            self._told.pop(server, None)
            return
        self._waiting[server] = entry
        self._some.set()

    async def _next_batch(self) -> list[tuple[ServerId, _Entry | datetime]]:
        """Wait for entries; none only means the end."""
        await self._linger()
        while not self._waiting and not self._stop.is_set():
            # All were forgotten meanwhile.
            self._some.clear()
            await self._linger()
        # In the order of the key: two replicas then lock rows in the same order.
        chosen = sorted(self._waiting)[:_BATCH]
        batch = [(server, self._waiting.pop(server)) for server in chosen]
        if not self._waiting and not self._stop.is_set():
            self._some.clear()
        return batch

    async def _linger(self) -> None:
        await self._some.wait()
        if not self._stop.is_set():
            await asyncio.sleep(_LINGER)

    async def _write(
        self, entries: Sequence[tuple[ServerId, _Entry | datetime]]
    ) -> None:
        seen = [e for _, e in entries if isinstance(e, _Entry)]
        gone = [(s, e) for s, e in entries if not isinstance(e, _Entry)]

        async def write(connection: psycopg.AsyncConnection) -> None:
            async with connection.transaction():
                if seen:
                    await connection.execute(
                        _UPSERT, [self._cluster_id, *_columns(seen)]
                    )
                if gone:
                    await connection.execute(
                        _DELETE, [[s for s, _ in gone], [when for _, when in gone]]
                    )

        await self._link.run(write, deadline=_DEADLINE)


def _columns(entries: Sequence[_Entry]) -> list[list[object]]:
    rows = [
        (
            e.server.id,
            e.server.organization,
            e.server.namespace,
            e.server.name,
            e.host,
            e.labels,
            e.seen,
            e.deleted_at,
        )
        for e in entries
    ]
    return [list(column) for column in zip(*rows, strict=True)]
