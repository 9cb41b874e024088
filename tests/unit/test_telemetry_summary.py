from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import structlog.testing

from hostwatch.model.reason import Reason
from hostwatch.model.sample import Health, Metrics, Sample
from hostwatch.model.server import Organization, ServerId, ServerKey
from hostwatch.settings import TelemetrySettings
from hostwatch.telemetry.loop import watch_loop
from hostwatch.telemetry.summary import Summary
from hostwatch.telemetry.telemetry import Telemetry

SERVER = ServerKey(
    id=ServerId("u"), namespace="n", name="s", organization=Organization("o")
)


def _sample(reason: Reason | None = None) -> Sample:
    return Sample(
        server=SERVER,
        collected_at=datetime(2026, 11, 23, tzinfo=UTC),
        status=Health.ERROR if reason else Health.HEALTHY,
        reason=reason,
        metrics=Metrics(),
    )


def test_a_window_in_numbers():
    summary = Summary()
    summary.watching(12, 2)
    for number in range(1, 101):
        reason = Reason.DNS_FAILED if number > 98 else None
        summary.collected(
            _sample(reason), duration=number / 1000, lateness=number / 10_000
        )
    summary.collected(_sample(Reason.CONNECT_TIMEOUT), duration=5, lateness=2)
    summary.skipped()
    summary.gave_up()
    summary.gave_up()

    assert summary.take() == {
        "servers": 12,
        "suspended": 2,
        "collections": 101,
        "failures": {"DNSFailed": 2, "ConnectTimeout": 1},
        "success_percent": 97.0,
        "duration_p50_ms": 51.0,
        "duration_p95_ms": 96.0,
        "lateness_p95_ms": 9.6,
        "lateness_max_ms": 2000.0,
        "skipped": 1,
        "given_up": 2,
    }


def test_each_window_begins_anew_but_the_servers_stay():
    summary = Summary()
    summary.watching(12, 2)
    summary.collected(_sample(Reason.DNS_FAILED), duration=1, lateness=1)
    summary.skipped()
    summary.gave_up()
    summary.take()

    assert summary.take() == {
        "servers": 12,
        "suspended": 2,
        "collections": 0,
        "failures": {},
        "success_percent": None,
        "duration_p50_ms": None,
        "duration_p95_ms": None,
        "lateness_p95_ms": None,
        "lateness_max_ms": None,
        "skipped": 0,
        "given_up": 0,
    }


def test_a_single_failure_keeps_the_rate_below_a_hundred():
    summary = Summary()
    for _ in range(9_999):
        summary.collected(_sample(), duration=1, lateness=1)
    summary.collected(_sample(Reason.DNS_FAILED), duration=1, lateness=1)

    assert summary.take()["success_percent"] == 99.9


@pytest.fixture
async def telemetry():
    made = Telemetry(TelemetrySettings(), version="1", summary_seconds=30)
    await made.open()
    yield made
    await made.close()


@pytest.mark.looptime
async def test_the_line_comes_every_interval_from_the_meters_own_events():
    telemetry = Telemetry(TelemetrySettings(), version="1", summary_seconds=30)
    with structlog.testing.capture_logs() as logs:
        await telemetry.open()
        telemetry.watching(3, 1)
        telemetry.collected(_sample(), duration=0.04, lateness=0.001)
        telemetry.skipped(SERVER)
        telemetry.gave_up(SERVER, "the database is away")
        await asyncio.sleep(61)
        await telemetry.close()

    keys = ("event", "servers", "collections", "success_percent", "skipped", "given_up")
    assert [tuple(log[key] for key in keys) for log in logs] == [
        ("Summary", 3, 1, 100.0, 1, 1),
        ("Summary", 3, 0, None, 0, 0),
    ]


async def test_a_task_that_died_is_told(telemetry):
    assert telemetry.problems() == []

    victim = next(
        task for task in asyncio.all_tasks() if task.get_name() == "telemetry summary"
    )
    victim.cancel()
    await asyncio.wait({victim})

    assert telemetry.problems() == ["The task 'telemetry summary' has ended."]


async def test_closing_twice_and_without_opening_is_fine():
    telemetry = Telemetry(TelemetrySettings(), version="1")
    await telemetry.close()
    await telemetry.open()
    await telemetry.close()
    await telemetry.close()
    assert telemetry.problems() == []


async def test_a_blocked_event_loop_is_measured():
    seen: list[tuple[float, int]] = []
    watch = asyncio.create_task(
        watch_loop(lambda lag, tasks: seen.append((lag, tasks))), name="watch"
    )
    await asyncio.sleep(0.3)
    _block(0.6)
    while not seen:
        await asyncio.sleep(0.01)
    watch.cancel()
    await asyncio.wait({watch})

    assert seen[0][0] > 0.3
    assert seen[0][1] == 2


def _block(seconds: float) -> None:
    import time

    time.sleep(seconds)
