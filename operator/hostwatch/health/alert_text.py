"""Alerts in plain English: one sentence with its numbers, and one without.

The only text of a server in them is a mount point, which is printable since it was
parsed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hostwatch.health.alert_rules import Says
from hostwatch.model.alert import AlertRule, AlertState, EndedReason

if TYPE_CHECKING:
    from datetime import timedelta

    from hostwatch.health.alert_rules import Finding, Limits
    from hostwatch.model.alert import Alert

_LONGEST_LABEL = 128
"""Characters: a Kubernetes Event's note holds 1,024 bytes."""

_HOLDS = {
    AlertRule.SERVER_UNREACHABLE: "The server cannot be reached",
    AlertRule.COLLECTION_FAILING: "Collecting from the server fails",
    AlertRule.HOST_KEY_CHANGED: "The server's host key is not the one that is known",
}

_CLEAR = {
    AlertRule.SERVER_UNREACHABLE: "The server can be reached again",
    AlertRule.COLLECTION_FAILING: "Collecting from the server succeeds again",
    AlertRule.HOST_KEY_CHANGED: "The server's host key is the known one again",
}

_ENDED = {
    EndedReason.SERVER_DELETED: "The server's resource was deleted",
    EndedReason.SERVER_SUSPENDED: "Watching the server is suspended",
    EndedReason.ORGANIZATION_CHANGED: "The server belongs to another organization now",
    EndedReason.LABEL_GONE: "{} is no longer mounted",
    EndedReason.EXCLUDED: "{} is excluded now",
    EndedReason.NEVER: "{} raises no alerts any more",
    EndedReason.SUPERSEDED: "Lost sight of while the database was away",
    EndedReason.CLEARED: "The condition cleared",
}


def headline(alert: Alert) -> str:
    """Say what is wrong, or why it ended, without a number that changes.

    It stays the same while an episode lasts and keeps its severity, so that repeated
    Events of it are counted as one.
    """
    if alert.state is AlertState.RESOLVED and alert.ended_reason is not None:
        if alert.ended_reason is not EndedReason.CLEARED:
            return ending(alert.rule, alert.label, alert.ended_reason)
        if alert.rule in _CLEAR:
            return _CLEAR[alert.rule]
        return f"{_subject(alert.rule, alert.label)} is back below {_limit(alert)}"
    if alert.rule in _HOLDS:
        return _HOLDS[alert.rule]
    return f"{_subject(alert.rule, alert.label)} is at or above {_limit(alert)}"


def message(found: Finding, held: timedelta | None = None) -> str:
    """Say what a collection found; ``held`` is how long the condition holds so far."""
    if found.limits is not None and found.value is not None:
        now = f"{_subject(found.rule, found.label)} is at {_percent(found.value)}"
        return f"{now}, {_compared(found, found.limits, held)}"
    if found.failure is None:
        return _CLEAR[found.rule]
    return f"{_HOLDS[found.rule]} ({found.failure.reason}): {found.failure.detail}"


def ending(rule: AlertRule, label: str, why: EndedReason) -> str:
    """Say why an alert ended that did not clear."""
    if why is EndedReason.NEVER:
        label = ""
    return _ENDED[why].format(_subject(rule, label))


def _compared(found: Finding, limits: Limits, held: timedelta | None) -> str:
    match found.says:
        case Says.CLEAR:
            return f"back below {limits.clears:g}%"
        case Says.LINGERS:
            return f"not yet below {limits.clears:g}%"
        case Says.HOLDS:
            # Only of the lowest threshold it is known how long it was exceeded.
            seconds = int(held.total_seconds()) if held else 0
            known = seconds > 0 and found.threshold == limits.alerts
            how_long = f" for {seconds} s" if known else ""
            return f"at or above {found.threshold:g}%{how_long}"


def _subject(rule: AlertRule, label: str) -> str:
    if rule is AlertRule.CPU_HIGH:
        return "CPU"
    if rule is AlertRule.MEMORY_HIGH:
        return "Memory"
    if len(label) > _LONGEST_LABEL:
        label = label[: _LONGEST_LABEL - 1] + "…"
    return f"Disk {label}".rstrip()


def _limit(alert: Alert) -> str:
    return f"its {alert.severity} threshold of {alert.threshold:g}%"


def _percent(value: float) -> str:
    """Round down: what is below a threshold must not look as if it had reached it."""
    return f"{math.floor(value * 10) / 10:g}%"
