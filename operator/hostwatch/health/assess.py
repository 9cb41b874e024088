"""Health of one sample by its thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostwatch.model.sample import Health

if TYPE_CHECKING:
    from hostwatch.model.sample import Metrics
    from hostwatch.model.server import Threshold, Thresholds


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sample's health, and the sentence that explains it to a person."""

    health: Health
    message: str


def assess(metrics: Metrics, thresholds: Thresholds) -> Verdict:
    """Judge a sample by the worst of CPU, memory and the fullest filesystem.

    What was not measured counts neither as good nor as bad; it is named. Percentages
    are compared unrounded.
    """
    disk = f"disk {metrics.disk_mount}" if metrics.disk_mount else "disk"
    cpu = metrics.cpu.total if metrics.cpu is not None else None
    levels = [
        _level("CPU", cpu, thresholds.cpu),
        _level("memory", metrics.memory_percent, thresholds.memory),
        _level(disk, metrics.disk_percent, thresholds.disk),
    ]
    critical = [text for health, text in levels if health is Health.CRITICAL]
    warning = [text for health, text in levels if health is Health.WARNING]
    unmeasured = [text for health, text in levels if health is Health.UNKNOWN]
    if critical or warning:
        worst = Health.CRITICAL if critical else Health.WARNING
        return Verdict(worst, "; ".join(critical + warning + unmeasured))
    return Verdict(Health.HEALTHY, "; ".join(unmeasured) or "within thresholds")


def _level(
    what: str, percent: float | None, threshold: Threshold
) -> tuple[Health, str]:
    if percent is None:
        return Health.UNKNOWN, f"{what} not measured"
    if percent >= threshold.critical:
        limit = threshold.critical
        return Health.CRITICAL, f"{what} {percent:.0f}%, critical from {limit:g}%"
    if percent >= threshold.warning:
        limit = threshold.warning
        return Health.WARNING, f"{what} {percent:.0f}%, warning from {limit:g}%"
    return Health.HEALTHY, ""
