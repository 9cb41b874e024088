"""A MonitoredServer as the operator understands it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping

ServerId = NewType("ServerId", str)
"""The uid of the resource; a new one of the same name is a new server."""

Organization = NewType("Organization", str)
"""A tenant: a DNS label, taken from the namespace, never from the resource."""

Fingerprint = NewType("Fingerprint", str)
"""``SHA256:`` and the unpadded base64 of a host key's digest, as ``ssh-keygen -l``."""


@dataclass(frozen=True, slots=True)
class ServerKey:
    """Who a server is: what logs, rows and subjects name it by."""

    id: ServerId
    namespace: str
    name: str
    organization: Organization


class ConnectionMode(StrEnum):
    """How long the SSH connection to a server lives."""

    PERSISTENT = "Persistent"
    PER_COLLECTION = "PerCollection"


@dataclass(frozen=True, slots=True)
class HostKeyPolicy:
    """How a server proves who it is: at most one member is set.

    With none set, ``known_hosts`` of the Secret decides. Texts are as the user
    wrote them: bare public keys or known_hosts lines.
    """

    known_hosts: str | None = None
    certificate_authority: str | None = None
    trust_on_first_use: bool = False


@dataclass(frozen=True, slots=True)
class Threshold:
    """Percent from which a metric counts as Warning and as Critical."""

    warning: float
    critical: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Effective thresholds: the resource's own over the operator's defaults."""

    cpu: Threshold = Threshold(75, 90)
    memory: Threshold = Threshold(75, 90)
    disk: Threshold = Threshold(85, 90)


class AlertLevel(StrEnum):
    """The lowest level that raises an alert."""

    WARNING = "Warning"
    CRITICAL = "Critical"
    NEVER = "Never"


@dataclass(frozen=True, slots=True)
class Alerting:
    """Effective alerting: the resource's own over the operator's defaults.

    ``clear_margin`` is percentage points below the threshold, the others are seconds.
    """

    cpu: AlertLevel = AlertLevel.CRITICAL
    memory: AlertLevel = AlertLevel.CRITICAL
    disk: AlertLevel = AlertLevel.WARNING
    for_seconds: int = 60
    clear_margin: float = 5
    keep_firing_for_seconds: int = 0


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """The effective ``spec`` of one resource, defaults filled in and checked again.

    Durations are seconds. ``exclude`` holds globs over mount points.
    """

    host: str
    secret_name: str
    port: int = 22
    user: str = "hostwatch"
    host_key: HostKeyPolicy = HostKeyPolicy()
    connection: ConnectionMode = ConnectionMode.PERSISTENT
    interval: int = 30
    timeout: int = 60
    retries: int = 2
    suspend: bool = False
    thresholds: Thresholds = Thresholds()
    alerting: Alerting = Alerting()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """One resource as last seen from the API server.

    ``spec`` is None where the operator's own check refused it; ``invalid`` then says
    why, naming the field. ``collect_request`` and ``accept_host_key`` are the values
    of the annotations ``hostwatch.dev/collect`` and ``hostwatch.dev/accept-host-key``.
    """

    id: ServerId
    namespace: str
    name: str
    generation: int
    spec: ServerSpec | None
    invalid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    collect_request: str = ""
    accept_host_key: str = ""
