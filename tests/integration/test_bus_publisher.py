from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import nats as nats_py
import pytest
import structlog.testing

from hostwatch.bus.connection import Connection
from hostwatch.bus.messages import resources_message
from hostwatch.bus.publisher import Publisher
from hostwatch.model.sample import Health, Metrics, Sample
from hostwatch.model.server import Organization, ServerId, ServerKey
from hostwatch.settings import NatsSettings
from world.nats import Nats, NatsUser, organization_user, plain_server
from world.proxy import TcpProxy
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostwatch.bus.meter import BusMeter

NOON = datetime(2026, 11, 23, 12, 0, 30, 123456, tzinfo=UTC)


class Tally:
    """A `BusMeter` that keeps its counts."""

    def __init__(self) -> None:
        self.up: bool | None = None
        self.sent = 0
        self.lost: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def connected(self, *, up: bool) -> None:
        self.up = up

    def published(self, count: int) -> None:
        self.sent += count

    def dropped(self, count: int, why: str) -> None:
        self.lost[why] += count

    def failed(self, why: str) -> None:
        self.failures[why] += 1


def sample(number: int = 0, *, organization: str = "acme", name: str = "web-1"):
    server = ServerKey(
        id=ServerId("0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111"),
        namespace=organization,
        name=name,
        organization=Organization(organization),
    )
    return Sample(
        server=server,
        collected_at=NOON + timedelta(seconds=number),
        status=Health.HEALTHY,
        reason=None,
        metrics=Metrics(memory_used=number, load=(0.1, 0.2, 0.3)),
    )


@asynccontextmanager
async def publishing(
    url: str, meter: BusMeter, **settings: str
) -> AsyncIterator[Publisher]:
    publisher = Publisher(NatsSettings(nats_url=(url,), **settings), meter)
    await publisher.open()
    try:
        yield publisher
    finally:
        await publisher.close()


@asynccontextmanager
async def subscription(url: str, subject: str, **options):
    client = await nats_py.connect(url, **options)
    try:
        heard = await client.subscribe(subject)
        await client.flush()
        yield heard
    finally:
        await client.close()


async def _keep_putting(publisher: Publisher, until) -> float:
    """Put samples until the condition holds; return the slowest `put` in seconds."""
    slowest, number = 0.0, 0
    async with asyncio.timeout(60):
        while not until():
            begun = time.perf_counter()
            publisher.put(sample(number))
            slowest = max(slowest, time.perf_counter() - begun)
            number += 1
            await asyncio.sleep(0.005)
    return slowest


async def test_a_sample_arrives_with_exact_body_and_headers(nats):
    tally = Tally()
    async with (
        subscription(nats.url, "hostwatch.acme.resources.acme.web-1") as heard,
        publishing(nats.url, tally) as publisher,
    ):
        await eventually(lambda: tally.up)
        publisher.put(sample(7))
        message = await heard.next_msg(timeout=10)
        await eventually(lambda: tally.sent)

    expected = resources_message(sample(7))
    assert message.data == expected.body
    assert message.headers == expected.headers
    assert message.subject == expected.subject
    assert (tally.sent, tally.lost, tally.failures) == (1, Counter(), Counter())
    assert tally.up is False


async def test_samples_arrive_in_order_and_are_counted_once_the_server_has_them(nats):
    tally = Tally()
    async with (
        subscription(nats.url, "hostwatch.>") as heard,
        publishing(nats.url, tally) as publisher,
    ):
        await eventually(lambda: tally.up)
        for number in range(500):
            publisher.put(sample(number))
        numbers = [
            json.loads((await heard.next_msg(timeout=10)).data)["metrics"]
            for _ in range(500)
        ]
        await eventually(lambda: tally.sent == 500)

    assert [each["memory_usage"] for each in numbers] == list(range(500))


async def test_closing_publishes_what_is_queued(nats):
    tally = Tally()
    async with subscription(nats.url, "hostwatch.>") as heard:
        async with publishing(nats.url, tally) as publisher:
            await eventually(lambda: tally.up)
            for number in range(200):
                publisher.put(sample(number))
        publisher.put(sample())
        for _ in range(200):
            await heard.next_msg(timeout=10)

    assert tally.sent == 200
    assert tally.lost == {"disconnected": 1}


async def test_a_full_queue_drops_its_oldest_sample(nats):
    tally = Tally()
    async with (
        subscription(nats.url, "hostwatch.>") as heard,
        publishing(nats.url, tally) as publisher,
    ):
        await eventually(lambda: tally.up)
        for number in range(10_003):  # at once: the task has no turn in between
            publisher.put(sample(number))
        first = await heard.next_msg(timeout=30)
        await eventually(lambda: tally.sent == 10_000)

    assert json.loads(first.data)["metrics"]["memory_usage"] == 3
    assert tally.lost == {"queue_full": 3}


