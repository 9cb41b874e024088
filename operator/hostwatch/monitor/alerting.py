"""The alerts of the fleet: judged with each sample, told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hostwatch.health.alerts import Observation, advance, end_all
from hostwatch.model.alert import AlertState, EndedReason
from hostwatch.probes.globs import compile_globs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from hostwatch.health.alerts import Advance
    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.sample import Failure, Sample
    from hostwatch.model.server import ServerId, ServerKey, ServerSpec
    from hostwatch.monitor.ports import AlertRelay


class AlertDesk:
    """Holds every pending and firing alert, and passes on what changes."""

    def __init__(self, relay: AlertRelay) -> None:
        self._relay = relay
        self._alerts: dict[ServerId, tuple[Alert, ...]] = {}
        self._log = structlog.get_logger(component="alerts")

    def restore(self, alerts: Mapping[ServerId, tuple[Alert, ...]]) -> None:
        """Go on from what the last term left."""
        self._alerts = {server: held for server, held in alerts.items() if held}

    def adopt(self, alerts: Mapping[ServerId, tuple[Alert, ...]]) -> None:
        """Take what the database knew all along of the servers named."""
        for server, held in alerts.items():
            if held:
                self._alerts[server] = held
            else:
                self._alerts.pop(server, None)

    def judge(
        self,
        sample: Sample,
        spec: ServerSpec,
        *,
        failure: Failure | None,
        failures: int,
    ) -> None:
        """Let a finished collection advance its server's alerts.

        ``failures`` counts those running, this one included.
        """
        self._hand_over(sample)
        known = self._alerts.get(sample.server.id, ())
        seen = Observation(
            server=sample.server,
            at=sample.collected_at,
            interval=spec.interval,
            spec=spec,
            metrics=sample.metrics if failure is None else None,
            failure=failure,
            failures=failures,
            excluded=compile_globs(spec.exclude).match,
        )
        self._take(sample.server, known, advance(known, seen))

    def holders(self) -> frozenset[ServerId]:
        """Return the servers with an alert, whether or not they still exist."""
        return frozenset(self._alerts)

    def end(self, server: ServerId, why: EndedReason, at: datetime) -> None:
        """End whatever a server alerts for: nothing will be heard of it any more."""
        known = self._alerts.get(server, ())
        if known:
            self._take(known[0].server, known, end_all(known, at, why))

    def _hand_over(self, sample: Sample) -> None:
        """End what a former organization was told; the new one starts from nothing.

        The namespace may have changed hands while nobody worked.
        """
        known = self._alerts.get(sample.server.id, ())
        if known and known[0].server != sample.server:
            why = EndedReason.ORGANIZATION_CHANGED
            self.end(sample.server.id, why, sample.collected_at)

    def _take(self, server: ServerKey, known: tuple[Alert, ...], now: Advance) -> None:
        if now.alerts:
            self._alerts[server.id] = now.alerts
        else:
            self._alerts.pop(server.id, None)
        if now.alerts != known or now.notifications:
            self._relay.record(server, now.alerts, now.notifications)
        for notification in now.notifications:
            self._tell(notification)

    def _tell(self, notification: Notification) -> None:
        """Log one line per transition."""
        alert = notification.alert
        resolved = alert.state is AlertState.RESOLVED
        say = self._log.info if resolved else self._log.warning
        say(
            "Alert resolved" if resolved else "Alert firing",
            server=alert.server.name,
            namespace=alert.server.namespace,
            organization=alert.server.organization,
            rule=alert.rule,
            label=alert.label,
            severity=alert.severity,
            alert_id=alert.id,
            transition=alert.transition,
            detail=alert.message,
            ended_reason=alert.ended_reason,
            inhibited=notification.inhibited,
        )
