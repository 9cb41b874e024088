"""A resource's body becomes a `Server`, or says what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hostwatch.kube.observed import (
    Observed,
    ObservedCondition,
    is_newer,
    observed_of,
    shown_of,
)
from hostwatch.kube.resource import organization_of, server_of
from hostwatch.model.sample import Health, PinnedKey, Shown
from hostwatch.model.server import (
    Alerting,
    AlertLevel,
    ConnectionMode,
    Fingerprint,
    HostKeyPolicy,
    Server,
    ServerId,
    ServerSpec,
    Threshold,
    Thresholds,
)

SPEC: dict[str, Any] = {
    "host": "web-1.example.com",
    "credentials": {"secretRef": {"name": "web-ssh"}},
}

CPU_20 = {"warning": 10, "critical": 20}


def body(spec: object = None, **metadata: object) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": "u-1",
            "namespace": "acme",
            "name": "web-1",
            "generation": 3,
            "resourceVersion": "7",
            **metadata,
        },
        "spec": SPEC if spec is None else spec,
    }


def server(spec: object = None, **metadata: object) -> Server:
    return server_of(body(spec, **metadata), allow_trust_on_first_use=False)


def test_a_minimal_resource_takes_the_defaults():
    assert server() == Server(
        id=ServerId("u-1"),
        namespace="acme",
        name="web-1",
        generation=3,
        spec=ServerSpec(host="web-1.example.com", secret_name="web-ssh"),
    )


def test_a_full_resource_is_taken_as_written():
    spec = SPEC | {
        "host": "2001:db8::7",
        "port": 2222,
        "user": "ACME\\svc",
        "hostKey": {"knownHosts": "ssh-ed25519 AAAA"},
        "connection": "PerCollection",
        "intervalSeconds": 5,
        "timeoutSeconds": 300,
        "retries": 0,
        "suspend": True,
        "thresholds": {"cpu": {"warning": 50}, "disk": {"critical": 95.5}},
        "alerting": {
            "cpu": "Warning",
            "memory": "Never",
            "disk": "Critical",
            "forSeconds": 0,
            "clearMargin": 2.5,
            "keepFiringForSeconds": 86400,
        },
        "filesystems": {"exclude": ["/a/**", "*/b"]},
    }
    metadata = {
        "labels": {"tier": "web"},
        "annotations": {
            "hostwatch.dev/collect": "now",
            "hostwatch.dev/accept-host-key": "SHA256:x",
        },
    }
    assert server(spec, **metadata) == Server(
        id=ServerId("u-1"),
        namespace="acme",
        name="web-1",
        generation=3,
        spec=ServerSpec(
            host="2001:db8::7",
            secret_name="web-ssh",
            port=2222,
            user="ACME\\svc",
            host_key=HostKeyPolicy(known_hosts="ssh-ed25519 AAAA"),
            connection=ConnectionMode.PER_COLLECTION,
            interval=5,
            timeout=300,
            retries=0,
            suspend=True,
            thresholds=Thresholds(cpu=Threshold(50, 90), disk=Threshold(85, 95.5)),
            alerting=Alerting(
                cpu=AlertLevel.WARNING,
                memory=AlertLevel.NEVER,
                disk=AlertLevel.CRITICAL,
                for_seconds=0,
                clear_margin=2.5,
                keep_firing_for_seconds=86400,
            ),
            exclude=("/a/**", "*/b"),
        ),
        labels={"tier": "web"},
        collect_request="now",
        accept_host_key="SHA256:x",
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"host": None}, "spec.host: is required"),
        ({"host": ""}, "spec.host: must be a text of 1 to 253 characters"),
        ({"host": 7}, "spec.host: must be a text of 1 to 253 characters"),
        ({"host": "Web-1"}, "spec.host: must be a DNS name in lower case"),
        ({"host": "web-1\n"}, "spec.host: must be a DNS name"),
        ({"host": "2130706433"}, "spec.host: must be a DNS name"),
        ({"host": "0x7f.1"}, "spec.host: must be a DNS name"),
        ({"host": "a..b"}, "spec.host: must be a DNS name"),
        ({"host": "."}, "spec.host: must be a DNS name"),
        ({"host": "a" * 64}, "spec.host: must be a DNS name"),
        ({"host": "fe80::1%eth0"}, "spec.host: must be a DNS name"),
        ({"host": "::ffff:127.0.0.1"}, "spec.host: must be a DNS name"),
        ({"host": "[::1]"}, "spec.host: must be a DNS name"),
        ({"port": 0}, "spec.port: must be from 1 to 65535, not 0"),
        ({"port": "22"}, "spec.port: must be a whole number from 1 to 65535"),
        ({"port": True}, "spec.port: must be a whole number from 1 to 65535"),
        ({"user": "-l"}, "spec.user: must be the name of an account"),
        ({"credentials": None}, "spec.credentials.secretRef.name: is required"),
        ({"credentials": "x"}, "spec.credentials: must be an object"),
        (
            {"credentials": {"secretRef": {"name": "../x"}}},
            "spec.credentials.secretRef.name: must be the name of a Secret",
        ),
        (
            {"hostKey": {"knownHosts": "k", "certificateAuthority": "k"}},
            "spec.hostKey: set at most one of",
        ),
        (
            {"hostKey": {"knownHosts": "-----BEGIN OPENSSH PRIVATE KEY-----"}},
            "spec.hostKey.knownHosts: must not hold a private key",
        ),
        (
            {"hostKey": {"trustOnFirstUse": True}},
            "spec.hostKey.trustOnFirstUse: not allowed by this operator",
        ),
        (
            {"jumpHostRef": {"name": "bastion"}},
            "spec.jumpHostRef: not supported yet by this version",
        ),
        ({"connection": "x"}, "spec.connection: must be one of Persistent, PerCol"),
        ({"intervalSeconds": 4}, "spec.intervalSeconds: must be from 5 to 3600"),
        ({"timeoutSeconds": 301}, "spec.timeoutSeconds: must be from 1 to 300"),
        ({"retries": 6}, "spec.retries: must be from 0 to 5, not 6"),
        ({"suspend": "yes"}, "spec.suspend: must be true or false"),
        (
            {"thresholds": {"cpu": {"warning": 90}}},
            "spec.thresholds.cpu.warning: must be lower than critical: 90 is not",
        ),
        (
            {"thresholds": {"disk": {"critical": 85}}},
            "spec.thresholds.disk.warning: must be lower than critical: 85 is not",
        ),
        (
            {"thresholds": {"memory": {"warning": 101}}},
            "spec.thresholds.memory.warning: must be from 1 to 100, not 101",
        ),
        (
            {"thresholds": {"memory": {"warning": "75"}}},
            "spec.thresholds.memory.warning: must be a number from 1 to 100",
        ),
        ({"alerting": "x"}, "spec.alerting: must be an object"),
        (
            {"alerting": {"cpu": "critical"}},
            "spec.alerting.cpu: must be one of Warning, Critical, Never",
        ),
        (
            {"alerting": {"forSeconds": -1}},
            "spec.alerting.forSeconds: must be from 0 to 86400, not -1",
        ),
        (
            {"alerting": {"keepFiringForSeconds": 1.5}},
            "spec.alerting.keepFiringForSeconds: must be a whole number from 0 to",
        ),
        (
            {"alerting": {"clearMargin": 50.5}},
            "spec.alerting.clearMargin: must be from 0 to 50, not 50.5",
        ),
        (
            {"alerting": {"clearMargin": 20}, "thresholds": {"cpu": CPU_20}},
            (
                "spec.alerting.clearMargin: must be smaller than the cpu threshold "
                "that alerts: 20 is not smaller than 20"
            ),
        ),
        (
            {
                "alerting": {"clearMargin": 10, "memory": "Warning"},
                "thresholds": {"memory": {"warning": 10}},
            },
            "spec.alerting.clearMargin: must be smaller than the memory threshold",
        ),
        (
            {"thresholds": {"disk": {"warning": 5}}},
            (
                "spec.alerting.clearMargin: must be smaller than the disk threshold "
                "that alerts: 5 is not smaller than 5"
            ),
        ),
        (
            {"filesystems": {"exclude": ["/ok", "^/x"]}},
            "spec.filesystems.exclude[1]: must be a glob",
        ),
        (
            {"filesystems": {"exclude": ["/a\nb"]}},
            "spec.filesystems.exclude[0]: must be a glob",
        ),
        (
            {"filesystems": {"exclude": "/x"}},
            "spec.filesystems.exclude: must be a list of texts",
        ),
        (
            {"filesystems": {"exclude": [7]}},
            "spec.filesystems.exclude[0]: must be a text of 1 to 256 characters",
        ),
        (
            {"filesystems": {"exclude": ["/x"] * 33}},
            "spec.filesystems.exclude: must have at most 32 entries",
        ),
    ],
)
def test_what_cannot_be_used_is_told_by_field(change, says):
    refused = server(SPEC | change)
    assert refused.spec is None
    assert refused.invalid.startswith(says)


@pytest.mark.parametrize(
    "alerting",
    [
        {"clearMargin": 19.9},
        {"clearMargin": 50, "cpu": "Never"},
        {"clearMargin": 9.9, "cpu": "Warning"},
    ],
)
def test_the_margin_is_held_to_the_threshold_that_alerts(alerting):
    taken = server(SPEC | {"alerting": alerting, "thresholds": {"cpu": CPU_20}})
    assert taken.invalid == ""


@pytest.mark.parametrize("spec", ["text", [], 7])
def test_a_spec_that_is_no_object_is_told(spec):
    assert server(spec).invalid == "spec: must be an object"


def test_a_body_without_anything_is_told():
    empty = server_of({}, allow_trust_on_first_use=False)
    assert (empty.id, empty.spec, empty.invalid) == ("", None, "spec.host: is required")


def test_trust_on_first_use_is_taken_where_it_is_allowed():
    spec = SPEC | {"hostKey": {"trustOnFirstUse": True}}
    allowed = server_of(body(spec), allow_trust_on_first_use=True)
    assert allowed.spec is not None
    assert allowed.spec.host_key == HostKeyPolicy(trust_on_first_use=True)


@pytest.mark.parametrize(
    ("labels", "require_label", "organization"),
    [
        ({"hostwatch.dev/organization": "acme"}, True, "acme"),
        ({"hostwatch.dev/organization": "acme"}, False, "acme"),
        ({}, False, "web"),
        (None, False, "web"),
        ({}, True, None),
        ({"hostwatch.dev/organization": ""}, False, None),
        ({"hostwatch.dev/organization": "Acme"}, False, None),
        ({"hostwatch.dev/organization": "a.b"}, False, None),
        ({"hostwatch.dev/organization": "a_b"}, False, None),
    ],
)
def test_the_organization_comes_from_the_namespace(labels, require_label, organization):
    found = organization_of("web", labels, require_label=require_label)
    assert found == organization


CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Collected",
    "message": "all well",
    "observedGeneration": 2,
    "lastTransitionTime": "2026-11-23T09:00:00Z",
}
STATUS = {
    "observedGeneration": 2,
    "health": "Warning",
    "organization": "acme",
    "lastCollectionTime": "2026-11-23T10:00:30Z",
    "lastAttemptTime": "2026-11-23T10:01:00Z",
    "consecutiveFailures": 4,
    "lastHandledCollectRequest": "now",
    "hostKey": {
        "fingerprint": "SHA256:x",
        "host": "web-1",
        "port": 22,
        "pinnedAt": "2026-11-20T00:00:00Z",
    },
    "conditions": [CONDITION],
}


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 11, 23, hour, minute, second, tzinfo=UTC)


def test_a_status_is_read():
    observed = observed_of(body() | {"status": STATUS})
    pin = PinnedKey(
        Fingerprint("SHA256:x"), "web-1", 22, datetime(2026, 11, 20, tzinfo=UTC)
    )
    assert observed == Observed(
        id=ServerId("u-1"),
        namespace="acme",
        name="web-1",
        resource_version="7",
        generation=2,
        health=Health.WARNING,
        organization="acme",
        conditions={
            "Ready": ObservedCondition(
                "Ready", "True", "Collected", "all well", 2, at(9)
            )
        },
        last_collection=at(10, 0, 30),
        last_attempt=at(10, 1),
        consecutive_failures=4,
        last_handled_collect_request="now",
        pinned=pin,
    )
    assert shown_of(observed) == Shown(
        generation=2,
        health=Health.WARNING,
        organization="acme",
        conditions=(("Ready", "True", "Collected"),),
        handled_request="now",
        consecutive_failures=4,
        pinned=pin,
    )


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"health": "Fine", "lastCollectionTime": "yesterday", "hostKey": {"port": 1}},
        {"lastCollectionTime": "2026-11-23T10:00:30", "conditions": None},
    ],
)
def test_an_empty_or_unreadable_status_says_nothing(status):
    assert observed_of(body() | {"status": status}) == Observed(
        id=ServerId("u-1"), namespace="acme", name="web-1", resource_version="7"
    )


@pytest.mark.parametrize(
    ("candidate", "held", "newer"),
    [("8", "7", True), ("7", "7", True), ("9", "10", False), ("x", "10", True)],
)
def test_an_older_event_does_not_undo_a_newer_one(candidate, held, newer):
    def at_version(version: str) -> Observed:
        return observed_of(body(resourceVersion=version))

    assert is_newer(at_version(candidate), at_version(held)) is newer
    assert is_newer(at_version(candidate), None)


def test_another_uid_is_another_resource():
    old = observed_of(body(resourceVersion="10"))
    assert is_newer(observed_of(body(uid="u-2", resourceVersion="9")), old)
