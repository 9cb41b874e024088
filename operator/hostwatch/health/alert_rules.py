"""What each alert rule sees in one finished collection.

A rule says of its condition that it holds, that it lingers (below the threshold, by no
more than the margin), that it is clear, or nothing at all:

======================  =================  =================  ====================
collection              ServerUnreachable  CollectionFailing  HostKeyChanged
======================  =================  =================  ====================
succeeded               clear              clear              clear
network reason          holds              -                  -
HostKeyMismatch         clear if reached   -                  holds
refused after the key   clear if reached   holds              clear
any other reason        clear if reached   holds              -
======================  =================  =================  ====================

"Reached" is that the TCP connection stood, "after the key" are the reasons that can
only come once the host key was accepted. HostKeyUnknown is among the others: somebody
must give the key, and without an alert nobody would be told. The rules on metrics speak
only where a collection succeeded and measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from hostwatch.health.reasons import AFTER_TRUST, NETWORK
from hostwatch.model.alert import AlertRule, EndedReason, Severity
from hostwatch.model.reason import Reason
from hostwatch.model.server import AlertLevel

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from hostwatch.model.alert import Alert
    from hostwatch.model.sample import Failure, Metrics
    from hostwatch.model.server import ServerKey, ServerSpec, Threshold


def _nothing(_mount_point: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Observation:
    """One finished collection, and what it is judged by.

    Either ``metrics`` or ``failure`` is set. ``at`` is when it was collected, aware;
    ``interval`` is seconds. ``failures`` counts the failed collections running, this
    one included. ``excluded`` tells whether the spec's globs exclude a mount point.
    """

    server: ServerKey
    at: datetime
    interval: float
    spec: ServerSpec
    metrics: Metrics | None
    failure: Failure | None
    failures: int
    excluded: Callable[[str], bool] = _nothing


class Says(Enum):
    """What a collection says of a rule's condition."""

    HOLDS = auto()
    LINGERS = auto()
    CLEAR = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """Percent: from ``alerts`` it holds, below ``clears`` it is clear."""

    alerts: float
    critical: float
    clears: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What one collection says of one rule and label.

    ``value`` (percent) and ``limits`` come with the rules on metrics, ``failure`` with
    the others where they hold.
    """

    rule: AlertRule
    says: Says
    label: str = ""
    severity: Severity = Severity.CRITICAL
    value: float | None = None
    limits: Limits | None = None
    failure: Failure | None = None

    @property
    def threshold(self) -> float | None:
        """Percent from which a value is as severe as this one."""
        if self.limits is None:
            return None
        critical = self.severity is Severity.CRITICAL
        return self.limits.critical if critical else self.limits.alerts


COLLECTIONS = {
    AlertRule.SERVER_UNREACHABLE: 2,
    AlertRule.COLLECTION_FAILING: 2,
    AlertRule.HOST_KEY_CHANGED: 1,
}
"""How many collections must say so before these fire; the others have `for`."""


def findings(seen: Observation) -> list[Finding]:
    """Return what a collection says, rule by rule."""
    return [finding for rule in _RULES for finding in rule(seen)]


def ended_by_spec(alert: Alert, seen: Observation) -> EndedReason | None:
    """Return why the spec, as it is now, wants no such alert; None where it does."""
    if alert.rule not in COLLECTIONS and _limits(alert.rule, seen.spec) is None:
        return EndedReason.NEVER
    if alert.rule is AlertRule.DISK_FULL and seen.excluded(alert.label):
        return EndedReason.EXCLUDED
    return None


def labels(rule: AlertRule, seen: Observation) -> frozenset[str] | None:
    """Return all labels a rule has in a document; None where it does not tell."""
    if rule is not AlertRule.DISK_FULL:
        return None
    if seen.metrics is None or "filesystems" in seen.metrics.missing:
        return None
    return frozenset(f.mount_point for f in seen.metrics.filesystems)


def alerts_from(level: AlertLevel, threshold: Threshold) -> float | None:
    """Return the percentage from which a metric alerts; None for Never."""
    match level:
        case AlertLevel.WARNING:
            return threshold.warning
        case AlertLevel.CRITICAL:
            return threshold.critical
        case AlertLevel.NEVER:
            return None


def _cpu_high(seen: Observation) -> list[Finding]:
    usage = seen.metrics.cpu if seen.metrics else None
    return _judge(seen, AlertRule.CPU_HIGH, {"": usage.total if usage else None})


def _memory_high(seen: Observation) -> list[Finding]:
    percent = seen.metrics.memory_percent if seen.metrics else None
    return _judge(seen, AlertRule.MEMORY_HIGH, {"": percent})


def _disk_full(seen: Observation) -> list[Finding]:
    mounted = seen.metrics.filesystems if seen.metrics else ()
    percents = {f.mount_point: f.percent for f in mounted}
    return _judge(seen, AlertRule.DISK_FULL, percents)


def _server_unreachable(seen: Observation) -> list[Finding]:
    rule, failure = AlertRule.SERVER_UNREACHABLE, seen.failure
    if failure is not None and failure.reason in NETWORK:
        return [Finding(rule, Says.HOLDS, failure=failure)]
    if failure is None or failure.reached:
        return [Finding(rule, Says.CLEAR)]
    return []


def _collection_failing(seen: Observation) -> list[Finding]:
    rule, failure = AlertRule.COLLECTION_FAILING, seen.failure
    if failure is None:
        return [Finding(rule, Says.CLEAR)]
    if failure.reason in NETWORK or failure.reason is Reason.HOST_KEY_MISMATCH:
        return []
    return [Finding(rule, Says.HOLDS, failure=failure)]


def _host_key_changed(seen: Observation) -> list[Finding]:
    rule, failure = AlertRule.HOST_KEY_CHANGED, seen.failure
    if failure is None or failure.reason in AFTER_TRUST:
        return [Finding(rule, Says.CLEAR)]
    if failure.reason is Reason.HOST_KEY_MISMATCH:
        return [Finding(rule, Says.HOLDS, failure=failure)]
    return []


_RULES = (
    _server_unreachable,
    _collection_failing,
    _host_key_changed,
    _cpu_high,
    _memory_high,
    _disk_full,
)


def _judge(
    seen: Observation, rule: AlertRule, percents: dict[str, float | None]
) -> list[Finding]:
    """Compare each label's percentage, unrounded, with the limits of a rule."""
    limits = _limits(rule, seen.spec)
    if limits is None:
        return []
    return [
        Finding(
            rule,
            _says(percent, limits),
            label,
            Severity.CRITICAL if percent >= limits.critical else Severity.WARNING,
            percent,
            limits,
        )
        for label, percent in percents.items()
        if percent is not None
    ]


def _says(percent: float, limits: Limits) -> Says:
    if percent >= limits.alerts:
        return Says.HOLDS
    return Says.LINGERS if percent >= limits.clears else Says.CLEAR


def _limits(rule: AlertRule, spec: ServerSpec) -> Limits | None:
    """Return the limits of a rule on a metric; None where it never alerts."""
    threshold, level = _policy(rule, spec)
    alerts = alerts_from(level, threshold)
    if alerts is None:
        return None
    return Limits(alerts, threshold.critical, alerts - spec.alerting.clear_margin)


def _policy(rule: AlertRule, spec: ServerSpec) -> tuple[Threshold, AlertLevel]:
    if rule is AlertRule.CPU_HIGH:
        return spec.thresholds.cpu, spec.alerting.cpu
    if rule is AlertRule.MEMORY_HIGH:
        return spec.thresholds.memory, spec.alerting.memory
    return spec.thresholds.disk, spec.alerting.disk
