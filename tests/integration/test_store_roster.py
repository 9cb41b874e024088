from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from hostwatch.model.sample import PinnedKey
from hostwatch.model.server import Fingerprint
from hostwatch.store.batches import Outage
from hostwatch.store.errors import DatabaseAwayError
from hostwatch.store.pins import PinStore
from hostwatch.store.roster import ServerRoster
from world.store import (
    CLUSTER,
    Clock,
    Tally,
    execute,
    link,
    opened_store,
    resource,
    rows,
    server,
)
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostwatch.store.link import Link
    from hostwatch.store.store import Store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OTHER_CLUSTER = "00000000-0000-0000-0000-0000000000c2"
SERVERS = """
SELECT server_id::text, cluster_id::text, organization, namespace, name, host, labels,
    first_seen, last_seen, deleted_at
FROM hostwatch.servers ORDER BY server_id
"""
LAST_SEEN = "SELECT last_seen FROM hostwatch.servers"
WRITES = "SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname='servers'"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database: str, clock: Clock) -> AsyncIterator[Store]:
    async with opened_store(database, clock=clock) as opened:
        yield opened


@pytest.fixture
async def other_link(database: str) -> AsyncIterator[Link]:
    made = link(database)
    yield made
    await made.close()


async def becomes(database: str, query: str, expected: list[tuple]) -> None:
    try:
        await eventually(lambda: rows(database, query) == expected, within=10)
    except TimeoutError:
        assert rows(database, query) == expected


async def test_a_server_that_is_seen_has_a_row(store, database):
    store.roster.seen(server(1), resource(1, tier="web"))
    who = (server(1).id, CLUSTER, "acme", "acme", "web-1", "web.example.com")
    await becomes(database, SERVERS, [(*who, {"tier": "web"}, NOW, NOW, None)])


async def test_a_change_is_written_and_the_first_sight_kept(store, database, clock):
    store.roster.seen(server(1), resource(1))
    await becomes(database, LAST_SEEN, [(NOW,)])
    clock.move(seconds=5)
    moved = server(1, organization="other")
    store.roster.seen(moved, resource(1, host="10.0.0.1", tier="db"))
    who = (server(1).id, CLUSTER, "other", "acme", "web-1", "10.0.0.1")
    await becomes(database, SERVERS, [(*who, {"tier": "db"}, NOW, clock.now, None)])


async def test_an_unchanged_server_is_written_once_an_hour(store, database, clock):
    store.roster.seen(server(1), resource(1))
    await becomes(database, LAST_SEEN, [(NOW,)])
    clock.move(minutes=59)
    store.roster.seen(server(1), resource(1))
    # What is queued later is written later: the first call queued nothing.
    store.roster.seen(server(2), resource(2))
    await becomes(database, LAST_SEEN, [(NOW,), (clock.now,)])
    clock.move(minutes=1)
    store.roster.seen(server(1), resource(1))
    await eventually(lambda: (clock.now,) in rows(database, LAST_SEEN))


async def test_an_invalid_resource_keeps_the_host_it_had(store, database):
    store.roster.seen(server(1), resource(1))
    hosts = "SELECT host, labels FROM hostwatch.servers"
    await becomes(database, hosts, [("web.example.com", {})])
    store.roster.seen(server(1), resource(1, host=None, a="b"))
    await becomes(database, hosts, [("web.example.com", {"a": "b"})])


async def test_a_deleted_server_is_marked_and_unmarked_when_seen_again(store, database):
    deleted = "SELECT deleted_at FROM hostwatch.servers"
    store.roster.seen(server(1), resource(1))
    await becomes(database, deleted, [(None,)])
    store.roster.gone(server(1).id, NOW)
    await becomes(database, deleted, [(NOW,)])
    store.roster.gone(server(1).id, NOW + timedelta(seconds=60))
    store.roster.seen(server(2), resource(2))
    await becomes(database, deleted + " ORDER BY server_id", [(NOW,), (None,)])
    store.roster.seen(server(1), resource(1))
    await becomes(database, deleted, [(None,), (None,)])


