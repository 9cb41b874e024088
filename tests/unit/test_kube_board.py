"""The status writer against false time and an API that only remembers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from hostwatch.kube.board import StatusWriter
from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.observed import Observed
from hostwatch.kube.waiting import Urgency
from hostwatch.model.sample import CollectResult, Health, ServerState
from hostwatch.model.server import Organization, ServerId, ServerKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.looptime

START = datetime(2026, 11, 23, 10, tzinfo=UTC)


class Clock:
    def now(self) -> datetime:
        return START


class Api:
    """Takes each patch in 10 ms, unless an error waits in ``errors``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.written: list[tuple[float, str]] = []
        self.errors: list[Exception] = []
        self.under_way = self.most_at_once = 0

    async def get(self, path: str) -> dict[str, Any]:
        raise AssertionError(path)

    async def patch(self, path: str, body: Any, *, query: Any) -> dict[str, Any]:
        assert query == {"fieldManager": "hostwatch"}
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        if self.errors:
            raise self.errors.pop(0)
        name = path.split("/")[-2]
        self.written.append((asyncio.get_running_loop().time(), name))
        return {
            "metadata": {
                "uid": name,
                "resourceVersion": str(int(body["metadata"]["resourceVersion"]) + 1),
            },
            "status": body["status"],
        }


class Meter:
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str]] = []

    def status_written(self, urgency: str, outcome: str) -> None:
        self.outcomes.append((urgency, outcome))

    def status_waiting(self, states: int) -> None: ...

    def secrets_cached(self, secrets: int) -> None: ...

    def api_failed(self, status: int | None) -> None: ...


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def meter() -> Meter:
    return Meter()


@asynccontextmanager
async def opened(api: Any, meter: Meter) -> AsyncIterator[StatusWriter]:
    # No fixture: those are set up before time becomes false.
    writer = StatusWriter(api, writes_per_second=20, meter=meter)
    await writer.open()
    yield writer
    await writer.close(drain=0)


def show(
    writer: StatusWriter, name: str, urgency: Urgency, *, failures: int = 0
) -> None:
    server = ServerKey(ServerId(name), "acme", name, Organization("acme"))
    writer.observe(server.id, Observed(server.id, "acme", name, "1"))
    state = ServerState(server, 1, Health.ERROR, (), consecutive_failures=failures + 1)
    writer.show(state, urgency)


async def test_a_burst_passes_and_then_the_rate_holds(api, meter):
    async with opened(api, meter) as writer:
        for number in range(300):
            show(writer, f"s-{number}", Urgency.CHANGE)
        await asyncio.sleep(1)
        assert 215 <= len(api.written) <= 222
        await asyncio.sleep(2)
        assert 255 <= len(api.written) <= 262
        await asyncio.sleep(5)
        assert len(api.written) == 300
        assert api.most_at_once == 4


async def test_what_is_forced_overtakes_what_waits(api, meter):
    async with opened(api, meter) as writer:
        for number in range(300):
            show(writer, f"s-{number}", Urgency.CHANGE)
        await asyncio.sleep(1)
        show(writer, "refresh", Urgency.REFRESH)
        show(writer, "forced", Urgency.FORCED)
        await asyncio.sleep(0.1)
        assert "forced" in [name for _, name in api.written[-2:]]
        await asyncio.sleep(10)
        assert api.written[-1][1] == "refresh"


async def test_throttling_waits_as_asked_and_halves_the_rate(api, meter):
    async with opened(api, meter) as writer:
        api.errors = [ApiAwayError("429", status=429, retry_after=5)]
        show(writer, "a", Urgency.CHANGE)
        await asyncio.sleep(4.9)
        assert api.written == []
        await asyncio.sleep(0.5)
        assert [name for _, name in api.written] == ["a"]
        assert meter.outcomes == [("change", "throttled"), ("change", "written")]
        for number in range(300):
            show(writer, f"s-{number}", Urgency.CHANGE)
        await asyncio.sleep(10)
        assert (
            100 <= len(api.written) <= 175
        )  # no burst left, 10 a second and recovering


async def test_throttling_without_a_word_waits_a_second(api, meter):
    async with opened(api, meter) as writer:
        api.errors = [ApiAwayError("429", status=429)]
        show(writer, "a", Urgency.CHANGE)
        await asyncio.sleep(1.2)
        assert [name for _, name in api.written] == ["a"]


async def test_a_failing_write_is_tried_again_with_growing_pauses(api, meter):
    async with opened(api, meter) as writer:
        api.errors = [ApiAwayError("500", status=500)] * 3
        show(writer, "a", Urgency.CHANGE)
        show(writer, "b", Urgency.CHANGE, failures=1)
        await asyncio.sleep(30)
        assert sorted(name for _, name in api.written) == ["a", "b"]
        assert meter.outcomes.count(("change", "retried")) == 3
        assert 1 <= api.written[0][0] <= 4


async def test_silence_puts_all_writes_off_and_nothing_is_lost(api, meter):
    async with opened(api, meter) as writer:
        api.errors = [ApiAwayError("no answer")] * 6
        for number in range(10):
            show(writer, f"s-{number}", Urgency.CHANGE)
        await asyncio.sleep(0.9)
        assert meter.outcomes == [("change", "retried")] * 4
        await asyncio.sleep(60)
        assert len({name for _, name in api.written}) == 10
        assert meter.outcomes.count(("change", "retried")) == 6