async def test_a_sample_without_a_valid_subject_costs_no_other(nats):
    tally = Tally()
    with structlog.testing.capture_logs() as logs:
        async with (
            subscription(nats.url, "hostwatch.>") as heard,
            publishing(nats.url, tally) as publisher,
        ):
            await eventually(lambda: tally.up)
            publisher.put(sample(1, organization="acme.>"))
            publisher.put(sample(2))
            message = await heard.next_msg(timeout=10)
            await eventually(lambda: tally.sent)

    assert json.loads(message.data)["metrics"]["memory_usage"] == 2
    assert (tally.sent, tally.lost) == (1, {"invalid": 1})
    assert [log["server"] for log in logs if log["log_level"] == "error"] == ["web-1"]


async def test_a_confirmation_is_asked_for_behind_what_it_confirms():
    connection = Connection(permissions="publish")
    async with plain_server() as (port, heard):
        await connection.open(NatsSettings(nats_url=f"nats://127.0.0.1:{port}"))
        greeted = len(heard)
        for number in range(3):
            await connection.publish("a", f"{number}".encode(), {})
        await connection.confirm(10)
        await connection.close()

    verbs = re.findall(rb"^[A-Z]+", heard[greeted:], re.MULTILINE)
    assert [verb for verb in verbs if verb != b"NATS"] == [b"HPUB"] * 3 + [b"PING"]


async def test_a_message_that_cannot_be_handed_over_is_counted(tmp_path):
    tally = Tally()
    server = Nats(tmp_path)
    config = tmp_path / "nats.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_payload": 64}))
    with server:
        async with publishing(server.url, tally) as publisher:
            await eventually(lambda: tally.up)
            for number in range(3):
                publisher.put(sample(number))
            await eventually(lambda: tally.failures)

    assert (tally.sent, tally.lost.total()) == (0, 3)
    assert tally.lost == {"unconfirmed": 1, "disconnected": 2}


async def test_a_server_that_is_killed_and_comes_back(tmp_path):
    tally = Tally()
    with structlog.testing.capture_logs() as logs, Nats(tmp_path) as server:
        async with publishing(server.url, tally) as publisher:
            await eventually(lambda: tally.up)
            server.stop()
            slowest = await _keep_putting(publisher, lambda: not tally.up)
            await _keep_putting(publisher, lambda: tally.failures["unreachable"] >= 3)
            while_away = tally.lost["disconnected"]
            server.start()
            await eventually(lambda: tally.up)
            async with subscription(server.url, "hostwatch.>") as heard:
                publisher.put(sample(9))
                message = await heard.next_msg(timeout=10)

    assert json.loads(message.data)["metrics"]["memory_usage"] == 9
    assert while_away > 0
    assert slowest < 2
    told = [log["event"] for log in logs if log["log_level"] in {"info", "warning"}]
    assert told == [
        "Connected to NATS",
        "No connection to NATS: live updates are dropped until there is one",
        "Connected to NATS",
    ]


async def test_nothing_waits_for_a_server_that_was_never_there(tmp_path):
    tally = Tally()
    server = Nats(tmp_path)
    async with publishing(server.url, tally) as publisher:
        publisher.put(sample())
        await eventually(lambda: tally.failures["unreachable"])
        with server:
            await eventually(lambda: tally.up)

    assert tally.lost == {"disconnected": 1}


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
async def test_a_hung_server_is_noticed_and_left(nats, busy):
    tally = Tally()
    async with (
        TcpProxy(nats.host, nats.port) as proxy,
        publishing(f"nats://127.0.0.1:{proxy.port}", tally) as publisher,
    ):
        await eventually(lambda: tally.up)
        proxy.pause()
        hung = time.monotonic()
        if busy:
            slowest = await _keep_putting(publisher, lambda: not tally.up)
            assert slowest < 2
            assert tally.lost["unconfirmed"] > 0
        else:
            await eventually(lambda: not tally.up, within=40)
        noticed = time.monotonic() - hung
        await proxy.resume()
        await eventually(lambda: tally.up, within=40)

    assert noticed < 25
    assert tally.failures["unreachable"] >= 1


