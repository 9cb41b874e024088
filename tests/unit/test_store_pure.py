from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hostwatch.store.backoff import Backoff
from hostwatch.store.detail import DetailPlan
from hostwatch.store.rows import is_in_range, to_row
from hostwatch.store.upkeep import next_run
from world.store import failed_sample, sample, server

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WEB = server(1)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class TestDetail:
    def test_the_first_sample_carries_it(self):
        assert DetailPlan().take(sample(WEB, NOW))

    def test_then_one_each_five_minutes(self):
        plan = DetailPlan()
        taken = [n for n in range(25) if plan.take(sample(WEB, later(30 * n)))]
        assert taken == [0, 10, 20]

    def test_a_collection_that_comes_a_little_early_still_counts(self):
        plan = DetailPlan()
        plan.take(sample(WEB, later(1)))
        assert plan.take(sample(WEB, later(300)))

    def test_a_server_collected_less_often_carries_it_each_time(self):
        plan = DetailPlan()
        assert all(plan.take(sample(WEB, later(600 * n))) for n in range(3))

    @pytest.mark.parametrize("mounts", [4, 6])
    def test_another_set_of_mounts_carries_it(self, mounts):
        plan = DetailPlan()
        plan.take(sample(WEB, NOW, mounts=5))
        assert plan.take(sample(WEB, later(30), mounts=mounts))
        assert not plan.take(sample(WEB, later(60), mounts=mounts))

    def test_another_order_of_mounts_does_not(self):
        plan = DetailPlan()
        first = sample(WEB, NOW).metrics.filesystems
        plan.take(sample(WEB, NOW))
        assert not plan.take(sample(WEB, later(30), disk_mount="/"))
        turned = sample(WEB, later(60))
        object.__setattr__(turned.metrics, "filesystems", first[::-1])
        assert not plan.take(turned)

    def test_failed_samples_and_missing_filesystems_are_no_change(self):
        plan = DetailPlan()
        plan.take(sample(WEB, NOW))
        assert not plan.take(failed_sample(WEB, later(30)))
        assert not plan.take(sample(WEB, later(60), mounts=0))
        assert not plan.take(sample(WEB, later(90)))

    def test_servers_are_apart_and_a_forgotten_one_is_new(self):
        plan = DetailPlan()
        plan.take(sample(WEB, NOW))
        assert plan.take(sample(server(2), NOW))
        plan.forget(WEB.id)
        plan.forget(WEB.id)
        assert plan.take(sample(WEB, later(30)))

    def test_a_clock_that_was_set_back_does_not_silence_it(self):
        plan = DetailPlan()
        plan.take(sample(WEB, NOW))
        assert plan.take(sample(WEB, later(-3600)))


class TestRows:
    def test_a_row_without_detail_has_none(self):
        assert to_row(sample(WEB, NOW), detailed=False)[-2:] == (None, None)

    def test_nothing_measured_is_in_range(self):
        assert is_in_range(to_row(failed_sample(WEB, NOW), detailed=True))

    @pytest.mark.parametrize("field", ["memory_used", "uptime_seconds"])
    @pytest.mark.parametrize(
        ("value", "fits"),
        [(0, True), (2**63 - 1, True), (2**63, False), (-(2**63), False)],
    )
    def test_an_integer_fits_into_64_bits(self, field, value, fits):
        row = to_row(sample(WEB, NOW, **{field: value}), detailed=False)
        assert is_in_range(row) is fits

    @pytest.mark.parametrize(
        ("value", "fits"),
        [
            (0.0, True),
            (3.4e38, True),
            (3.5e38, False),
            (float("nan"), False),
            (float("inf"), False),
            (float("-inf"), False),
        ],
    )
    def test_a_real_is_finite(self, value, fits):
        row = to_row(sample(WEB, NOW, load=(0.0, 0.0, value)), detailed=False)
        assert is_in_range(row) is fits

    def test_a_row_is_as_wide_as_the_statement(self):
        full = to_row(sample(WEB, NOW), detailed=True)
        assert len(full) == len(to_row(failed_sample(WEB, NOW), detailed=False)) == 24


class TestBackoff:
    def test_delays_double_up_to_the_limit(self):
        backoff = Backoff(first=0.5, limit=5, chance=lambda: 0)
        assert [backoff.next_delay() for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]

    def test_jitter_takes_half_off_at_most(self):
        backoff = Backoff(first=4, limit=4, chance=lambda: 0.99)
        assert backoff.next_delay() == pytest.approx(2.02)

    def test_success_begins_anew(self):
        backoff = Backoff(first=0.5, limit=5, chance=lambda: 0)
        backoff.next_delay()
        backoff.next_delay()
        backoff.reset()
        assert backoff.next_delay() == 0.5


@pytest.mark.parametrize(
    ("now", "succeeded", "expected"),
    [
        ("2026-11-24T12:00", True, "2026-11-25T00:30"),
        ("2026-11-24T00:29", True, "2026-11-24T00:30"),
        ("2026-11-24T00:30", True, "2026-11-25T00:30"),
        ("2026-12-31T23:59", True, "2027-01-01T00:30"),
        ("2026-11-24T12:00", False, "2026-11-24T13:00"),
        ("2026-11-24T00:10", False, "2026-11-24T00:30"),
        ("2026-11-24T23:50", False, "2026-11-25T00:30"),
    ],
)
def test_the_upkeep_runs_at_half_past_midnight_and_hourly_after_failures(
    now, succeeded, expected
):
    at = datetime.fromisoformat(f"{now}+00:00")
    expected_at = datetime.fromisoformat(f"{expected}+00:00")
    assert next_run(at, succeeded=succeeded) == expected_at
