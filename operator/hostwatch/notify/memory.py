"""What is known of the alerts, and what of it the ledger must still be told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from hostwatch.model.alert import AlertState
from hostwatch.model.kept import Errand, ErrandKey, Kept, Outcome, ServerAlerts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.server import ServerId, ServerKey

_REFRESH = 60.0
"""Seconds between two writes of a server of which only numbers and times changed."""

_BATCH = 200
"""Servers in one transaction: what fails is repeated whole."""


class Memory:
    """Holds the active alerts, and the errands that are not done or not written.

    ``now`` is seconds on any steady clock. A server's newer state takes the place of
    one that waits, so only errands can pile up: ``full`` is told of those beyond
    ``limit`` of one sink, which are not made.
    """

    def __init__(
        self,
        sinks: Sequence[str],
        *,
        full: Callable[[Errand], None],
        limit: int = 100_000,
    ) -> None:
        self._sinks = tuple(sinks)
        self._full = full
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Know nothing."""
        self._servers: dict[ServerId, ServerAlerts] = {}
        self._ended: dict[str, Alert] = {}
        self._errands: dict[ErrandKey, Errand] = {}
        self._errands_of: Counter[str] = Counter()
        self._fresh: list[Errand] = []
        self._due: dict[ServerId, float] = {}
        self._written_at: dict[ServerId, float] = {}
        # An ordered set: what came first is written first.
        self._unwritten: dict[ErrandKey, None] = {}

    def everything(self) -> Kept:
        """Return all that is known."""
        return Kept(
            tuple(self._servers.values()),
            tuple(self._ended.values()),
            tuple(self._errands.values()),
        )

    def active(self) -> dict[ServerId, tuple[Alert, ...]]:
        """Return the alerts of each server that has any."""
        return {id_: s.alerts for id_, s in self._servers.items() if s.alerts}

    def record(
        self,
        server: ServerKey,
        alerts: Iterable[Alert],
        notifications: Iterable[Notification],
        *,
        at: datetime,
        now: float,
    ) -> bool:
        """Take a server's state; tell whether more than numbers and times changed."""
        active = tuple(a for a in alerts if a.state is not AlertState.RESOLVED)
        old = self._servers.get(server.id)
        news = old is None or _gist(old.alerts) != _gist(active)
        self._servers[server.id] = ServerAlerts(server, at, active)
        for notification in notifications:
            news = True
            self._note(notification, at)
        due = now if news else self._written_at.get(server.id, -inf) + _REFRESH
        self._due[server.id] = min(due, self._due.get(server.id, inf))
        return news

    def lacks(self, state: ServerAlerts) -> list[Alert]:
        """Return what fires there and was neither taken nor ended here."""
        here = self._servers.get(state.server.id)
        known = {a.id for a in here.alerts} if here is not None else set()
        return [
            alert
            for alert in state.alerts
            if alert.state is AlertState.FIRING
            and alert.id not in known
            and alert.id not in self._ended
        ]

    def state_of(self, server: ServerId) -> ServerAlerts | None:
        """Return what is known of a server, None where that is nothing."""
        return self._servers.get(server)

    def tell(self, notifications: Iterable[Notification], *, at: datetime) -> None:
        """Take notifications alone: of alerts that no state of a server has."""
        for notification in notifications:
            self._note(notification, at)

    def adopt(self, kept: Kept, *, written: bool, now: float) -> None:
        """Take what was kept; ``written`` tells that it comes from the ledger itself.

        What is known of a server is replaced, what is known of an errand stays.
        """
        for server in kept.servers:
            self._servers[server.server.id] = server
            self._due[server.server.id] = now
        for alert in kept.ended:
            self._ended[alert.id] = alert
        errands = [e for e in kept.errands if e.key not in self._errands]
        self._errands.update((e.key, e) for e in errands)
        self._errands_of.update(e.sink for e in errands)
        self._unwritten.update((e.key, None) for e in errands)
        self._fresh += sorted(filter(self._is_for_us, errands), key=_age)
        if written:
            self.written(kept, now)

    def forget(self, servers: Collection[ServerId]) -> None:
        """Drop what is known of these servers: it was out of date."""
        for server in servers:
            self._drop(server)

    def take_fresh(self) -> list[Errand]:
        """Return what the sinks must be told, each errand once, oldest first."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def end(self, errand: Errand, outcome: Outcome, at: datetime) -> None:
        """Note what became of an errand."""
        if errand.key in self._errands:
            ended = replace(errand, outcome=outcome, ended_at=at)
            self._errands[errand.key] = ended
            self._unwritten[errand.key] = None

    def unwritten(self, errands: Iterable[Errand]) -> bool:
        """Tell whether the ledger lacks any of them."""
        return any(errand.key in self._unwritten for errand in errands)

    def next_batch(self, now: float = inf) -> Kept:
        """Return what should be in the ledger by ``now`` and is not.

        An errand never goes without the state of its server.
        """
        due = [server for server, at in self._due.items() if at <= now]
        every, chosen = set(due), set(due[:_BATCH])
        later = every - chosen
        errands = [self._errands[key] for key in self._unwritten]
        with_state = [e for e in errands if _server(e) in chosen]
        alone = [e for e in errands if _server(e) not in every]
        return Kept(
            tuple(self._servers[s] for s in due[:_BATCH]),
            tuple(a for a in self._ended.values() if a.server.id not in later),
            (*with_state, *alone[:_BATCH]),
        )

    def written(self, batch: Kept, now: float) -> None:
        """Note that the ledger has it, as far as it did not change meanwhile."""
        for state in batch.servers:
            server = state.server.id
            if self._servers.get(server) is state:
                del self._due[server]
                self._written_at[server] = now
                if not state.alerts:
                    self._drop(server)
        for alert in batch.ended:
            if self._ended.get(alert.id) is alert:
                del self._ended[alert.id]
        for errand in batch.errands:
            if self._errands.get(errand.key) is errand:
                self._unwritten.pop(errand.key, None)
                if not self._is_for_us(errand):
                    del self._errands[errand.key]
                    self._errands_of[errand.sink] -= 1

    def _note(self, notification: Notification, at: datetime) -> None:
        alert = notification.alert
        if alert.state is AlertState.RESOLVED:
            self._ended[alert.id] = alert
        outcome = Outcome.INHIBITED if notification.inhibited else Outcome.WAITING
        for sink in self._sinks:
            errand = Errand(notification, sink, at, outcome)
            if errand.key in self._errands:
                continue
            if self._errands_of[sink] >= self._limit:
                self._full(errand)
                continue
            self._errands[errand.key] = errand
            self._errands_of[sink] += 1
            self._unwritten[errand.key] = None
            if outcome is Outcome.WAITING:
                self._fresh.append(errand)

    def _is_for_us(self, errand: Errand) -> bool:
        return errand.outcome is Outcome.WAITING and errand.sink in self._sinks

    def _drop(self, server: ServerId) -> None:
        for known in (self._servers, self._due, self._written_at):
            known.pop(server, None)


def _server(errand: Errand) -> ServerId:
    return errand.notification.alert.server.id


def _age(errand: Errand) -> tuple[datetime, int]:
    return errand.created_at, errand.notification.alert.transition


def _gist(alerts: Iterable[Alert]) -> set[tuple[object, ...]]:
    """Reduce alerts to what a reader would call another alert."""
    return {(a.rule, a.label, a.state, a.severity, a.id, a.since) for a in alerts}