async def test_closing_beside_a_hung_server_takes_no_longer_than_its_limit(nats):
    tally = Tally()
    async with TcpProxy(nats.host, nats.port) as proxy:
        async with publishing(f"nats://127.0.0.1:{proxy.port}", tally) as publisher:
            await eventually(lambda: tally.up)
            proxy.pause()
            for number in range(100):
                publisher.put(sample(number))
            begun = time.monotonic()
        took = time.monotonic() - begun

    assert took < 6
    assert tally.sent == 0
    assert tally.lost == {"unconfirmed": 50, "disconnected": 50}


async def test_a_connection_that_is_reset_is_made_again(nats):
    tally = Tally()
    async with (
        TcpProxy(nats.host, nats.port) as proxy,
        publishing(f"nats://127.0.0.1:{proxy.port}", tally) as publisher,
    ):
        await eventually(lambda: tally.up)
        await proxy.cut()
        await eventually(lambda: not tally.up)
        await eventually(lambda: tally.up)
        publisher.put(sample())
        await eventually(lambda: tally.sent == 1)


async def test_a_reset_ends_the_wait_for_a_confirmation(nats):
    tally = Tally()
    async with (
        TcpProxy(nats.host, nats.port) as proxy,
        publishing(f"nats://127.0.0.1:{proxy.port}", tally) as publisher,
    ):
        await eventually(lambda: tally.up)
        proxy.pause()
        publisher.put(sample())
        await asyncio.sleep(1)  # the confirmation is asked for, and cannot come
        await proxy.cut()
        cut = time.monotonic()
        await eventually(lambda: not tally.up)
        noticed = time.monotonic() - cut
        await proxy.resume()

    assert tally.lost == {"unconfirmed": 1}
    assert noticed < 3


async def test_a_refused_login_is_told_and_tried_again_later(tmp_path):
    tally = Tally()
    user = NatsUser(name="hostwatch", password="right")
    with structlog.testing.capture_logs() as logs, Nats(tmp_path, users=[user]) as nats:
        async with publishing(nats.url_for("hostwatch", "wrong"), tally):
            await eventually(lambda: tally.failures)

    assert tally.failures == {"login": 1}
    (told,) = [log for log in logs if log["log_level"] == "warning"]
    assert told["problem"] == "login"
    assert "HOSTWATCH_NATS_CREDENTIALS" in told["cause"]
    assert "wrong" not in str(logs)


async def test_a_refused_subject_is_counted_and_told_once(tmp_path):
    tally = Tally()
    user = NatsUser(
        name="hostwatch", password="pw", publish=("hostwatch.acme.resources.>",)
    )
    with structlog.testing.capture_logs() as logs, Nats(tmp_path, users=[user]) as nats:
        async with publishing(nats.url, tally) as publisher:
            await eventually(lambda: tally.up)
            for _ in range(3):
                publisher.put(sample(organization="umbrella"))
            publisher.put(sample())
            await eventually(lambda: tally.sent + tally.lost.total() == 4)

    assert (tally.sent, tally.lost) == (1, {"forbidden": 3})
    (told,) = [log for log in logs if log["log_level"] == "error"]
    assert "allow the operator's user to publish on" in told["event"]


async def test_a_member_hears_only_its_own_organization(tmp_path):
    tally = Tally()
    users = [
        NatsUser(name="hostwatch", password="pw", publish=("hostwatch.*.resources.>",)),
        organization_user("acme", "a"),
        organization_user("umbrella", "u"),
    ]
    with Nats(tmp_path, users=users) as nats:
        acme, umbrella = nats.url_for("acme", "a"), nats.url_for("umbrella", "u")
        refused: list[str] = []

        async def on_error(error: Exception) -> None:
            refused.append(str(error))

        async with (
            subscription(acme, "hostwatch.acme.>") as of_acme,
            subscription(umbrella, "hostwatch.umbrella.>") as of_umbrella,
            subscription(acme, "hostwatch.>", error_cb=on_error) as of_all,
            publishing(nats.url, tally) as publisher,
        ):
            await eventually(lambda: tally.up)
            publisher.put(sample(1, organization="acme"))
            publisher.put(sample(2, organization="umbrella"))
            publisher.put(sample(3, organization="acme"))
            await eventually(lambda: tally.sent == 3)
            heard = [(await of_acme.next_msg(10)).subject for _ in range(2)]
            other = (await of_umbrella.next_msg(10)).subject
            pending = (of_acme.pending_msgs, of_umbrella.pending_msgs)

    assert heard == ["hostwatch.acme.resources.acme.web-1"] * 2
    assert other == "hostwatch.umbrella.resources.umbrella.web-1"
    assert pending == (0, 0)
    assert of_all.pending_msgs == 0
    assert 'subscription to "hostwatch.>"' in refused[0]
