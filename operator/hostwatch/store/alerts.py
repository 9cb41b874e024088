"""The record of alerts, and of what must be told of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

import structlog

from hostwatch.model.kept import Kept, ServerAlerts
from hostwatch.model.reason import TryAgainLaterError
from hostwatch.store.alert_json import UNREADABLE
from hostwatch.store.alert_rows import (
    ACTIVE,
    UPSERT,
    UPSERT_ERRANDS,
    VACATE,
    WAITING,
    alert_rows,
    errand_rows,
    to_alert,
    to_columns,
    to_errand,
)
from hostwatch.store.errors import BadRowsError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    import psycopg

    from hostwatch.model.alert import Alert
    from hostwatch.model.kept import Errand
    from hostwatch.model.server import ServerId
    from hostwatch.store.alert_rows import Row
    from hostwatch.store.link import Link

_T = TypeVar("_T")

_DEADLINE = 10
_STATEMENT_TIMEOUT = b"SELECT set_config('statement_timeout', '8s', true)"
_LIMIT = 50_000
"""Errands read at once; the rest is read at a later start."""


class AlertBook:
    """The alerts of one cluster, or of some of its namespaces; none named is all."""

    def __init__(
        self, link: Link, *, cluster_id: str, namespaces: Collection[str] = ()
    ) -> None:
        self._link = link
        self._cluster_id = cluster_id
        self._namespaces = list(namespaces)
        self._log = structlog.get_logger(component="store")

    async def save(self, kept: Kept) -> None:
        """Take that in, in one transaction; never older over newer.

        A server's alerts that are not among its given ones are over. Where a value is
        refused, each server has a transaction of its own, and the one with the value
        is left out. Raises `TryAgainLaterError`.
        """
        try:
            await self._save(kept)
        except BadRowsError as error:
            parts = _by_server(kept)
            if len(parts) > 1:
                for part in parts.values():
                    await self.save(part)
            else:
                self._log.error(
                    "The database refuses a server's alerts",
                    server_id=next(iter(parts), None),
                    error=str(error),
                )
        except StoreError as error:
            raise _later(error) from error

    async def load(self, sinks: Sequence[str]) -> Kept:
        """Return all pending and firing alerts, and these sinks' waiting errands.

        Raises `TryAgainLaterError`.
        """
        among = [self._namespaces, self._namespaces]

        async def select(
            connection: psycopg.AsyncConnection,
        ) -> tuple[list[Row], list[Row]]:
            active = await connection.execute(ACTIVE, [self._cluster_id, *among])
            waiting = await connection.execute(
                WAITING, [self._cluster_id, list(sinks), *among, _LIMIT]
            )
            return await active.fetchall(), await waiting.fetchall()

        try:
            active, waiting = await self._link.run(select, deadline=_DEADLINE)
        except StoreError as error:
            raise _later(error) from error
        return Kept(
            servers=_states(self._read(to_alert, active)),
            errands=tuple(self._read(to_errand, waiting)),
        )

    async def _save(self, kept: Kept) -> None:
        alerts, errands = alert_rows(kept), errand_rows(kept.errands)
        ids = [row[0] for row in alerts]
        servers = [state.server.id for state in kept.servers]
        times = [state.as_of for state in kept.servers]

        async def write(connection: psycopg.AsyncConnection) -> None:
            async with connection.pipeline(), connection.transaction():
                await connection.execute(_STATEMENT_TIMEOUT)
                if servers:
                    await connection.execute(VACATE, [servers, times, ids])
                if alerts:
                    values = [self._cluster_id, *to_columns(alerts)]
                    await connection.execute(UPSERT, values)
                if errands:
                    values = [self._cluster_id, *to_columns(errands)]
                    await connection.execute(UPSERT_ERRANDS, values)

        await self._link.run(write, deadline=_DEADLINE)

    def _read(self, read: Callable[[Row], _T], rows: Iterable[Row]) -> list[_T]:
        """Read all rows but those of a later version, which this one must leave."""
        found, unread = [], 0
        for row in rows:
            try:
                found.append(read(row))
            except UNREADABLE:
                unread += 1
        if unread:
            self._log.warning("Some alerts are of another version", rows=unread)
        return found


def _later(error: StoreError) -> TryAgainLaterError:
    return TryAgainLaterError(f"alerts: {error}")


def _states(alerts: Iterable[tuple[Alert, datetime]]) -> tuple[ServerAlerts, ...]:
    """Put each server's alerts together, as of the latest of their times."""
    by_server = defaultdict(list)
    for alert, at in alerts:
        by_server[alert.server.id].append((alert, at))
    return tuple(
        ServerAlerts(
            server=found[-1][0].server,
            as_of=max(at for _, at in found),
            alerts=tuple(alert for alert, _ in found),
        )
        for found in by_server.values()
    )


def _by_server(kept: Kept) -> dict[ServerId, Kept]:
    """Take it apart."""
    states = {state.server.id: (state,) for state in kept.servers}
    ended: dict[ServerId, list[Alert]] = defaultdict(list)
    for alert in kept.ended:
        ended[alert.server.id].append(alert)
    errands: dict[ServerId, list[Errand]] = defaultdict(list)
    for errand in kept.errands:
        errands[errand.notification.alert.server.id].append(errand)
    return {
        server: Kept(
            states.get(server, ()), tuple(ended[server]), tuple(errands[server])
        )
        for server in {**states, **ended, **errands}
    }
