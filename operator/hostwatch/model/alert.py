"""Alerts: what is wrong with a server, from when to when, and who must hear of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from hostwatch.model.server import ServerKey


class AlertRule(StrEnum):
    """What is watched for."""

    CPU_HIGH = "CPUHigh"
    MEMORY_HIGH = "MemoryHigh"
    DISK_FULL = "DiskFull"
    SERVER_UNREACHABLE = "ServerUnreachable"
    COLLECTION_FAILING = "CollectionFailing"
    HOST_KEY_CHANGED = "HostKeyChanged"


class Severity(StrEnum):
    """How bad it is; as labels of alerts spell it."""

    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Where an alert stands; an inactive one is not kept."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class EndedReason(StrEnum):
    """Why a firing alert ended."""

    CLEARED = "cleared"
    LABEL_GONE = "label_gone"
    SERVER_DELETED = "server_deleted"
    SERVER_SUSPENDED = "server_suspended"
    ORGANIZATION_CHANGED = "organization_changed"
    NEVER = "never"
    EXCLUDED = "excluded"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule on one server; ``label`` is the mount point of DiskFull, else empty.

    ``since`` is when the condition began to hold, ``started_at`` when it fired, which
    is None while pending. ``seen_at`` is the last sample that spoke of it. ``absent``
    counts complete documents in a row without the label. ``transition`` numbers what
    was said of the episode: 1 is its firing. Times are aware, in UTC. ``value`` and
    ``threshold`` are percent, None where the rule has none.
    """

    server: ServerKey
    rule: AlertRule
    label: str
    state: AlertState
    severity: Severity
    since: datetime
    seen_at: datetime
    id: str = ""
    value: float | None = None
    threshold: float | None = None
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ended_reason: EndedReason | None = None
    cleared_since: datetime | None = None
    absent: int = 0
    transition: int = 0


@dataclass(frozen=True, slots=True)
class Notification:
    """A transition that must be told: an alert as it was then.

    ``alert.id`` and ``alert.transition`` identify it, so that who hears it twice can
    tell. ``inhibited`` ones are recorded and not delivered: the server is unreachable,
    and another alert says so.
    """

    alert: Alert
    inhibited: bool = False


class UndeliverableError(Exception):
    """A notification cannot be delivered there, now or later: do not try again."""
