from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hostwatch.bus.messages import alert_message
from hostwatch.bus.subjects import alerts_filter
from hostwatch.model.alert import Alert, AlertRule, AlertState, EndedReason, Severity
from hostwatch.model.server import Organization, ServerId, ServerKey

SERVER = ServerKey(
    id=ServerId("0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111"),
    namespace="acme-prod",
    name="web-1.example",
    organization=Organization("acme"),
)
NOON = datetime(2026, 11, 23, 12, 0, 30, 123456, tzinfo=UTC)
FIRING = Alert(
    server=SERVER,
    rule=AlertRule.DISK_FULL,
    label="/var",
    state=AlertState.FIRING,
    severity=Severity.WARNING,
    since=NOON - timedelta(seconds=60),
    seen_at=NOON,
    id="5f6d1f2e-0000-5000-8000-00000000000a",
    value=87.5,
    threshold=85,
    message="/var is 87.5 % full",
    started_at=NOON,
    transition=1,
)
RESOLVED = replace(
    FIRING,
    state=AlertState.RESOLVED,
    value=70.0,
    seen_at=NOON + timedelta(minutes=5),
    ended_at=NOON + timedelta(minutes=5),
    ended_reason=EndedReason.CLEARED,
    transition=2,
)


def test_the_body_of_a_firing_alert():
    assert json.loads(alert_message(FIRING).body) == {
        "alert_id": "5f6d1f2e-0000-5000-8000-00000000000a",
        "rule": "DiskFull",
        "label": "/var",
        "severity": "warning",
        "state": "firing",
        "value": 87.5,
        "threshold": 85,
        "message": "/var is 87.5 % full",
        "started_at": "2026-11-23T12:00:30.123456Z",
        "ended_at": None,
        "ended_reason": None,
        "server_id": "0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111",
        "server_name": "web-1.example",
        "namespace": "acme-prod",
        "organization": "acme",
    }


def test_the_body_of_a_resolved_alert_differs_in_what_changed():
    firing, resolved = (json.loads(alert_message(a).body) for a in (FIRING, RESOLVED))

    assert {k: v for k, v in resolved.items() if v != firing[k]} == {
        "state": "resolved",
        "value": 70.0,
        "ended_at": "2026-11-23T12:05:30.123456Z",
        "ended_reason": "cleared",
    }


def test_an_alert_without_numbers_says_null():
    unreachable = replace(
        FIRING,
        rule=AlertRule.SERVER_UNREACHABLE,
        label="",
        value=None,
        threshold=None,
    )
    body = json.loads(alert_message(unreachable).body)

    assert (body["label"], body["value"], body["threshold"]) == ("", None, None)


@pytest.mark.parametrize(
    ("alert", "kind", "time"),
    [
        (FIRING, "server.alert.firing", "2026-11-23T12:00:30.123456Z"),
        (RESOLVED, "server.alert.resolved", "2026-11-23T12:05:30.123456Z"),
    ],
    ids=["firing", "resolved"],
)
def test_the_headers_are_a_cloud_event_with_the_key_of_the_transition(
    alert, kind, time
):
    identity = f"5f6d1f2e-0000-5000-8000-00000000000a.{alert.transition}"

    assert alert_message(alert).headers == {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-type": kind,
        "ce-source": "hostwatch/acme-prod/web-1.example",
        "ce-time": time,
        "content-type": "application/json",
        "Nats-Msg-Id": identity,
    }


def test_an_alert_that_gets_worse_has_an_event_of_its_own():
    worse = replace(
        FIRING,
        severity=Severity.CRITICAL,
        seen_at=NOON + timedelta(minutes=1),
        transition=2,
    )
    headers = alert_message(worse).headers

    assert headers["ce-type"] == "server.alert.firing"
    assert headers["ce-time"] == "2026-11-23T12:01:30.123456Z"
    assert headers["Nats-Msg-Id"].endswith(".2")


def test_the_subject_is_the_servers_with_its_dots_replaced():
    expected = "hostwatch.acme.alerts.acme-prod.web-1_example"
    assert alert_message(FIRING).subject == expected


@pytest.mark.parametrize("organization", ["acme.>", "*", "", "Acme", "a b"])
def test_what_is_no_organization_has_no_subject(organization):
    stranger = replace(SERVER, organization=Organization(organization))

    with pytest.raises(ValueError, match="cannot be part of a NATS subject"):
        alert_message(replace(FIRING, server=stranger))
    with pytest.raises(ValueError, match="cannot be part of a NATS subject"):
        alerts_filter(organization)
