"""CPU percent out of two reads of the counters."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwatch.model.reading import CpuTimes, CpuUsage
from hostwatch.probes.cpu import usage

ZERO = CpuTimes(0, 0, 0, 0, 0, 0, 0, 0)
TICKS = st.integers(0, 2**63 - 1)
TIMES = st.builds(CpuTimes, *[TICKS] * 8)


def test_the_parts_add_up_to_all_but_idle_and_iowait() -> None:
    now = CpuTimes(
        user=10, nice=5, system=6, idle=50, iowait=10, irq=1, softirq=3, steal=15
    )

    assert usage(now, ZERO) == CpuUsage(
        total=40, user=15, system=10, iowait=10, steal=15
    )


def test_a_part_that_went_back_counts_nothing() -> None:
    before = CpuTimes(0, 0, 0, 100, 50, 0, 0, 0)
    now = CpuTimes(50, 0, 0, 150, 40, 0, 0, 0)

    assert usage(now, before) == CpuUsage(
        total=50, user=50, system=0, iowait=0, steal=0
    )


def test_counters_that_stand_or_go_back_give_nothing() -> None:
    later = CpuTimes(1, 1, 1, 1, 1, 1, 1, 1)

    assert usage(later, later) is None
    assert usage(ZERO, later) is None


@given(TIMES, TIMES)
def test_any_counters_give_percentages_or_nothing(
    now: CpuTimes, before: CpuTimes
) -> None:
    found = usage(now, before)

    if found is not None:
        assert all(0 <= percent <= 100 for percent in astuple(found))
        parts = found.user + found.system + found.steal
        assert found.total == pytest.approx(parts)
