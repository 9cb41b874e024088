"""Host keys accepted on first use, kept in ``servers``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from hostwatch.model.reason import TryAgainLaterError
from hostwatch.model.sample import PinnedKey
from hostwatch.model.server import Fingerprint
from hostwatch.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import psycopg

    from hostwatch.model.server import ServerKey
    from hostwatch.store.link import Link

_T = TypeVar("_T")

_DEADLINE = 3
"""Seconds: a collection waits for the answer."""

# By name, not by uid: a resource that is made again must not trust anew.
_FIND = b"""
SELECT host_key_fingerprint, host_key_pinned_at FROM hostwatch.servers
WHERE cluster_id = %s::uuid AND namespace = %s AND name = %s
    AND host_key_host = %s AND host_key_port = %s
ORDER BY host_key_pinned_at DESC LIMIT 1
"""

_KEEP = b"""
INSERT INTO hostwatch.servers (
    server_id, cluster_id, organization, namespace, name, host, first_seen, last_seen,
    host_key_fingerprint, host_key_host, host_key_port, host_key_pinned_at
) VALUES (
    %(id)s::uuid, %(cluster)s::uuid, %(organization)s, %(namespace)s, %(name)s,
    %(host)s, %(at)s, %(at)s, %(fingerprint)s, %(host)s, %(port)s, %(at)s
)
ON CONFLICT (server_id) DO UPDATE SET
    host_key_fingerprint = excluded.host_key_fingerprint,
    host_key_host = excluded.host_key_host,
    host_key_port = excluded.host_key_port,
    host_key_pinned_at = excluded.host_key_pinned_at
"""

_FORGET_OTHERS = b"""
UPDATE hostwatch.servers SET
    host_key_fingerprint = NULL, host_key_host = NULL,
    host_key_port = NULL, host_key_pinned_at = NULL
WHERE cluster_id = %(cluster)s::uuid AND namespace = %(namespace)s
    AND name = %(name)s AND server_id <> %(id)s::uuid
    AND host_key_fingerprint IS NOT NULL
"""


class PinStore:
    """The pins of one cluster's servers, bound to namespace, name, host and port."""

    def __init__(self, link: Link, *, cluster_id: str) -> None:
        self._link = link
        self._cluster_id = cluster_id

    async def find(self, server: ServerKey, host: str, port: int) -> PinnedKey | None:
        """Return the pin of exactly that namespace, name, host and port.

        Raises `TryAgainLaterError` while the database is away.
        """
        keys = [self._cluster_id, server.namespace, server.name, host, port]

        async def select(connection: psycopg.AsyncConnection) -> PinnedKey | None:
            row = await (await connection.execute(_FIND, keys)).fetchone()
            if row is None:
                return None
            return PinnedKey(Fingerprint(row[0]), host, port, row[1])

        return await self._ask(select)

    async def keep(self, server: ServerKey, pin: PinnedKey) -> None:
        """Store a pin, replacing that server's other; raises `TryAgainLaterError`."""
        values = {
            "id": server.id,
            "cluster": self._cluster_id,
            "organization": server.organization,
            "namespace": server.namespace,
            "name": server.name,
            "host": pin.host,
            "port": pin.port,
            "fingerprint": pin.fingerprint,
            "at": pin.pinned_at,
        }

        async def write(connection: psycopg.AsyncConnection) -> None:
            async with connection.transaction():
                await connection.execute(_KEEP, values)
                await connection.execute(_FORGET_OTHERS, values)

        await self._ask(write)

    async def _ask(
        self, work: Callable[[psycopg.AsyncConnection], Coroutine[Any, Any, _T]]
    ) -> _T:
        try:
            return await self._link.run(work, deadline=_DEADLINE)
        except StoreError as error:
            raise TryAgainLaterError(f"host key pins: {error}") from error
