"""From what the monitor knows to what is written into a resource's status.

Pure: the time comes in, a merge patch (RFC 7396) goes out, where null removes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hostwatch.kube.text import printable, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from hostwatch.kube.observed import Observed, ObservedCondition
    from hostwatch.model.sample import CollectResult, Condition, Metrics, ServerState

_MESSAGE_LENGTH = 256
_MOUNT_LENGTH = 4096
_SHOWN_MOUNT_LENGTH = 64

Patch = dict[str, Any]


def patch_of(state: ServerState, observed: Observed, now: datetime) -> Patch | None:
    """Return the merge patch that makes a status say what the state says.

    None where it says so already. ``now`` is what the API server's clock has reached:
    no time in the patch is later, since kubectl prints ``<invalid>`` for the future.
    """
    if _says(observed, state, now):
        return None
    status: Patch = {
        "observedGeneration": state.generation,
        "health": state.health.value,
        "organization": state.server.organization or None,
        "consecutiveFailures": state.consecutive_failures,
        "conditions": _conditions(state, observed, now),
    }
    if state.last_attempt is not None:
        status["lastAttemptTime"] = rfc3339(min(state.last_attempt, now))
    if state.last_success is not None:
        status["lastCollectionTime"] = rfc3339(min(state.last_success, now))
    if state.metrics is not None:
        status["metrics"] = _metrics(state.metrics, now)
        status["summary"] = _summary(state.metrics)
    if state.pinned is not None:
        status["hostKey"] = {
            "fingerprint": state.pinned.fingerprint,
            "host": state.pinned.host,
            "port": state.pinned.port,
            "pinnedAt": rfc3339(state.pinned.pinned_at),
        }
    if state.result is not None:
        status["lastHandledCollectRequest"] = state.result.request
        status["lastCollectResult"] = _result(state.result, now)
    return {
        "metadata": {"resourceVersion": observed.resource_version},
        "status": status,
    }


def is_overtaken(state: ServerState, observed: Observed) -> bool:
    """Tell whether the status speaks of a later attempt than the state, in seconds.

    So it does when another replica wrote since; not before it knows our generation.
    """
    shown, known = observed.last_attempt, state.last_attempt
    return (
        shown is not None
        and known is not None
        and shown.replace(microsecond=0) > known.replace(microsecond=0)
        and state.generation <= observed.generation
    )


def newest_of(older: ServerState, newer: ServerState) -> ServerState:
    """Return the newer state, with what only the older one, never written, has."""
    return replace(
        newer,
        last_attempt=newer.last_attempt or older.last_attempt,
        last_success=newer.last_success or older.last_success,
        metrics=newer.metrics or older.metrics,
        pinned=newer.pinned or older.pinned,
        result=newer.result or older.result,
    )


def _says(observed: Observed, state: ServerState, now: datetime) -> bool:
    """Tell whether the status says it already; metrics follow the last success."""

    def same(shown: datetime | None, known: datetime | None) -> bool:
        if known is None:
            return True
        return shown is not None and rfc3339(shown) == rfc3339(min(known, now))

    return (
        observed.generation == state.generation
        and observed.health == state.health
        and observed.organization == state.server.organization
        and observed.consecutive_failures == state.consecutive_failures
        and same(observed.last_attempt, state.last_attempt)
        and same(observed.last_collection, state.last_success)
        and (state.pinned is None or _same_pin(observed, state))
        and (
            state.result is None
            or observed.last_handled_collect_request == state.result.request
        )
        and all(
            _same_condition(observed.conditions.get(condition.type), condition, state)
            for condition in state.conditions
        )
    )


def _same_pin(observed: Observed, state: ServerState) -> bool:
    shown, known = observed.pinned, state.pinned
    if shown is None or known is None:
        return False
    return (shown.fingerprint, shown.host, shown.port) == (
        known.fingerprint,
        known.host,
        known.port,
    )


def _same_condition(
    shown: ObservedCondition | None, condition: Condition, state: ServerState
) -> bool:
    return shown is not None and (
        shown.status,
        shown.reason,
        shown.message,
        shown.generation,
    ) == (
        condition.status,
        condition.reason,
        printable(condition.message, _MESSAGE_LENGTH),
        state.generation,
    )


def _conditions(
    state: ServerState, observed: Observed, now: datetime
) -> list[dict[str, object]]:
    """Write the whole list, since a merge patch replaces it: others' entries too."""
    ours = {condition.type for condition in state.conditions}
    others = (c for c in observed.conditions.values() if c.type not in ours)
    return [
        *(
            _condition(condition, state, observed, now)
            for condition in state.conditions
        ),
        *_kept(others, now),
    ]


def _condition(
    condition: Condition, state: ServerState, observed: Observed, now: datetime
) -> dict[str, object]:
    shown = observed.conditions.get(condition.type)
    since = now
    if shown is not None and shown.status == condition.status:
        since = shown.last_transition or now
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": printable(condition.message, _MESSAGE_LENGTH),
        "observedGeneration": state.generation,
        "lastTransitionTime": rfc3339(since),
    }


def _kept(
    conditions: Iterable[ObservedCondition], now: datetime
) -> Iterable[dict[str, object]]:
    for condition in conditions:
        entry: dict[str, object] = {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": rfc3339(condition.last_transition or now),
        }
        if condition.generation is not None:
            entry["observedGeneration"] = condition.generation
        yield entry


def _metrics(metrics: Metrics, now: datetime) -> Mapping[str, object]:
    mount, boot = metrics.disk_mount, metrics.boot_time
    return {
        "cpuPercent": None if metrics.cpu is None else round(metrics.cpu.total, 1),
        "memoryUsedBytes": metrics.memory_used,
        "memoryTotalBytes": metrics.memory_total,
        "diskUsedBytes": metrics.disk_used,
        "diskAvailableBytes": metrics.disk_available,
        "diskTotalBytes": metrics.disk_total,
        "diskMountPoint": None if mount is None else printable(mount, _MOUNT_LENGTH),
        "networkReceiveBytes": metrics.network_receive_bytes,
        "networkTransmitBytes": metrics.network_transmit_bytes,
        "loadAverage": _load(metrics.load),
        "bootTime": None if boot is None else rfc3339(min(boot, now)),
        "uptimeSeconds": metrics.uptime_seconds,
    }


def _load(load: tuple[float, float, float] | None) -> str | None:
    return None if load is None else " ".join(f"{value:.2f}" for value in load)


def _summary(metrics: Metrics) -> Mapping[str, object]:
    disk = _percent(metrics.disk_percent)
    if disk is not None and metrics.disk_mount is not None:
        disk = f"{disk} {printable(metrics.disk_mount, _SHOWN_MOUNT_LENGTH)}"
    return {
        "cpu": _percent(None if metrics.cpu is None else metrics.cpu.total),
        "memory": _percent(metrics.memory_percent),
        "disk": disk,
    }


def _percent(value: float | None) -> str | None:
    """Round down: what prints as 90% has reached a threshold of 90."""
    return None if value is None else f"{int(value)}%"


def _result(result: CollectResult, now: datetime) -> Mapping[str, object]:
    return {
        "request": result.request,
        "result": "Succeeded" if result.succeeded else "Failed",
        "reason": result.reason,
        "finishedAt": rfc3339(min(result.finished_at, now)),
        "durationMilliseconds": result.duration_milliseconds,
    }
