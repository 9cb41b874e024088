"""Whatever happens to a server, every episode is told from its beginning to its end."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from hostwatch.health.alerts import end_all
from hostwatch.model.alert import AlertState, EndedReason
from hostwatch.model.reason import Reason
from hostwatch.model.server import AlertLevel
from world.observations import Life, after, failure, metrics, spec

if TYPE_CHECKING:
    from hostwatch.model.alert import Alert

PERCENT = st.sampled_from([0, 69.99, 70, 74.99, 75, 89.99, 90, 100])
SAMPLES = st.builds(
    metrics,
    st.none() | PERCENT,
    memory=st.none() | PERCENT,
    disks=st.none() | st.dictionaries(st.sampled_from(["/", "/a", "/b"]), PERCENT),
)
FAILURES = st.builds(failure, st.sampled_from(Reason), reached=st.booleans())
SPECS = st.builds(
    spec,
    exclude=st.sampled_from([(), (), ("/a",)]),
    cpu=st.sampled_from(AlertLevel),
    memory=st.sampled_from(AlertLevel),
    disk=st.sampled_from(AlertLevel),
    for_seconds=st.sampled_from([0, 30, 60]),
    clear_margin=st.sampled_from([0, 5]),
    keep_firing_for_seconds=st.sampled_from([0, 45]),
)
# Times that never come twice, whichever way the clock is set.
JUMPS = st.sampled_from([0, 0, 0, 7.001, 61, 3600.5, -90.003])
STEPS = st.lists(st.tuples(SAMPLES | FAILURES, JUMPS, st.none() | SPECS), max_size=40)


def lived(first, steps) -> tuple[Life, list[tuple[Alert, ...]]]:
    life, held = Life(first), []
    for number, (outcome, jump, changed) in enumerate(steps):
        life.spec = changed or life.spec
        life.clock += jump + number / 1_000_000
        life.sees(outcome)
        held.append(life.alerts)
    return life, held


def episodes(alerts: list[Alert]) -> list[list[Alert]]:
    in_order = sorted(alerts, key=lambda alert: alert.id)
    return [list(group) for _, group in groupby(in_order, lambda alert: alert.id)]


@given(SPECS, STEPS)
@settings(max_examples=300, deadline=None)
def test_every_episode_begins_with_firing_and_ends_at_most_once(first, steps):
    life, _ = lived(first, steps)
    over = end_all(life.alerts, after(life.clock), EndedReason.SERVER_DELETED)
    told = [n.alert for n in [*life.told, *over.notifications]]
    assert over.alerts == ()
    for episode in episodes(told):
        count = len(episode)
        assert [a.transition for a in episode] == list(range(1, count + 1))
        states = [a.state for a in episode]
        assert states == [AlertState.FIRING] * (count - 1) + [AlertState.RESOLVED]
        severities = [a.severity for a in episode[:-1]]
        assert severities in (["warning"], ["critical"], ["warning", "critical"])
        assert len({(a.rule, a.label, a.started_at) for a in episode}) == 1
        assert episode[-1].ended_at >= episode[-1].started_at


@given(SPECS, STEPS)
@settings(max_examples=200, deadline=None)
def test_what_is_remembered_is_pending_or_fires_and_was_told(first, steps):
    life, held = lived(first, steps)
    ids = {n.alert.id for n in life.told}
    for alerts in held:
        subjects = [(a.rule, a.label) for a in alerts]
        assert len(subjects) == len(set(subjects))
        for alert in alerts:
            fires = alert.state is AlertState.FIRING
            assert alert.state in {AlertState.PENDING, AlertState.FIRING}
            assert (alert.id in ids) == (alert.started_at is not None) == fires
            assert alert.since <= alert.seen_at or fires


@given(SPECS, STEPS)
@settings(max_examples=200, deadline=None)
def test_who_forgets_everything_may_repeat_a_firing_but_never_a_resolve(first, steps):
    life, _ = lived(first, steps)
    before = len(life.told)
    life.alerts = ()
    life.sees(metrics(10, memory=10, disks={"/": 10}))
    assert life.told[before:] == []


@given(
    st.sampled_from([0, 30, 45, 60, 300]),
    st.lists(
        st.tuples(
            st.sampled_from([60.0, 74.9, 80.0, None]),
            st.sampled_from([0.0, 10.0, 45.0, -50.0]),
        ),
        max_size=60,
    ),
)
@settings(max_examples=300, deadline=None)
def test_nothing_fires_before_it_was_seen_to_hold_for_long_enough(wait, steps):
    """The samples themselves are the witness: at or above, without a gap."""
    life = Life(spec(for_seconds=wait))
    spoken: list[tuple[float, float]] = []
    for percent, jump in steps:
        life.clock += jump
        now = life.clock
        if percent is not None:
            spoken.append((now, percent))
        if life.sees(metrics(percent))[-1:] == [("CPUHigh", "", "firing", "warning")]:
            run = held_until_now(spoken)
            assert run[-1][0] - run[0][0] >= wait


def held_until_now(spoken: list[tuple[float, float]]) -> list[tuple[float, float]]:
    run = [spoken[-1]]
    for earlier, later in pairwise(reversed(spoken)):
        if later[1] < 75 or not 0 <= earlier[0] - later[0] <= 60:
            break
        run.insert(0, later)
    return run


def test_ten_thousand_swings_within_the_margin_are_one_episode():
    life = Life(spec(for_seconds=0))
    swings = life.sees(*[75, 70] * 10_000)
    assert swings == [("CPUHigh", "", "firing", "warning")]
    assert life.sees(69.9) == [("CPUHigh", "", "resolved", "warning")]


def test_ten_thousand_swings_around_the_threshold_never_fire_where_they_must_hold():
    life = Life(spec(for_seconds=60))
    assert life.sees(*[76, 74] * 10_000) == []


def test_of_ten_thousand_swings_across_both_each_is_told_once():
    life = Life(spec(for_seconds=0))
    assert len(life.sees(*[75, 69] * 10_000)) == 20_000
    assert all(len(episode) == 2 for episode in episodes([n.alert for n in life.told]))
