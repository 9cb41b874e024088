"""CPU time, from the first line of /proc/stat (proc_stat(5))."""

from __future__ import annotations

from dataclasses import astuple

from hostwatch.model.reading import Cpu, CpuTimes, CpuUsage
from hostwatch.probes.probe import Document, NotMeasuredError, Probe, counter

_FIELDS = 8
_OLDEST_FIELDS = 4  # user, nice, system, idle: Linux 2.4

# A shell's first answer has a CPU figure of its own. Less than a second apart, the
# two reads differ by noise. `read` takes the first line, without a process.
_TWO_READS = """
[ $first ] && { read -r cpu </proc/stat; sleep 1; cpu=earlier:$cpu; };
"""


def usage(now: CpuTimes, before: CpuTimes) -> CpuUsage | None:
    """Return the percentages between two reads; ``total`` is all but idle and iowait.

    A part that went back counts 0: the kernel says that idle and iowait may. None
    where no time passed or the sum went back.
    """
    steps = [a - b for a, b in zip(astuple(now), astuple(before), strict=True)]
    if sum(steps) <= 0:
        return None
    spent = CpuTimes(*(max(0, step) for step in steps))
    elapsed = sum(astuple(spent))
    user = spent.user + spent.nice
    system = spent.system + spent.irq + spent.softirq
    return CpuUsage(
        total=100 * (user + system + spent.steal) / elapsed,
        user=100 * user / elapsed,
        system=100 * system / elapsed,
        iowait=100 * spent.iowait / elapsed,
        steal=100 * spent.steal / elapsed,
    )


def _parse(document: Document) -> Cpu:
    now = document.rows("/proc/stat").get("cpu")
    if now is None:
        raise NotMeasuredError("/proc/stat has no cpu line")
    earlier = document.rows("earlier").get("cpu")
    return Cpu(now=_times(now), earlier=_times(earlier) if earlier else None)


def _times(words: list[str]) -> CpuTimes:
    """Read the columns; those that an old kernel lacks are 0 in every read."""
    if len(words) < _OLDEST_FIELDS:
        raise NotMeasuredError("the cpu line of /proc/stat is too short")
    ticks = [counter(word) for word in words[:_FIELDS]]
    return CpuTimes(*ticks, *[0] * (_FIELDS - len(ticks)))


PROBE = Probe(
    name="cpu",
    files=("/proc/stat",),
    patterns=("^cpu +[0-9]",),
    parse=_parse,
    before=_TWO_READS,
    prints="$cpu",
)
