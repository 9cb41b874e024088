"""A sample as a row of ``server_resource_metrics``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostwatch.model.reading import Filesystem, Interface
    from hostwatch.model.sample import Metrics, Sample

Row = tuple[Any, ...]
"""The values in the order of `INSERT`'s parameters: server_id, collected_at, eight
bigint, eight real, then organization, status, reason, disk_mount, and the detail of
filesystems and interfaces as JSON text."""

SERVER_ID, COLLECTED_AT = 0, 1
_INTEGERS = slice(2, 10)
_REALS = slice(10, 18)

_BIGINT = 2**63 - 1
_REAL = 3.4e38

INSERT = b"""
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(
        %b::uuid[], %b::timestamptz[],
        %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
        %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
        %b::real[], %b::real[], %b::real[], %b::real[],
        %b::real[], %b::real[], %b::real[], %b::real[],
        %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[]
    ) AS t (
        server_id, collected_at,
        memory_usage, memory_total, disk_usage, disk_available,
        disk_total, network_rx_bytes, network_tx_bytes, uptime_seconds,
        cpu_usage, cpu_user, cpu_system, cpu_iowait,
        cpu_steal, load_1, load_5, load_15,
        organization, status, reason, disk_mount, filesystems, interfaces
    )
), latest AS (
    UPDATE hostwatch.servers AS s SET
        latest_at = n.collected_at, health = n.status, reason = n.reason,
        cpu_usage = n.cpu_usage,
        memory_usage = n.memory_usage, memory_total = n.memory_total,
        disk_usage = n.disk_usage, disk_available = n.disk_available,
        disk_total = n.disk_total, disk_mount = n.disk_mount,
        network_rx_bytes = n.network_rx_bytes, network_tx_bytes = n.network_tx_bytes,
        load_1 = n.load_1, load_5 = n.load_5, load_15 = n.load_15,
        uptime_seconds = n.uptime_seconds
    FROM (
        SELECT DISTINCT ON (server_id) * FROM input
        ORDER BY server_id, collected_at DESC
    ) AS n
    WHERE s.server_id = n.server_id
        AND (s.latest_at IS NULL OR s.latest_at < n.collected_at)
)
INSERT INTO hostwatch.server_resource_metrics (
    server_id, collected_at,
    memory_usage, memory_total, disk_usage, disk_available,
    disk_total, network_rx_bytes, network_tx_bytes, uptime_seconds,
    cpu_usage, cpu_user, cpu_system, cpu_iowait,
    cpu_steal, load_1, load_5, load_15,
    organization, status, reason, disk_mount, filesystems, interfaces
)
SELECT
    server_id, collected_at,
    memory_usage, memory_total, disk_usage, disk_available,
    disk_total, network_rx_bytes, network_tx_bytes, uptime_seconds,
    cpu_usage, cpu_user, cpu_system, cpu_iowait,
    cpu_steal, load_1, load_5, load_15,
    organization, status, reason, disk_mount, filesystems::jsonb, interfaces::jsonb
FROM input
ON CONFLICT DO NOTHING
"""
"""Stores a batch given as one array per column, and with it what ``servers`` shows of
each server's newest sample. JSON goes as text: psycopg's own jsonb arrays cost five
times the CPU. Without a conflict target, INSERT is all the privilege it takes."""


def to_row(sample: Sample, *, detailed: bool) -> Row:
    """Lay a sample out as a row."""
    m = sample.metrics
    filesystems = m.filesystems if detailed else ()
    interfaces = m.interfaces if detailed else ()
    return (
        sample.server.id,
        sample.collected_at,
        m.memory_used,
        m.memory_total,
        m.disk_used,
        m.disk_available,
        m.disk_total,
        m.network_receive_bytes,
        m.network_transmit_bytes,
        m.uptime_seconds,
        *_cpu(m),
        *(m.load or (None, None, None)),
        sample.server.organization,
        sample.status.lower(),
        sample.reason,
        m.disk_mount,
        _filesystems(filesystems) if filesystems else None,
        _interfaces(interfaces) if interfaces else None,
    )


def is_in_range(row: Row) -> bool:
    """Tell whether the numbers fit their columns and are numbers at all (not NaN)."""
    return all(
        value is None or -_BIGINT <= value <= _BIGINT for value in row[_INTEGERS]
    ) and all(value is None or -_REAL <= value <= _REAL for value in row[_REALS])


def to_columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Turn rows into the parameters of `INSERT`."""
    return [list(column) for column in zip(*rows, strict=True)]


def _cpu(metrics: Metrics) -> tuple[float | None, ...]:
    cpu = metrics.cpu
    if cpu is None:
        return (None, None, None, None, None)
    return (cpu.total, cpu.user, cpu.system, cpu.iowait, cpu.steal)


def _filesystems(filesystems: Sequence[Filesystem]) -> str:
    return _json(
        [
            {
                "mount": f.mount_point,
                "device": f.device,
                "type": f.type,
                "total": f.total,
                "used": f.used,
                "available": f.available,
            }
            for f in filesystems
        ]
    )


def _interfaces(interfaces: Sequence[Interface]) -> str:
    return _json(
        [
            {
                "name": i.name,
                "rx_bytes": i.receive_bytes,
                "tx_bytes": i.transmit_bytes,
            }
            for i in interfaces
        ]
    )


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
