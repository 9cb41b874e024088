from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from hostwatch.model.reading import CpuUsage, Filesystem
from hostwatch.model.sample import Health
from hostwatch.model.server import Organization, Server, ServerId, ServerSpec
from world.store import (
    GIB,
    Clock,
    Tally,
    execute,
    failed_sample,
    metrics,
    opened_store,
    rows,
    sample,
    server,
)
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostwatch.model.sample import Sample
    from hostwatch.store.store import Store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
STORED = "SELECT count(*) FROM hostwatch.server_resource_metrics"
VALUES = """
SELECT server_id, organization, collected_at, status, reason,
    cpu_usage, cpu_user, cpu_system, cpu_iowait, cpu_steal,
    memory_usage, memory_total, disk_usage, disk_available, disk_total, disk_mount,
    network_rx_bytes, network_tx_bytes, load_1, load_5, load_15, uptime_seconds,
    filesystems, interfaces
FROM hostwatch.server_resource_metrics ORDER BY collected_at
"""
LATEST = """
SELECT latest_at, health, reason, cpu_usage, memory_usage, disk_mount, load_15
FROM hostwatch.servers
"""


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database: str, tally: Tally, clock: Clock) -> AsyncIterator[Store]:
    async with opened_store(database, meter=tally, clock=clock) as opened:
        yield opened


async def settle(tally: Tally, samples: int) -> None:
    """Wait until that many samples are stored or given up."""
    await eventually(lambda: tally.rows + tally.lost.total() >= samples)


def spread(count: int) -> list[Sample]:
    return [sample(server(n), NOW) for n in range(count)]


async def test_a_row_holds_exactly_what_was_measured(store, database, tally):
    store.samples.put(sample(server(1), NOW, mounts=1, interfaces=1))
    await settle(tally, 1)
    assert rows(database, VALUES) == [
        (
            UUID(int=1),
            "acme",
            NOW,
            "healthy",
            None,
            *(12.5, 8.25, 2.5, 1.25, 0.5),
            *(3 * GIB, 8 * GIB, 72 * GIB, 28 * GIB, 105 * GIB, "/mnt/0"),
            *(123_456_789_012, 98_765_432_109, 0.5, 0.25, 0.125, 4_579_200),
            [
                {
                    "mount": "/mnt/0",
                    "device": "/dev/sd0",
                    "type": "ext4",
                    "total": 105 * GIB,
                    "used": 72 * GIB,
                    "available": 28 * GIB,
                }
            ],
            [{"name": "eth0", "rx_bytes": 1000, "tx_bytes": 2000}],
        )
    ]


async def test_a_failed_sample_is_a_row_of_nulls(store, database, tally):
    store.samples.put(failed_sample(server(1), NOW))
    await settle(tally, 1)
    assert rows(database, VALUES) == [
        (UUID(int=1), "acme", NOW, "error", "ConnectionRefused", *[None] * 19)
    ]


async def test_the_largest_and_the_smallest_values_come_back(store, database, tally):
    store.samples.put(
        sample(
            server(1),
            NOW,
            memory_used=0,
            network_receive_bytes=2**63 - 1,
            load=(0.0, 1e30, 3e38),
            disk_mount="/größe/'\"\\\u2028 \U0001f600",
        )
    )
    await settle(tally, 1)
    (row,) = rows(database, VALUES)
    assert row[10] == 0
    assert row[15:20] == (
        "/größe/'\"\\\u2028 \U0001f600",
        2**63 - 1,
        98_765_432_109,
        0.0,
        1e30,
    )


async def test_detail_comes_every_five_minutes_and_with_another_mount(
    store, database, tally, clock
):
    for half_minutes in range(14):
        clock.now = NOW + timedelta(seconds=30 * half_minutes)
        mounts = 3 if half_minutes < 12 else 4
        store.samples.put(sample(server(1), clock.now, mounts=mounts))
    await settle(tally, 14)
    assert [
        index
        for index, row in enumerate(rows(database, VALUES))
        if row[-2] is not None and row[-1] is not None
    ] == [0, 10, 12]


async def test_a_sample_stored_already_is_skipped_and_counted(store, database, tally):
    store.samples.put(sample(server(1), NOW))
    await settle(tally, 1)
    store.samples.put(replace(sample(server(1), NOW), status=Health.WARNING))
    store.samples.put(sample(server(2), NOW))
    await settle(tally, 3)
    assert tally.rows == 2
    assert tally.lost == {"duplicate": 1}
    assert {row[3] for row in rows(database, VALUES)} == {"healthy"}


@pytest.mark.parametrize(
    "poison",
    [
        {"network_receive_bytes": 2**64 - 1},
        {"memory_used": -(2**64)},
        {"load": (1e308, 0.0, 0.0)},
        {"load": (0.0, math.nan, 0.0)},
        {"load": (0.0, 0.0, -math.inf)},
        {"cpu": CpuUsage(total=math.nan, user=0, system=0, iowait=0, steal=0)},
        {"disk_mount": "/nul\0byte"},
        {"disk_mount": "/half\ud800"},
        {"filesystems": (Filesystem("/nul\0", "/dev/sda", "ext4", 1, 1, 1),)},
        {"filesystems": (Filesystem("/half\udfff", "/dev/sda", "ext4", 1, 1, 1),)},
    ],
    ids=repr,
)
async def test_one_poisoned_row_costs_only_itself(store, database, tally, poison):
    samples = spread(100)
    samples[41] = sample(server(41), NOW, **poison)
    with capture_logs() as logs:
        for each in samples:
            store.samples.put(each)
        await settle(tally, 100)
    assert rows(database, STORED) == [(99,)]
    assert (tally.rows, tally.lost) == (99, {"refused": 1})
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert not {"nul", "half", "inf", "nan", "1e+308"} & set(str(warning).split())
    assert "web-41" in str(warning) or str(UUID(int=41)) in str(warning)


