"""What a collection leaves behind: the sample that is stored, shown and published."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from hostwatch.model.reading import CpuUsage, Filesystem, Interface
    from hostwatch.model.reason import Reason
    from hostwatch.model.server import Fingerprint, ServerKey


class Health(StrEnum):
    """A server's health as kubectl shows it; lower case in rows and messages."""

    HEALTHY = "Healthy"
    WARNING = "Warning"
    CRITICAL = "Critical"
    ERROR = "Error"
    UNKNOWN = "Unknown"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class Metrics:
    """The values of one collection; None is "not measured", never 0.

    Sizes are bytes, usage is percent, counters run since boot. ``disk_*`` and
    ``disk_mount`` speak of the fullest filesystem, ``network_*`` of all physical
    interfaces together. ``missing`` says why a probe gave nothing.
    """

    cpu: CpuUsage | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    disk_used: int | None = None
    disk_available: int | None = None
    disk_total: int | None = None
    disk_mount: str | None = None
    network_receive_bytes: int | None = None
    network_transmit_bytes: int | None = None
    load: tuple[float, float, float] | None = None
    uptime_seconds: int | None = None
    boot_time: datetime | None = None
    filesystems: tuple[Filesystem, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory_percent(self) -> float | None:
        """Used memory as percent of the total."""
        if self.memory_used is None or not self.memory_total:
            return None
        return 100 * self.memory_used / self.memory_total

    @property
    def disk_percent(self) -> float | None:
        """Percent in use of the fullest filesystem, as df(1) counts."""
        if self.disk_used is None or self.disk_available is None:
            return None
        usable = self.disk_used + self.disk_available
        return 100 * self.disk_used / usable if usable > 0 else None


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished collection of one server, failed ones too.

    ``status`` is one of Healthy, Warning, Critical and Error; ``reason`` is None
    exactly when it is not Error. ``collected_at`` is aware, in UTC.
    """

    server: ServerKey
    collected_at: datetime
    status: Health
    reason: Reason | None
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a collection failed, in the words of the conditions."""

    reason: Reason
    detail: str
    reached: bool = False
    presented: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class CollectResult:
    """The answer to a forced collection, as ``status.lastCollectResult`` shows it."""

    request: str
    succeeded: bool
    reason: str
    finished_at: datetime
    duration_milliseconds: int


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; ``status`` is "True", "False" or "Unknown".

    When it last changed is the status writer's to say.
    """

    type: str
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A host key that was accepted on first use, bound to where it was seen."""

    fingerprint: Fingerprint
    host: str
    port: int
    pinned_at: datetime


@dataclass(frozen=True, slots=True)
class ServerState:
    """What ``status`` should say of one server now; a newer value replaces an older.

    ``sample`` is the last one, failed or not, ``metrics`` those of the last successful
    one. A None leaves what the resource says already.
    """

    server: ServerKey
    generation: int
    health: Health
    conditions: tuple[Condition, ...]
    last_attempt: datetime | None = None
    last_success: datetime | None = None
    metrics: Metrics | None = None
    consecutive_failures: int = 0
    pinned: PinnedKey | None = None
    result: CollectResult | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a resource's status said when it was first seen: an earlier term's word.

    ``conditions`` holds (type, status, reason) in the order of the status.
    """

    generation: int = 0
    health: Health = Health.UNKNOWN
    conditions: tuple[tuple[str, str, str], ...] = ()
    organization: str = ""
    handled_request: str = ""
    consecutive_failures: int = 0
    pinned: PinnedKey | None = None
