"""Load averages, from /proc/loadavg (proc_loadavg(5))."""

from __future__ import annotations

from hostwatch.model.reading import Load
from hostwatch.probes.probe import Document, NotMeasuredError, Probe, decimal

_AVERAGES = 3


def _parse(document: Document) -> Load:
    words = document.line("/proc/loadavg").split()
    if len(words) < _AVERAGES:
        raise NotMeasuredError("/proc/loadavg could not be read")
    return Load(*(decimal(word) for word in words[:_AVERAGES]))


PROBE = Probe(
    name="load",
    files=("/proc/loadavg",),
    patterns=("^[0-9.]+ [0-9]",),
    parse=_parse,
)
