"""The status writer against the real API server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from hostwatch.kube.board import StatusWriter
from hostwatch.kube.client import KubeClient
from hostwatch.kube.login import Login
from hostwatch.kube.names import server_path
from hostwatch.kube.observed import observed_of
from hostwatch.kube.waiting import Urgency
from hostwatch.model.reading import CpuUsage
from hostwatch.model.sample import (
    CollectResult,
    Condition,
    Health,
    Metrics,
    ServerState,
)
from hostwatch.model.server import Organization, ServerId, ServerKey
from world.kubeapi import CountingMeter, FaultyApi
from world.wait import eventually

if TYPE_CHECKING:
    from world.controlplane import ControlPlane

READY = Condition("Ready", "True", "Collected", "all well")
METRICS = Metrics(
    cpu=CpuUsage(total=12.5, user=10, system=2.5, iowait=0, steal=0),
    memory_used=41,
    memory_total=100,
)


@pytest.fixture(scope="module", autouse=True)
def _crd(control_plane: ControlPlane) -> None:
    control_plane.install_crd()


@pytest.fixture
def meter():
    return CountingMeter()


@pytest.fixture
async def api(control_plane: ControlPlane):
    async with FaultyApi(control_plane) as api:
        yield api


@pytest.fixture
async def client(api: FaultyApi, meter: CountingMeter, tmp_path):
    login = Login(kubeconfig=str(api.write_kubeconfig(tmp_path / "kubeconfig")))
    client = KubeClient(meter=meter, login=login, timeout=5)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
async def writer(client, meter):
    writer = StatusWriter(client, writes_per_second=20, meter=meter)
    await writer.open()
    yield writer
    await writer.close(drain=0)


@pytest.fixture
def make(control_plane: ControlPlane, namespace: str):
    """Give a maker of resources, which returns who they are."""

    def apply(name: str = "web-1") -> ServerKey:
        document = {
            "apiVersion": "hostwatch.dev/v1alpha1",
            "kind": "MonitoredServer",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"host": "web-1", "credentials": {"secretRef": {"name": "ssh"}}},
        }
        control_plane.apply(json.dumps(document))
        uid = control_plane.kubectl(
            *("get", "msrv", name, "-n", namespace, "-ojsonpath={.metadata.uid}")
        )
        return ServerKey(ServerId(uid), namespace, name, Organization("acme"))

    return apply


@pytest.fixture
def server(make) -> ServerKey:
    return make()


def state_of(server: ServerKey, **change: Any) -> ServerState:
    now = datetime.now(UTC)
    state = ServerState(
        server=server,
        generation=1,
        health=Health.HEALTHY,
        conditions=(READY,),
        last_attempt=now,
        last_success=now,
        metrics=METRICS,
    )
    return replace(state, **change)


async def stored(client: KubeClient, server: ServerKey) -> dict[str, Any]:
    body = await client.get(server_path(server.namespace, server.name))
    status: dict[str, Any] = body["status"]
    return status


async def outcome(
    meter: CountingMeter, urgency: str, name: str, times: int = 1
) -> None:
    await eventually(lambda: meter.status[urgency, name] >= times)


async def test_a_state_shows_in_the_resource(writer, client, meter, server):
    result = CollectResult("now", True, "Collected", datetime.now(UTC), 41)  # noqa: FBT003
    writer.show(state_of(server, result=result), Urgency.FORCED)
    await outcome(meter, "forced", "written")
    status = await stored(client, server)
    assert status["health"] == "Healthy"
    assert status["organization"] == "acme"
    assert status["metrics"] == {
        "cpuPercent": 12.5,
        "memoryUsedBytes": 41,
        "memoryTotalBytes": 100,
    }
    assert status["summary"] == {"cpu": "12%", "memory": "41%"}
    assert status["lastHandledCollectRequest"] == "now"
    assert status["lastCollectResult"]["result"] == "Succeeded"
    assert status["conditions"][0]["reason"] == "Collected"
    assert datetime.fromisoformat(status["lastCollectionTime"]) <= datetime.now(UTC)


async def test_the_status_is_written_under_our_name(
    writer, client, meter, server, control_plane
):
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "written")
    managers = control_plane.kubectl(
        *("get", "msrv", server.name, "-n", server.namespace),
        '-ojsonpath={.metadata.managedFields[?(@.subresource=="status")].manager}',
    )
    assert managers == "hostwatch"


async def test_what_is_no_longer_measured_disappears(writer, client, meter, server):
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "written")
    fewer = Metrics(memory_used=1, memory_total=2)
    later = datetime.now(UTC) + timedelta(seconds=1)
    await eventually(lambda: datetime.now(UTC) > later)
    state = state_of(server, metrics=fewer, last_success=later, last_attempt=later)
    writer.show(state, Urgency.CHANGE)
    await outcome(meter, "change", "written", 2)
    status = await stored(client, server)
    assert status["metrics"] == {"memoryUsedBytes": 1, "memoryTotalBytes": 2}
    assert status["summary"] == {"memory": "50%"}


async def test_the_answer_to_a_write_is_what_the_next_starts_from(
    writer, api, meter, server
):
    for failures in range(3):
        writer.show(state_of(server, consecutive_failures=failures + 1), Urgency.CHANGE)
        await outcome(meter, "change", "written", failures + 1)
    path = server_path(server.namespace, server.name)
    assert api.requests == [f"GET {path}", *[f"PATCH {path}/status"] * 3]
    assert meter.failures == {}


async def test_a_repeated_state_costs_no_request(writer, api, meter, server):
    state = state_of(server)
    writer.show(state, Urgency.CHANGE)
    await outcome(meter, "change", "written")
    requests = len(api.requests)
    writer.show(state, Urgency.CHANGE)
    await outcome(meter, "change", "unchanged")
    assert len(api.requests) == requests


async def test_a_condition_flips_at_the_time_of_the_write(
    writer, client, meter, server
):
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "written")
    first = (await stored(client, server))["conditions"][0]

    passed = datetime.fromisoformat(first["lastTransitionTime"]) + timedelta(seconds=2)
    await eventually(lambda: client.clock.now() >= passed)
    other_words = (replace(READY, message="still well"),)
    writer.show(state_of(server, conditions=other_words), Urgency.CHANGE)
    await outcome(meter, "change", "written", 2)
    second = (await stored(client, server))["conditions"][0]
    assert second["message"] == "still well"
    assert second["lastTransitionTime"] == first["lastTransitionTime"]

    failed = (Condition("Ready", "False", "DNSFailed", "no such name"),)
    writer.show(state_of(server, conditions=failed), Urgency.CHANGE)
    await outcome(meter, "change", "written", 3)
    third = (await stored(client, server))["conditions"][0]
    assert third["lastTransitionTime"] > first["lastTransitionTime"]


async def test_a_concurrent_writer_is_seen_and_kept(
    writer, client, meter, server, control_plane
):
    body = await client.get(server_path(server.namespace, server.name))
    writer.observe(server.id, observed_of(body))
    theirs = {
        "type": "Backed",
        "status": "True",
        "reason": "Up",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    control_plane.kubectl(
        *("patch", "msrv", server.name, "-n", server.namespace),
        *("--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": {"conditions": [theirs]}})),
    )
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "written")
    assert meter.status["change", "conflict"] == 1
    conditions = (await stored(client, server))["conditions"]
    assert [condition["type"] for condition in conditions] == ["Ready", "Backed"]
    assert conditions[1] == theirs


async def test_endless_conflicts_are_put_off(writer, api, meter, server):
    async def conflict(request: web.Request) -> web.Response | None:
        if request.method == "PATCH" and meter.status["change", "conflict"] < 3:
            return web.json_response({"message": "conflict"}, status=409)
        return None

    api.before = conflict
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "written")
    assert meter.status["change", "conflict"] == 3
    assert meter.status["change", "retried"] == 1


async def test_a_new_resource_of_the_same_name_is_left_alone(
    writer, client, meter, server, make, control_plane
):
    body = await client.get(server_path(server.namespace, server.name))
    writer.observe(server.id, observed_of(body))
    control_plane.kubectl("delete", "msrv", server.name, "-n", server.namespace)
    make()
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "gone")
    assert await stored(client, server) == {"health": "Unknown"}


@pytest.mark.parametrize("observed", [True, False])
async def test_a_deleted_resource_is_dropped(
    writer, client, meter, server, control_plane, observed
):
    if observed:
        body = await client.get(server_path(server.namespace, server.name))
        writer.observe(server.id, observed_of(body))
    control_plane.kubectl("delete", "msrv", server.name, "-n", server.namespace)
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "gone")
    await eventually(lambda: meter.waiting == 0)


async def test_a_dropped_server_is_not_written(writer, api, meter, server):
    writer.show(state_of(server), Urgency.CHANGE)
    writer.drop(server.id)
    await asyncio.sleep(0.1)
    assert api.requests == []
    assert meter.waiting == 0


async def test_a_refused_state_is_given_up_and_the_next_is_written(
    writer, client, meter, server
):
    bad = (Condition("Ready", "False", "not a reason"),)
    with capture_logs() as logs:
        for times in (1, 2):
            writer.show(state_of(server, conditions=bad), Urgency.CHANGE)
            await outcome(meter, "change", "refused", times)
    (line,) = logs
    assert (line["server"], line["organization"]) == ("web-1", "acme")
    assert "status.conditions[0].reason" in line["detail"]
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "written")
    assert (await stored(client, server))["health"] == "Healthy"


async def test_a_right_granted_later_lets_the_write_through(
    control_plane, namespace, meter, server, tmp_path
):
    control_plane.kubectl("create", "serviceaccount", "writer", "-n", namespace)
    path = control_plane.kubeconfig_for(control_plane.token(namespace, "writer"))
    client = KubeClient(meter=meter, login=Login(kubeconfig=str(path)))
    await client.open()
    writer = StatusWriter(client, writes_per_second=20, meter=meter)
    await writer.open()
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "retried")
    control_plane.kubectl(
        *("create", "role", "writer", "-n", namespace),
        *("--verb=get,patch", "--resource=monitoredservers.hostwatch.dev/status"),
        "--resource=monitoredservers.hostwatch.dev",
    )
    control_plane.kubectl(
        *("create", "rolebinding", "writer", "-n", namespace, "--role=writer"),
        f"--serviceaccount={namespace}:writer",
    )
    await outcome(meter, "change", "written")
    await writer.close()
    await client.close()


async def test_an_api_server_that_comes_back_gets_the_newest_state(
    writer, api, client, meter, server
):
    await api.stop()
    writer.show(state_of(server, health=Health.WARNING), Urgency.CHANGE)
    await outcome(meter, "change", "retried")
    writer.show(state_of(server, health=Health.CRITICAL), Urgency.REFRESH)
    await api.start()
    await outcome(meter, "change", "written")
    assert (await stored(client, server))["health"] == "Critical"
    assert meter.waiting == 0


async def test_throttling_is_heard(writer, api, meter, server):
    async def throttle(request: web.Request) -> web.Response | None:
        if request.method == "PATCH" and not meter.status["change", "throttled"]:
            headers = {"Retry-After": "1"}
            return web.json_response({}, status=429, headers=headers)
        return None

    api.before = throttle
    started = asyncio.get_running_loop().time()
    writer.show(state_of(server), Urgency.CHANGE)
    await outcome(meter, "change", "written")
    assert meter.status["change", "throttled"] == 1
    assert asyncio.get_running_loop().time() - started >= 1
