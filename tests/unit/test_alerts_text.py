"""Alerts speak plain English, and their headlines stay the same."""

from __future__ import annotations

import pytest

from hostwatch.health.alerts import end_all, headline
from hostwatch.model.alert import AlertRule, EndedReason
from hostwatch.model.reason import Reason
from world.observations import Life, after, failure, metrics, spec


def fired(*outcomes, **alerting) -> Life:
    life = Life(spec(**{"for_seconds": 0, **alerting}))
    life.sees(*outcomes)
    return life


@pytest.mark.parametrize(
    ("outcomes", "wait", "message"),
    [
        ([93], 0, "CPU is at 93%, at or above 90%"),
        ([80], 0, "CPU is at 80%, at or above 75%"),
        ([80.456], 0, "CPU is at 80.4%, at or above 75%"),
        ([80, 80, 80], 60, "CPU is at 80%, at or above 75% for 60 s"),
        # How long it was critical is not known.
        ([80, 80, 93], 60, "CPU is at 93%, at or above 90%"),
        ([80, 80], 0, "CPU is at 80%, at or above 75%"),
        ([93, 80], 0, "CPU is at 80%, at or above 75%"),
        ([80, 74.99], 0, "CPU is at 74.9%, not yet below 70%"),
        ([metrics(memory=92)], 0, "Memory is at 92%, at or above 90%"),
        ([metrics(disks={"/var": 86})], 0, "Disk /var is at 86%, at or above 85%"),
        (
            [failure(Reason.CONNECTION_REFUSED)] * 2,
            0,
            "The server cannot be reached (ConnectionRefused): look there",
        ),
        (
            [failure(Reason.AUTHENTICATION_FAILED)] * 2,
            0,
            "Collecting from the server fails (AuthenticationFailed): look there",
        ),
        (
            [failure(Reason.HOST_KEY_MISMATCH)],
            0,
            (
                "The server's host key is not the one that is known "
                "(HostKeyMismatch): look there"
            ),
        ),
    ],
)
def test_a_message_says_what_is_seen_now(outcomes, wait, message):
    assert fired(*outcomes, for_seconds=wait).alerts[0].message == message


def test_what_cleared_and_keeps_firing_says_so():
    life = fired(80, 40, keep_firing_for_seconds=300)
    assert life.alerts[0].message == "CPU is at 40%, back below 70%"
    assert life.alerts[0].state == "firing"


def test_a_message_tells_of_the_newest_failure():
    life = fired(*[failure(Reason.DNS_FAILED)] * 2, failure(Reason.CONNECT_TIMEOUT))
    assert life.alerts[0].message == (
        "The server cannot be reached (ConnectTimeout): look there"
    )


@pytest.mark.parametrize(
    ("begin", "firing", "resolved"),
    [
        (
            [80],
            "CPU is at or above its warning threshold of 75%",
            "CPU is back below its warning threshold of 75%",
        ),
        (
            [93],
            "CPU is at or above its critical threshold of 90%",
            "CPU is back below its critical threshold of 90%",
        ),
        (
            [metrics(memory=92)],
            "Memory is at or above its critical threshold of 90%",
            "Memory is back below its critical threshold of 90%",
        ),
        (
            [metrics(disks={"/srv/data": 86})],
            "Disk /srv/data is at or above its warning threshold of 85%",
            "Disk /srv/data is back below its warning threshold of 85%",
        ),
        (
            [failure(Reason.CONNECT_TIMEOUT)] * 2,
            "The server cannot be reached",
            "The server can be reached again",
        ),
        (
            [failure(Reason.SECRET_INVALID)] * 2,
            "Collecting from the server fails",
            "Collecting from the server succeeds again",
        ),
        (
            [failure(Reason.HOST_KEY_MISMATCH)],
            "The server's host key is not the one that is known",
            "The server's host key is the known one again",
        ),
    ],
)
def test_a_headline_has_no_number_that_changes(begin, firing, resolved):
    life = fired(*begin)
    assert headline(life.told[0].alert) == firing
    life.sees(begin[-1], begin[-1])
    assert headline(life.alerts[0]) == firing
    life.sees(metrics(5, memory=5, disks={"/srv/data": 5}))
    assert headline(life.told[-1].alert) == resolved


def test_a_recovered_server_says_so_in_its_message():
    life = fired(*[failure(Reason.CONNECT_TIMEOUT)] * 2, 5)
    assert life.told[-1].alert.message == "The server can be reached again"


@pytest.mark.parametrize(
    ("why", "sentence"),
    [
        (EndedReason.SERVER_DELETED, "The server's resource was deleted"),
        (EndedReason.SERVER_SUSPENDED, "Watching the server is suspended"),
        (EndedReason.LABEL_GONE, "Disk /var is no longer mounted"),
        (EndedReason.EXCLUDED, "Disk /var is excluded now"),
        (EndedReason.NEVER, "Disk raises no alerts any more"),
    ],
)
def test_an_end_that_is_no_clearing_says_why(why, sentence):
    life = fired(metrics(disks={"/var": 86}))
    (told,) = end_all(life.alerts, after(60), why).notifications
    assert (headline(told.alert), told.alert.message) == (sentence, sentence)


def test_a_pending_alert_has_the_headline_it_would_fire_with():
    life = fired(80, for_seconds=600)
    assert headline(life.alerts[0]) == "CPU is at or above its warning threshold of 75%"


def test_a_long_mount_point_is_cut_in_sentences_and_whole_in_the_label():
    mount = "/" + "ä" * 1000
    alert = fired(metrics(disks={mount: 86})).alerts[0]
    assert alert.label == mount
    for text in (headline(alert), alert.message):
        assert text.startswith(f"Disk {mount[:127]}… is at ")
        assert len(text.encode()) < 1024


def test_every_rule_has_its_sentences():
    seen = fired(
        metrics(95, memory=95, disks={"/": 95}),
        failure(Reason.HOST_KEY_MISMATCH),
        *[failure(Reason.SECRET_INVALID)] * 2,
        *[failure(Reason.DNS_FAILED)] * 2,
    )
    assert {alert.rule for alert in seen.alerts} == set(AlertRule)
    assert len({headline(alert) for alert in seen.alerts}) == len(AlertRule)