async def test_a_server_that_came_and_went_at_once_has_a_row(store, database):
    store.roster.seen(server(1), resource(1))
    store.roster.gone(server(1).id, NOW)
    query = "SELECT name, deleted_at FROM hostwatch.servers"
    await becomes(database, query, [("web-1", NOW)])


async def test_thousands_at_once_are_written_in_batches(store, database):
    for number in range(1700):
        store.roster.seen(server(number), resource(number))
    await becomes(database, "SELECT count(*) FROM hostwatch.servers", [(1700,)])


async def test_closing_writes_what_is_queued(database, clock):
    async with opened_store(database, clock=clock) as store:
        for number in range(700):
            store.roster.seen(server(number), resource(number))
    assert rows(database, "SELECT count(*) FROM hostwatch.servers") == [(700,)]


async def test_one_refused_server_costs_only_itself(store, database):
    for number in range(20):
        labels = {"bad": "\0"} if number == 7 else {}
        store.roster.seen(server(number), resource(number, **labels))
    await becomes(database, "SELECT count(*) FROM hostwatch.servers", [(19,)])


async def test_a_mistake_of_ours_costs_no_server_its_row(store, database, clock):
    write = store.roster._delivery._insert

    async def mistaken(entries: object) -> None:
        store.roster._delivery._insert = write
        raise ZeroDivisionError

    store.roster._delivery._insert = mistaken
    store.roster.seen(server(1), resource(1))
    await eventually(lambda: store.roster._delivery._insert == write)
    await eventually(lambda: store.roster._delivery.left == 0)
    store.roster.seen(server(1), resource(1))
    await becomes(database, LAST_SEEN, [(NOW,)])


async def test_known_servers_are_those_of_the_cluster_that_are_not_deleted(
    store, database, other_link, clock
):
    for number in range(3):
        store.roster.seen(server(number), resource(number))
    elsewhere = replace(server(3), namespace="globex")
    store.roster.seen(elsewhere, resource(3))
    store.roster.gone(server(2).id, NOW)
    pin = PinnedKey(Fingerprint("SHA256:a"), "web", 22, NOW)
    await PinStore(other_link, cluster_id=OTHER_CLUSTER).keep(server(9), pin)
    await becomes(database, "SELECT count(*) FROM hostwatch.servers", [(5,)])
    known = store.roster.known
    assert await known(CLUSTER) == {server(n).id for n in (0, 1, 3)}
    assert await known(CLUSTER, ["acme"]) == {server(0).id, server(1).id}
    assert await known(CLUSTER, ["nobody"]) == set()
    assert await known(OTHER_CLUSTER, ["acme"]) == {server(9).id}


async def test_a_second_term_writes_what_another_may_have_changed(
    store, database, clock
):
    names = "SELECT organization, last_seen FROM hostwatch.servers"
    store.roster.seen(server(1), resource(1))
    await becomes(database, names, [("acme", NOW)])
    execute(database, "UPDATE hostwatch.servers SET organization = 'other'")
    store.roster.forget_all()
    clock.move(seconds=5)
    store.roster.seen(server(1), resource(1))
    await becomes(database, names, [("acme", clock.now)])


async def test_a_forgotten_server_is_written_when_it_is_seen_again(
    store, database, clock
):
    store.roster.seen(server(1), resource(1))
    await becomes(database, LAST_SEEN, [(NOW,)])
    clock.move(seconds=5)
    store.roster.forget(server(1).id)
    store.roster.seen(server(1), resource(1))
    await becomes(database, LAST_SEEN, [(clock.now,)])


async def test_forgetting_a_server_keeps_the_word_that_it_is_gone(store, database):
    store.roster.seen(server(1), resource(1))
    store.roster.gone(server(1).id, NOW)
    store.roster.forget(server(1).id)
    deleted = "SELECT deleted_at FROM hostwatch.servers"
    await becomes(database, deleted, [(NOW,)])


