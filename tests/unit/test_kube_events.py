from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hostwatch.kube.events import event_of
from hostwatch.model.alert import Alert, AlertRule, AlertState, EndedReason, Severity
from hostwatch.model.server import Organization, ServerId, ServerKey

SERVER = ServerKey(
    id=ServerId("0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111"),
    namespace="acme",
    name="web-1",
    organization=Organization("acme"),
)
NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
FIRING = Alert(
    server=SERVER,
    rule=AlertRule.DISK_FULL,
    label="/var",
    state=AlertState.FIRING,
    severity=Severity.WARNING,
    since=NOON,
    seen_at=NOON,
    id="5f6d1f2e-0001-5002-8003-00000000000a",
    value=87.5,
    threshold=85,
    message="/var is 87.5 % full",
    started_at=NOON,
    transition=1,
)
RESOLVED = replace(
    FIRING,
    state=AlertState.RESOLVED,
    ended_at=NOON.replace(minute=5, microsecond=250),
    ended_reason=EndedReason.CLEARED,
    transition=2,
)


def test_the_event_of_a_firing_alert():
    assert event_of(FIRING, "pod-1") == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "web-1.5f6d1f2e00015002.1", "namespace": "acme"},
        "regarding": {
            "apiVersion": "hostwatch.dev/v1alpha1",
            "kind": "MonitoredServer",
            "namespace": "acme",
            "name": "web-1",
            "uid": "0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111",
        },
        "type": "Warning",
        "reason": "DiskFull",
        "action": "Alerting",
        "note": "Use of the filesystem /var has reached 85 % (warning)",
        "eventTime": "2026-11-23T12:00:30.000000Z",
        "reportingController": "hostwatch.dev/operator",
        "reportingInstance": "pod-1",
    }


def test_the_event_of_a_resolved_alert_differs_in_what_changed():
    firing, resolved = event_of(FIRING, "pod-1"), event_of(RESOLVED, "pod-1")

    assert {k: v for k, v in resolved.items() if v != firing[k]} == {
        "metadata": {"name": "web-1.5f6d1f2e00015002.2", "namespace": "acme"},
        "type": "Normal",
        "reason": "DiskFullResolved",
        "action": "Resolving",
        "note": "Use of the filesystem /var is below 85 % again",
        "eventTime": "2026-11-23T12:05:30.000250Z",
    }


def test_another_value_makes_no_other_event():
    later = replace(FIRING, value=99.9, message="/var is 99.9 % full")

    assert event_of(later, "pod-1") == event_of(FIRING, "pod-1")


@pytest.mark.parametrize("rule", list(AlertRule))
def test_every_rule_has_its_sentences(rule):
    firing, resolved = replace(FIRING, rule=rule), replace(RESOLVED, rule=rule)

    assert event_of(firing, "")["note"].endswith(" (warning)")
    assert event_of(resolved, "")["note"].endswith(" again")


@pytest.mark.parametrize(
    ("why", "note"),
    [
        (EndedReason.LABEL_GONE, "DiskFull has ended: /var is no longer there"),
        (EndedReason.SERVER_DELETED, "DiskFull has ended: the resource is deleted"),
        (EndedReason.SERVER_SUSPENDED, "DiskFull has ended: the server is suspended"),
        (EndedReason.NEVER, "DiskFull has ended: this alert is switched off"),
        (EndedReason.EXCLUDED, "DiskFull has ended: /var is excluded"),
    ],
)
def test_an_end_that_is_no_recovery_says_why(why, note):
    assert event_of(replace(RESOLVED, ended_reason=why), "")["note"] == note


@pytest.mark.parametrize("why", sorted(set(EndedReason) - {EndedReason.CLEARED}))
def test_no_end_but_a_recovery_claims_one(why):
    note = event_of(replace(RESOLVED, ended_reason=why), "")["note"]

    assert note.startswith("DiskFull has ended: ")


def test_a_mount_point_cannot_break_a_line_or_the_sentence():
    hostile = replace(FIRING, label="/a\n\x1b[31m{threshold}\u202e")

    assert event_of(hostile, "")["note"] == (
        "Use of the filesystem /a  [31m{threshold}  has reached 85 % (warning)"
    )


def test_a_note_and_an_identity_stay_within_the_limits_of_the_api():
    event = event_of(replace(FIRING, label="/" + 4096 * "x"), 200 * "i")

    assert len(event["note"]) == 1024
    assert len(event["reportingInstance"]) == 128
