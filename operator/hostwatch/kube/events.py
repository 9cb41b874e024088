"""Tells of alerts as Events of the resource, where ``kubectl describe`` shows them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.lease import micro_time
from hostwatch.kube.names import FIELD_MANAGER, GROUP, VERSION
from hostwatch.kube.text import printable
from hostwatch.model.alert import (
    AlertRule,
    AlertState,
    EndedReason,
    UndeliverableError,
)
from hostwatch.model.reason import TryAgainLaterError, TryOthersMeanwhileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostwatch.kube.client import KubeClient
    from hostwatch.model.alert import Alert, Notification

_CONTROLLER = f"{GROUP}/operator"
# Limits of the API's validation of events.k8s.io/v1.
_LONGEST_NOTE = 1024
_LONGEST_INSTANCE = 128

_FIRING: Mapping[AlertRule, str] = {
    AlertRule.CPU_HIGH: "CPU use has reached {threshold}",
    AlertRule.MEMORY_HIGH: "Memory use has reached {threshold}",
    AlertRule.DISK_FULL: "Use of the filesystem {label} has reached {threshold}",
    AlertRule.SERVER_UNREACHABLE: "The server cannot be reached",
    AlertRule.COLLECTION_FAILING: "The server is reached, but collecting from it fails",
    AlertRule.HOST_KEY_CHANGED: "The server shows another host key than the known one",
}
_CLEARED: Mapping[AlertRule, str] = {
    AlertRule.CPU_HIGH: "CPU use is below {threshold} again",
    AlertRule.MEMORY_HIGH: "Memory use is below {threshold} again",
    AlertRule.DISK_FULL: "Use of the filesystem {label} is below {threshold} again",
    AlertRule.SERVER_UNREACHABLE: "The server is reached again",
    AlertRule.COLLECTION_FAILING: "Collecting from the server succeeds again",
    AlertRule.HOST_KEY_CHANGED: "The server shows its known host key again",
}
_ENDED: Mapping[EndedReason | None, str] = {
    EndedReason.LABEL_GONE: "{rule} has ended: {label} is no longer there",
    EndedReason.SERVER_DELETED: "{rule} has ended: the resource is deleted",
    EndedReason.SERVER_SUSPENDED: "{rule} has ended: the server is suspended",
    EndedReason.ORGANIZATION_CHANGED: (
        "{rule} has ended: the server belongs to another organization now"
    ),
    EndedReason.NEVER: "{rule} has ended: this alert is switched off",
    EndedReason.EXCLUDED: "{rule} has ended: {label} is excluded",
    EndedReason.SUPERSEDED: (
        "{rule} has ended: the operator lost sight of it while the database was away"
    ),
}


class EventSink:
    """A sink of alerts that makes one Event of each transition.

    ``identity`` names this replica.
    """

    name = "kubernetes"

    def __init__(self, client: KubeClient, *, identity: str) -> None:
        self._client = client
        self._identity = identity
        self._log = structlog.get_logger(component="events")

    async def deliver(self, notification: Notification) -> None:
        """Return once the Event exists, made by this call or an earlier one.

        Raises `TryAgainLaterError`, or `UndeliverableError` where none can be made.
        """
        alert = notification.alert
        try:
            await self._client.post(
                f"/apis/events.k8s.io/v1/namespaces/{alert.server.namespace}/events",
                event_of(alert, self._identity),
                query={"fieldManager": FIELD_MANAGER},
            )
        except ApiAwayError as error:
            raise TryAgainLaterError(str(error)) from error
        except ApiRefusedError as error:
            if not _exists(error):
                self._refused(alert, error)

    def _refused(self, alert: Alert, error: ApiRefusedError) -> None:
        """Raise what must happen next; a right or a quota may be granted later.

        Both are a namespace's own matter.
        """
        forbidden = error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT)
        if forbidden and "being terminated" not in error.detail:
            raise TryOthersMeanwhileError(f"the API server says: {error}") from error
        self._log.warning(
            "An alert cannot be told as an Event",
            rule=alert.rule,
            detail=error.detail,
            server=alert.server.name,
            namespace=alert.server.namespace,
            organization=alert.server.organization,
        )
        raise UndeliverableError(f"the API server says: {error}") from error


def event_of(alert: Alert, identity: str) -> dict[str, Any]:
    """Return the Event of an alert's transition, always of the same name.

    ``regarding`` is the resource. The note has no number that changes: the values are
    in the status and in the alert's other messages.
    """
    server, ended = alert.server, alert.state is AlertState.RESOLVED
    number = alert.id.replace("-", "")[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{server.name}.{number}.{alert.transition}",
            "namespace": server.namespace,
        },
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "MonitoredServer",
            "namespace": server.namespace,
            "name": server.name,
            "uid": server.id,
        },
        "type": "Normal" if ended else "Warning",
        "reason": f"{alert.rule}Resolved" if ended else str(alert.rule),
        "action": "Resolving" if ended else "Alerting",
        "note": _note(alert, ended=ended),
        "eventTime": micro_time((alert.ended_at if ended else None) or alert.seen_at),
        "reportingController": _CONTROLLER,
        "reportingInstance": identity[:_LONGEST_INSTANCE],
    }


def _note(alert: Alert, *, ended: bool) -> str:
    told = (
        _CLEARED[alert.rule] if ended else f"{_FIRING[alert.rule]} ({alert.severity})"
    )
    if ended:
        told = _ENDED.get(alert.ended_reason, told)
    threshold = "its threshold"
    if alert.threshold is not None:
        threshold = f"{alert.threshold:g} %"
    sentence = told.format(rule=alert.rule, label=alert.label, threshold=threshold)
    return printable(sentence, _LONGEST_NOTE)


def _exists(error: ApiRefusedError) -> bool:
    """Tell a repeat from a conflict with a quota, which has the same status."""
    return error.status == HTTPStatus.CONFLICT and "already exists" in error.detail
