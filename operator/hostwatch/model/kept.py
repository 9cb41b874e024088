"""What must outlive the process: alerts as they stand, and what is still to be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.server import ServerKey


class Outcome(StrEnum):
    """What became of an errand; all but the first are the end of it."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"
    INHIBITED = "inhibited"


class ErrandKey(NamedTuple):
    """What tells one errand from all others."""

    alert_id: str
    transition: int
    sink: str


@dataclass(frozen=True, slots=True)
class Errand:
    """One notification for one sink; ``ended_at`` goes with an outcome."""

    notification: Notification
    sink: str
    created_at: datetime
    outcome: Outcome = Outcome.WAITING
    ended_at: datetime | None = None

    @property
    def key(self) -> ErrandKey:
        """Identify it."""
        alert = self.notification.alert
        return ErrandKey(alert.id, alert.transition, self.sink)


@dataclass(frozen=True, slots=True)
class ServerAlerts:
    """All pending and firing alerts of one server; none is as good a state as any."""

    server: ServerKey
    as_of: datetime
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """Some or all of what is kept; ``ended`` are resolved alerts, for the history."""

    servers: tuple[ServerAlerts, ...] = ()
    ended: tuple[Alert, ...] = ()
    errands: tuple[Errand, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return bool(self.servers or self.ended or self.errands)
