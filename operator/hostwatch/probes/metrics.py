"""The values of a sample, out of one document's readings and the counters before."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hostwatch.model.reading import (
    Cpu,
    CpuTimes,
    CpuUsage,
    Filesystem,
    Filesystems,
    Load,
    Memory,
    Network,
    Readings,
    Uptime,
)
from hostwatch.model.sample import Metrics
from hostwatch.probes.cpu import usage
from hostwatch.probes.globs import compile_globs

if TYPE_CHECKING:
    from datetime import datetime

_SHORTEST_WINDOW = 1.0  # the caller prefers five seconds where it has them
_LONGEST_WINDOW = 600.0
_SAME_CLOCK = 60.0


def summarize(
    readings: Readings,
    *,
    collected_at: datetime,
    before: tuple[CpuTimes, Uptime] | None,
    exclude: tuple[str, ...],
) -> Metrics:
    """Flatten readings.

    ``before`` are the counters of an earlier sample, ``exclude`` the globs on mount
    points not to be counted.
    """
    missing = dict(readings.missing)
    memory, uptime = readings.get(Memory), readings.get(Uptime)
    network, load = readings.get(Network), readings.get(Load)
    cpu = _cpu(readings.get(Cpu), uptime, before)
    if cpu is None:
        missing.setdefault("cpu", "there are no two reads to compare")
    if memory and memory.used is None:
        missing["memory"] = "/proc/meminfo has no MemAvailable (Linux before 3.14)"
    mounted = _counted(readings.get(Filesystems), exclude)
    if not mounted and "filesystems" not in missing:
        missing["disk"] = "every filesystem is excluded"
    disk = mounted[0] if mounted else None
    interfaces = network.interfaces if network else ()
    return Metrics(
        cpu=cpu,
        memory_used=memory.used if memory else None,
        memory_total=memory.total if memory else None,
        disk_used=disk.used if disk else None,
        disk_available=disk.available if disk else None,
        disk_total=disk.total if disk else None,
        disk_mount=disk.mount_point if disk else None,
        network_receive_bytes=sum(i.receive_bytes for i in interfaces)
        if network
        else None,
        network_transmit_bytes=sum(i.transmit_bytes for i in interfaces)
        if network
        else None,
        load=(load.one, load.five, load.fifteen) if load else None,
        uptime_seconds=int(uptime.seconds) if uptime else None,
        boot_time=_boot_time(uptime, collected_at) if uptime else None,
        filesystems=mounted,
        interfaces=interfaces,
        missing=missing,
    )


def _cpu(
    cpu: Cpu | None, uptime: Uptime | None, before: tuple[CpuTimes, Uptime] | None
) -> CpuUsage | None:
    """Compare with the sample before, or the two reads of the document.

    The document's own second is closer to now than an average over a long gap.
    """
    if cpu is None:
        return None
    choices = [cpu.earlier]
    if before and uptime and before[1].boot_id == uptime.boot_id:
        age = uptime.seconds - before[1].seconds
        if age >= _SHORTEST_WINDOW:
            choices.insert(0 if age <= _LONGEST_WINDOW else 1, before[0])
    found = (usage(cpu.now, times) for times in choices if times)
    return next((percentages for percentages in found if percentages), None)


def _counted(
    filesystems: Filesystems | None, exclude: tuple[str, ...]
) -> tuple[Filesystem, ...]:
    if filesystems is None:
        return ()
    excluded = compile_globs(exclude)
    return tuple(f for f in filesystems.mounted if not excluded.match(f.mount_point))


def _boot_time(uptime: Uptime, collected_at: datetime) -> datetime:
    """Return when the server booted, the same in each sample where it can be.

    The server says so itself, by its own clock; where that is off, or a container is
    told the host's, it is reckoned from the uptime, which flutters by the latency.
    """
    reckoned = collected_at - timedelta(seconds=round(uptime.seconds))
    reckoned = reckoned.replace(microsecond=0)
    if uptime.booted is None:
        return reckoned
    off = uptime.booted - int(reckoned.timestamp())
    return reckoned + timedelta(seconds=off) if abs(off) <= _SAME_CLOCK else reckoned
