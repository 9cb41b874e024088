"""What one collection says of each rule."""

from __future__ import annotations

import pytest

from hostwatch.health.alert_rules import alerts_from
from hostwatch.health.reasons import AFTER_TRUST, NETWORK
from hostwatch.model.reason import Reason
from hostwatch.model.server import AlertLevel, Threshold
from world.observations import Life, after, failure, metrics, spec

FINE = metrics(10)
OFFLINE = failure(Reason.CONNECTION_REFUSED)
REFUSED = failure(Reason.AUTHENTICATION_FAILED, reached=True)
NO_SECRET = failure(Reason.SECRET_NOT_FOUND)
CHANGED = failure(Reason.HOST_KEY_MISMATCH, reached=True)

UNREACHABLE, FAILING, KEY = "ServerUnreachable", "CollectionFailing", "HostKeyChanged"

OTHERS = sorted(set(Reason) - NETWORK - {Reason.HOST_KEY_MISMATCH})


def told(life: Life, *outcomes) -> list[tuple[str, str]]:
    return [(rule, state) for rule, _, state, _ in life.sees(*outcomes)]


# Metrics


@pytest.mark.parametrize(
    ("level", "percent", "severity"),
    [
        ("Warning", 74.99, None),
        ("Warning", 75, "warning"),
        ("Warning", 89.99, "warning"),
        ("Warning", 90, "critical"),
        ("Warning", 100, "critical"),
        ("Critical", 89.99, None),
        ("Critical", 90, "critical"),
        ("Never", 100, None),
    ],
)
@pytest.mark.parametrize("rule", ["CPUHigh", "MemoryHigh"])
def test_a_metric_alerts_from_its_lowest_level_on(rule, level, percent, severity):
    name = rule.removesuffix("High").lower()
    life = Life(spec(for_seconds=0, **{name: AlertLevel(level)}))
    sample = metrics(percent) if rule == "CPUHigh" else metrics(memory=percent)
    expected = [(rule, "", "firing", severity)] if severity else []
    assert life.sees(sample) == expected


@pytest.mark.parametrize(
    ("percent", "severity"),
    [(84.99, None), (85, "warning"), (89.99, "warning"), (90, "critical")],
)
def test_every_filesystem_is_judged_not_only_the_fullest(percent, severity):
    life = Life(spec(for_seconds=0))
    sample = metrics(disks={"/full": 99, "/var": percent})
    expected = [("DiskFull", "/full", "firing", "critical")]
    if severity:
        expected.append(("DiskFull", "/var", "firing", severity))
    assert life.sees(sample) == expected


def test_levels_give_the_threshold_that_alerts():
    threshold = Threshold(60, 80)
    assert [alerts_from(level, threshold) for level in AlertLevel] == [60, 80, None]


# Failures


@pytest.mark.parametrize("reached", [False, True])
@pytest.mark.parametrize("reason", sorted(NETWORK))
def test_two_network_failures_running_make_a_server_unreachable(reason, reached):
    life, failed = Life(), failure(reason, reached=reached)
    assert told(life, failed) == []
    assert told(life, failed) == [(UNREACHABLE, "firing")]
    assert told(life, failed, failed) == []


@pytest.mark.parametrize("reason", OTHERS)
def test_two_failures_of_any_other_reason_make_the_collection_fail(reason):
    life, failed = Life(), failure(reason)
    assert told(life, failed) == []
    assert told(life, failed) == [(FAILING, "firing")]
    assert told(life, failed, failed) == []


def test_a_changed_host_key_is_told_at_once():
    life = Life()
    assert life.sees(CHANGED) == [(KEY, "", "firing", "critical")]
    assert told(life, CHANGED, CHANGED) == []


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([OFFLINE, FINE, OFFLINE], []),
        ([REFUSED, FINE, REFUSED], []),
        ([OFFLINE, REFUSED, OFFLINE, OFFLINE], [UNREACHABLE]),
        ([OFFLINE, REFUSED], []),
        ([OFFLINE, NO_SECRET, OFFLINE], [UNREACHABLE]),
        ([REFUSED, NO_SECRET], [FAILING]),
        ([REFUSED, OFFLINE, REFUSED], [FAILING]),
    ],
)
def test_what_counts_as_running(failures, expected):
    assert told(Life(), *failures) == [(rule, "firing") for rule in expected]


def test_a_server_that_fails_now_so_now_so_is_not_passed_over():
    assert told(Life(), *[OFFLINE, REFUSED] * 20) == [(FAILING, "firing")]


def test_slow_failures_count_as_running():
    life = Life()
    life.sees(OFFLINE)
    life.clock += 600
    assert told(life, OFFLINE) == [(UNREACHABLE, "firing")]
    assert life.told[0].alert.since < life.told[0].alert.started_at


def test_a_changed_spec_begins_to_count_anew():
    life = Life()
    life.sees(OFFLINE)
    life.failures = 0
    assert told(life, OFFLINE) == []
    assert life.alerts[0].since == after(30)
    assert told(life, OFFLINE) == [(UNREACHABLE, "firing")]


def test_failures_from_before_the_restart_do_not_fire_alone():
    life = Life(failures=7)
    assert told(life, OFFLINE) == []
    assert told(life, OFFLINE) == [(UNREACHABLE, "firing")]


def test_a_clock_that_goes_back_keeps_the_beginning_before_the_alert():
    life = Life()
    life.sees(OFFLINE)
    life.clock = -3600
    assert told(life, OFFLINE) == [(UNREACHABLE, "firing")]
    assert life.alerts[0].since == life.alerts[0].started_at


@pytest.mark.parametrize(
    ("rule", "begin"),
    [
        (UNREACHABLE, [OFFLINE, OFFLINE]),
        (FAILING, [REFUSED, REFUSED]),
        (KEY, [CHANGED]),
    ],
)
def test_a_success_resolves_each_of_them(rule, begin):
    life = Life()
    assert told(life, *begin) == [(rule, "firing")]
    assert told(life, FINE) == [(rule, "resolved")]
    assert life.alerts == ()


def goes_on(begin: list, outcome: object) -> bool:
    """Tell whether what the first collections fired goes on after another one."""
    life = Life()
    life.sees(*begin)
    rule = life.told[0].alert.rule
    life.sees(outcome)
    return rule in life.states()


@pytest.mark.parametrize("reached", [False, True])
@pytest.mark.parametrize("reason", sorted(Reason))
def test_a_server_that_answers_is_no_longer_unreachable(reason, reached):
    outcome = failure(reason, reached=reached)
    assert goes_on([OFFLINE, OFFLINE], outcome) == (reason in NETWORK or not reached)


@pytest.mark.parametrize("reason", sorted(Reason))
def test_a_collection_goes_on_failing_until_it_succeeds(reason):
    assert goes_on([REFUSED, REFUSED], failure(reason, reached=True))


@pytest.mark.parametrize("reason", sorted(Reason))
def test_a_key_counts_as_changed_until_the_server_proved_the_known_one(reason):
    outcome = failure(reason, reached=True)
    assert goes_on([CHANGED], outcome) == (reason not in AFTER_TRUST)


@pytest.mark.parametrize("outcome", [REFUSED, OFFLINE, CHANGED, NO_SECRET])
def test_a_failed_collection_says_nothing_of_metrics(outcome):
    life = Life(spec(for_seconds=0))
    life.sees(metrics(80, memory=95, disks={"/": 90}))
    before = set(life.alerts)
    assert len(before) == 3
    life.sees(outcome, outcome, outcome, outcome)
    assert before <= set(life.alerts)
