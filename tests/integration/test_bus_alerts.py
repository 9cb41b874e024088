"""Alerts in a real JetStream, and what an organization's user may do with them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nats as nats_py
import nats.errors
import pytest
import structlog.testing

from hostwatch.bus.alerts import AlertPublisher
from hostwatch.bus.messages import alert_message
from hostwatch.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    Notification,
    Severity,
    UndeliverableError,
)
from hostwatch.model.reason import TryAgainLaterError, TryOthersMeanwhileError
from hostwatch.model.server import Organization, ServerId, ServerKey
from hostwatch.settings import NatsSettings
from world.nats import Nats, NatsUser, organization_user
from world.proxy import TcpProxy
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nats.aio.client import Client

NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
OPERATOR = NatsUser(name="hostwatch", password="pw")
DAY = 86_400


class Tally:
    """An `AlertMeter` that keeps its counts."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()

    def alert_failed(self, why: str) -> None:
        self.failures[why] += 1


def notification(
    number: int = 1, *, organization: str = "acme", transition: int = 1
) -> Notification:
    server = ServerKey(
        id=ServerId("0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111"),
        namespace=organization,
        name="web-1",
        organization=Organization(organization),
    )
    alert = Alert(
        server=server,
        rule=AlertRule.CPU_HIGH,
        label="",
        state=AlertState.FIRING,
        severity=Severity.CRITICAL,
        since=NOON,
        seen_at=NOON,
        id=f"00000000-0000-5000-8000-{number:012}",
        value=95.0,
        threshold=90.0,
        started_at=NOON,
        transition=transition,
    )
    if transition > 1:
        alert = replace(alert, state=AlertState.RESOLVED, ended_at=NOON)
    return Notification(alert)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def server(tmp_path) -> Iterator[Nats]:
    users = [
        OPERATOR,
        organization_user("acme", "a"),
        organization_user("umbrella", "u"),
    ]
    with Nats(tmp_path, users=users) as started:
        yield started


@asynccontextmanager
async def publishing(url: str, tally: Tally) -> AsyncIterator[AlertPublisher]:
    publisher = AlertPublisher(NatsSettings(nats_url=(url,)), tally)
    await publisher.open()
    try:
        yield publisher
    finally:
        await publisher.close()


@pytest.fixture
async def publisher(server: Nats, tally: Tally) -> AsyncIterator[AlertPublisher]:
    async with publishing(server.url, tally) as publisher:
        yield publisher


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Client]:
    connected = await nats_py.connect(url, **options)
    try:
        yield connected
    finally:
        await connected.close()


def member(server: Nats, organization: str, **options: Any):
    """Connect as a user of an organization."""
    return client(
        server.url_for(organization, organization[0]),
        inbox_prefix=f"_INBOX_{organization}",
        **options,
    )


async def ask(connected: Client, subject: str, body: object = None) -> dict[str, Any]:
    data = b"" if body is None else json.dumps(body).encode()
    answer = await connected.request(f"$JS.API.{subject}", data, timeout=5)
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def config(server: Nats, subject: str) -> dict[str, Any]:
    async with client(server.url) as admin:
        found: dict[str, Any] = (await ask(admin, subject))["config"]
        return found


async def stored(server: Nats) -> int:
    async with client(server.url) as admin:
        found = await ask(admin, "STREAM.INFO.HOSTWATCH_ALERTS")
        return int(found["state"]["messages"])


async def fetch(connected: Client, organization: str, *, most: int = 10) -> list[str]:
    """Read what waits in an organization's consumer; return the event ids."""
    js = connected.jetstream()
    subscription = await js.pull_subscribe_bind(
        consumer=organization, stream="HOSTWATCH_ALERTS"
    )
    messages = await subscription.fetch(most, timeout=1)
    for message in messages:
        await message.ack()
    await connected.flush()
    return [message.headers["ce-id"] for message in messages]


