"""Alerts as JSON: in the outbox, and in the last state on the disk."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hostwatch.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    EndedReason,
    Notification,
    Severity,
)
from hostwatch.model.kept import Errand, Outcome, ServerAlerts
from hostwatch.model.server import Organization, ServerId, ServerKey

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

_READ: dict[str, Callable[[Any], Any]] = {
    "rule": AlertRule,
    "state": AlertState,
    "severity": Severity,
    "ended_reason": EndedReason,
    "since": datetime.fromisoformat,
    "seen_at": datetime.fromisoformat,
    "started_at": datetime.fromisoformat,
    "ended_at": datetime.fromisoformat,
    "cleared_since": datetime.fromisoformat,
}
_NAMES = tuple(field.name for field in fields(Alert) if field.name != "server")


def write_alert(alert: Alert) -> Json:
    """Return it without what is not set."""
    written: Json = {"server": _write_server(alert.server)}
    for name in _NAMES:
        value = getattr(alert, name)
        if value is not None:
            written[name] = _text(value) if isinstance(value, datetime) else value
    return written


def read_alert(written: Json) -> Alert:
    """Return what `write_alert` wrote; raises one of `UNREADABLE`."""
    values = {
        name: _READ[name](written[name]) if name in _READ else written[name]
        for name in _NAMES
        if name in written
    }
    return Alert(server=_read_server(written["server"]), **values)


def write_state(state: ServerAlerts) -> Json:
    """Return one server's alerts."""
    return {
        "server": _write_server(state.server),
        "as_of": _text(state.as_of),
        "alerts": [write_alert(alert) for alert in state.alerts],
    }


def read_state(written: Json) -> ServerAlerts:
    """Return what `write_state` wrote; raises one of `UNREADABLE`."""
    return ServerAlerts(
        server=_read_server(written["server"]),
        as_of=datetime.fromisoformat(written["as_of"]),
        alerts=tuple(read_alert(alert) for alert in written["alerts"]),
    )


def write_errand(errand: Errand) -> Json:
    """Return one errand."""
    written = {
        "alert": write_alert(errand.notification.alert),
        "inhibited": errand.notification.inhibited,
        "sink": errand.sink,
        "created_at": _text(errand.created_at),
        "outcome": errand.outcome,
    }
    if errand.ended_at is not None:
        written["ended_at"] = _text(errand.ended_at)
    return written


def read_errand(written: Json) -> Errand:
    """Return what `write_errand` wrote; raises one of `UNREADABLE`."""
    ended_at = written.get("ended_at")
    return Errand(
        notification=Notification(read_alert(written["alert"]), written["inhibited"]),
        sink=written["sink"],
        created_at=datetime.fromisoformat(written["created_at"]),
        outcome=Outcome(written["outcome"]),
        ended_at=None if ended_at is None else datetime.fromisoformat(ended_at),
    )


UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)
"""What reading raises where the text is not what was written here."""


def _text(time: datetime) -> str:
    return time.isoformat()


def _write_server(server: ServerKey) -> Json:
    return {
        "id": server.id,
        "namespace": server.namespace,
        "name": server.name,
        "organization": server.organization,
    }


def _read_server(written: Json) -> ServerKey:
    return ServerKey(
        id=ServerId(written["id"]),
        namespace=written["namespace"],
        name=written["name"],
        organization=Organization(written["organization"]),
    )
