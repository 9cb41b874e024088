from __future__ import annotations

import pytest

from hostwatch.health.assess import Verdict, assess
from hostwatch.health.conditions import Facts, conditions
from hostwatch.health.reasons import pause_after
from hostwatch.model.reading import CpuUsage
from hostwatch.model.reason import Reason
from hostwatch.model.sample import Failure, Health, Metrics
from hostwatch.model.server import Fingerprint, Thresholds


def metrics(
    cpu: float | None = 10, memory: float | None = 20, disk: float | None = 30
) -> Metrics:
    return Metrics(
        cpu=None if cpu is None else CpuUsage(cpu, cpu, 0, 0, 0),
        memory_used=None if memory is None else round(memory * 100),
        memory_total=10_000,
        disk_used=None if disk is None else round(disk * 100),
        disk_available=None if disk is None else 10_000 - round(disk * 100),
        disk_mount=None if disk is None else "/var",
    )


@pytest.mark.parametrize(
    ("sample", "health", "message"),
    [
        (metrics(), Health.HEALTHY, "within thresholds"),
        (metrics(cpu=74.99), Health.HEALTHY, "within thresholds"),
        (metrics(cpu=75), Health.WARNING, "CPU 75%, warning from 75%"),
        (metrics(cpu=90), Health.CRITICAL, "CPU 90%, critical from 90%"),
        (metrics(memory=75), Health.WARNING, "memory 75%, warning from 75%"),
        (metrics(memory=90), Health.CRITICAL, "memory 90%, critical from 90%"),
        (metrics(disk=84.99), Health.HEALTHY, "within thresholds"),
        (metrics(disk=85), Health.WARNING, "disk /var 85%, warning from 85%"),
        (metrics(disk=90), Health.CRITICAL, "disk /var 90%, critical from 90%"),
        (
            metrics(cpu=95, disk=86),
            Health.CRITICAL,
            "CPU 95%, critical from 90%; disk /var 86%, warning from 85%",
        ),
        (metrics(cpu=None), Health.HEALTHY, "CPU not measured"),
        (
            metrics(memory=91, disk=None),
            Health.CRITICAL,
            "memory 91%, critical from 90%; disk not measured",
        ),
    ],
)
def test_a_sample_is_as_healthy_as_its_worst_metric(
    sample: Metrics, health: Health, message: str
) -> None:
    assert assess(sample, Thresholds()) == Verdict(health, message)


FAILED = {
    Reason.DNS_FAILED: ("False", "Unknown"),
    Reason.CONNECTION_REFUSED: ("False", "Unknown"),
    Reason.CONNECTION_LOST: ("False", "Unknown"),
    Reason.SECRET_NOT_FOUND: ("Unknown", "Unknown"),
    Reason.AUTHENTICATION_FAILED: ("True", "True"),
    Reason.COMMAND_FAILED: ("True", "True"),
    Reason.HOST_KEY_MISMATCH: ("True", "False"),
    Reason.COLLECT_TIMEOUT: ("True", "Unknown"),
}


@pytest.mark.parametrize("reason", FAILED)
def test_a_failure_says_how_far_the_connection_came(reason: Reason) -> None:
    reached = reason is not Reason.SECRET_NOT_FOUND
    failure = Failure(reason, "what to do", reached=reached)

    ready, reachable, trusted, healthy = conditions(Facts(failure))

    assert (ready.status, ready.reason, ready.message) == (
        "False",
        reason,
        "what to do",
    )
    assert (reachable.status, trusted.status) == FAILED[reason]
    assert (healthy.status, healthy.reason) == ("Unknown", reason)


def test_a_sample_makes_every_condition_known() -> None:
    verdict = Verdict(Health.WARNING, "CPU 80%, warning from 75%")
    said = {c.type: (c.status, c.reason) for c in conditions(Facts(verdict))}
    assert said == {
        "Ready": ("True", "Collected"),
        "Reachable": ("True", "Collected"),
        "HostKeyTrusted": ("True", "HostKeyMatches"),
        "Healthy": ("False", "AboveWarning"),
    }


def test_a_key_accepted_on_first_use_is_told_apart() -> None:
    facts = Facts(Verdict(Health.HEALTHY, ""), first_use=True, pinned=True)
    assert conditions(facts)[2].reason == "HostKeyPinned"


def test_before_the_first_sample_nothing_is_claimed() -> None:
    said = {(c.status, c.reason) for c in conditions(Facts(None))}
    assert said == {("Unknown", "NotCollectedYet")}


def test_of_a_suspended_server_nothing_current_is_claimed() -> None:
    facts = Facts(Verdict(Health.HEALTHY, ""), suspended=True)
    ready, reachable, _, healthy = conditions(facts)
    assert (ready.status, ready.reason) == ("False", "Suspended")
    assert (reachable.status, reachable.reason) == ("Unknown", "Suspended")
    assert (healthy.status, healthy.reason) == ("Unknown", "Suspended")


def test_a_refused_first_login_says_nothing_of_the_host_key() -> None:
    failure = Failure(Reason.AUTHENTICATION_FAILED, "refused", reached=True)
    trusted = conditions(Facts(failure, first_use=True))[2]
    assert (trusted.status, trusted.reason) == ("Unknown", "AuthenticationFailed")


def test_a_changed_key_is_shown_by_its_fingerprint() -> None:
    failure = Failure(
        Reason.HOST_KEY_MISMATCH,
        "changed",
        reached=True,
        presented=Fingerprint("SHA256:abc"),
    )
    assert conditions(Facts(failure))[2].message == "the server presented SHA256:abc"


def test_a_refused_login_is_tried_ever_more_rarely_up_to_ten_minutes() -> None:
    pauses = [
        pause_after(Reason.AUTHENTICATION_FAILED, failures=n, interval=30)
        for n in range(1, 8)
    ]
    assert pauses == [30, 60, 120, 240, 480, 600, 600]


def test_a_changed_key_is_looked_at_every_ten_minutes() -> None:
    assert pause_after(Reason.HOST_KEY_MISMATCH, failures=1, interval=30) == 600


def test_an_offline_server_is_asked_at_its_next_slot() -> None:
    assert pause_after(Reason.CONNECT_TIMEOUT, failures=9, interval=30) == 0
