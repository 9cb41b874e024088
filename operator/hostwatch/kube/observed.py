"""What the status of a resource says already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hostwatch.kube.text import parse_time
from hostwatch.model.sample import Health, PinnedKey, Shown
from hostwatch.model.server import Fingerprint, ServerId

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ObservedCondition:
    """One condition as stored; the next patch writes the whole list again."""

    type: str
    status: str
    reason: str
    message: str
    generation: int | None
    last_transition: datetime | None


@dataclass(frozen=True, slots=True)
class Observed:
    """The identity of a resource and what its status said at ``resource_version``.

    Metrics are left out: they change with ``last_collection`` only, and 10,000 of
    these are held in memory.
    """

    id: ServerId
    namespace: str
    name: str
    resource_version: str
    generation: int = 0
    health: Health = Health.UNKNOWN
    organization: str = ""
    conditions: Mapping[str, ObservedCondition] = field(default_factory=dict)
    last_collection: datetime | None = None
    last_attempt: datetime | None = None
    consecutive_failures: int = 0
    last_handled_collect_request: str = ""
    pinned: PinnedKey | None = None


def observed_of(body: Mapping[str, Any]) -> Observed:
    """Read a resource's status; what is absent or unreadable takes its default."""
    metadata = body.get("metadata") or {}
    status = body.get("status") or {}
    return Observed(
        id=ServerId(str(metadata.get("uid", ""))),
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        resource_version=str(metadata.get("resourceVersion", "")),
        generation=int(status.get("observedGeneration") or 0),
        health=_health(status.get("health")),
        organization=str(status.get("organization") or ""),
        conditions=_conditions(status.get("conditions") or ()),
        last_collection=parse_time(status.get("lastCollectionTime")),
        last_attempt=parse_time(status.get("lastAttemptTime")),
        consecutive_failures=int(status.get("consecutiveFailures") or 0),
        last_handled_collect_request=str(status.get("lastHandledCollectRequest") or ""),
        pinned=_pinned(status.get("hostKey") or {}),
    )


def shown_of(observed: Observed) -> Shown:
    """Return what the monitor takes up of an earlier term's word."""
    return Shown(
        generation=observed.generation,
        health=observed.health,
        conditions=tuple(
            (condition.type, condition.status, condition.reason)
            for condition in observed.conditions.values()
        ),
        organization=observed.organization,
        handled_request=observed.last_handled_collect_request,
        consecutive_failures=observed.consecutive_failures,
        pinned=observed.pinned,
    )


def is_newer(candidate: Observed, held: Observed | None) -> bool:
    """Tell whether an observation is not older than the one held.

    Versions are compared as numbers, as the API allows since Kubernetes 1.35 and as
    they are in fact before; one that is no number counts as newer.
    """
    if held is None or candidate.id != held.id:
        return True
    new, old = candidate.resource_version, held.resource_version
    return not (new.isdecimal() and old.isdecimal()) or int(new) >= int(old)


def _health(value: object) -> Health:
    if isinstance(value, str) and value in set(Health):
        return Health(value)
    return Health.UNKNOWN


def _conditions(
    stored: Any,
) -> dict[str, ObservedCondition]:
    return {
        str(condition.get("type", "")): ObservedCondition(
            type=str(condition.get("type", "")),
            status=str(condition.get("status", "")),
            reason=str(condition.get("reason", "")),
            message=str(condition.get("message", "")),
            generation=condition.get("observedGeneration"),
            last_transition=parse_time(condition.get("lastTransitionTime")),
        )
        for condition in stored
    }


def _pinned(stored: Mapping[str, Any]) -> PinnedKey | None:
    pinned_at = parse_time(stored.get("pinnedAt"))
    fingerprint, host, port = map(stored.get, ("fingerprint", "host", "port"))
    if not (fingerprint and host and port and pinned_at):
        return None
    return PinnedKey(Fingerprint(str(fingerprint)), str(host), int(port), pinned_at)
