"""What one document of a server said, subject by subject.

A member that the server did not report is None, never 0. Sizes are bytes, counters
run since boot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """One read of the ``cpu`` line of /proc/stat, in clock ticks (proc_stat(5)).

    ``user`` includes guest time, as the kernel counts it.
    """

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPU counters now and, on a shell's first answer, one second earlier."""

    now: CpuTimes
    earlier: CpuTimes | None = None


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """Percent of all CPU time between two reads.

    ``total`` is all but idle and iowait; user, system and steal are inside it.
    """

    total: float
    user: float
    system: float
    iowait: float
    steal: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; ``used`` is total less available, reclaimable ZFS cache subtracted."""

    total: int
    used: int | None


@dataclass(frozen=True, slots=True)
class Filesystem:
    """One mounted device, in bytes; ``available`` is what ordinary users can fill."""

    mount_point: str
    device: str
    type: str
    total: int
    used: int
    available: int

    @property
    def percent(self) -> float | None:
        """Used ÷ (used + available) × 100, unrounded, as df(1) counts."""
        usable = self.used + self.available
        return 100 * self.used / usable if usable > 0 else None


@dataclass(frozen=True, slots=True)
class Filesystems:
    """Fullest first, one per device, at most 100; ``omitted`` counts the rest."""

    mounted: tuple[Filesystem, ...]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Interface:
    """Byte counters since boot of one network interface."""

    name: str
    receive_bytes: int
    transmit_bytes: int


@dataclass(frozen=True, slots=True)
class Network:
    """The interfaces with a device behind them.

    ``physical`` is False where none had one and all but ``lo`` were taken instead.
    """

    interfaces: tuple[Interface, ...]
    physical: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """The load averages over 1, 5 and 15 minutes (proc_loadavg(5))."""

    one: float
    five: float
    fifteen: float


@dataclass(frozen=True, slots=True)
class Uptime:
    """Seconds since boot, and the id that a boot draws (random(4)).

    ``booted`` is when that was by the server's own clock, in seconds of the epoch.
    """

    seconds: float
    boot_id: str | None
    booted: int | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """The readings of one document by their class, and why others are missing.

    ``missing`` maps a probe's name to a short sentence of our own.
    """

    _by_type: Mapping[type, object] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def get(self, kind: type[_R]) -> _R | None:
        """Return the reading of that class, or None where it could not be taken."""
        reading = self._by_type.get(kind)
        return reading if isinstance(reading, kind) else None
