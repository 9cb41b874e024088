from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hostwatch.model.reason import TryAgainLaterError
from hostwatch.model.sample import PinnedKey
from hostwatch.model.server import Fingerprint
from hostwatch.store.commands import migrate
from hostwatch.store.pins import PinStore
from world.process import free_ports
from world.store import CLUSTER, link, rows, server, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostwatch.store.link import Link

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WEB = server(1)
PIN = PinnedKey(Fingerprint("SHA256:first"), "web-1.example.com", 2222, NOW)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Link]:
    await migrate(settings(database))
    made = link(database)
    yield made
    await made.close()


@pytest.fixture
def pins(connection: Link) -> PinStore:
    return PinStore(connection, cluster_id=CLUSTER)


async def test_a_server_without_a_pin_has_none(pins):
    assert await pins.find(WEB, PIN.host, PIN.port) is None


async def test_a_pin_is_found_as_it_was_kept(pins):
    await pins.keep(WEB, PIN)
    assert await pins.find(WEB, PIN.host, PIN.port) == PIN


async def test_a_pin_is_bound_to_namespace_name_host_port_and_cluster(pins, connection):
    await pins.keep(WEB, PIN)
    assert await pins.find(replace(WEB, namespace="globex"), PIN.host, PIN.port) is None
    assert await pins.find(replace(WEB, name="web-2"), PIN.host, PIN.port) is None
    assert await pins.find(WEB, "10.0.0.1", PIN.port) is None
    assert await pins.find(WEB, PIN.host, 22) is None
    elsewhere = PinStore(connection, cluster_id="00000000-0000-0000-0000-0000000000c2")
    assert await elsewhere.find(WEB, PIN.host, PIN.port) is None


async def test_a_resource_that_is_made_again_keeps_its_pin(pins):
    await pins.keep(WEB, PIN)
    again = replace(WEB, id=server(2).id)
    assert await pins.find(again, PIN.host, PIN.port) == PIN


@pytest.mark.parametrize("later", [timedelta(seconds=1), timedelta(seconds=-1)])
@pytest.mark.parametrize("uid", [WEB.id, server(2).id])
async def test_a_new_pin_replaces_the_old_one(pins, database, later, uid):
    await pins.keep(WEB, PIN)
    accepted = replace(
        PIN, fingerprint=Fingerprint("SHA256:second"), pinned_at=NOW + later
    )
    await pins.keep(replace(WEB, id=uid), accepted)
    assert await pins.find(WEB, PIN.host, PIN.port) == accepted
    assert rows(
        database, "SELECT count(host_key_fingerprint) FROM hostwatch.servers"
    ) == [(1,)]


async def test_a_pin_for_another_host_replaces_the_old_one(pins):
    await pins.keep(WEB, PIN)
    moved = replace(PIN, host="10.0.0.1")
    await pins.keep(WEB, moved)
    assert await pins.find(WEB, PIN.host, PIN.port) is None
    assert await pins.find(WEB, moved.host, moved.port) == moved


async def test_a_silent_first_host_does_not_hide_the_second(database):
    await migrate(settings(database))
    at = conninfo_to_dict(database)
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
    hosts = make_conninfo(
        database,
        host=f"127.0.0.1,{at['host']}",
        port=f"{silent.getsockname()[1]},{at['port']}",
        load_balance_hosts="disable",
    )
    made = link(hosts)
    pins = PinStore(made, cluster_id=CLUSTER)
    found = []
    with silent:
        async with asyncio.timeout(60):
            while not found:
                with suppress(TryAgainLaterError):
                    found.append(await pins.find(WEB, PIN.host, PIN.port))
        await made.close()
    assert found == [None]


async def test_a_connection_under_way_ends_with_its_link():
    silent = socket.create_server(("127.0.0.1", 0))
    made = link(f"host=127.0.0.1 port={silent.getsockname()[1]} user=nobody")
    with silent:
        with pytest.raises(TryAgainLaterError):
            await PinStore(made, cluster_id=CLUSTER).find(WEB, PIN.host, PIN.port)
        assert made._connecting is not None
        await made.close()
    assert made._connecting is None


async def test_without_a_database_it_says_try_again():
    (port,) = free_ports(1)
    pins = PinStore(link(f"host=127.0.0.1 port={port}"), cluster_id=CLUSTER)
    with pytest.raises(TryAgainLaterError):
        await pins.find(WEB, PIN.host, PIN.port)
    with pytest.raises(TryAgainLaterError):
        await pins.keep(WEB, PIN)