async def test_the_newest_state_is_written_after_a_silence(api, meter):
    async with opened(api, meter) as writer:
        api.errors = [ApiAwayError("no answer")]
        show(writer, "a", Urgency.CHANGE)
        await asyncio.sleep(0.5)
        show(writer, "a", Urgency.REFRESH, failures=7)
        await asyncio.sleep(5)
        assert [name for _, name in api.written] == ["a"]


async def test_an_unexpected_fault_costs_one_write_only(api, meter):
    async with opened(api, meter) as writer:
        api.errors = [KeyError("a fault of ours")] * 5
        for number in range(5):
            show(writer, f"s-{number}", Urgency.CHANGE)
        await asyncio.sleep(1)
        show(writer, "after", Urgency.CHANGE)
        await asyncio.sleep(1)
        assert [name for _, name in api.written] == ["after"]


async def test_refreshes_are_paced_by_the_fleet(api, meter):
    async with opened(api, meter) as writer:
        for number in range(400):
            show(writer, f"s-{number}", Urgency.REFRESH)
        await asyncio.sleep(15)
        assert len(api.written) == 400
        first = next(when for when, name in api.written if name == "s-0")
        show(writer, "s-0", Urgency.REFRESH, failures=1)
        await asyncio.sleep(30)
        when, name = api.written[-1]
        assert name == "s-0"
        assert when - first == pytest.approx(20, abs=0.1)  # 400 ÷ 20 a second


async def test_closing_writes_the_news_first(api, meter):
    writer = StatusWriter(api, writes_per_second=20, meter=meter)
    await writer.open()
    for number in range(8):
        show(writer, f"s-{number}", Urgency.CHANGE)
    await writer.close(drain=3)
    assert len(api.written) == 8
    show(writer, "late", Urgency.FORCED)
    await writer.close()
    await asyncio.sleep(1)
    assert len(api.written) == 8


async def test_closing_does_not_wait_for_an_api_that_is_away(api, meter):
    writer = StatusWriter(api, writes_per_second=20, meter=meter)
    await writer.open()
    api.errors = [ApiAwayError("no answer")] * 100
    show(writer, "a", Urgency.FORCED)
    started = asyncio.get_running_loop().time()
    await writer.close(drain=3)
    assert asyncio.get_running_loop().time() - started == pytest.approx(3, abs=0.1)


async def test_states_shown_before_the_start_are_written(api, meter):
    writer = StatusWriter(api, writes_per_second=20, meter=meter)
    show(writer, "a", Urgency.CHANGE)
    await writer.open()
    await asyncio.sleep(0.1)
    await writer.close()
    assert [name for _, name in api.written] == ["a"]


STALE = ServerState(
    ServerKey(ServerId("a"), "acme", "a", Organization("acme")),
    1,
    Health.HEALTHY,
    (),
    last_attempt=START - timedelta(seconds=45),
    result=CollectResult("old", True, "Collected", START, 41),  # noqa: FBT003
)


async def test_a_state_that_another_replica_overtook_is_given_up(api, meter):
    newer = Observed(
        *(STALE.server.id, "acme", "a", "9"),
        generation=1,
        last_attempt=START,
        last_handled_collect_request="new",
    )
    async with opened(api, meter) as writer:
        writer.observe(STALE.server.id, newer)
        writer.show(STALE, Urgency.FORCED)
        await asyncio.sleep(1)
        assert meter.outcomes == [("forced", "unchanged")]
    assert api.written == []


async def test_a_conflict_with_a_newer_status_gives_the_state_up(api, meter):
    async def get(path: str) -> dict[str, Any]:
        assert path.endswith("/acme/monitoredservers/a")
        return {
            "metadata": {"uid": "a", "resourceVersion": "9"},
            "status": {
                "observedGeneration": 1,
                "lastAttemptTime": "2026-11-23T10:00:00Z",
            },
        }

    api.get = get
    api.errors = [ApiRefusedError(409, "the object has been modified")]
    async with opened(api, meter) as writer:
        writer.observe(STALE.server.id, Observed(STALE.server.id, "acme", "a", "8"))
        writer.show(STALE, Urgency.FORCED)
        await asyncio.sleep(1)
        assert meter.outcomes == [("forced", "conflict"), ("forced", "unchanged")]
    assert api.written == []


async def test_nothing_is_written_where_it_may_not_and_all_is_given_up(api, meter):
    allowed = True
    writer = StatusWriter(api, writes_per_second=20, meter=meter)
    await writer.open(lambda: allowed)
    show(writer, "a", Urgency.CHANGE)
    await asyncio.sleep(0.1)
    allowed = False
    for number in range(300):
        show(writer, f"s-{number}", Urgency.CHANGE)
    started = asyncio.get_running_loop().time()
    await writer.close(drain=3)
    assert asyncio.get_running_loop().time() - started == pytest.approx(0, abs=0.1)
    assert [name for _, name in api.written] == ["a"]
    await writer.open()
    show(writer, "b", Urgency.CHANGE)
    await writer.close()
    assert [name for _, name in api.written] == ["a", "b"]
