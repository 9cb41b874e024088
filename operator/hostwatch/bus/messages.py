"""The messages of a sample and of an alert: subject, body and headers.

Headers are a CloudEvents 1.0 event in binary mode (the NATS protocol binding of the
CloudEvents specification), so that a consumer can tell repeated and foreign messages
apart without reading a body.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple, overload

from hostwatch.bus.subjects import alerts_subject, resources_subject
from hostwatch.model.alert import AlertState

if TYPE_CHECKING:
    from datetime import datetime

    from hostwatch.model.alert import Alert
    from hostwatch.model.sample import Metrics, Sample
    from hostwatch.model.server import ServerKey

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Message(NamedTuple):
    """What is handed to NATS for one event."""

    subject: str
    body: bytes
    headers: dict[str, str]


def resources_message(sample: Sample) -> Message:
    """Render the update that is published after every collection, failed ones too.

    The same sample always gives the same ``ce-id``. Raises `ValueError` where a name
    cannot be part of a subject or a number is not finite.
    """
    server = sample.server
    timestamp = _rfc3339(sample.collected_at)
    body = {
        **_names(server),
        "metrics": _metrics(sample.metrics),
        "status": sample.status.lower(),
        "reason": sample.reason,
        "timestamp": timestamp,
    }
    headers = _headers(
        server,
        identity=f"{server.id}/{timestamp}",
        kind="server.resources.updated",
        time=timestamp,
    )
    return Message(resources_subject(server), _encode(body).encode(), headers)


def alert_message(alert: Alert) -> Message:
    """Render what is said of an alert when it fires, gets worse or ends.

    The same transition always gives the same ``Nats-Msg-Id``, by which the stream
    drops what it has already; two transitions never share one. Raises as
    `resources_message`.
    """
    firing = alert.state is not AlertState.RESOLVED
    identity = f"{alert.id}.{alert.transition}"
    body = {
        "alert_id": alert.id,
        "rule": alert.rule,
        "label": alert.label,
        "severity": alert.severity,
        "state": AlertState.FIRING if firing else AlertState.RESOLVED,
        "value": alert.value,
        "threshold": alert.threshold,
        "message": alert.message,
        "started_at": _rfc3339(alert.started_at),
        "ended_at": _rfc3339(alert.ended_at),
        "ended_reason": alert.ended_reason,
        **_names(alert.server),
    }
    headers = _headers(
        alert.server,
        identity=identity,
        kind="server.alert.firing" if firing else "server.alert.resolved",
        time=_rfc3339(alert.seen_at if firing else alert.ended_at or alert.seen_at),
    )
    headers["Nats-Msg-Id"] = identity
    return Message(alerts_subject(alert.server), _encode(body).encode(), headers)


def _names(server: ServerKey) -> dict[str, str]:
    return {
        "server_id": server.id,
        "server_name": server.name,
        "namespace": server.namespace,
        "organization": server.organization,
    }


def _headers(
    server: ServerKey, *, identity: str, kind: str, time: str
) -> dict[str, str]:
    return {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-type": kind,
        "ce-source": f"hostwatch/{server.namespace}/{server.name}",
        "ce-time": time,
        "content-type": "application/json",
    }


def _metrics(metrics: Metrics) -> dict[str, object]:
    """Percent, bytes, counters since boot and seconds; null is "not measured"."""
    return {
        "cpu_usage": metrics.cpu.total if metrics.cpu else None,
        "memory_usage": metrics.memory_used,
        "memory_total": metrics.memory_total,
        "disk_usage": metrics.disk_used,
        "disk_available": metrics.disk_available,
        "disk_total": metrics.disk_total,
        "disk_mount": metrics.disk_mount,
        "network_rx_bytes": metrics.network_receive_bytes,
        "network_tx_bytes": metrics.network_transmit_bytes,
        "load_average": metrics.load,
        "uptime_seconds": metrics.uptime_seconds,
    }


@overload
def _rfc3339(moment: datetime) -> str: ...


@overload
def _rfc3339(moment: None) -> None: ...


def _rfc3339(moment: datetime | None) -> str | None:
    """Write a moment in UTC, its microseconds kept: it is the key of a row."""
    if moment is None:
        return None
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
