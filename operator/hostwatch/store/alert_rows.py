"""Alerts and errands as rows of ``alerts`` and ``notifications``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from hostwatch.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    EndedReason,
    Notification,
    Severity,
)
from hostwatch.model.kept import Errand, Outcome
from hostwatch.model.server import Organization, ServerId, ServerKey
from hostwatch.store.alert_json import read_alert, write_alert

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from hostwatch.model.kept import Kept

Row = tuple[Any, ...]

# The ids of pending alerts, which have none of their own yet.
_PENDING = UUID("5f0d1c1e-8a55-4f5e-9d0b-3d6a3c1d9f10")

VACATE = b"""
UPDATE hostwatch.alerts AS a SET
    state = CASE a.state WHEN 'pending' THEN 'inactive' ELSE 'resolved' END,
    ended_at = CASE a.state WHEN 'firing' THEN t.as_of END,
    updated_at = t.as_of
FROM unnest(%s::uuid[], %s::timestamptz[]) AS t (server_id, as_of)
WHERE a.server_id = t.server_id AND a.state IN ('pending', 'firing')
    AND a.updated_at <= t.as_of AND a.alert_id <> ALL (%s::uuid[])
"""
"""Ends what these servers had and have no more, unless a later writer says so."""

UPSERT = b"""
INSERT INTO hostwatch.alerts AS a (
    cluster_id, alert_id, server_id, organization, namespace, name,
    rule, label, state, severity, message, value, threshold,
    since, seen_at, started_at, ended_at, ended_reason, cleared_since,
    absent, transition, updated_at
)
SELECT %s::uuid, t.* FROM unnest(
    %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::float8[], %s::float8[],
    %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],
    %s::text[], %s::timestamptz[], %s::integer[], %s::integer[], %s::timestamptz[]
) AS t
ON CONFLICT (alert_id) DO UPDATE SET
    organization = excluded.organization, namespace = excluded.namespace,
    name = excluded.name, state = excluded.state, severity = excluded.severity,
    message = excluded.message, value = excluded.value,
    threshold = excluded.threshold, since = excluded.since,
    seen_at = excluded.seen_at, started_at = excluded.started_at,
    ended_at = excluded.ended_at, ended_reason = excluded.ended_reason,
    cleared_since = excluded.cleared_since, absent = excluded.absent,
    transition = excluded.transition, updated_at = excluded.updated_at
WHERE (excluded.transition, excluded.updated_at) >= (a.transition, a.updated_at)
"""

UPSERT_ERRANDS = b"""
INSERT INTO hostwatch.notifications AS n (
    cluster_id, alert_id, transition, sink, organization, namespace, payload,
    inhibited, created_at, delivered_at, refused_at
)
SELECT
    %s::uuid, alert_id, transition, sink, organization, namespace, payload::jsonb,
    inhibited, created_at, delivered_at, refused_at
FROM unnest(
    %s::uuid[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::boolean[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[]
) AS t (
    alert_id, transition, sink, organization, namespace, payload,
    inhibited, created_at, delivered_at, refused_at
)
ON CONFLICT (alert_id, transition, sink) DO UPDATE SET
    delivered_at = excluded.delivered_at, refused_at = excluded.refused_at
WHERE n.delivered_at IS NULL AND n.refused_at IS NULL
    AND (excluded.delivered_at, excluded.refused_at) IS DISTINCT FROM (NULL, NULL)
"""

ACTIVE = b"""
SELECT
    alert_id::text, server_id::text, organization, namespace, name,
    rule, label, state, severity, message, value, threshold,
    since, seen_at, started_at, ended_at, ended_reason, cleared_since,
    absent, transition, updated_at
FROM hostwatch.alerts
WHERE cluster_id = %s::uuid AND state IN ('pending', 'firing')
    AND (cardinality(%s::text[]) = 0 OR namespace = ANY (%s::text[]))
"""

WAITING = b"""
SELECT sink, payload, created_at FROM hostwatch.notifications
WHERE cluster_id = %s::uuid AND sink = ANY (%s::text[])
    AND delivered_at IS NULL AND refused_at IS NULL AND NOT inhibited
    AND (cardinality(%s::text[]) = 0 OR namespace = ANY (%s::text[]))
ORDER BY created_at, transition LIMIT %s
"""


def alert_rows(kept: Kept) -> list[Row]:
    """Lay the alerts out, the newest of each id, in the order of the key.

    Two replicas then lock rows in the same order.
    """
    found: dict[str, tuple[int, datetime, Alert]] = {}
    for alert, at in (
        *((a, state.as_of) for state in kept.servers for a in state.alerts),
        *((a, a.ended_at or a.seen_at) for a in kept.ended),
    ):
        key, new = row_id(alert), (alert.transition, at, alert)
        if key not in found or found[key][:2] <= new[:2]:
            found[key] = new
    return [_alert_row(key, found[key][2], found[key][1]) for key in sorted(found)]


def errand_rows(errands: Sequence[Errand]) -> list[Row]:
    """Lay the errands out, in the order of the key."""
    return [_errand_row(e) for e in sorted(errands, key=lambda errand: errand.key)]


def to_columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Turn rows into the parameters of a statement."""
    return [list(column) for column in zip(*rows, strict=True)]


def row_id(alert: Alert) -> str:
    """Return the key of an alert's row."""
    if alert.id:
        return alert.id
    return str(uuid5(_PENDING, f"{alert.server.id}/{alert.rule}/{alert.label}"))


def to_alert(row: Row) -> tuple[Alert, datetime]:
    """Read a row of `ACTIVE`, and when it was true.

    Raises `ValueError` where a later version wrote what is not known here.
    """
    state = AlertState(row[7])
    alert = Alert(
        id="" if state is AlertState.PENDING else row[0],
        server=ServerKey(ServerId(row[1]), row[3], row[4], Organization(row[2])),
        rule=AlertRule(row[5]),
        label=row[6],
        state=state,
        severity=Severity(row[8]),
        message=row[9],
        value=row[10],
        threshold=row[11],
        since=row[12],
        seen_at=row[13],
        started_at=row[14],
        ended_at=row[15],
        ended_reason=None if row[16] is None else EndedReason(row[16]),
        cleared_since=row[17],
        absent=row[18],
        transition=row[19],
    )
    return alert, row[20]


def to_errand(row: Row) -> Errand:
    """Read a row of `WAITING`; raises one of `UNREADABLE`, as `to_alert` does."""
    return Errand(Notification(read_alert(row[1])), sink=row[0], created_at=row[2])


def _alert_row(key: str, alert: Alert, at: datetime) -> Row:
    return (
        key,
        alert.server.id,
        alert.server.organization,
        alert.server.namespace,
        alert.server.name,
        alert.rule,
        alert.label,
        alert.state,
        alert.severity,
        alert.message,
        alert.value,
        alert.threshold,
        alert.since,
        alert.seen_at,
        alert.started_at,
        alert.ended_at,
        alert.ended_reason,
        alert.cleared_since,
        alert.absent,
        alert.transition,
        at,
    )


def _errand_row(errand: Errand) -> Row:
    alert = errand.notification.alert
    return (
        alert.id,
        alert.transition,
        errand.sink,
        alert.server.organization,
        alert.server.namespace,
        json.dumps(write_alert(alert), separators=(",", ":")),
        errand.notification.inhibited,
        errand.created_at,
        errand.ended_at if errand.outcome is Outcome.DELIVERED else None,
        errand.ended_at if errand.outcome is Outcome.REFUSED else None,
    )
