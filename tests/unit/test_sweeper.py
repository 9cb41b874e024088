"""The loop that finds what no watch told of, in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from hostwatch.model.reason import TryAgainLaterError
from hostwatch.model.server import ServerId
from hostwatch.monitor.sweep import Sweeper, WatchStalledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.looptime

A, B = ServerId("a"), ServerId("b")


@dataclass
class Fleet:
    """What the watch told, what exists, and what the database holds."""

    known: set[ServerId] = field(default_factory=set)
    present: set[ServerId] = field(default_factory=set)
    recorded: set[ServerId] = field(default_factory=set)
    removed: list[ServerId] = field(default_factory=list)
    works: bool = True
    alerts: set[ServerId] = field(default_factory=set)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    api_away: bool = False
    database_away: bool = False

    def servers(self) -> frozenset[ServerId]:
        return frozenset(self.known)

    def alerting(self) -> frozenset[ServerId]:
        return frozenset(self.alerts)

    def remove(self, server: ServerId) -> None:
        self.removed.append(server)
        self.known.discard(server)
        self.recorded.discard(server)
        self.alerts.discard(server)

    async def list_present(self) -> set[ServerId]:
        if self.api_away:
            raise TryAgainLaterError("away")
        return set(self.present)

    async def list_recorded(self) -> set[ServerId]:
        if self.database_away:
            raise TryAgainLaterError("away")
        return set(self.recorded)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def sweeper(fleet: Fleet) -> Sweeper:
    return Sweeper(
        fleet,
        present=fleet.list_present,
        recorded=fleet.list_recorded,
        gone=fleet.remove,
    )


@asynccontextmanager
async def sweeping(sweeper: Sweeper) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(sweeper.run(), name="sweeper")
    await asyncio.sleep(0)
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_deletion_that_nobody_told_of_is_found_in_two_sweeps(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper):
        fleet.known, fleet.present = {A, B}, {A, B}
        await asyncio.sleep(1)
        fleet.present = {A}
        await asyncio.sleep(60)
        assert fleet.removed == []
        await asyncio.sleep(60)
        assert fleet.removed == [B]


async def test_a_server_that_only_the_database_knows_is_gone_too(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper):
        fleet.recorded = {B}
        await asyncio.sleep(130)
        assert fleet.removed == [B]


async def test_a_follower_leaves_the_database_alone(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper):
        fleet.works, fleet.recorded = False, {B}
        await asyncio.sleep(300)
        assert fleet.removed == []


async def test_a_database_that_is_away_stops_no_sweep(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper):
        fleet.database_away, fleet.known = True, {A}
        await asyncio.sleep(130)
        assert fleet.removed == [A]


async def test_it_is_ready_once_every_server_is_known_and_the_api_answers(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    fleet.api_away, fleet.present = True, {A}
    async with sweeping(sweeper):
        fleet.api_away, fleet.present = True, {A}
        await asyncio.sleep(1)
        assert sweeper.obstacles() == [
            "the Kubernetes API does not answer",
            "not every server is known yet",
        ]
        fleet.api_away = False
        await asyncio.sleep(2)
        assert sweeper.obstacles() == ["not every server is known yet"]
        fleet.known = {A}
        await asyncio.sleep(2)
        assert sweeper.obstacles() == []


async def test_an_api_that_goes_away_is_told_and_forgets_nothing(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper):
        fleet.known, fleet.present = {A}, {A}
        await asyncio.sleep(1)
        fleet.api_away = True
        await asyncio.sleep(600)
        assert sweeper.obstacles() == ["the Kubernetes API does not answer"]
        assert fleet.removed == []


async def test_a_watch_that_misses_a_server_for_two_minutes_is_given_up(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper) as running:
        fleet.known, fleet.present = {A}, {A}
        await asyncio.sleep(1)
        fleet.present = {A, B}
        await asyncio.sleep(170)
        assert not running.done()
        await asyncio.sleep(30)
        with pytest.raises(WatchStalledError, match="1 servers"):
            await running


async def test_a_server_that_still_alerts_and_is_gone_is_found(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper):
        fleet.alerts = {B}
        await asyncio.sleep(130)
        assert fleet.removed == [B]


async def test_a_new_term_begins_with_a_sweep(fleet: Fleet, sweeper: Sweeper) -> None:
    async with sweeping(sweeper):
        fleet.recorded = {B}
        await asyncio.sleep(1)
        fleet.started.set()
        await asyncio.sleep(65)
        assert fleet.removed == [B]


async def test_an_outage_is_not_held_against_the_watch(
    fleet: Fleet, sweeper: Sweeper
) -> None:
    async with sweeping(sweeper) as running:
        fleet.known, fleet.present = {A}, {A, B}
        await asyncio.sleep(70)
        fleet.api_away = True
        await asyncio.sleep(300)
        fleet.api_away = False
        await asyncio.sleep(60)
        assert not running.done()
