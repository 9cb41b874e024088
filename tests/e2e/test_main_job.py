"""The main job, as a tenant sees it: kubectl, psql and a NATS subscription."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import nats
import pytest

from fix_operator import Settled, Tenant, until

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from world.controlplane import ControlPlane
    from world.nats import Nats


async def test_servers_go_from_unknown_to_a_health_and_show_real_numbers(
    settled: Settled, tenant: Tenant, real_server: dict[str, Any]
) -> None:
    names = [f"web-{number}" for number in range(5)]
    for name in names:
        tenant.apply(name, **real_server)

    await until(lambda: set(tenant.reasons().values()) == {"Collected"})
    await until(lambda: len(tenant.reasons()) == 5)

    table = tenant.kubectl("get", "msrv")
    header, *lines = table.splitlines()
    assert header.split() == ["NAME", "STATUS", "CPU", "MEMORY", "DISK", "LAST", "AGE"]
    pattern = r"web-\d +(Healthy|Warning|Critical) +\d+% +\d+% +\d+% /\S* +\d+"
    assert [bool(re.match(pattern, line)) for line in lines] == [True] * 5
    status = tenant.get("web-0")["status"]
    assert status["observedGeneration"] == 1
    assert status["metrics"]["memoryTotalBytes"] > 2**20
    assert status["metrics"]["uptimeSeconds"] > 0
    assert {c["type"]: c["status"] for c in status["conditions"]}["Reachable"] == "True"
    assert settled.operator.lines(level="error") == []


async def test_every_sample_is_a_row_that_holds_what_was_measured(
    settled: Settled, tenant: Tenant, organization: str, real_server: dict[str, Any]
) -> None:
    tenant.apply("rows", **real_server)
    rows = await until(lambda: (r := settled.samples("rows"))[2:] and r)

    first, second, third = rows[:3]
    assert {row["organization"] for row in rows} == {organization}
    assert {row["reason"] for row in rows} == {None}
    assert third["uptime_seconds"] > first["uptime_seconds"]
    spaced = (third["collected_at"] - second["collected_at"]).total_seconds()
    assert spaced == pytest.approx(5, abs=2)
    for column in [
        "cpu_usage",
        "memory_usage",
        "memory_total",
        "disk_usage",
        "disk_available",
        "disk_total",
        "disk_mount",
        "network_rx_bytes",
        "network_tx_bytes",
        "load_1",
        "load_5",
        "load_15",
    ]:
        assert first[column] is not None, column
    assert 0 <= first["cpu_usage"] <= 100
    [server] = settled.rows("SELECT * FROM hostwatch.servers WHERE name = 'rows'")
    assert server["host"] == "127.0.0.1"
    assert server["deleted_at"] is None


async def test_an_organization_hears_of_its_own_servers_only(
    settled: Settled,
    control_plane: ControlPlane,
    tenant: Tenant,
    bus: Nats,
    real_server: dict[str, Any],
) -> None:
    label = "hostwatch.dev/organization=blue"
    control_plane.kubectl("label", "ns", tenant.namespace, label, "--overwrite")
    heard: dict[str, list[Msg]] = {"blue": [], "green": []}
    refused: list[Exception] = []

    async def note(error: Exception) -> None:
        refused.append(error)

    clients = []
    for organization, messages in heard.items():
        client = await nats.connect(
            bus.url_for(organization, organization), error_cb=note
        )
        clients.append(client)

        async def take(message: Msg, to: list[Msg] = messages) -> None:
            to.append(message)

        await client.subscribe(f"hostwatch.{organization}.>", cb=take)
    await clients[1].subscribe("hostwatch.blue.>", cb=take)

    tenant.apply("talks", **real_server)
    await until(lambda: heard["blue"])
    await until(lambda: refused)
    for client in clients:
        await client.close()

    assert heard["green"] == []
    assert "permissions violation" in str(refused[0])
    message = heard["blue"][0]
    body = json.loads(message.data)
    assert message.subject == f"hostwatch.blue.resources.{tenant.namespace}.talks"
    assert message.headers is not None
    assert message.headers["ce-type"] == "server.resources.updated"
    assert body["organization"] == "blue"
    assert body["status"] in ("healthy", "warning", "critical")
    assert body["metrics"]["memory_total"] > 2**20
    taken = datetime.fromisoformat(body["timestamp"])
    await until(lambda: taken in {r["collected_at"] for r in settled.samples("talks")})


async def test_an_annotation_collects_at_once_and_is_acknowledged(
    settled: Settled, tenant: Tenant, real_server: dict[str, Any]
) -> None:
    tenant.apply("now", **{**real_server, "intervalSeconds": 3600})
    await until(lambda: tenant.reasons().get("now") == "Collected")
    before = len(await until(lambda: settled.samples("now")))

    asked = time.monotonic()
    tenant.collect("now", "first")
    status = await until(
        lambda: (
            (s := tenant.get("now")["status"]).get("lastHandledCollectRequest") and s
        )
    )
    took = time.monotonic() - asked

    assert took < 3
    assert status["lastHandledCollectRequest"] == "first"
    result = status["lastCollectResult"]
    assert (result["request"], result["result"], result["reason"]) == (
        "first",
        "Succeeded",
        "Collected",
    )
    await until(lambda: len(settled.samples("now")) == before + 1)


async def test_a_suspended_server_is_left_alone_but_answers_when_asked(
    settled: Settled, tenant: Tenant, real_server: dict[str, Any]
) -> None:
    tenant.apply("rests", **real_server, suspend=True)
    await until(lambda: tenant.reasons().get("rests") == "Suspended")
    assert settled.samples("rests") == []

    tenant.collect("rests", "look")
    await until(lambda: len(settled.samples("rests")) == 1)
    await until(lambda: "lastCollectResult" in tenant.get("rests")["status"])
    assert tenant.get("rests")["status"]["health"] == "Suspended"


async def test_a_deleted_server_is_no_longer_sampled(
    settled: Settled, tenant: Tenant, real_server: dict[str, Any]
) -> None:
    tenant.apply("leaves", **real_server)
    await until(lambda: settled.samples("leaves"))
    tenant.kubectl("delete", "msrv", "leaves", "--timeout=30s")

    [row] = await until(
        lambda: settled.rows(
            "SELECT * FROM hostwatch.servers"
            " WHERE name = 'leaves' AND deleted_at IS NOT NULL"
        )
    )
    left = len(settled.samples("leaves"))
    await asyncio.sleep(6)
    assert len(settled.samples("leaves")) == left
    assert row["last_seen"] <= row["deleted_at"]


async def test_two_resources_of_one_host_are_two_servers(
    settled: Settled, tenant: Tenant, real_server: dict[str, Any]
) -> None:
    tenant.apply("twin-a", **real_server)
    tenant.apply("twin-b", **real_server)
    await until(lambda: settled.samples("twin-a") and settled.samples("twin-b"))
    ids = {settled.samples(name)[0]["server_id"] for name in ("twin-a", "twin-b")}
    assert len(ids) == 2


async def test_a_key_is_pinned_on_first_use_and_shown(
    settled: Settled,
    tenant: Tenant,
    openssh,
    credential_secret,
    real_server: dict[str, Any],
) -> None:
    credential_secret("no-hosts", ssh_privatekey=openssh.private_key)
    credentials = {"secretRef": {"name": "no-hosts"}}
    spec = {
        **real_server,
        "credentials": credentials,
        "hostKey": {"trustOnFirstUse": True},
    }
    tenant.apply("pinned", **spec)
    await until(lambda: tenant.reasons().get("pinned") == "Collected")
    status = tenant.get("pinned")["status"]
    assert status["hostKey"]["fingerprint"] == openssh.fingerprint
    reasons = {c["type"]: c["reason"] for c in status["conditions"]}
    assert reasons["HostKeyTrusted"] == "HostKeyPinned"
    [stored] = settled.rows("SELECT * FROM hostwatch.servers WHERE name = 'pinned'")
    assert stored["host_key_fingerprint"] == openssh.fingerprint


async def test_the_operator_tells_how_it_fares(
    settled: Settled, tenant: Tenant, real_server: dict[str, Any]
) -> None:
    tenant.apply("told", **real_server)
    await until(lambda: settled.samples("told"))

    page = settled.operator.get("/metrics")[1]
    gauge = rf'hostwatch_server_up{{.*name="told".*namespace="{tenant.namespace}".*}} 1'
    assert re.search(gauge, page)
    assert settled.operator.get("/healthz")[0] == 200
    summary = await until(lambda: settled.operator.lines(event="Summary"))
    assert {"servers", "collections", "success_percent"} <= set(summary[-1])
