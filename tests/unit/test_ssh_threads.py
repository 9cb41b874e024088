from __future__ import annotations

import asyncio
import threading

import pytest

from hostwatch.model.reason import TryAgainLaterError
from hostwatch.ssh.threads import Threads


@pytest.fixture
def threads():
    made = Threads(2, each=1, name="work")
    yield made
    made.close()


@pytest.fixture
def release():
    """Give what ends the threads of a test, at its end at the latest."""
    event = threading.Event()
    yield event
    event.set()


async def start(threads, namespace, work, *, within=20):
    async with asyncio.timeout(within) as deadline:
        return await threads.start(namespace, deadline, work)


async def run(threads, namespace, work, **within):
    return await (await start(threads, namespace, work, **within))


async def test_work_is_done_in_a_thread_of_that_name(threads):
    name = await run(threads, "a", lambda: threading.current_thread().name)
    assert name.startswith("work")


async def test_an_error_of_the_work_is_its_result(threads):
    def fail():
        raise LookupError("work")

    for _ in range(3):
        with pytest.raises(LookupError, match="work"):
            await run(threads, "a", fail)


async def test_a_thread_that_nobody_waits_for_still_holds_its_place(threads, release):
    lost = await start(threads, "a", lambda: release.wait(30))
    lost.cancel()
    next_one = asyncio.create_task(run(threads, "a", lambda: "done"))
    assert await run(threads, "b", lambda: "other") == "other"
    assert not next_one.done()
    release.set()
    assert await next_one == "done"


async def test_waiting_for_a_thread_costs_no_time_of_the_deadline(threads, release):
    await start(threads, "a", lambda: release.wait(30))
    late = asyncio.create_task(run(threads, "a", lambda: "done", within=0.1))
    await asyncio.sleep(0.3)
    assert not late.done()
    release.set()
    assert await late == "done"


async def test_after_the_end_nothing_is_started_and_nobody_waits_for_ever(
    threads, release
):
    await start(threads, "a", lambda: release.wait(30))
    waiting = [asyncio.create_task(run(threads, "a", lambda: 1)) for _ in range(3)]
    await asyncio.sleep(0)
    threads.close()
    with pytest.raises(TryAgainLaterError):
        await run(threads, "b", lambda: 1)
    release.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [TryAgainLaterError] * 3
