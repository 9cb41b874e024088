"""The live update of one sample: subject, body and headers.

Headers are a CloudEvents 1.0 event in binary mode (the NATS protocol binding of the
CloudEvents specification), so that a consumer can tell repeated and foreign messages
apart without reading a body.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from hostwatch.bus.subjects import resources_subject

if TYPE_CHECKING:
    from datetime import datetime

    from hostwatch.model.sample import Metrics, Sample

_TYPE = "server.resources.updated"

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
        "server_id": server.id,
        "server_name": server.name,
        "namespace": server.namespace,
        "organization": server.organization,
        "metrics": _metrics(sample.metrics),
        "status": sample.status.lower(),
        "reason": sample.reason,
        "timestamp": timestamp,
    }
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f"{server.id}/{timestamp}",
        "ce-type": _TYPE,
        "ce-source": f"hostwatch/{server.namespace}/{server.name}",
        "ce-time": timestamp,
        "content-type": "application/json",
    }
    return Message(resources_subject(server), _encode(body).encode(), headers)


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


def _rfc3339(moment: datetime) -> str:
    """Write a moment in UTC, its microseconds kept: it is the key of a row."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
