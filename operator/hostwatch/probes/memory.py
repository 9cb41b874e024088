"""Memory, from /proc/meminfo (proc_meminfo(5)) and the ZFS cache's statistics."""

from __future__ import annotations

from hostwatch.model.reading import Memory
from hostwatch.probes.probe import (
    Document,
    NotMeasuredError,
    Probe,
    counter,
    in_range,
)

_ARC = "/proc/spl/kstat/zfs/arcstats"


def _parse(document: Document) -> Memory:
    rows = document.rows("/proc/meminfo")
    if "MemTotal:" not in rows:
        raise NotMeasuredError("/proc/meminfo has no MemTotal")
    total = _bytes(rows["MemTotal:"])
    if total == 0:
        raise NotMeasuredError("MemTotal is 0")
    if "MemAvailable:" not in rows:
        return Memory(total=total, used=None)
    used = total - _bytes(rows["MemAvailable:"])
    if used < 0:
        raise NotMeasuredError("MemAvailable is more than MemTotal")
    return Memory(total=total, used=used - _reclaimable(document, used))


def _reclaimable(document: Document, used: int) -> int:
    """Return what ZFS would give back: its cache down to the least it keeps.

    A cache larger than all used memory belongs to the host of this container.
    """
    rows = document.rows(_ARC)
    if "size" not in rows or "c_min" not in rows:
        return 0
    cache = counter(rows["size"][1]) - counter(rows["c_min"][1])
    return cache if 0 < cache <= used else 0


def _bytes(words: list[str]) -> int:
    return in_range(counter(words[0]) * 1024)


PROBE = Probe(
    name="memory",
    files=("/proc/meminfo", _ARC),
    patterns=("^Mem(Total|Available): *[0-9]", "^(size|c_min) +4 "),
    parse=_parse,
)
