from __future__ import annotations

import asyncio

import pytest

from hostwatch.ssh.turns import Turns


class Work:
    """Holders of turns that end when a test says so."""

    def __init__(self, limit, **each):
        self.turns = Turns(limit, **each)
        self.running = []
        self.tasks = {}
        self.ends = {}

    async def hold(self, name, namespace, limit):
        async with (
            asyncio.timeout(limit) as deadline,
            self.turns.turn(namespace, deadline),
        ):
            self.running.append(name)
            await self.ends[name].wait()

    async def start(self, *names, limit=None):
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(
                self.hold(name, name[0], limit), name=name
            )
        await asyncio.sleep(0)

    async def end(self, name):
        self.ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def end_all(self):
        while unfinished := [n for n in self.running if not self.tasks[n].done()]:
            await self.end(unfinished[0])


async def test_no_more_than_the_limit_run_at_once():
    work = Work(2)
    await work.start("a1", "a2", "a3")
    assert work.running == ["a1", "a2"]
    await work.end("a1")
    assert work.running == ["a1", "a2", "a3"]
    await work.end_all()
    assert work.turns.free == 2


async def test_another_namespace_does_not_wait_behind_a_long_queue():
    work = Work(1)
    await work.start("a1", "a2", "a3", "a4", "b1", "c1", "b2")
    await work.end_all()
    assert work.running == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_one_that_gives_up_leaves_its_place_to_the_next():
    work = Work(1)
    await work.start("a1", "a2", "a3")
    work.tasks["a2"].cancel()
    await work.end("a1")
    assert work.running == ["a1", "a3"]
    await work.end_all()
    assert work.turns.free == 1


async def test_a_place_given_in_the_moment_of_a_cancellation_is_not_lost():
    turns = Turns(1)

    async def wait():
        async with asyncio.timeout(None) as deadline, turns.turn("b", deadline):
            pytest.fail("it was cancelled before it could start")

    async with asyncio.timeout(None) as deadline:
        async with turns.turn("a", deadline):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert turns.free == 1


async def test_an_error_gives_the_place_back():
    turns = Turns(1)
    async with asyncio.timeout(None) as deadline:
        with pytest.raises(RuntimeError):
            async with turns.turn("a", deadline):
                raise RuntimeError
    assert turns.free == 1


async def test_the_deadline_stands_still_while_waiting_and_runs_again_afterwards():
    work = Work(1)
    await work.start("a1")
    await work.start("a2", limit=0.05)
    await asyncio.sleep(0.2)
    assert not work.tasks["a2"].done()
    await work.end("a1")
    assert work.running == ["a1", "a2"]
    with pytest.raises(TimeoutError):
        await work.tasks["a2"]
    assert work.turns.free == 1


async def test_no_namespace_holds_more_than_its_share():
    work = Work(3, each=2)
    await work.start("a1", "a2", "a3", "a4", "b1", "b2")
    assert work.running == ["a1", "a2", "b1"]
    await work.end("b1")
    assert work.running == ["a1", "a2", "b1", "b2"]
    await work.end("b2")
    assert work.turns.free == 1
    await work.end("a2")
    assert work.running == ["a1", "a2", "b1", "b2", "a3"]
    await work.end_all()
    assert work.running == ["a1", "a2", "b1", "b2", "a3", "a4"]
    assert work.turns.free == 3


async def test_a_namespace_that_has_its_share_is_passed_over_not_forgotten():
    work = Work(2, each=1)
    await work.start("a1", "a2", "b1", "b2", "c1")
    await work.end("b1")
    assert work.running == ["a1", "b1", "b2"]
    await work.end("b2")
    assert work.running == ["a1", "b1", "b2", "c1"]
    await work.end("a1")
    assert work.running == ["a1", "b1", "b2", "c1", "a2"]
    await work.end_all()
    assert work.turns.free == 2


async def test_those_who_gave_up_keep_nobody_from_a_place():
    work = Work(2, each=1)
    await work.start("a1", "a2", "a3", "b1", "b2")
    for name in ("a2", "a3", "b2"):
        work.tasks[name].cancel()
    await asyncio.sleep(0)
    await work.end("a1")
    await work.start("a4")
    assert work.running == ["a1", "b1", "a4"]
    await work.end_all()
    assert work.turns.free == 2
