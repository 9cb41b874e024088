"""A Lease as a value: what it says, who may take it and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_API = "coordination.k8s.io"


def leases_path(namespace: str) -> str:
    """Return the path of the Leases of a namespace."""
    return f"/apis/{_API}/v1/namespaces/{namespace}/leases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a holder writes into the Lease; ``duration`` is in seconds.

    ``transitions`` counts the terms before this one.
    """

    holder: str
    duration: float
    acquired: datetime
    transitions: int

    def spec(self, now: datetime) -> dict[str, object]:
        """Return the spec that renews the Lease at ``now``.

        A part of a second counts as a whole one: others then wait longer, not shorter.
        """
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": ceil(self.duration),
            "acquireTime": micro_time(self.acquired),
            "renewTime": micro_time(now),
            "leaseTransitions": self.transitions,
        }

    def released(self, now: datetime) -> dict[str, object]:
        """Return the spec of a Lease that anybody may take at once."""
        return {**self.spec(now), "holderIdentity": "", "leaseDurationSeconds": 1}


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease as it is stored; it may be held by whoever can write it."""

    metadata: Mapping[str, object]
    spec: Mapping[str, Any]

    @property
    def holder(self) -> str:
        """The identity of the holder, empty where nobody holds it."""
        return str(self.spec.get("holderIdentity") or "")

    @property
    def transitions(self) -> int:
        """How often the holder changed."""
        return int(self.spec.get("leaseTransitions") or 0)

    def duration(self, default: float) -> float:
        """Return the seconds that its holder may be silent."""
        return float(self.spec.get("leaseDurationSeconds") or default)


class Sight:
    """What is known of a Lease, by looking at it. ``now`` is monotonic, in seconds.

    Clocks of others are not believed: a holder is alive while the spec changes, and
    dead once it was seen unchanged for as long as the Lease itself says, or for
    ``duration`` where it says nothing. What the spec says is compared, not the
    resourceVersion: a label set by a third party is no sign of life.
    """

    def __init__(self, duration: float) -> None:
        self.lease: Lease | None = None
        self.free_at = -inf
        self.transitions = -1
        self._duration = duration

    def see(self, body: Mapping[str, Any] | None, now: float) -> None:
        """Take what the API server says; None where there is no such Lease.

        A Lease that is gone stays held for its time: its holder may not know yet.
        """
        before, self.lease = self.lease, None
        if body is None:
            return
        lease = Lease(body.get("metadata") or {}, body.get("spec") or {})
        if before is None or before.spec != lease.spec:
            silence = lease.duration(self._duration) if lease.holder else 0.0
            self.free_at = now + silence
        self.transitions = lease.transitions
        self.lease = lease

    @property
    def holder(self) -> str:
        """The identity in the Lease, empty where there is none."""
        return "" if self.lease is None else self.lease.holder

    def free(self, now: float) -> bool:
        """Tell whether anybody may take it."""
        return now >= self.free_at


def lease_body(
    namespace: str, name: str, spec: Mapping[str, object], stored: Lease | None
) -> dict[str, object]:
    """Return the Lease to write: a new one, or the stored one with another spec.

    Labels and owners that somebody set stay. The uid and resourceVersion among the
    metadata make the API server refuse to replace anything else than what was seen.
    """
    metadata: Mapping[str, object] = {"namespace": namespace, "name": name}
    if stored is not None:
        metadata = stored.metadata
    return {
        "apiVersion": f"{_API}/v1",
        "kind": "Lease",
        "metadata": dict(metadata),
        "spec": dict(spec),
    }


def micro_time(when: datetime) -> str:
    """Write an aware time as the API's MicroTime: UTC, six decimals always."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
