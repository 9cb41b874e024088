"""What the monitor does with servers, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from hostwatch.model.credential import Credential
from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError
from hostwatch.model.sample import Health, PinnedKey, Shown
from hostwatch.model.server import Fingerprint, HostKeyPolicy, Organization
from hostwatch.monitor.alerting import AlertDesk
from hostwatch.monitor.collect import Collector
from hostwatch.monitor.grid import Grid
from hostwatch.monitor.hostkeys import HostKeys
from hostwatch.monitor.monitor import Monitor
from hostwatch.monitor.ports import Urgency
from world import ports
from world.ports import KEY, VirtualClock, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostwatch.model.server import Server
    from hostwatch.monitor.clock import Clock

pytestmark = pytest.mark.looptime

ORGANIZATION = Organization("acme-inc")
NEVER_SHOWN = Shown()
OFFLINE = CollectionError(Reason.CONNECTION_REFUSED, "nothing listens")
REFUSED = CollectionError(Reason.AUTHENTICATION_FAILED, "refused", reached=True)


@dataclass
class Bench:
    """A monitor on memory ports."""

    monitor: Monitor
    clock: Clock
    shells: ports.MemoryShells = field(default_factory=ports.MemoryShells)
    credentials: ports.MemoryCredentials = field(
        default_factory=ports.MemoryCredentials
    )
    pins: ports.MemoryPins = field(default_factory=ports.MemoryPins)
    sink: ports.MemorySink = field(default_factory=ports.MemorySink)
    roster: ports.MemoryRoster = field(default_factory=ports.MemoryRoster)
    board: ports.MemoryBoard = field(default_factory=ports.MemoryBoard)
    relay: ports.MemoryRelay = field(default_factory=ports.MemoryRelay)
    meter: ports.MemoryMeter = field(default_factory=ports.MemoryMeter)

    async def watch(self, resource: Server, shown: Shown = NEVER_SHOWN) -> None:
        self.board.before = shown
        self.monitor.update(resource)
        await settle()

    def statuses(self) -> list[Health]:
        return [sample.status for sample in self.sink.samples]


async def settle() -> None:
    """Let what is due now happen."""
    await asyncio.sleep(0.01)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = VirtualClock()
    made = Bench(monitor=None, clock=clock)  # type: ignore[arg-type]
    host_keys = HostKeys(made.pins)
    made.monitor = Monitor(
        collector=Collector(
            shells=made.shells,
            credentials=made.credentials,
            host_keys=host_keys,
            clock=clock,
            chance=lambda: 0.0,
        ),
        host_keys=host_keys,
        credentials=made.credentials,
        shells=made.shells,
        sinks=[made.sink],
        roster=made.roster,
        board=made.board,
        alerts=AlertDesk(made.relay),
        meter=made.meter,
        clock=clock,
    )
    made.monitor.organize("acme", ORGANIZATION)
    await made.monitor.start()
    yield made
    await made.monitor.stop()


# The rhythm


async def test_a_new_server_is_sampled_at_once_and_then_on_its_grid(
    bench: Bench,
) -> None:
    await bench.watch(server())
    assert len(bench.shells.asked_at) == 1

    await asyncio.sleep(95)

    grid = Grid.of(server().id, 30)
    first = bench.clock.monotonic_of(grid.after(bench.clock.epoch() - 95))
    expected = [first, first + 30, first + 60]
    assert bench.shells.asked_at[1:4] == pytest.approx(expected, abs=0.05)
    assert max(bench.meter.lateness) < 0.05


async def test_a_slot_is_skipped_and_counted_while_the_last_collection_runs(
    bench: Bench,
) -> None:
    bench.shells.delay = 12
    await bench.watch(server(interval=5))

    await asyncio.sleep(11.9)

    assert len(bench.shells.asked_at) == 1
    assert bench.meter.slots_skipped == 2
    assert bench.shells.most_asking == 1


async def test_a_slot_that_comes_a_moment_early_is_not_taken_twice(
    bench: Bench,
) -> None:
    await bench.watch(server(interval=5))
    bench.shells.delay = 0.01
    grid = Grid.of(server().id, 5)
    slot = bench.clock.monotonic_of(grid.after(bench.clock.epoch()))
    await asyncio.sleep(slot - bench.clock.monotonic() - 0.0005)
    bench.monitor._slot_due(server().id, slot)
    await asyncio.sleep(4)
    assert bench.meter.slots_skipped == 0
    assert len(bench.shells.asked_at) == 2


async def test_a_changed_interval_moves_the_grid(bench: Bench) -> None:
    await bench.watch(server(interval=3600))
    await bench.watch(replace(server(interval=5), generation=2))
    await asyncio.sleep(20)
    assert len(bench.shells.asked_at) == 6


async def test_every_server_is_due_when_work_begins(bench: Bench) -> None:
    await bench.monitor.stop()
    for number in range(200):
        bench.monitor.update(server(number))
    assert bench.shells.asked_at == []

    await bench.monitor.start()
    await settle()

    assert len(bench.shells.asked_at) == 200


async def test_work_that_ended_starts_nothing_more(bench: Bench) -> None:
    bench.shells.delay = 5
    await bench.watch(server())
    await bench.monitor.stop()
    await asyncio.sleep(120)
    assert bench.sink.samples == []
    assert len(bench.shells.asked_at) == 1


# Failures


async def test_two_retries_wait_ever_longer(bench: Bench) -> None:
    bench.shells.fails = [OFFLINE, OFFLINE]
    start = bench.clock.monotonic()
    await bench.watch(server(interval=3600))
    await asyncio.sleep(5)

    waits = [when - start for when in bench.shells.asked_at]
    assert waits == pytest.approx([0, 0.5, 1.5], abs=0.05)
    assert bench.statuses() == [Health.HEALTHY]


async def test_a_collection_ends_within_its_time_limit(bench: Bench) -> None:
    bench.shells.delay = 1000
    start = bench.clock.monotonic()
    await bench.watch(server(interval=3600, timeout=20))
    while not bench.sink.samples:
        await asyncio.sleep(0.1)

    assert bench.clock.monotonic() - start <= 20.2
    assert bench.sink.samples[0].reason is Reason.COLLECT_TIMEOUT
    message = bench.board.last.conditions[0].message
    assert message.startswith("no complete answer within 5.")


async def test_an_offline_server_is_asked_once_a_slot_for_ever(bench: Bench) -> None:
    bench.shells.fails = [OFFLINE] * 1000
    await bench.watch(server(interval=30, retries=2))
    await asyncio.sleep(300)
    first_three = 3
    assert len(bench.shells.asked_at) in (first_three + 9, first_three + 10)

    bench.shells.fails.clear()
    await asyncio.sleep(31)
    assert bench.statuses()[-1] is Health.HEALTHY
    assert bench.board.last.consecutive_failures == 0


async def test_a_failed_collection_is_an_error_without_numbers(bench: Bench) -> None:
    bench.shells.fails = [OFFLINE]
    await bench.watch(server(retries=0))
    sample = bench.sink.samples[0]
    assert (sample.status, sample.reason) == (
        Health.ERROR,
        Reason.CONNECTION_REFUSED,
    )
    assert sample.metrics.memory_used is None
    assert bench.board.last.health is Health.ERROR


async def test_a_refused_login_is_not_retried_and_left_alone_ever_longer(
    bench: Bench,
) -> None:
    bench.shells.fails = [REFUSED] * 1000
    await bench.watch(server(interval=30))
    assert len(bench.shells.opened) == 1
    await asyncio.sleep(600)
    assert len(bench.shells.opened) < 8
    assert bench.credentials.forgotten == len(bench.shells.opened)


async def test_a_new_secret_ends_the_wait_after_a_refused_login(bench: Bench) -> None:
    bench.shells.fails = [REFUSED] * 4
    await bench.watch(server(interval=30))
    await asyncio.sleep(200)
    tried = len(bench.shells.opened)
    bench.shells.fails.clear()

    bench.credentials.credential = Credential("2", private_key=b"", known_hosts="k")
    await asyncio.sleep(31)

    assert len(bench.shells.opened) == tried + 1
    assert bench.statuses()[-1] is Health.HEALTHY


async def test_a_secret_replaced_meanwhile_is_tried_at_once(bench: Bench) -> None:
    bench.shells.fails = [REFUSED]
    bench.credentials.after_forget = Credential("2", private_key=b"", known_hosts="k")
    await bench.watch(server())
    assert bench.statuses() == [Health.HEALTHY]
    assert [t.credential.version for t in bench.shells.opened] == ["1", "2"]


async def test_a_missing_secret_is_the_servers_failure(bench: Bench) -> None:
    bench.credentials.fails = CollectionError(Reason.SECRET_NOT_FOUND, "make it")
    await bench.watch(server())
    assert bench.sink.samples[0].reason is Reason.SECRET_NOT_FOUND
    assert bench.shells.opened == []


async def test_a_service_of_our_own_being_away_is_no_failure_of_the_server(
    bench: Bench,
) -> None:
    bench.credentials.fails = TryAgainLaterError("the API server does not answer")
    await bench.watch(server())
    await asyncio.sleep(31)
    assert bench.sink.samples == []
    assert set(bench.meter.given_up) == {"the API server does not answer"}

    bench.credentials.fails = None
    await asyncio.sleep(31)
    assert bench.statuses()[:1] == [Health.HEALTHY]


async def test_an_error_of_our_own_stops_only_that_collection(bench: Bench) -> None:
    bench.shells.fails = [ZeroDivisionError()]
    await bench.watch(server(1))
    await bench.watch(server(2))
    assert [s.server.name for s in bench.sink.samples] == ["web-2"]
    assert bench.meter.given_up == ["an error of our own"]
    await asyncio.sleep(31)
    assert {s.server.name for s in bench.sink.samples} == {"web-1", "web-2"}


async def test_a_document_that_says_nothing_is_an_error(bench: Bench) -> None:
    bench.shells.document = ""
    await bench.watch(server(retries=0))
    assert bench.statuses() == [Health.ERROR]


# The fleet


async def test_a_suspended_server_is_not_sampled(bench: Bench) -> None:
    await bench.watch(server(suspend=True))
    await asyncio.sleep(120)
    assert bench.shells.opened == []
    assert bench.board.last.health is Health.SUSPENDED
    assert bench.meter.fleet == (1, 1)


async def test_a_server_is_sampled_at_once_when_it_is_no_longer_suspended(
    bench: Bench,
) -> None:
    await bench.watch(server(suspend=True))
    await bench.watch(replace(server(), generation=2))
    assert bench.statuses() == [Health.HEALTHY]
    assert bench.board.last.health is Health.HEALTHY


async def test_suspending_ends_what_runs_and_closes_the_connection(
    bench: Bench,
) -> None:
    bench.shells.delay = 10
    await bench.watch(server())
    await bench.watch(replace(server(suspend=True), generation=2))
    await asyncio.sleep(60)
    assert bench.sink.samples == []
    assert bench.shells.closed == [server().id]


async def test_a_removed_server_is_forgotten_everywhere(bench: Bench) -> None:
    await bench.watch(server())
    bench.monitor.remove(server().id)
    await asyncio.sleep(60)
    assert len(bench.sink.samples) == 1
    assert bench.roster.left == bench.board.dropped == [server().id]
    assert bench.shells.closed == [server().id]
    assert bench.monitor.servers() == frozenset()


async def test_a_server_waits_for_its_namespace_to_be_known(bench: Bench) -> None:
    await bench.watch(replace(server(), namespace="later"))
    assert bench.shells.opened == []
    bench.monitor.organize("later", Organization("other"))
    await settle()
    assert [s.server.organization for s in bench.sink.samples] == ["other"]


async def test_a_namespace_without_an_organization_collects_nothing(
    bench: Bench,
) -> None:
    bench.monitor.organize("acme", None)
    await bench.watch(server())
    await asyncio.sleep(60)
    assert bench.sink.samples == []
    ready = bench.board.last.conditions[0]
    assert (ready.status, ready.reason) == ("False", "InvalidOrganization")
    assert "hostwatch.dev/organization" in ready.message


async def test_samples_follow_the_namespace_to_another_organization(
    bench: Bench,
) -> None:
    await bench.watch(server())
    bench.monitor.organize("acme", Organization("bought"))
    await settle()
    organizations = [s.server.organization for s in bench.sink.samples]
    assert organizations == [ORGANIZATION, "bought"]


async def test_an_invalid_spec_is_shown_and_not_collected(bench: Bench) -> None:
    await bench.watch(replace(server(), spec=None, invalid="spec.host: empty"))
    await asyncio.sleep(60)
    assert bench.shells.opened == []
    ready = bench.board.last.conditions[0]
    assert (ready.reason, ready.message) == ("InvalidSpec", "spec.host: empty")


async def test_two_servers_of_one_host_are_two_servers(bench: Bench) -> None:
    await bench.watch(server(1, host="same.example.com"))
    await bench.watch(server(2, host="same.example.com"))
    assert {s.server.name for s in bench.sink.samples} == {"web-1", "web-2"}


async def test_a_connection_per_collection_is_closed_after_it(bench: Bench) -> None:
    await bench.watch(server(connection="PerCollection"))
    assert bench.shells.closed == [server().id]
    assert [target.persistent for target in bench.shells.opened] == [False]


# The status


async def test_a_new_server_is_shown_as_unknown_first(bench: Bench) -> None:
    bench.shells.delay = 5
    await bench.watch(server())
    state, urgency = bench.board.written[0]
    assert (state.health, urgency) == (Health.UNKNOWN, Urgency.CHANGE)
    assert state.conditions[0].reason == "NotCollectedYet"


async def test_after_a_restart_the_last_health_stays_until_there_is_news(
    bench: Bench,
) -> None:
    await bench.watch(server())
    state = bench.board.last
    told = tuple((c.type, c.status, c.reason) for c in state.conditions)
    await bench.monitor.stop()
    bench.monitor.remove(server().id)
    bench.board.written.clear()
    await bench.monitor.start()

    await bench.watch(server(), Shown(1, Health.HEALTHY, told, ORGANIZATION))

    assert [urgency for _, urgency in bench.board.written] == [Urgency.REFRESH]


async def test_only_news_hurries(bench: Bench) -> None:
    await bench.watch(server())
    await asyncio.sleep(61)
    urgencies = [urgency for _, urgency in bench.board.written]
    assert urgencies[:2] == [Urgency.CHANGE, Urgency.CHANGE]
    assert set(urgencies[2:]) == {Urgency.REFRESH}


# Forced collections


def asking(request: str, **spec: object) -> Server:
    return replace(server(**spec), collect_request=request)


async def test_an_annotation_asks_for_one_collection_now(bench: Bench) -> None:
    await bench.watch(server(interval=3600))
    await bench.watch(asking("a", interval=3600))
    await bench.watch(asking("a", interval=3600))
    await asyncio.sleep(60)
    assert len(bench.sink.samples) == 2
    assert bench.board.results() == [("a", True, "Collected")]
    assert bench.board.written[-1][1] is Urgency.FORCED


async def test_a_failed_collection_answers_too(bench: Bench) -> None:
    await bench.watch(server(retries=0, interval=3600))
    bench.shells.fails = [OFFLINE]
    await bench.watch(asking("a", retries=0, interval=3600))
    assert bench.board.results() == [("a", False, "ConnectionRefused")]


async def test_what_was_answered_before_a_restart_is_not_collected_again(
    bench: Bench,
) -> None:
    await bench.watch(asking("a", suspend=True), Shown(handled_request="a"))
    await asyncio.sleep(60)
    assert bench.sink.samples == []


async def test_a_request_during_a_collection_makes_one_more_after_it(
    bench: Bench,
) -> None:
    bench.shells.delay = 3
    await bench.watch(server(interval=3600))
    await bench.watch(asking("a", interval=3600))
    assert len(bench.shells.asked_at) == 1
    await asyncio.sleep(10)
    assert len(bench.sink.samples) == 2
    assert bench.board.results() == [("a", True, "Collected")]


async def test_the_newest_request_wins_and_the_older_is_never_answered(
    bench: Bench,
) -> None:
    await bench.watch(server(interval=3600))
    bench.shells.delay = 3
    await bench.watch(asking("a", interval=3600))
    await bench.watch(asking("b", interval=3600))
    await asyncio.sleep(30)
    assert bench.board.results() == [("b", True, "Collected")]


async def test_a_suspended_server_answers_and_stays_suspended(bench: Bench) -> None:
    await bench.watch(asking("a", suspend=True))
    assert bench.statuses() == [Health.HEALTHY]
    assert bench.board.results() == [("a", True, "Collected")]
    assert bench.board.last.health is Health.SUSPENDED


async def test_forced_runs_of_one_server_keep_five_seconds_apart(
    bench: Bench,
) -> None:
    await bench.watch(server(interval=3600))
    for request in ("a", "b", "c"):
        await bench.watch(asking(request, interval=3600))
    await asyncio.sleep(30)
    first, *later = bench.shells.asked_at[1:]
    assert later == pytest.approx([first + 5], abs=0.1)
    assert bench.board.results() == [("a", True, "Collected"), ("c", True, "Collected")]


async def test_a_request_that_is_no_printable_text_is_answered_by_its_digest(
    bench: Bench,
) -> None:
    await bench.watch(asking("a\nb", suspend=True))
    await bench.watch(asking("a\nb", suspend=True))
    [(request, succeeded, reason)] = bench.board.results()
    assert request.startswith("sha256:")
    assert len(request) == len("sha256:") + 64
    assert (succeeded, reason) == (False, "InvalidSpec")
    assert bench.sink.samples == []


async def test_a_request_waits_for_a_service_of_our_own(bench: Bench) -> None:
    bench.credentials.fails = TryAgainLaterError("away")
    await bench.watch(asking("a", suspend=True))
    assert bench.board.results() == []
    bench.credentials.fails = None
    await asyncio.sleep(6)
    assert bench.board.results() == [("a", True, "Collected")]


async def test_a_forced_run_does_not_move_the_grid(bench: Bench) -> None:
    await bench.watch(server())
    await bench.watch(asking("a"))
    await asyncio.sleep(65)
    grid = Grid.of(server().id, 30)
    next_slot = bench.clock.monotonic_of(grid.after(bench.clock.epoch()))
    phases = [(next_slot - when) % 30 for when in bench.shells.asked_at[2:]]
    assert len(phases) in (2, 3)
    assert max(min(p, 30 - p) for p in phases) < 0.05


async def test_a_request_breaks_the_wait_after_a_refused_login(bench: Bench) -> None:
    bench.shells.fails = [REFUSED] * 3
    await bench.watch(server())
    await asyncio.sleep(100)
    bench.shells.fails.clear()
    await bench.watch(asking("a"))
    assert bench.board.results() == [("a", True, "Collected")]


# Host keys

FIRST_USE = HostKeyPolicy(trust_on_first_use=True)
OTHER = Fingerprint("SHA256:other")
CHANGED = CollectionError(
    Reason.HOST_KEY_MISMATCH, "changed", reached=True, presented=OTHER
)


def pin(key: Fingerprint, clock: Clock) -> PinnedKey:
    return PinnedKey(key, "web-1.example.com", 22, clock.now())


async def test_a_key_is_pinned_on_first_use_and_held_to_from_then_on(
    bench: Bench,
) -> None:
    await bench.watch(server(host_key=FIRST_USE))
    await asyncio.sleep(31)
    assert bench.shells.opened[0].trust.first_use
    assert bench.shells.opened[1].trust.pin == KEY
    assert bench.pins.pins["web-1"].fingerprint == KEY
    assert bench.board.last.pinned is not None
    assert bench.board.last.pinned.fingerprint == KEY
    assert bench.board.last.conditions[2].reason == "HostKeyPinned"


async def test_another_host_is_a_new_first_use(bench: Bench) -> None:
    await bench.watch(server(host_key=FIRST_USE))
    await bench.watch(server(host_key=FIRST_USE, host="web-9.example.com"))
    assert [target.trust.first_use for target in bench.shells.opened] == [True, True]


async def test_the_stored_pin_counts_where_the_status_shows_none(
    bench: Bench,
) -> None:
    bench.pins.pins["web-1"] = pin(OTHER, bench.clock)
    await bench.watch(server(host_key=FIRST_USE))
    assert bench.shells.opened[0].trust.pin == OTHER


async def test_a_pin_in_the_status_that_differs_counts_as_a_changed_key(
    bench: Bench,
) -> None:
    bench.pins.pins["web-1"] = pin(OTHER, bench.clock)
    shown = Shown(pinned=pin(KEY, bench.clock))
    await bench.watch(server(host_key=FIRST_USE), shown)
    assert bench.sink.samples[0].reason is Reason.HOST_KEY_MISMATCH
    assert bench.shells.opened == []


async def test_with_the_database_away_the_shown_pin_serves(bench: Bench) -> None:
    bench.pins.away = True
    shown = Shown(pinned=pin(KEY, bench.clock))
    await bench.watch(server(host_key=FIRST_USE), shown)
    assert bench.shells.opened[0].trust.pin == KEY


async def test_with_neither_pin_at_hand_a_first_use_waits(bench: Bench) -> None:
    bench.pins.away = True
    await bench.watch(server(host_key=FIRST_USE))
    assert bench.shells.opened == []
    assert bench.sink.samples == []
    bench.pins.away = False
    await asyncio.sleep(31)
    assert bench.statuses() == [Health.HEALTHY]


async def test_a_changed_key_stops_sampling_until_it_is_accepted_by_name(
    bench: Bench,
) -> None:
    bench.pins.pins["web-1"] = pin(KEY, bench.clock)
    bench.shells.fails = [CHANGED] * 2
    await bench.watch(server(host_key=FIRST_USE, retries=0))
    await asyncio.sleep(500)
    assert len(bench.shells.opened) == 1
    assert bench.board.last.conditions[2].status == "False"

    accepted = replace(server(host_key=FIRST_USE), accept_host_key=OTHER)
    bench.shells.key = OTHER
    await bench.watch(accepted)

    assert bench.statuses()[-1] is Health.HEALTHY
    assert bench.pins.pins["web-1"].fingerprint == OTHER


async def test_naming_another_key_accepts_nothing(bench: Bench) -> None:
    bench.pins.pins["web-1"] = pin(KEY, bench.clock)
    bench.shells.fails = [CHANGED]
    wrong = replace(server(host_key=FIRST_USE), accept_host_key="SHA256:wrong")
    await bench.watch(wrong)
    assert bench.sink.samples[0].reason is Reason.HOST_KEY_MISMATCH
    assert bench.pins.pins["web-1"].fingerprint == KEY


async def test_without_any_host_key_nothing_is_connected(bench: Bench) -> None:
    bench.credentials.credential = Credential("1", private_key=b"")
    await bench.watch(server())
    assert bench.sink.samples[0].reason is Reason.HOST_KEY_UNKNOWN
    assert bench.shells.opened == []


# Alerts

BUSY = ports.DOCUMENT.replace("MemAvailable:    600 kB", "MemAvailable:     50 kB")


async def test_a_full_memory_fires_once_and_resolves_once(bench: Bench) -> None:
    bench.shells.document = BUSY
    await bench.watch(server(interval=10))
    await asyncio.sleep(200)
    bench.shells.document = ports.DOCUMENT
    await asyncio.sleep(200)
    told = [(n.alert.rule, n.alert.state, n.alert.transition) for n in bench.relay.told]
    assert told == [("MemoryHigh", "firing", 1), ("MemoryHigh", "resolved", 2)]
    assert bench.relay.told[0].alert.id == bench.relay.told[1].alert.id
    assert bench.relay.kept[server().id] == ()


async def test_a_new_term_goes_on_with_the_alerts_of_the_last(bench: Bench) -> None:
    bench.shells.document = BUSY
    await bench.watch(server(interval=10))
    await asyncio.sleep(100)
    kept = dict(bench.relay.kept)
    await bench.monitor.stop()

    await bench.monitor.start(kept)
    await asyncio.sleep(100)
    assert [n.alert.transition for n in bench.relay.told] == [1]
    bench.shells.document = ports.DOCUMENT
    await asyncio.sleep(30)
    assert [n.alert.transition for n in bench.relay.told] == [1, 2]


async def test_an_offline_server_alerts_as_unreachable(bench: Bench) -> None:
    bench.shells.fails = [OFFLINE] * 20
    await bench.watch(server(interval=10, retries=0))
    await asyncio.sleep(400)
    told = [(n.alert.rule, n.alert.state) for n in bench.relay.told]
    assert told == [
        ("ServerUnreachable", "firing"),
        ("ServerUnreachable", "resolved"),
    ]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("suspend", "server_suspended"),
        ("remove", "server_deleted"),
        ("sell", "organization_changed"),
    ],
)
async def test_what_is_no_longer_watched_no_longer_alerts(
    bench: Bench, end: str, why: str
) -> None:
    bench.shells.document = BUSY
    await bench.watch(server(interval=10))
    await asyncio.sleep(100)
    if end == "suspend":
        await bench.watch(replace(server(interval=10, suspend=True), generation=2))
    elif end == "sell":
        bench.monitor.organize("acme", Organization("bought"))
        assert bench.relay.told[-1].alert.server.organization == ORGANIZATION
    else:
        bench.monitor.remove(server().id)
    assert [n.alert.ended_reason for n in bench.relay.told] == [None, why]


async def test_a_forced_look_at_a_suspended_server_leaves_alerts_alone(
    bench: Bench,
) -> None:
    bench.shells.document = BUSY
    for number in range(5):
        await bench.watch(asking(f"{number}", suspend=True))
        await asyncio.sleep(30)
    assert len(bench.sink.samples) == 5
    assert bench.relay.kept == {}


async def test_a_follower_keeps_its_hands_off(bench: Bench) -> None:
    await bench.monitor.stop()
    await bench.watch(server(1))
    await bench.watch(replace(server(2), spec=None, invalid="spec.host: empty"))
    bench.monitor.remove(server(1).id)
    await asyncio.sleep(60)
    assert bench.shells.opened == []
    assert bench.board.written == []
    assert (bench.roster.known, bench.roster.left) == ({}, [])


async def test_a_new_term_believes_the_status_about_requests(bench: Bench) -> None:
    """Another replica answered the request while this one did not work."""
    await bench.monitor.stop()
    bench.monitor.update(asking("a", suspend=True))
    bench.board.before = Shown(handled_request="a")
    await bench.monitor.start()
    await asyncio.sleep(30)
    assert bench.sink.samples == []


# What a review found


async def test_a_slow_secret_is_not_the_servers_time(bench: Bench) -> None:
    bench.credentials.takes = 16
    await bench.watch(server(interval=3600, timeout=5, retries=2))
    await asyncio.sleep(60)
    assert bench.statuses() == [Health.HEALTHY]


async def test_the_status_does_not_claim_a_generation_that_was_not_collected(
    bench: Bench,
) -> None:
    await bench.watch(server(interval=3600))
    bench.shells.delay = 5
    other = server(interval=3600, host="web-9.example.com")
    await bench.watch(replace(other, generation=2))
    assert bench.board.last.generation == 1
    await asyncio.sleep(10)
    assert bench.board.last.generation == 2


async def test_what_an_older_spec_collected_is_dropped(bench: Bench) -> None:
    bench.shells.delay = 5
    await bench.watch(server(interval=3600))
    other = server(interval=3600, host="web-9.example.com")
    await bench.watch(replace(other, generation=2))
    await asyncio.sleep(30)
    assert [target.host for target in bench.shells.opened] == [
        "web-1.example.com",
        "web-9.example.com",
    ]
    assert len(bench.sink.samples) == 1


async def test_a_running_collection_of_another_organization_is_dropped(
    bench: Bench,
) -> None:
    bench.shells.delay = 5
    await bench.watch(server(interval=3600))
    bench.monitor.organize("acme", Organization("bought"))
    await asyncio.sleep(30)
    assert [s.server.organization for s in bench.sink.samples] == ["bought"]


async def test_a_pin_that_differs_is_resolved_by_naming_one_of_the_two(
    bench: Bench,
) -> None:
    bench.pins.pins["web-1"] = pin(OTHER, bench.clock)
    shown = Shown(pinned=pin(KEY, bench.clock))
    await bench.watch(server(host_key=FIRST_USE, retries=0), shown)
    await bench.watch(replace(server(host_key=FIRST_USE), accept_host_key=KEY), shown)
    assert bench.statuses()[-1] is Health.HEALTHY
    assert bench.pins.pins["web-1"].fingerprint == KEY


async def test_a_status_that_is_only_older_than_the_stored_pin_is_no_change(
    bench: Bench,
) -> None:
    stored = pin(KEY, bench.clock)
    bench.pins.pins["web-1"] = stored
    older = replace(
        pin(OTHER, bench.clock), pinned_at=stored.pinned_at - timedelta(minutes=5)
    )
    await bench.watch(server(host_key=FIRST_USE), Shown(pinned=older))
    assert bench.statuses() == [Health.HEALTHY]


async def test_a_key_is_pinned_though_the_server_answers_nonsense(
    bench: Bench,
) -> None:
    bench.shells.document = ""
    await bench.watch(server(host_key=FIRST_USE, retries=0))
    assert bench.pins.pins["web-1"].fingerprint == KEY
    assert bench.statuses() == [Health.ERROR]


async def test_another_policy_forgets_the_pin_in_the_status(bench: Bench) -> None:
    await bench.watch(server(host_key=FIRST_USE))
    assert bench.board.last.pinned is not None
    known = server(host_key=HostKeyPolicy(known_hosts="ssh-ed25519 AAAA"))
    await bench.watch(replace(known, generation=2))
    assert bench.board.last.pinned is None
    assert bench.board.last.conditions[2].reason == "HostKeyMatches"


async def test_a_request_survives_being_suspended_while_it_runs(bench: Bench) -> None:
    await bench.watch(server(interval=3600))
    bench.shells.delay = 5
    await bench.watch(asking("a", interval=3600))
    await bench.watch(replace(asking("a", interval=3600, suspend=True), generation=2))
    await asyncio.sleep(30)
    assert bench.board.results() == [("a", True, "Collected")]


async def test_a_resumed_server_is_sampled_though_its_old_run_ends_slowly(
    bench: Bench,
) -> None:
    bench.shells.delay = 60
    bench.shells.closes_in = 2
    spec = {"interval": 3600, "connection": "PerCollection"}
    await bench.watch(server(**spec))
    await bench.watch(replace(server(**spec, suspend=True), generation=2))
    bench.shells.delay = 0
    await bench.watch(replace(server(**spec), generation=3))
    await asyncio.sleep(10)
    assert bench.statuses() == [Health.HEALTHY]
    assert bench.board.last.health is Health.HEALTHY


async def test_a_suspended_server_shows_its_new_organization(bench: Bench) -> None:
    await bench.watch(server(suspend=True))
    bench.monitor.organize("acme", Organization("bought"))
    await settle()
    assert bench.board.last.server.organization == "bought"


@pytest.mark.parametrize("fault", ["InvalidSpec", "InvalidOrganization"])
async def test_a_request_that_cannot_be_run_is_answered_with_the_reason(
    bench: Bench, fault: str
) -> None:
    if fault == "InvalidSpec":
        await bench.watch(replace(asking("a"), spec=None, invalid="spec.host: empty"))
    else:
        bench.monitor.organize("acme", None)
        await bench.watch(asking("a"))
    assert bench.board.results() == [("a", False, fault)]


async def test_a_tenant_that_asks_all_the_time_delays_no_other(bench: Bench) -> None:
    await bench.watch(server(1, interval=3600))
    await bench.watch(server(2, interval=3600))
    for number in range(3000):
        bench.monitor.update(asking(f"{number}", interval=3600))
    other = replace(server(2, interval=3600), collect_request="b")
    asked = bench.clock.monotonic()
    await bench.watch(other)
    while not [r for r in bench.board.results() if r[0] == "b"]:
        await asyncio.sleep(0.01)
    assert bench.clock.monotonic() - asked < 1


async def test_at_most_fifty_forced_runs_start_a_second(bench: Bench) -> None:
    for number in range(200):
        bench.monitor.update(server(number, interval=3600, suspend=True))
    for number in range(200):
        suspended = server(number, interval=3600, suspend=True)
        bench.monitor.update(replace(suspended, collect_request="a"))
    await asyncio.sleep(1)
    assert 48 <= len(bench.shells.asked_at) <= 53
    await asyncio.sleep(4)
    assert len(bench.shells.asked_at) == 200


async def test_a_login_refused_after_an_outage_is_soon_tried_again(
    bench: Bench,
) -> None:
    bench.shells.fails = [*[OFFLINE] * 10, REFUSED]
    await bench.watch(server(interval=30, retries=0))
    await asyncio.sleep(30 * 12)
    assert bench.statuses()[-1] is Health.HEALTHY


async def test_alerts_that_the_database_tells_of_later_are_taken_up(
    bench: Bench,
) -> None:
    bench.shells.document = BUSY
    await bench.watch(server(interval=10))
    await asyncio.sleep(100)
    kept = dict(bench.relay.kept)
    await bench.monitor.stop()
    bench.shells.document = ports.DOCUMENT

    await bench.monitor.start()
    bench.monitor.adopt(kept)
    await asyncio.sleep(60)
    assert [n.alert.transition for n in bench.relay.told] == [1, 2]
    bench.monitor.adopt({server().id: ()})
    await asyncio.sleep(60)
    assert len(bench.relay.told) == 2


# Terms


async def test_a_new_term_asks_for_the_pin_again(bench: Bench) -> None:
    await bench.watch(server(host_key=FIRST_USE))
    await bench.monitor.stop()
    bench.pins.pins["web-1"] = pin(OTHER, bench.clock)
    await bench.monitor.start()
    await settle()
    assert bench.shells.opened[-1].trust.pin == OTHER


async def test_an_alert_ends_where_the_namespace_changed_hands_meanwhile(
    bench: Bench,
) -> None:
    bench.shells.document = BUSY
    await bench.watch(server(interval=10))
    await asyncio.sleep(100)
    kept = dict(bench.relay.kept)
    await bench.monitor.stop()
    bench.monitor.organize("acme", Organization("bought"))
    await bench.monitor.start(kept)
    await asyncio.sleep(100)
    told = [
        (n.alert.server.organization, n.alert.state, n.alert.ended_reason)
        for n in bench.relay.told
    ]
    assert told == [
        (ORGANIZATION, "firing", None),
        (ORGANIZATION, "resolved", "organization_changed"),
        ("bought", "firing", None),
    ]


async def test_a_late_alert_of_a_suspended_server_ends(bench: Bench) -> None:
    bench.shells.document = BUSY
    await bench.watch(server(interval=10))
    await asyncio.sleep(100)
    kept = dict(bench.relay.kept)
    await bench.monitor.stop()
    await bench.watch(replace(server(interval=10, suspend=True), generation=2))
    await bench.monitor.start()
    bench.monitor.adopt(kept)
    assert bench.relay.told[-1].alert.ended_reason == "server_suspended"
    assert bench.monitor.alerting() == frozenset()


async def test_a_late_alert_of_a_server_that_is_gone_is_the_sweeps_to_find(
    bench: Bench,
) -> None:
    bench.shells.document = BUSY
    await bench.watch(server(interval=10))
    await asyncio.sleep(100)
    kept = dict(bench.relay.kept)
    bench.monitor.remove(server().id)
    bench.monitor.adopt(kept)
    assert bench.monitor.alerting() == {server().id}
    bench.monitor.remove(server().id)
    assert bench.monitor.alerting() == frozenset()


async def test_a_follower_reports_no_fleet(bench: Bench) -> None:
    await bench.watch(server(1))
    await bench.watch(server(2))
    await bench.monitor.stop()
    bench.monitor.remove(server(1).id)
    assert bench.meter.fleet == (0, 0)
