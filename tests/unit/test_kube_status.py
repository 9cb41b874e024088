"""What is written into a status, and when nothing is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hostwatch.kube.observed import Observed, observed_of
from hostwatch.kube.status import is_overtaken, newest_of, patch_of
from hostwatch.model.reading import CpuUsage
from hostwatch.model.sample import (
    CollectResult,
    Condition,
    Health,
    Metrics,
    PinnedKey,
    ServerState,
)
from hostwatch.model.server import Fingerprint, Organization, ServerId, ServerKey

NOW = datetime(2026, 11, 23, 10, 0, 45, 900000, tzinfo=UTC)
SERVER = ServerKey(ServerId("u-1"), "acme", "web-1", Organization("acme"))
FRESH = Observed(SERVER.id, "acme", "web-1", "7")
METRICS = Metrics(
    cpu=CpuUsage(total=12.56, user=10, system=2.56, iowait=0, steal=0),
    memory_used=41,
    memory_total=100,
    disk_used=72,
    disk_available=28,
    disk_total=105,
    disk_mount="/var",
    network_receive_bytes=0,
    network_transmit_bytes=5,
    load=(0.1, 0.2, 10.456),
    uptime_seconds=60,
    boot_time=NOW - timedelta(seconds=60),
)
STATE = ServerState(
    server=SERVER,
    generation=3,
    health=Health.HEALTHY,
    conditions=(Condition("Ready", "True", "Collected", "all well"),),
    last_attempt=NOW - timedelta(seconds=1),
    last_success=NOW - timedelta(seconds=1),
    metrics=METRICS,
)


def patched(state: ServerState, observed: Observed = FRESH) -> dict[str, Any]:
    patch = patch_of(state, observed, NOW)
    assert patch is not None
    status: dict[str, Any] = patch["status"]
    return status


def stored(state: ServerState, observed: Observed = FRESH) -> Observed:
    """Return what the resource says once the state is written."""
    metadata = {
        "uid": SERVER.id,
        "namespace": "acme",
        "name": "web-1",
        "resourceVersion": "8",
    }
    return observed_of({"metadata": metadata, "status": patched(state, observed)})


def test_a_first_state_is_written_whole():
    assert patch_of(STATE, FRESH, NOW) == {
        "metadata": {"resourceVersion": "7"},
        "status": {
            "observedGeneration": 3,
            "health": "Healthy",
            "organization": "acme",
            "consecutiveFailures": 0,
            "lastAttemptTime": "2026-11-23T10:00:44Z",
            "lastCollectionTime": "2026-11-23T10:00:44Z",
            "metrics": {
                "cpuPercent": 12.6,
                "memoryUsedBytes": 41,
                "memoryTotalBytes": 100,
                "diskUsedBytes": 72,
                "diskAvailableBytes": 28,
                "diskTotalBytes": 105,
                "diskMountPoint": "/var",
                "networkReceiveBytes": 0,
                "networkTransmitBytes": 5,
                "loadAverage": "0.10 0.20 10.46",
                "bootTime": "2026-11-23T09:59:45Z",
                "uptimeSeconds": 60,
            },
            "summary": {"cpu": "12%", "memory": "41%", "disk": "72% /var"},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Collected",
                    "message": "all well",
                    "observedGeneration": 3,
                    "lastTransitionTime": "2026-11-23T10:00:45Z",
                }
            ],
        },
    }


def test_what_was_not_measured_is_removed_never_zero():
    status = patched(replace(STATE, metrics=Metrics()))
    assert set(status["metrics"].values()) == {None}
    assert len(status["metrics"]) == 12
    assert status["summary"] == {"cpu": None, "memory": None, "disk": None}


def test_without_new_metrics_the_old_ones_stay():
    failed = replace(
        STATE, health=Health.ERROR, metrics=None, last_success=None, last_attempt=None
    )
    assert patched(failed).keys() == {
        *("observedGeneration", "health", "organization", "consecutiveFailures"),
        "conditions",
    }


def test_a_written_state_is_not_written_again():
    assert patch_of(STATE, stored(STATE), NOW) is None


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 4},
        {"health": Health.WARNING},
        {"consecutive_failures": 1},
        {"last_attempt": NOW - timedelta(seconds=3)},
        {"last_success": NOW - timedelta(seconds=3)},
        {"server": replace(SERVER, organization=Organization("other"))},
        {"pinned": PinnedKey(Fingerprint("SHA256:x"), "web-1", 22, NOW)},
        {"result": CollectResult("again", True, "Collected", NOW, 41)},  # noqa: FBT003
        {"conditions": (Condition("Ready", "True", "Collected", "new words"),)},
        {"conditions": (Condition("Ready", "False", "DNSFailed"),)},
        {"conditions": (*STATE.conditions, Condition("Healthy", "True", "Within"))},
    ],
)
def test_each_change_is_written_once(change):
    changed = replace(STATE, **change)
    assert patch_of(changed, stored(STATE), NOW) is not None
    assert patch_of(changed, stored(changed, stored(STATE)), NOW) is None


@pytest.mark.parametrize(
    ("change", "overtaken"),
    [
        ({}, False),
        ({"last_attempt": NOW - timedelta(minutes=1)}, True),
        ({"last_attempt": NOW - timedelta(minutes=1), "generation": 2}, True),
        ({"last_attempt": NOW - timedelta(minutes=1), "generation": 4}, False),
        ({"last_attempt": NOW.replace(second=44, microsecond=0)}, False),
        ({"last_attempt": NOW.replace(second=43, microsecond=999999)}, True),
        ({"last_attempt": NOW + timedelta(minutes=1)}, False),
        ({"last_attempt": None}, False),
    ],
)
def test_a_state_older_than_the_status_is_overtaken(change, overtaken):
    assert is_overtaken(replace(STATE, **change), stored(STATE)) is overtaken
    assert not is_overtaken(replace(STATE, **change), FRESH)


def test_a_condition_keeps_its_time_until_its_status_flips():
    before = stored(STATE)
    later = NOW + timedelta(hours=1)

    def written(status: str, reason: str) -> tuple[str, int]:
        conditions = (Condition("Ready", status, reason, "new"),)
        patch = patch_of(
            replace(STATE, conditions=conditions, generation=4), before, later
        )
        assert patch is not None
        (condition,) = patch["status"]["conditions"]
        return condition["lastTransitionTime"], condition["observedGeneration"]

    assert written("True", "Other") == ("2026-11-23T10:00:45Z", 4)
    assert written("False", "DNSFailed") == ("2026-11-23T11:00:45Z", 4)


def test_conditions_of_others_stay():
    theirs = {
        "type": "Backed",
        "status": "True",
        "reason": "Up",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    metadata = {"uid": SERVER.id, "resourceVersion": "7"}
    for entry in (theirs, theirs | {"observedGeneration": 2}):
        observed = observed_of(
            {"metadata": metadata, "status": {"conditions": [entry]}}
        )
        assert patched(STATE, observed)["conditions"][1:] == [entry]


def test_no_time_is_later_than_the_api_servers_clock():
    ahead = NOW + timedelta(minutes=5)
    status = patched(
        replace(
            STATE,
            last_attempt=ahead,
            last_success=ahead,
            metrics=replace(METRICS, boot_time=ahead),
            result=CollectResult("now", True, "Collected", ahead, 41),  # noqa: FBT003
        )
    )
    assert {
        status["lastAttemptTime"],
        status["lastCollectionTime"],
        status["metrics"]["bootTime"],
        status["lastCollectResult"]["finishedAt"],
    } == {"2026-11-23T10:00:45Z"}


def test_a_forced_collection_is_acknowledged_failures_too():
    result = CollectResult("now", False, "DNSFailed", NOW, 41)  # noqa: FBT003
    status = patched(replace(STATE, result=result))
    assert status["lastHandledCollectRequest"] == "now"
    assert status["lastCollectResult"] == {
        "request": "now",
        "result": "Failed",
        "reason": "DNSFailed",
        "finishedAt": "2026-11-23T10:00:45Z",
        "durationMilliseconds": 41,
    }


def test_a_pinned_key_is_shown():
    pin = PinnedKey(Fingerprint("SHA256:x"), "web-1", 2222, NOW)
    assert patched(replace(STATE, pinned=pin))["hostKey"] == {
        "fingerprint": "SHA256:x",
        "host": "web-1",
        "port": 2222,
        "pinnedAt": "2026-11-23T10:00:45Z",
    }


def test_without_organization_the_member_is_removed():
    server = replace(SERVER, organization=Organization(""))
    assert patched(replace(STATE, server=server))["organization"] is None


def test_texts_are_printable_and_short():
    message = "bell\x07 \ud800 " + "x" * 300
    metrics = replace(METRICS, disk_mount="/m\x1b[31m" + "y" * 5000)
    conditions = (Condition("Ready", "False", "CommandFailed", message),)
    status = patched(replace(STATE, conditions=conditions, metrics=metrics))
    shown = status["conditions"][0]["message"]
    assert shown == "bell    " + "x" * 247 + "…"
    assert len(shown) == 256
    assert status["metrics"]["diskMountPoint"] == "/m [31m" + "y" * 4088 + "…"
    assert status["summary"]["disk"] == "72% /m [31m" + "y" * 56 + "…"


def test_a_percentage_never_looks_as_if_it_had_reached_its_threshold():
    metrics = Metrics(cpu=CpuUsage(total=89.99, user=0, system=0, iowait=0, steal=0))
    assert patched(replace(STATE, metrics=metrics))["summary"]["cpu"] == "89%"


def test_a_newer_state_keeps_what_only_the_older_has():
    result = CollectResult("now", True, "Collected", NOW, 41)  # noqa: FBT003
    pin = PinnedKey(Fingerprint("SHA256:x"), "web-1", 22, NOW)
    older = replace(STATE, result=result, pinned=pin)
    failed = replace(
        STATE, health=Health.ERROR, metrics=None, last_success=None, generation=4
    )
    assert newest_of(older, failed) == replace(
        failed,
        metrics=METRICS,
        last_success=STATE.last_success,
        result=result,
        pinned=pin,
    )


def test_the_newest_result_wins():
    first = CollectResult("one", True, "Collected", NOW, 41)  # noqa: FBT003
    second = CollectResult("two", False, "DNSFailed", NOW, 42)  # noqa: FBT003
    merged = newest_of(replace(STATE, result=first), replace(STATE, result=second))
    assert merged.result == second