async def test_what_is_remembered_of_forgotten_servers_is_freed(other_link, clock):
    told: list[str] = []
    roster = ServerRoster(
        other_link,
        cluster_id=CLUSTER,
        outage=Outage("servers", Tally()),
        clock=clock,
        forget=told.append,
    )
    roster.seen(server(1), resource(1))
    roster.forget(server(1).id)
    assert (told, roster._told) == ([server(1).id], {})


async def test_what_waits_is_forgotten_and_the_writing_goes_on(store, database):
    store.roster.seen(server(1), resource(1))
    store.roster.forget_all()
    names = "SELECT name FROM hostwatch.servers"
    # Longer than a batch waits: the writer woke and found nothing.
    await asyncio.sleep(0.7)
    store.roster.seen(server(2), resource(2))
    await becomes(database, names, [("web-2",)])


async def test_a_batch_that_waits_for_the_database_is_forgotten(store, database):
    write, tries = store.roster._delivery._insert, []

    async def away(entries: object) -> None:
        tries.append(entries)
        raise DatabaseAwayError("no answer")

    store.roster._delivery._insert = away
    store.roster.seen(server(1), resource(1))
    await eventually(lambda: tries)
    store.roster.forget_all()
    store.roster._delivery._insert = write
    store.roster.seen(server(2), resource(2))
    await becomes(database, "SELECT name FROM hostwatch.servers", [("web-2",)])


async def test_a_batch_forgotten_while_it_is_written_ends_in_peace(store, database):
    write, goes_on = store.roster._delivery._insert, asyncio.Event()

    async def slow(entries: object) -> None:
        store.roster._delivery._insert = write
        await goes_on.wait()
        await write(entries)

    store.roster._delivery._insert = slow
    with capture_logs() as logs:
        store.roster.seen(server(1), resource(1))
        await eventually(lambda: store.roster._delivery._insert == write)
        store.roster.forget_all()
        goes_on.set()
        store.roster.seen(server(2), resource(2))
        names = "SELECT name FROM hostwatch.servers ORDER BY name"
        await becomes(database, names, [("web-1",), ("web-2",)])
    assert logs == []


async def test_what_is_older_than_the_row_is_not_written(store, database, clock):
    query = "SELECT organization, deleted_at FROM hostwatch.servers ORDER BY server_id"
    later = NOW + timedelta(seconds=5)
    for number in (1, 2):
        store.roster.seen(server(number), resource(number))
    await becomes(database, query, [("acme", None)] * 2)
    one, two = server(1).id, server(2).id
    change = (
        "UPDATE hostwatch.servers SET organization = 'other', {} WHERE server_id=%s"
    )
    execute(database, change.format("last_seen = '2026-11-24T12:00:05Z'"), one)
    execute(database, change.format("deleted_at = '2026-11-24T12:00:05Z'"), two)
    store.roster.forget_all()
    clock.move(seconds=4)
    for number in (1, 2, 3):
        store.roster.seen(server(number), resource(number))
    await becomes(database, query, [("other", None), ("other", later), ("acme", None)])


async def test_a_row_that_a_pin_made_first_gets_its_labels(
    store, database, other_link, clock
):
    pin = PinnedKey(Fingerprint("SHA256:a"), "web", 22, NOW + timedelta(seconds=1))
    await PinStore(other_link, cluster_id=CLUSTER).keep(server(1), pin)
    store.roster.seen(server(1), resource(1, tier="web"))
    labels = "SELECT host, labels, last_seen FROM hostwatch.servers"
    await becomes(
        database, labels, [("web.example.com", {"tier": "web"}, pin.pinned_at)]
    )


async def test_two_operators_that_write_the_same_servers_agree(
    store, database, other_link, clock
):
    tally = Tally()
    rival = ServerRoster(
        other_link, cluster_id=CLUSTER, outage=Outage("rival", tally), clock=clock
    )
    running = asyncio.create_task(rival.run())
    for number in range(1000):
        store.roster.seen(server(number), resource(number))
        rival.seen(server(999 - number), resource(999 - number))
    rival.stop()
    await running
    await becomes(database, "SELECT count(*) FROM hostwatch.servers", [(1000,)])
