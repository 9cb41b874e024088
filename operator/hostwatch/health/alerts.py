"""The life of an alert: one state machine per server, rule and label.

========  =======================================  ==========  ====================
state     a collection says                        next        told
========  =======================================  ==========  ====================
inactive  holds                                    pending
pending   holds, long or often enough              firing      firing
pending   holds, after a gap                       pending     (begins anew)
pending   lingers or is clear                      inactive
firing    holds, more severe than the episode      firing      firing, once more
firing    holds or lingers                         firing
firing    is clear                                 firing      (kept firing)
firing    is clear, for long enough                resolved    resolved
any       nothing                                  as it was
pending   never, excluded, gone, deleted           inactive
firing    never, excluded, gone, deleted           resolved    resolved
========  =======================================  ==========  ====================

* A step from inactive goes on to firing at once where there is nothing to wait for.
* "Long enough" is ``forSeconds`` and ``keepFiringForSeconds``, "often enough" is the
  number of collections of the rules on collections themselves.
* A gap is more than two intervals between two samples that speak of an alert, or a
  clock that went back. Nobody knows what was in between, so neither the time that a
  condition holds nor the time that it is clear counts across it. What is counted in
  collections has no gaps: their failures take as long as they take.
* While a server counts as unreachable none of its metrics begins to fire or becomes
  more severe; what is still so afterwards is told then. What was told before goes on,
  and its end is told, or whoever heard of it would wait for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID, uuid5

from hostwatch.health.alert_rules import (
    COLLECTIONS,
    Observation,
    Says,
    ended_by_spec,
    findings,
    labels,
)
from hostwatch.health.alert_text import ending, headline, message
from hostwatch.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    EndedReason,
    Notification,
    Severity,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from hostwatch.health.alert_rules import Finding

__all__ = ["Advance", "Observation", "advance", "end_all", "headline"]

GONE_AFTER = 3
"""Complete documents in a row without a label before its alert ends."""

_Subject: TypeAlias = tuple[AlertRule, str]

_UNREACHABLE: _Subject = (AlertRule.SERVER_UNREACHABLE, "")


@dataclass(frozen=True, slots=True)
class Advance:
    """What follows: the alerts to remember, pending or firing, and what to tell."""

    alerts: tuple[Alert, ...]
    notifications: tuple[Notification, ...]


def advance(known: tuple[Alert, ...], seen: Observation) -> Advance:
    """Return what one server's alerts become by a finished collection.

    A suspended server's stay what they are: somebody only wanted to look.
    """
    if seen.spec.suspend:
        return Advance(known, ())
    before = {(alert.rule, alert.label): alert for alert in known}
    found = {(finding.rule, finding.label): finding for finding in findings(seen)}
    after: dict[_Subject, Alert | None] = {}
    for subject in dict.fromkeys((_UNREACHABLE, *found, *before)):
        after[subject] = _next(
            before.get(subject),
            found.get(subject),
            seen,
            inhibited=_fires(after.get(_UNREACHABLE)) and subject[0] not in COLLECTIONS,
        )
    return _between(before, after)


def end_all(known: tuple[Alert, ...], at: datetime, why: EndedReason) -> Advance:
    """Return the end of all alerts of a server that is no longer watched."""
    before = {(alert.rule, alert.label): alert for alert in known}
    after = {subject: _end(alert, at, why) for subject, alert in before.items()}
    return _between(before, after)


def _between(
    before: Mapping[_Subject, Alert], after: Mapping[_Subject, Alert | None]
) -> Advance:
    """Return what changed: each transition has a number of its own."""
    alerts = {subject: alert for subject, alert in after.items() if alert is not None}
    numbers = {subject: alert.transition for subject, alert in before.items()}
    return Advance(
        tuple(a for a in alerts.values() if a.state is not AlertState.RESOLVED),
        tuple(
            Notification(alert)
            for subject, alert in alerts.items()
            if alert.transition > numbers.get(subject, 0)
        ),
    )


def _next(
    was: Alert | None, found: Finding | None, seen: Observation, *, inhibited: bool
) -> Alert | None:
    why = ended_by_spec(was, seen) if was is not None else None
    if was is not None and why is not None:
        return _end(was, seen.at, why)
    if found is None:
        return _unspoken(was, seen) if was is not None else None
    if was is None or not _fires(was):
        if found.says is not Says.HOLDS:
            return None
        return _rise(was, found, seen, inhibited=inhibited)
    if found.says is Says.CLEAR:
        return _clear(was, found, seen)
    return _go_on(was, found, seen, inhibited=inhibited)


def _unspoken(was: Alert, seen: Observation) -> Alert | None:
    """Leave an alert as it is, unless what it speaks of has gone."""
    all_labels = labels(was.rule, seen)
    if all_labels is None:
        return was
    absent = 0 if was.label in all_labels else was.absent + 1
    if absent >= GONE_AFTER:
        return _end(was, seen.at, EndedReason.LABEL_GONE)
    return replace(was, absent=absent)


def _rise(
    was: Alert | None, found: Finding, seen: Observation, *, inhibited: bool
) -> Alert:
    since = was.since if was is not None and _continues(was, seen) else seen.at
    pending = Alert(
        server=seen.server,
        rule=found.rule,
        label=found.label,
        state=AlertState.PENDING,
        severity=found.severity,
        since=since,
        seen_at=seen.at,
        value=found.value,
        threshold=found.threshold,
        message=message(found, seen.at - since),
    )
    due = _is_due(was, pending, seen) and not inhibited
    return _fire(pending) if due else pending


def _is_due(was: Alert | None, pending: Alert, seen: Observation) -> bool:
    needed = COLLECTIONS.get(pending.rule)
    if needed is None:
        wait = timedelta(seconds=seen.spec.alerting.for_seconds)
        return pending.seen_at - pending.since >= wait
    said = 1 if was is None else 2
    return min(said, seen.failures) >= needed


def _continues(was: Alert, seen: Observation) -> bool:
    """Tell whether a condition held since it was last seen to hold."""
    if was.rule in COLLECTIONS:
        return seen.failures > 1 and was.since <= seen.at
    return not _is_gap(was, seen)


def _is_gap(was: Alert, seen: Observation) -> bool:
    passed = seen.at - was.seen_at
    return not timedelta(0) <= passed <= timedelta(seconds=2 * seen.interval)


def _fire(pending: Alert) -> Alert:
    at = pending.seen_at
    name = f"{pending.rule}/{pending.label}/{at.isoformat()}"
    return replace(
        pending,
        id=str(uuid5(UUID(pending.server.id), name)),
        state=AlertState.FIRING,
        started_at=at,
        transition=1,
    )


def _go_on(was: Alert, found: Finding, seen: Observation, *, inhibited: bool) -> Alert:
    """Go on firing; the severity only rises."""
    now = replace(
        was,
        seen_at=seen.at,
        value=found.value,
        message=message(found),
        cleared_since=None,
        absent=0,
    )
    worse = found.severity is Severity.CRITICAL and was.severity is Severity.WARNING
    if not worse or inhibited:
        return now
    return replace(
        now,
        severity=found.severity,
        threshold=found.threshold,
        transition=was.transition + 1,
    )


def _clear(was: Alert, found: Finding, seen: Observation) -> Alert | None:
    """Resolve once it is clear for long enough."""
    since = was.cleared_since
    if since is None or _is_gap(was, seen):
        since = seen.at
    now = replace(
        was,
        seen_at=seen.at,
        value=found.value,
        message=message(found),
        cleared_since=since,
        absent=0,
    )
    keep = timedelta(seconds=seen.spec.alerting.keep_firing_for_seconds)
    if seen.at - since < keep:
        return now
    return _end(now, seen.at, EndedReason.CLEARED)


def _end(was: Alert, at: datetime, why: EndedReason) -> Alert | None:
    """Resolve what fired; what was only pending vanishes without a word."""
    if was.started_at is None:
        return None
    cleared = why is EndedReason.CLEARED
    return replace(
        was,
        state=AlertState.RESOLVED,
        message=was.message if cleared else ending(was.rule, was.label, why),
        ended_at=max(at, was.started_at),
        ended_reason=why,
        transition=was.transition + 1,
    )


def _fires(alert: Alert | None) -> bool:
    return alert is not None and alert.state is AlertState.FIRING
