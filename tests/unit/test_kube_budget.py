"""The budget of status writes, and their order."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest

from hostwatch.kube.budget import TokenBucket, due_for_refresh, refresh_interval
from hostwatch.kube.observed import Observed
from hostwatch.kube.waiting import Urgency, Waiting
from hostwatch.model.sample import CollectResult, Health, ServerState
from hostwatch.model.server import Organization, ServerId, ServerKey


def test_the_burst_is_ten_seconds_worth_and_then_the_rate_holds():
    bucket = TokenBucket(20, 0)
    for _ in range(200):
        assert bucket.wait(0) == 0
        bucket.take(0)
    assert bucket.wait(0) == pytest.approx(0.05)
    assert bucket.wait(0.05) == pytest.approx(0)


def test_an_idle_bucket_holds_no_more_than_its_burst():
    bucket = TokenBucket(1, 0)
    for _ in range(10):
        bucket.take(1000)
    assert bucket.wait(1000) == pytest.approx(1)


def test_a_slow_budget_still_has_one_token():
    assert TokenBucket(0.01, 0).wait(0) == 0


def test_a_token_given_back_can_be_taken_again():
    bucket = TokenBucket(0.1, 0)
    bucket.take(0)
    assert bucket.wait(0) == pytest.approx(10)
    bucket.give_back()
    assert bucket.wait(0) == 0


def test_throttling_halves_the_rate_and_waits_as_asked():
    bucket = TokenBucket(20, 0)
    bucket.throttled(3, now=0)
    assert bucket.rate(0) == 10
    assert bucket.wait(0) == 3
    assert bucket.wait(3) == 0


def test_refusals_of_parallel_writes_count_as_one():
    bucket = TokenBucket(20, 0)
    for _ in range(4):
        bucket.throttled(1, now=5)
    assert bucket.rate(5) == 10
    bucket.throttled(1, now=6)
    assert bucket.rate(6) == pytest.approx(5, abs=0.2)


def test_the_rate_comes_back_over_two_minutes():
    bucket = TokenBucket(20, 0)
    bucket.throttled(0, now=0)
    assert bucket.rate(30) == pytest.approx(15)
    assert bucket.rate(60) == 20
    assert bucket.rate(600) == 20


def test_the_rate_never_falls_to_nothing():
    bucket = TokenBucket(16, 0)
    for second in range(0, 60, 2):
        bucket.throttled(0, now=second)
    assert bucket.rate(58) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("interval", "fleet", "seconds"),
    [(30, 100, 30), (30, 600, 30), (30, 10_000, 500), (3600, 10_000, 3600)],
)
def test_a_large_fleet_is_refreshed_less_often(interval, fleet, seconds):
    assert refresh_interval(interval, fleet) == seconds
    assert due_for_refresh(None, 0, interval, fleet)
    assert not due_for_refresh(100, 100 + seconds - 1, interval, fleet)
    assert due_for_refresh(100, 100 + seconds, interval, fleet)


def state(name: str, *, failures: int = 0, result: str | None = None) -> ServerState:
    server = ServerKey(ServerId(name), "acme", name, Organization("acme"))
    answer = None
    if result is not None:
        when = datetime(2026, 11, 23, tzinfo=UTC)
        answer = CollectResult(result, True, "Collected", when, 1)  # noqa: FBT003
    return ServerState(
        server, 1, Health.HEALTHY, (), consecutive_failures=failures, result=answer
    )


def taken(waiting: Waiting, now: float = 0) -> list[tuple[str, int]]:
    """Take all that is up, and end each write."""
    order = []
    while waiting.wait(now) == 0:
        job = waiting.take()
        order.append((job.state.server.name, job.state.consecutive_failures))
        waiting.done(job, now, written=True)
    return order


def test_forced_goes_before_change_before_refresh_and_first_come_first_served():
    waiting = Waiting()
    waiting.put(state("refresh"), Urgency.REFRESH, 0)
    waiting.put(state("change-1"), Urgency.CHANGE, 0)
    waiting.put(state("change-2"), Urgency.CHANGE, 0)
    waiting.put(state("forced"), Urgency.FORCED, 0)
    assert len(waiting) == 4
    names = [name for name, _ in taken(waiting)]
    assert names == ["forced", "change-1", "change-2", "refresh"]
    assert len(waiting) == 0
    assert waiting.wait(0) == inf


def test_a_newer_state_replaces_the_waiting_one_and_keeps_its_urgency():
    waiting = Waiting()
    waiting.put(state("a"), Urgency.CHANGE, 0)
    waiting.put(state("b", result="now"), Urgency.FORCED, 0)
    waiting.put(state("b", failures=1), Urgency.REFRESH, 0)
    waiting.put(state("b", failures=2), Urgency.CHANGE, 0)
    assert len(waiting) == 2
    waiting.wait(0)
    job = waiting.take()
    assert job.urgency is Urgency.FORCED
    assert job.state == state("b", failures=2, result="now")


def test_a_raised_urgency_moves_the_state_up():
    waiting = Waiting()
    waiting.put(state("a"), Urgency.CHANGE, 0)
    waiting.put(state("b"), Urgency.REFRESH, 0)
    waiting.put(state("b"), Urgency.FORCED, 0)
    assert [name for name, _ in taken(waiting)] == ["b", "a"]


def test_a_refresh_that_comes_too_early_is_kept_and_written_when_due():
    waiting = Waiting()
    for number in range(400):
        waiting.put(state(f"s-{number}"), Urgency.REFRESH, 0)
    taken(waiting)
    waiting.put(state("s-0", failures=1), Urgency.REFRESH, 5)
    waiting.put(state("s-0", failures=2), Urgency.REFRESH, 10)
    assert waiting.wait(10) == 10  # 400 servers ÷ 20 a second
    assert taken(waiting, 19.9) == []
    assert taken(waiting, 20) == [("s-0", 2)]


def test_news_does_not_wait_for_the_refresh():
    waiting = Waiting()
    for number in range(400):
        waiting.put(state(f"s-{number}"), Urgency.REFRESH, 0)
    taken(waiting)
    waiting.put(state("s-0"), Urgency.REFRESH, 5)
    waiting.put(state("s-0", failures=1), Urgency.CHANGE, 6)
    assert taken(waiting, 6) == [("s-0", 1)]
    assert waiting.wait(20) == inf


def test_one_write_at_a_time_for_each_server():
    waiting = Waiting()
    waiting.put(state("a"), Urgency.CHANGE, 0)
    waiting.wait(0)
    job = waiting.take()
    waiting.put(state("a", failures=1), Urgency.CHANGE, 0)
    assert waiting.wait(0) == inf
    waiting.done(job, 0, written=True)
    assert taken(waiting) == [("a", 1)]


def test_a_write_put_off_comes_again_after_its_delay_with_the_newest_state():
    waiting = Waiting()
    waiting.put(state("a", result="now"), Urgency.FORCED, 0)
    waiting.wait(0)
    job = waiting.take()
    waiting.put(state("a", failures=1), Urgency.REFRESH, 0)
    waiting.again(job, 0, delay=2)
    assert len(waiting) == 1
    assert waiting.wait(0) == 2
    assert waiting.wait(2) == 0
    again = waiting.take()
    assert again.state == state("a", failures=1, result="now")
    assert again.urgency is Urgency.FORCED


def test_a_retry_that_is_sooner_than_the_next_refresh_is_not_missed():
    waiting = Waiting()
    for number in range(400):
        waiting.put(state(f"s-{number}"), Urgency.REFRESH, 0)
    taken(waiting)
    waiting.put(state("s-0"), Urgency.REFRESH, 1)
    waiting.put(state("s-0"), Urgency.CHANGE, 1)
    waiting.wait(1)
    waiting.again(waiting.take(), 1, delay=3)
    assert waiting.wait(1) == 3
    assert taken(waiting, 4) == [("s-0", 0)]


def test_a_dropped_server_is_not_written():
    waiting = Waiting()
    waiting.put(state("a"), Urgency.CHANGE, 0)
    waiting.put(state("b"), Urgency.CHANGE, 0)
    waiting.drop(ServerId("a"))
    waiting.drop(ServerId("never seen"))
    assert len(waiting) == 1
    assert taken(waiting) == [("b", 0)]


def test_a_server_dropped_while_it_is_written_does_not_come_back():
    waiting = Waiting()
    waiting.put(state("a"), Urgency.CHANGE, 0)
    waiting.wait(0)
    job = waiting.take()
    waiting.drop(ServerId("a"))
    waiting.again(job, 0, delay=0)
    assert (len(waiting), waiting.wait(0)) == (0, inf)


def test_an_older_event_does_not_replace_the_answer_to_a_write():
    waiting = Waiting()
    waiting.observe(ServerId("a"), Observed(ServerId("a"), "acme", "a", "10"))
    waiting.observe(ServerId("a"), Observed(ServerId("a"), "acme", "a", "9"))
    waiting.put(state("a"), Urgency.CHANGE, 0)
    waiting.wait(0)
    observed = waiting.take().entry.observed
    assert observed is not None
    assert observed.resource_version == "10"
