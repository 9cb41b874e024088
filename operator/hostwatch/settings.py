"""The environment, read once at the start; one class per concern.

Every field is documented under itself: its effect, its unit, why this default. The
variable is the field's name in capitals after ``HOSTWATCH_``. The README's table is
tested against this file.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Annotated, Literal, Self, get_type_hints

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Network = IPv4Network | IPv6Network

_HIGHEST_PORT = 65535


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="HOSTWATCH_",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    @classmethod
    def read(cls) -> Self:
        """Read this concern alone; raises `SettingsError`."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(_sentences(error)) from None


def _parts(value: object) -> object:
    """Read a comma-separated list; empty parts do not count."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _networks(value: object) -> object:
    """Read a comma-separated list of CIDRs; host bits must be 0."""
    parts = _parts(value)
    if not isinstance(parts, tuple):
        raise ValueError("not a list of CIDRs")  # noqa: TRY004 - pydantic's protocol
    return tuple(_network(part, number) for number, part in enumerate(parts, 1))


def _network(text: str, number: int) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(
            f"entry {number} must be a CIDR without host bits, for example 10.0.0.0/8"
        ) from None


def port_ranges(text: str) -> tuple[range, ...]:
    """Read numbers and ranges, comma-separated: ``22,2200-2299``.

    Raises `ValueError`.
    """
    parts = enumerate(text.split(","), 1)
    return tuple(_port_range(part.strip(), number) for number, part in parts)


def _port_range(text: str, number: int) -> range:
    first, dash, last = (part.strip() for part in text.partition("-"))
    numbers = (first, last) if dash else (first, first)
    if all(n.isascii() and n.isdigit() and len(n) <= len("65535") for n in numbers):
        low, high = map(int, numbers)
        if 1 <= low <= high <= _HIGHEST_PORT:
            return range(low, high + 1)
    raise ValueError(
        f"entry {number} must be a port or a range of ports, for example 2200-2299"
    )


def _ports(text: str) -> str:
    port_ranges(text)
    return text


def _pod_or_host() -> str:
    return os.environ.get("POD_NAME") or socket.gethostname()


class KubernetesSettings(_Environment):
    """Which resources this installation watches, and how it shows their status."""

    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces to watch, comma-separated; empty watches all."""

    require_organization_label: bool = False
    """Refuse servers of a namespace without the label `hostwatch.dev/organization`
    instead of taking the namespace's name: true where several tenants share a
    cluster."""

    status_writes_per_second: float = Field(default=20, gt=0, le=1000)
    """Budget of status patches for the whole installation, with a burst of ten
    seconds' worth. One patch costs the API server 8 ms of CPU."""

    read_namespaces = field_validator("namespaces", mode="before")(_parts)


class SshSettings(_Environment):
    """Where the operator may connect to, and how much of it at once."""

    allowed_destinations: Annotated[tuple[Network, ...], NoDecode] = ()
    """CIDRs the operator may dial, comma-separated; empty allows every unicast
    address. Loopback, link-local and the cluster's own addresses (its API server, its
    Services, `HOSTWATCH_CLUSTER_CIDRS`) are closed all the same; an entry wholly inside
    one of them opens it, for example `127.0.0.1/32`."""

    allowed_ports: str = "1-65535"
    """Ports the operator may dial: numbers and ranges, comma-separated, for example
    `22,2200-2299`."""

    cluster_cidrs: Annotated[tuple[Network, ...], NoDecode] = ()
    """CIDRs of the cluster's pods and services, comma-separated, kept closed like
    loopback so that no resource can make the operator probe the cluster."""

    allow_trust_on_first_use: bool = False
    """Let resources use `trustOnFirstUse`. Off, because whoever answers the first
    connection is then believed."""

    read_networks = field_validator(
        "allowed_destinations", "cluster_cidrs", mode="before"
    )(_networks)
    check_ports = field_validator("allowed_ports")(_ports)


class PostgresSettings(_Environment):
    """The database of samples."""

    postgres_dsn: SecretStr
    """libpq connection string of the operator's role. Required."""

    postgres_maintenance_dsn: SecretStr | None = None
    """Connection string for migrations, partitions and the prune: direct, never
    through a pooler. Default: the same as `HOSTWATCH_POSTGRES_DSN`."""

    retention_days: int = Field(default=30, ge=1, le=3650)
    """Whole days of samples to keep."""


class NatsSettings(_Environment):
    """The message bus."""

    nats_url: Annotated[tuple[str, ...], NoDecode] = ("nats://localhost:4222",)
    """Servers to connect to, comma-separated."""

    nats_credentials: str | None = None
    """Path of a creds file (JWT and nkey)."""

    nats_ca: str | None = None
    """Path of a CA bundle that the servers' certificates must chain to."""

    read_urls = field_validator("nats_url", mode="before")(_parts)


class TelemetrySettings(_Environment):
    """How the operator speaks of itself."""

    http_port: int = Field(default=8080, ge=0, le=65535)
    """Port of `/metrics`, `/healthz` and `/readyz`; 0 takes a free one."""

    server_metrics: bool = True
    """Publish up to twelve gauges per server on `/metrics`. Off saves Prometheus
    120,000 series at 10,000 servers."""

    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for a person at a terminal."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe line to print."""


class ReplicaSettings(_Environment):
    """Which replica works, and what it keeps beside the database."""

    instance: str = Field(
        default="hostwatch", pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
    )
    """Names the Leases: two installations in one namespace differ here."""

    lease_namespace: str | None = None
    """Namespace of the Leases. Default: the pod's, else that of the kubeconfig's
    context."""

    identity: str = Field(default_factory=_pod_or_host)
    """Names this replica in its Lease and in Events; a uuid is appended. Default: the
    pod's name, from the variable POD_NAME, else the host's."""

    spool_dir: str
    """Directory for what must outlive the process while the database is away: the
    alerts' last state. `off` disables it. Required."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of ``hostwatch operator``."""

    kubernetes: KubernetesSettings
    ssh: SshSettings
    postgres: PostgresSettings
    nats: NatsSettings
    telemetry: TelemetrySettings
    replica: ReplicaSettings

    @classmethod
    def read(cls) -> Settings:
        """Read the environment; raises `SettingsError` with all that is wrong in it."""
        read, wrong = {}, []
        for name, concern in get_type_hints(cls).items():
            try:
                read[name] = concern()
            except ValidationError as error:
                wrong += _sentences(error)
        if wrong:
            raise SettingsError(wrong)
        return cls(**read)


class SettingsError(Exception):
    """Variables that are missing or wrong, a sentence for each."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))


def _sentences(error: ValidationError) -> list[str]:
    return [_sentence(detail) for detail in error.errors(include_url=False)]


def _sentence(detail: ErrorDetails) -> str:
    """Name the variable and what is wrong, never its value: it may be a secret."""
    variable = "HOSTWATCH_" + str(detail["loc"][0]).upper()
    if detail["type"] == "missing":
        return f"{variable}: must be set"
    return f"{variable}: {detail['msg'].removeprefix('Value error, ')}"