async def delivered(
    publisher: AlertPublisher, told: Notification, *, within: float = 60
) -> None:
    """Deliver as a relay does: again and again."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await publisher.deliver(told)
            except TryAgainLaterError:
                await asyncio.sleep(0.05)


async def test_an_alert_is_stored_with_exact_body_and_headers(server, publisher, tally):
    await publisher.deliver(notification())

    expected = alert_message(notification().alert)
    async with client(server.url) as admin:
        message = await admin.jetstream().get_msg("HOSTWATCH_ALERTS", 1)
    assert message.subject == "hostwatch.acme.alerts.acme.web-1" == expected.subject
    assert message.data == expected.body
    assert message.headers == expected.headers
    assert not tally.failures


async def test_the_stream_keeps_a_month_in_files_and_sees_repeats_for_an_hour(
    server, publisher
):
    await publisher.deliver(notification())

    found = await config(server, "STREAM.INFO.HOSTWATCH_ALERTS")
    expected = {
        "subjects": ["hostwatch.*.alerts.>"],
        "max_age": 30 * DAY * 10**9,
        "max_bytes": 2**30,
        "duplicate_window": 3600 * 10**9,
        "storage": "file",
        "discard": "old",
        "retention": "limits",
    }
    assert {key: found[key] for key in expected} == expected


async def test_a_transition_is_stored_once_and_each_transition_of_an_alert(
    server, publisher, tally
):
    for told in (notification(), notification(), notification(transition=2)):
        await publisher.deliver(told)
    async with publishing(server.url, tally) as successor:
        await successor.deliver(notification(transition=2))

    assert await stored(server) == 2


async def test_alerts_of_many_servers_at_once_are_all_stored(server, publisher):
    organizations = ("acme", "umbrella")
    await asyncio.gather(
        *(
            publisher.deliver(notification(n, organization=organizations[n % 2]))
            for n in range(50)
        )
    )

    assert await stored(server) == 50


async def test_two_replicas_make_one_stream(tmp_path, tally):
    server = Nats(tmp_path)
    path = tmp_path / "nats.json"
    document = json.loads(path.read_text())
    # Room for both attempts: the server sets it aside before it sees they are one.
    document["jetstream"]["max_file_store"] *= 4
    path.write_text(json.dumps(document))
    with server:
        async with (
            publishing(server.url, tally) as first,
            publishing(server.url, tally) as second,
        ):
            await asyncio.gather(
                first.deliver(notification(1)), second.deliver(notification(2))
            )
        assert await stored(server) == 2


async def test_what_an_administrator_set_stays_and_what_must_hold_is_mended(
    server, publisher
):
    theirs = {
        "name": "HOSTWATCH_ALERTS",
        "subjects": ["hostwatch.acme.alerts.>"],
        "description": "kept",
        "max_bytes": 5_000_000,
        "max_age": 3600 * 10**9,
        "compression": "s2",
        "storage": "memory",
        "no_ack": True,
    }
    async with client(server.url) as admin:
        made = await ask(admin, "STREAM.CREATE.HOSTWATCH_ALERTS", theirs)
        assert "error" not in made
    await publisher.deliver(notification())

    found = await config(server, "STREAM.INFO.HOSTWATCH_ALERTS")
    expected = {
        "subjects": ["hostwatch.*.alerts.>"],
        "max_age": 30 * DAY * 10**9,
        "duplicate_window": 3600 * 10**9,
        "description": "kept",
        "max_bytes": 5_000_000,
        "compression": "s2",
        "storage": "memory",
    }
    assert {key: found[key] for key in expected} == expected
    assert not found.get("no_ack")


async def test_a_stream_without_a_limit_gets_one(server, publisher):
    unlimited = {"name": "HOSTWATCH_ALERTS", "subjects": ["hostwatch.*.alerts.>"]}
    async with client(server.url) as admin:
        await ask(admin, "STREAM.CREATE.HOSTWATCH_ALERTS", unlimited)
    await publisher.deliver(notification())

    found = await config(server, "STREAM.INFO.HOSTWATCH_ALERTS")
    assert found["max_bytes"] == 2**30


async def test_a_stream_that_is_as_it_should_be_is_not_touched(server, tally):
    updated: list[str] = []

    async def note(message: Any) -> None:
        updated.append(message.subject)

    async with client(server.url) as admin:
        await admin.subscribe("$JS.EVENT.ADVISORY.STREAM.*.HOSTWATCH_ALERTS", cb=note)
        await admin.flush()
        for number in (1, 2):
            async with publishing(server.url, tally) as publisher:
                await publisher.deliver(notification(number))
        await admin.flush()

    assert [subject.split(".")[4] for subject in updated] == ["CREATED"]


async def test_an_organization_has_a_durable_consumer_of_its_own_subjects(
    server, publisher
):
    await publisher.deliver(notification())

    found = await config(server, "CONSUMER.INFO.HOSTWATCH_ALERTS.acme")
    expected = {
        "durable_name": "acme",
        "filter_subject": "hostwatch.acme.alerts.>",
        "ack_policy": "explicit",
        "deliver_policy": "all",
    }
    assert {key: found[key] for key in expected} == expected
    assert "deliver_subject" not in found


async def test_a_consumer_that_reaches_further_is_held_to_its_organization(
    server, publisher, tally
):
    await publisher.deliver(notification(1))
    wide = {
        "durable_name": "umbrella",
        "ack_policy": "explicit",
        "max_deliver": 7,
        "filter_subject": "hostwatch.>",
    }
    async with client(server.url) as admin:
        made = await ask(
            admin,
            "CONSUMER.CREATE.HOSTWATCH_ALERTS.umbrella.hostwatch.>",
            {"stream_name": "HOSTWATCH_ALERTS", "config": {**wide, "name": "umbrella"}},
        )
        assert "error" not in made
    await publisher.deliver(notification(2, organization="umbrella"))

    found = await config(server, "CONSUMER.INFO.HOSTWATCH_ALERTS.umbrella")
    assert found["filter_subject"] == "hostwatch.umbrella.alerts.>"
    assert found["max_deliver"] == 7
    async with member(server, "umbrella") as umbrella:
        assert await fetch(umbrella, "umbrella") == [f"{alert_id(2)}.1"]


def alert_id(number: int) -> str:
    return notification(number).alert.id


async def test_a_member_reads_later_what_its_own_organization_was_told(
    server, publisher
):
    for told in (
        notification(1),
        notification(2, organization="umbrella"),
        notification(1, transition=2),
    ):
        await publisher.deliver(told)

    async with member(server, "acme") as acme, member(server, "umbrella") as umbrella:
        assert await fetch(acme, "acme") == [f"{alert_id(1)}.1", f"{alert_id(1)}.2"]
        assert await fetch(umbrella, "umbrella") == [f"{alert_id(2)}.1"]
        # What was acknowledged does not come again.
        with pytest.raises(nats.errors.TimeoutError):
            await fetch(acme, "acme")


async def test_a_member_hears_its_own_alerts_live(server, publisher):
    async with member(server, "acme") as acme:
        heard = await acme.subscribe("hostwatch.acme.>")
        await acme.flush()
        await publisher.deliver(notification(1, organization="umbrella"))
        await publisher.deliver(notification(2))
        message = await heard.next_msg(timeout=10)

    assert message.headers["ce-id"] == f"{alert_id(2)}.1"
    assert heard.pending_msgs == 0


async def test_a_member_can_neither_forge_an_alert_nor_read_anothers(server, publisher):
    await publisher.deliver(notification(1))
    await publisher.deliver(notification(2, organization="umbrella"))
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    async with member(server, "acme", error_cb=on_error) as acme:
        await acme.publish("hostwatch.acme.alerts.acme.web-1", b"forged")
        await acme.publish("$JS.API.STREAM.PURGE.HOSTWATCH_ALERTS", b"")
        await acme.flush()
        with pytest.raises(nats.errors.TimeoutError):
            await fetch(acme, "umbrella")
        await eventually(lambda: len(refused) >= 3)

    assert all("permissions violation" in each.lower() for each in refused)
    assert await stored(server) == 2


async def test_nats_without_jetstream_is_told_once(tmp_path, tally):
    with (
        structlog.testing.capture_logs() as logs,
        Nats(tmp_path, jetstream=False) as server,
    ):
        async with publishing(server.url, tally) as publisher:
            for _ in range(3):
                with pytest.raises(TryAgainLaterError, match="without JetStream"):
                    await publisher.deliver(notification())

    assert tally.failures == {"jetstream": 1}
    (told,) = [log for log in logs if log["log_level"] == "warning"]
    assert told["problem"] == "jetstream"
    assert told["cause"].startswith("NATS answers without JetStream: enable it")


async def test_an_alert_waits_for_a_server_that_is_away_and_comes_back(
    server, publisher, tally
):
    with structlog.testing.capture_logs() as logs:
        await publisher.deliver(notification(1))
        server.stop()
        with pytest.raises(TryAgainLaterError):
            await publisher.deliver(notification(2))
        begun = time.monotonic()
        for _ in range(100):
            with pytest.raises(TryAgainLaterError):
                await publisher.deliver(notification(2))
        took = time.monotonic() - begun
        server.start()
        await delivered(publisher, notification(2))
        await publisher.deliver(notification(1))

    assert took < 10
    assert await stored(server) == 2
    assert set(tally.failures) == {"unreachable"}
    told = [log["event"] for log in logs if log["log_level"] in {"info", "warning"}]
    assert told == [
        "Alerts can be stored in NATS",
        "Alerts cannot be stored in NATS: they are kept until they can",
        "Alerts can be stored in NATS",
    ]


async def test_a_stream_that_was_deleted_is_made_again(server, publisher, tally):
    await publisher.deliver(notification(1))
    async with client(server.url) as admin:
        await ask(admin, "STREAM.DELETE.HOSTWATCH_ALERTS")
    with pytest.raises(TryAgainLaterError, match="HOSTWATCH_ALERTS is gone"):
        await publisher.deliver(notification(2))
    await publisher.deliver(notification(2))

    assert await stored(server) == 1
    async with member(server, "acme") as acme:
        assert await fetch(acme, "acme") == [f"{alert_id(2)}.1"]
    assert tally.failures == {"jetstream": 1}


async def test_a_hung_server_is_given_up_in_time(server, tally):
    async with (
        TcpProxy(server.host, server.port) as proxy,
        publishing(server.url.replace(str(server.port), str(proxy.port)), tally) as it,
    ):
        await it.deliver(notification(1))
        proxy.pause()
        begun = time.monotonic()
        with pytest.raises(TryAgainLaterError):
            await it.deliver(notification(2))
        took = time.monotonic() - begun
        await proxy.resume()
        await delivered(it, notification(2))

    assert took < 12
    assert await stored(server) == 2


async def test_a_reset_ends_the_wait_for_the_acknowledgement(server, tally):
    async with (
        TcpProxy(server.host, server.port) as proxy,
        publishing(server.url.replace(str(server.port), str(proxy.port)), tally) as it,
    ):
        await it.deliver(notification(1))
        proxy.pause()
        waiting = asyncio.create_task(it.deliver(notification(2)))
        await asyncio.sleep(1)  # it waits for what cannot come
        await proxy.cut()
        cut = time.monotonic()
        with pytest.raises(TryAgainLaterError):
            await waiting
        noticed = time.monotonic() - cut
        await proxy.resume()

    assert noticed < 3


async def test_missing_permissions_are_named(tmp_path, tally):
    user = NatsUser(name="hostwatch", password="pw", publish=("hostwatch.*.alerts.>",))
    with (
        structlog.testing.capture_logs() as logs,
        Nats(tmp_path, users=[user]) as server,
    ):
        async with publishing(server.url, tally) as publisher:
            with pytest.raises(TryAgainLaterError, match=r"\$JS\.API\.STREAM"):
                await publisher.deliver(notification())

    assert tally.failures == {"forbidden": 1}
    (told,) = [log for log in logs if log["log_level"] == "error"]
    assert "publish on hostwatch.*.alerts.>" in told["event"]


async def test_the_permissions_that_are_named_suffice(tmp_path, tally):
    user = NatsUser(
        name="hostwatch",
        password="pw",
        publish=(
            "hostwatch.*.alerts.>",
            "$JS.API.STREAM.*.HOSTWATCH_ALERTS",
            "$JS.API.CONSUMER.*.HOSTWATCH_ALERTS.>",
        ),
        subscribe=("_INBOX.>",),
    )
    with Nats(tmp_path, users=[user]) as server:
        async with publishing(server.url, tally) as publisher:
            await publisher.deliver(notification())

    assert not tally.failures


async def test_what_jetstream_refuses_is_told_with_its_reason(server, publisher, tally):
    async with client(server.url) as admin:
        other = {"name": "OTHER", "subjects": ["hostwatch.acme.>"]}
        assert "error" not in await ask(admin, "STREAM.CREATE.OTHER", other)
    with pytest.raises(TryAgainLaterError, match="JetStream refuses: subjects overlap"):
        await publisher.deliver(notification())

    assert tally.failures == {"refused": 1}


async def test_an_organization_without_a_consumer_keeps_no_other_waiting(
    server, publisher, tally
):
    limited = {
        "name": "HOSTWATCH_ALERTS",
        "subjects": ["hostwatch.*.alerts.>"],
        "max_consumers": 1,
    }
    async with client(server.url) as admin:
        assert "error" not in await ask(
            admin, "STREAM.CREATE.HOSTWATCH_ALERTS", limited
        )
    await publisher.deliver(notification(1))
    with pytest.raises(TryOthersMeanwhileError, match="maximum consumers limit"):
        await publisher.deliver(notification(2, organization="umbrella"))
    await publisher.deliver(notification(3))

    assert await stored(server) == 2
    assert tally.failures == {"refused": 1}


async def test_a_message_that_no_stream_takes_is_given_up(server, publisher):
    small = {
        "name": "HOSTWATCH_ALERTS",
        "subjects": ["hostwatch.*.alerts.>"],
        "max_msg_size": 64,
    }
    async with client(server.url) as admin:
        await ask(admin, "STREAM.CREATE.HOSTWATCH_ALERTS", small)
    with pytest.raises(UndeliverableError, match="message size exceeds"):
        await publisher.deliver(notification())


async def test_an_alert_without_a_valid_subject_is_given_up(server, publisher, tally):
    with pytest.raises(UndeliverableError, match="cannot be part of a NATS subject"):
        await publisher.deliver(notification(organization="acme.>"))

    assert not tally.failures


async def test_a_closed_publisher_delivers_no_more(server, tally):
    async with publishing(server.url, tally) as publisher:
        await publisher.deliver(notification(1))
    with pytest.raises(TryAgainLaterError, match="closed"):
        await publisher.deliver(notification(2))
