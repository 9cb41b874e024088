"""Finished collections as the alert rules see them, put together in a word or two."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hostwatch.health.alerts import Observation, advance
from hostwatch.model.reading import CpuUsage, Filesystem
from hostwatch.model.sample import Failure, Metrics
from hostwatch.model.server import (
    Alerting,
    AlertLevel,
    Organization,
    ServerId,
    ServerKey,
    ServerSpec,
)
from hostwatch.probes.globs import compile_globs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.reason import Reason

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
INTERVAL = 30.0
SERVER = ServerKey(
    ServerId("0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111"),
    "acme",
    "web-1",
    Organization("acme-inc"),
)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def spec(*, exclude: tuple[str, ...] = (), **alerting: object) -> ServerSpec:
    """Return a spec whose CPU alerts from Warning on; keywords change the alerting."""
    changed = {"cpu": AlertLevel.WARNING, **alerting}
    return ServerSpec(
        host="web-1",
        secret_name="web-ssh",
        alerting=replace(Alerting(), **changed),  # type: ignore[arg-type]
        exclude=exclude,
    )


def metrics(
    cpu: float | None = None,
    *,
    memory: float | None = None,
    disks: Mapping[str, float] | None = None,
) -> Metrics:
    """Return a sample in percent; without ``disks`` none could be read."""
    return Metrics(
        cpu=None if cpu is None else CpuUsage(cpu, cpu, 0, 0, 0),
        memory_used=None if memory is None else round(memory * 100),
        memory_total=None if memory is None else 10_000,
        filesystems=tuple(filesystem(*disk) for disk in (disks or {}).items()),
        missing={} if disks is not None else {"filesystems": "no mounts"},
    )


def filesystem(mount_point: str, percent: float) -> Filesystem:
    used = round(percent * 100)
    return Filesystem(mount_point, "/dev/sda", "ext4", 20_000, used, 10_000 - used)


def failure(reason: Reason, *, reached: bool = False) -> Failure:
    return Failure(reason, "look there", reached)


@dataclass
class Life:
    """One server through its collections: what is remembered, and all that was told.

    ``clock`` is seconds since the start, at the next collection.
    """

    spec: ServerSpec = field(default_factory=spec)
    clock: float = 0.0
    failures: int = 0
    alerts: tuple[Alert, ...] = ()
    told: list[Notification] = field(default_factory=list)

    def sees(self, *outcomes: Metrics | Failure | float) -> list[tuple[str, ...]]:
        """Take collections, one per interval; return what these told.

        A number is the CPU's percentage.
        """
        before = len(self.told)
        for outcome in outcomes:
            self._see(
                outcome if isinstance(outcome, Metrics | Failure) else metrics(outcome)
            )
            self.clock += INTERVAL
        return [
            (n.alert.rule, n.alert.label, n.alert.state, n.alert.severity)
            for n in self.told[before:]
        ]

    def states(self) -> dict[str, str]:
        return {a.rule + a.label: a.state for a in self.alerts}

    def _see(self, outcome: Metrics | Failure) -> None:
        failed = isinstance(outcome, Failure)
        self.failures = self.failures + 1 if failed else 0
        seen = Observation(
            server=SERVER,
            at=after(self.clock),
            interval=INTERVAL,
            spec=self.spec,
            metrics=None if failed else outcome,
            failure=outcome if failed else None,
            failures=self.failures,
            excluded=compile_globs(self.spec.exclude).match,
        )
        step = advance(self.alerts, seen)
        self.alerts = step.alerts
        self.told += step.notifications