async def test_a_batch_of_nothing_but_poison_ends(store, database, tally):
    for number in range(40):
        store.samples.put(sample(server(number), NOW, disk_mount="\0"))
    store.samples.put(sample(server(99), NOW))
    await settle(tally, 41)
    assert tally.lost == {"refused": 40}
    assert rows(database, STORED) == [(1,)]


async def test_samples_outside_the_window_are_counted_and_dropped(
    store, database, tally
):
    for off in (timedelta(days=-30, seconds=-1), timedelta(minutes=5, seconds=1)):
        store.samples.put(sample(server(1), NOW + off))
    store.samples.put(sample(server(1), NOW + timedelta(minutes=5)))
    await settle(tally, 3)
    assert tally.lost == {"too_old": 1, "too_new": 1}
    assert [row[2] for row in rows(database, VALUES)] == [NOW + timedelta(minutes=5)]


async def test_a_late_sample_gets_the_partition_of_its_day(store, database, tally):
    late = NOW - timedelta(days=20)
    store.samples.put(sample(server(1), NOW))
    store.samples.put(sample(server(1), late))
    await settle(tally, 2)
    assert tally.lost == {}
    assert rows(
        database, "SELECT count(*) FROM hostwatch.server_resource_metrics_20261104"
    ) == [(1,)]


async def test_partitions_that_someone_dropped_are_made_again(store, database, tally):
    execute(database, "DROP TABLE hostwatch.server_resource_metrics_20261124")
    store.samples.put(sample(server(1), NOW))
    await settle(tally, 1)
    assert tally.lost == {}
    assert rows(database, STORED) == [(1,)]


async def test_a_mistake_of_ours_costs_the_rows_under_way_and_is_counted(
    store, database, tally
):
    execute(database, "DROP TABLE hostwatch.server_resource_metrics_20261124")
    make_days = store.samples._make_days

    async def mistaken(days: object) -> None:
        store.samples._make_days = make_days
        raise ZeroDivisionError

    store.samples._make_days = mistaken
    for each in spread(3):
        store.samples.put(each)
    await settle(tally, 3)
    assert tally.lost == {"unexpected": 3}
    store.samples.put(sample(server(4), NOW))
    await settle(tally, 4)
    assert tally.waiting == 0
    assert rows(database, STORED) == [(1,)]


async def test_when_the_queue_is_full_the_oldest_goes(database, tally, clock):
    async with opened_store(
        database, meter=tally, clock=clock, prepared=False
    ) as store:
        store.samples._limit = 10
        for seconds in range(15):
            store.samples.put(sample(server(1), NOW + timedelta(seconds=seconds)))
        assert tally.lost == {"queue_full": 5}
        await store.prepare()
        await settle(tally, 15)
    assert [row[2].second for row in rows(database, VALUES)] == list(range(5, 15))


@asynccontextmanager
async def known_server(store: Store, database: str) -> AsyncIterator[None]:
    store.roster.seen(
        server(1),
        Server(
            id=ServerId(server(1).id),
            namespace="acme",
            name="web-1",
            generation=1,
            spec=ServerSpec(host="web-1.example.com", secret_name="ssh"),
        ),
    )
    await eventually(lambda: rows(database, LATEST))
    yield


async def test_a_server_shows_its_newest_sample(store, database, tally):
    async with known_server(store, database):
        assert rows(database, LATEST) == [(None, "unknown", *[None] * 5)]
        # The newest of a batch wins, and the older that comes later does not.
        store.samples.put(sample(server(1), NOW))
        store.samples.put(
            replace(
                sample(server(1), NOW + timedelta(seconds=30)),
                status=Health.CRITICAL,
                metrics=metrics(memory_used=5, load=None),
            )
        )
        store.samples.put(failed_sample(server(2), NOW))
        await settle(tally, 3)
        newest = NOW + timedelta(seconds=30)
        expected = (newest, "critical", None, 12.5, 5, "/mnt/0", None)
        assert rows(database, LATEST) == [expected]
        store.samples.put(sample(server(1), NOW - timedelta(seconds=30)))
        await settle(tally, 4)
        assert rows(database, LATEST) == [expected]


async def test_a_server_whose_collection_failed_shows_that(store, database, tally):
    async with known_server(store, database):
        store.samples.put(sample(server(1), NOW))
        store.samples.put(failed_sample(server(1), NOW + timedelta(seconds=30)))
        await settle(tally, 2)
    assert rows(database, LATEST) == [
        (NOW + timedelta(seconds=30), "error", "ConnectionRefused", *[None] * 4)
    ]


async def test_samples_name_the_organization_of_their_time(store, database, tally):
    store.samples.put(sample(server(1), NOW))
    moved = replace(server(1), organization=Organization("other"))
    store.samples.put(sample(moved, NOW + timedelta(seconds=30)))
    await settle(tally, 2)
    assert [row[1] for row in rows(database, VALUES)] == ["acme", "other"]


async def test_more_than_a_batch_is_written_in_batches(store, database, tally):
    for each in spread(1234):
        store.samples.put(each)
    await settle(tally, 1234)
    assert rows(database, STORED) == [(1234,)]
    await eventually(lambda: tally.waiting == 0)


async def test_a_row_waits_a_second_at_most_for_company(store, tally):
    started = asyncio.get_running_loop().time()
    store.samples.put(sample(server(1), NOW))
    await settle(tally, 1)
    assert asyncio.get_running_loop().time() - started < 5
