"""Time since boot (proc_uptime(5)), when that was, and the boot's id (random(4))."""

from __future__ import annotations

import re

from hostwatch.model.reading import Uptime
from hostwatch.probes.probe import Document, NotMeasuredError, Probe, counter, decimal

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST = 100 * 366 * 86400


def _parse(document: Document) -> Uptime:
    words = document.line("/proc/uptime").split()
    if not words:
        raise NotMeasuredError("/proc/uptime could not be read")
    seconds = decimal(words[0])
    if seconds > _LONGEST:
        raise NotMeasuredError("the uptime is more than a century")
    boot_id = document.line(_BOOT_ID)
    booted = document.rows("/proc/stat").get("btime")
    return Uptime(
        seconds=seconds,
        boot_id=boot_id if _UUID.fullmatch(boot_id) else None,
        booted=counter(booted[0]) if booted else None,
    )


PROBE = Probe(
    name="uptime",
    files=("/proc/uptime", _BOOT_ID, "/proc/stat"),
    patterns=("^[0-9.]+ [0-9]", "^btime [0-9]", "^[0-9a-f]+-[0-9a-f-]+$"),
    parse=_parse,
)
