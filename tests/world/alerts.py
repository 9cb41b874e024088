"""Alerts, and who is told of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from hostwatch.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    EndedReason,
    Notification,
    Severity,
)
from hostwatch.model.reason import TryAgainLaterError
from world.store import server

if TYPE_CHECKING:
    from hostwatch.model.server import ServerKey

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def pending(of: ServerKey | int = 1, at: datetime = NOON, **changes: Any) -> Alert:
    """Make an alert of a full disk that was seen for the first time."""
    values: dict[str, Any] = {
        "server": server(of) if isinstance(of, int) else of,
        "rule": AlertRule.DISK_FULL,
        "label": "/var",
        "state": AlertState.PENDING,
        "severity": Severity.WARNING,
        "since": at,
        "seen_at": at,
        "value": 87.125,
        "threshold": 85.0,
        "message": "/var is 87.1 % full",
    }
    return Alert(**{**values, **changes})


def firing(of: ServerKey | int = 1, at: datetime = NOON, **changes: Any) -> Alert:
    alert = pending(of, at, **changes)
    name = f"{alert.server.id}/{alert.rule}/{alert.label}/{at}"
    return replace(
        alert,
        id=str(uuid5(NAMESPACE_OID, name)),
        state=AlertState.FIRING,
        started_at=at,
        transition=1,
    )


def seen(alert: Alert, at: datetime, **changes: Any) -> Alert:
    """Let an alert go on."""
    return replace(alert, seen_at=at, **changes)


def raised(alert: Alert, at: datetime) -> Alert:
    number = alert.transition + 1
    return replace(alert, seen_at=at, severity=Severity.CRITICAL, transition=number)


def resolved(alert: Alert, at: datetime) -> Alert:
    return replace(
        alert,
        state=AlertState.RESOLVED,
        seen_at=at,
        ended_at=at,
        ended_reason=EndedReason.CLEARED,
        transition=alert.transition + 1,
    )


class RecordingSink:
    """Takes what it is told, or fails with the errors it was given, one each time.

    While ``answers`` is not set it hears nothing, while ``confirms`` is not it hears
    and does not say so.
    """

    def __init__(self, name: str = "nats") -> None:
        self.name = name
        self.told: list[tuple[str, int]] = []
        self.notifications: list[Notification] = []
        self.times: list[float] = []
        self.down = False
        self.errors: list[Exception] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.confirms = asyncio.Event()
        self.confirms.set()

    async def deliver(self, notification: Notification) -> None:
        self.times.append(asyncio.get_running_loop().time())
        await self.answers.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.down:
            raise TryAgainLaterError("down")
        self.notifications.append(notification)
        self.told.append((notification.alert.id, notification.alert.transition))
        await self.confirms.wait()


class NotifyTally:
    """The relay's meter, for a test to read."""

    def __init__(self) -> None:
        self.deliveries: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.backlog = 0
        self.file_failures = 0

    def delivered(self, sink: str) -> None:
        self.deliveries[sink] += 1

    def failed(self, sink: str) -> None:
        self.failures[sink] += 1

    def given_up(self, sink: str) -> None:
        self.losses[sink] += 1

    def waiting(self, errands: int) -> None:
        self.backlog = errands

    def file_failed(self) -> None:
        self.file_failures += 1


def told(alert: Alert) -> tuple[str, int]:
    return alert.id, alert.transition
