"""An alert is pending, fires and is resolved, and each is told once."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid5

import pytest

from hostwatch.health.alerts import Advance, end_all
from hostwatch.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    EndedReason,
    Notification,
    Severity,
)
from hostwatch.model.reason import Reason
from hostwatch.model.server import AlertLevel
from world.observations import SERVER, Life, after, failure, metrics, spec

FIRING = ("CPUHigh", "", "firing", "warning")
CRITICAL = ("CPUHigh", "", "firing", "critical")
RESOLVED = ("CPUHigh", "", "resolved", "warning")

UNREACHABLE = ("ServerUnreachable", "", "firing", "critical")
REACHABLE = ("ServerUnreachable", "", "resolved", "critical")

OFFLINE = failure(Reason.CONNECT_TIMEOUT)
NO_CPU = metrics()


def firing(**alerting: object) -> Life:
    """Return a server whose CPU fires since the start."""
    life = Life(spec(for_seconds=0, **alerting))
    assert life.sees(80) == [FIRING]
    return life


# From pending to firing


def test_it_fires_when_it_held_for_as_long_as_asked():
    life = Life(spec(for_seconds=60))
    assert life.sees(80, 80) == []
    assert life.states() == {"CPUHigh": "pending"}
    assert life.sees(80) == [FIRING]


def test_without_a_wait_it_fires_at_the_first_sample():
    assert Life(spec(for_seconds=0)).sees(75) == [FIRING]


def test_a_wait_shorter_than_the_interval_needs_a_second_sample():
    life = Life(spec(for_seconds=1))
    assert life.sees(80) == []
    assert life.sees(80) == [FIRING]


def test_a_pending_and_a_firing_alert_say_all_that_is_known():
    life = Life(spec(for_seconds=60))
    life.sees(80, 81)
    pending = Alert(
        server=SERVER,
        rule=AlertRule.CPU_HIGH,
        label="",
        state=AlertState.PENDING,
        severity=Severity.WARNING,
        since=after(0),
        seen_at=after(30),
        value=81,
        threshold=75,
        message="CPU is at 81%, at or above 75% for 30 s",
    )
    assert life.alerts == (pending,)
    life.sees(82)
    name = "CPUHigh//2026-11-23T10:01:00+00:00"
    fired = replace(
        pending,
        state=AlertState.FIRING,
        seen_at=after(60),
        value=82,
        message="CPU is at 82%, at or above 75% for 60 s",
        id=str(uuid5(UUID(SERVER.id), name)),
        started_at=after(60),
        transition=1,
    )
    assert life.alerts == (fired,)
    assert life.told == [Notification(fired)]


@pytest.mark.parametrize("low", [74.99, 70, 10])
def test_what_falls_below_its_threshold_while_pending_begins_anew(low):
    life = Life(spec(for_seconds=60))
    assert life.sees(80, 80, low) == []
    assert life.alerts == ()
    assert life.sees(80, 80) == []
    assert life.sees(80) == [FIRING]


@pytest.mark.parametrize(
    ("pause", "told"),
    [(30, [FIRING]), (60, [FIRING]), (60.001, []), (3600, []), (-0.001, [])],
)
def test_a_gap_of_more_than_two_intervals_restarts_the_wait(pause, told):
    life = Life(spec(for_seconds=30))
    life.sees(80)
    life.clock = pause
    assert life.sees(80) == told
    assert life.alerts[0].since == after(0 if told else pause)


def test_samples_without_the_metric_make_a_gap_too():
    life = Life(spec(for_seconds=60))
    assert life.sees(80, NO_CPU, OFFLINE, 80, 80) == []
    assert life.sees(80) == [FIRING]


def test_one_missing_sample_makes_no_gap():
    assert Life(spec(for_seconds=60)).sees(80, NO_CPU, 80) == [FIRING]


def test_a_clock_that_goes_back_restarts_the_wait():
    life = Life(spec(for_seconds=60))
    life.sees(80, 80)
    life.clock = -3600
    assert life.sees(80, 80) == []
    assert life.sees(80) == [FIRING]


def test_what_is_pending_says_how_severe_it_is_now():
    life = Life(spec(for_seconds=60))
    life.sees(95, 80)
    assert life.alerts[0].severity is Severity.WARNING
    assert life.sees(95) == [CRITICAL]
    assert life.alerts[0].threshold == 90


# While it fires


def test_it_is_told_once_while_it_goes_on():
    life = firing()
    assert life.sees(*[80] * 100) == []
    assert life.alerts[0].value == 80
    assert life.alerts[0].seen_at == after(100 * 30)


@pytest.mark.parametrize("low", [74.99, 72, 70])
def test_it_goes_on_until_it_is_below_the_margin(low):
    life = firing(clear_margin=5)
    assert life.sees(low) == []
    assert life.states() == {"CPUHigh": "firing"}
    assert life.sees(69.99) == [RESOLVED]
    assert life.alerts == ()


def test_without_a_margin_it_clears_right_below_the_threshold():
    life = firing(clear_margin=0)
    assert life.sees(75) == []
    assert life.sees(74.99) == [RESOLVED]


def test_what_ends_says_when_and_why():
    life = firing()
    began = life.alerts[0]
    life.sees(40)
    ended = replace(
        began,
        state=AlertState.RESOLVED,
        seen_at=after(30),
        value=40,
        message="CPU is at 40%, back below 70%",
        cleared_since=after(30),
        ended_at=after(30),
        ended_reason=EndedReason.CLEARED,
        transition=2,
    )
    assert life.told[-1] == Notification(ended)


def test_the_next_episode_has_an_id_of_its_own():
    life = firing()
    assert life.sees(40, 80, 40) == [RESOLVED, FIRING, RESOLVED]
    ids = [notification.alert.id for notification in life.told]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert ids[0] != ids[2]
    assert [n.alert.transition for n in life.told] == [1, 2, 1, 2]


@pytest.mark.parametrize("nothing", [NO_CPU, OFFLINE])
def test_no_data_neither_fires_nor_resolves(nothing):
    life = firing()
    before = life.alerts[0]
    life.sees(*[nothing] * 20)
    assert before in life.alerts
    assert [n for n in life.told if n.alert.rule == "CPUHigh"] == [Notification(before)]


# Severity


def test_a_higher_severity_is_told_under_the_same_id():
    life = firing()
    assert life.sees(90) == [CRITICAL]
    first, second = (n.alert for n in life.told)
    assert first.id == second.id
    assert (first.transition, second.transition) == (1, 2)
    assert (first.threshold, second.threshold) == (75, 90)
    assert first.started_at == second.started_at


def test_a_lower_severity_is_not_told_and_the_episode_keeps_the_higher():
    life = firing()
    assert life.sees(95, 80, 95, 72, 95) == [CRITICAL]
    assert life.alerts[0].severity is Severity.CRITICAL
    assert life.alerts[0].threshold == 90
    assert life.sees(10) == [("CPUHigh", "", "resolved", "critical")]
    assert [n.alert.transition for n in life.told] == [1, 2, 3]


def test_it_may_begin_as_critical():
    assert Life(spec(for_seconds=0)).sees(90, 80, 95) == [CRITICAL]


# Keep firing


def test_it_keeps_firing_as_long_as_asked():
    life = firing(keep_firing_for_seconds=60)
    assert life.sees(40, 40) == []
    assert life.alerts[0].cleared_since == after(30)
    assert life.sees(40) == [RESOLVED]
    assert life.told[-1].alert.ended_at == after(90)


@pytest.mark.parametrize("high", [80, 72])
def test_what_comes_back_while_it_keeps_firing_must_clear_anew(high):
    life = firing(keep_firing_for_seconds=60)
    assert life.sees(40, 40, high) == []
    assert life.alerts[0].cleared_since is None
    assert life.sees(40, 40) == []
    assert life.sees(40) == [RESOLVED]


@pytest.mark.parametrize("now", [60, 90.001, 4000, 29.999, -3600])
def test_nobody_knows_what_was_clear_during_a_gap(now):
    life = firing(keep_firing_for_seconds=60)
    life.sees(40)
    life.clock = now
    in_a_gap = not 30 <= now <= 90
    assert life.sees(40) == []
    assert life.alerts[0].cleared_since == after(now if in_a_gap else 30)


def test_keep_firing_holds_for_a_server_that_flaps():
    life = Life(spec(keep_firing_for_seconds=60))
    assert life.sees(OFFLINE, OFFLINE) == [UNREACHABLE]
    assert life.sees(40, OFFLINE, 40, OFFLINE, 40, 40) == []
    assert life.sees(40) == [REACHABLE]


# Ends that are no clearing


@pytest.mark.parametrize("outcome", [80, 10, NO_CPU, OFFLINE])
def test_never_ends_an_alert_at_once(outcome):
    life = firing()
    life.spec = spec(for_seconds=0, cpu=AlertLevel.NEVER)
    assert life.sees(outcome) == [RESOLVED]
    assert life.told[-1].alert.ended_reason is EndedReason.NEVER
    assert life.told[-1].alert.message == "CPU raises no alerts any more"
    assert "CPUHigh" not in life.states()


def test_never_ends_what_is_pending_without_a_word():
    life = Life(spec(for_seconds=60))
    life.sees(80)
    life.spec = spec(cpu=AlertLevel.NEVER)
    assert life.sees(80, 80, 80) == []
    assert life.alerts == ()


DISK = ("DiskFull", "/var", "firing", "warning")
DISK_OVER = ("DiskFull", "/var", "resolved", "warning")
WITH_VAR = metrics(disks={"/var": 86, "/": 10})
WITHOUT_VAR = metrics(disks={"/": 10})


def full_disk() -> Life:
    life = Life(spec(for_seconds=0))
    assert life.sees(WITH_VAR) == [DISK]
    return life


def test_a_mount_that_three_documents_do_not_show_is_gone():
    life = full_disk()
    assert life.sees(WITHOUT_VAR, WITHOUT_VAR) == []
    assert life.alerts[0].absent == 2
    assert life.sees(WITHOUT_VAR) == [DISK_OVER]
    assert life.told[-1].alert.ended_reason is EndedReason.LABEL_GONE
    assert life.told[-1].alert.message == "Disk /var is no longer mounted"
    assert life.alerts == ()


def test_only_complete_documents_tell_that_a_mount_is_gone():
    life = full_disk()
    assert life.sees(WITHOUT_VAR, NO_CPU, OFFLINE, NO_CPU, WITHOUT_VAR, NO_CPU) == []
    assert life.sees(WITHOUT_VAR) == [DISK_OVER]


@pytest.mark.parametrize(
    "back",
    [
        WITH_VAR,
        replace(
            WITH_VAR,
            filesystems=(replace(WITH_VAR.filesystems[0], used=0, available=0),),
        ),
    ],
)
def test_a_mount_that_comes_back_is_not_gone(back):
    life = full_disk()
    assert life.sees(WITHOUT_VAR, WITHOUT_VAR, back, WITHOUT_VAR, WITHOUT_VAR) == []
    assert life.alerts[0].absent == 2


def test_a_pending_mount_that_goes_leaves_without_a_word():
    life = Life(spec(for_seconds=600))
    assert life.sees(WITH_VAR, WITHOUT_VAR, WITHOUT_VAR) == []
    assert life.states() == {"DiskFull/var": "pending"}
    assert life.sees(WITHOUT_VAR) == []
    assert life.alerts == ()


@pytest.mark.parametrize("outcome", [WITHOUT_VAR, NO_CPU, OFFLINE])
def test_an_excluded_mount_ends_at_once(outcome):
    life = full_disk()
    life.spec = spec(for_seconds=0, exclude=("/v*",))
    assert life.sees(outcome) == [DISK_OVER]
    assert life.told[-1].alert.ended_reason is EndedReason.EXCLUDED
    assert life.told[-1].alert.message == "Disk /var is excluded now"


def test_mounts_live_apart():
    life = full_disk()
    both = metrics(disks={"/srv": 95, "/var": 86})
    assert life.sees(both) == [("DiskFull", "/srv", "firing", "critical")]
    assert life.sees(metrics(disks={"/srv": 95, "/var": 10})) == [DISK_OVER]
    assert life.states() == {"DiskFull/srv": "firing"}


@pytest.mark.parametrize(
    "why", [EndedReason.SERVER_DELETED, EndedReason.SERVER_SUSPENDED]
)
def test_what_fired_ends_with_its_server_and_what_was_pending_vanishes(why):
    life = firing()
    life.spec = spec(for_seconds=60)
    life.sees(metrics(80, memory=95))
    assert life.states() == {"CPUHigh": "firing", "MemoryHigh": "pending"}
    over = end_all(life.alerts, after(45), why)
    assert over.alerts == ()
    (told,) = over.notifications
    assert (told.alert.state, told.alert.rule) == ("resolved", "CPUHigh")
    assert (told.alert.ended_at, told.alert.ended_reason) == (after(45), why)
    assert (told.alert.id, told.alert.transition) == (life.alerts[0].id, 2)


def test_a_server_without_alerts_has_none_to_end():
    assert end_all((), after(0), EndedReason.SERVER_DELETED) == Advance((), ())


def test_an_alert_never_ends_before_it_began():
    life = firing()
    over = end_all(life.alerts, after(-3600), EndedReason.SERVER_DELETED)
    assert over.notifications[0].alert.ended_at == after(0)


def test_looking_at_a_suspended_server_changes_nothing():
    life = firing()
    before = life.alerts
    life.spec = replace(life.spec, suspend=True)
    assert life.sees(10, 95, OFFLINE, OFFLINE) == []
    assert life.alerts == before


# An unreachable server


def test_while_it_counts_as_unreachable_no_metric_begins_to_fire():
    life = Life(spec(for_seconds=0, keep_firing_for_seconds=60))
    assert life.sees(OFFLINE, OFFLINE) == [UNREACHABLE]
    assert life.sees(80, 80) == []
    assert life.states() == {"ServerUnreachable": "firing", "CPUHigh": "pending"}
    assert life.sees(80) == [REACHABLE, FIRING]


def test_while_it_counts_as_unreachable_no_metric_becomes_more_severe():
    life = firing(keep_firing_for_seconds=60)
    life.sees(OFFLINE, OFFLINE)
    assert life.sees(95, 95) == []
    assert life.sees(95) == [REACHABLE, CRITICAL]


def test_the_end_of_what_was_told_is_told_of_an_unreachable_server_too():
    life = firing(keep_firing_for_seconds=60)
    life.sees(OFFLINE, OFFLINE)
    life.spec = spec(cpu=AlertLevel.NEVER)
    assert life.sees(OFFLINE) == [RESOLVED]


def test_a_changed_key_is_told_of_a_server_that_was_just_unreachable():
    life = Life(spec(keep_firing_for_seconds=60))
    life.sees(OFFLINE, OFFLINE)
    mismatch = failure(Reason.HOST_KEY_MISMATCH, reached=True)
    assert life.sees(mismatch) == [("HostKeyChanged", "", "firing", "critical")]


def test_without_anything_to_keep_both_are_told_by_the_first_sample():
    life = Life(spec(for_seconds=0))
    assert life.sees(OFFLINE, OFFLINE, 80) == [UNREACHABLE, REACHABLE, FIRING]
