"""Events of alerts in the real API server, as kubectl shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from hostwatch.kube.client import KubeClient
from hostwatch.kube.events import EventSink
from hostwatch.kube.login import Login
from hostwatch.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    EndedReason,
    Notification,
    Severity,
    UndeliverableError,
)
from hostwatch.model.reason import TryAgainLaterError, TryOthersMeanwhileError
from hostwatch.model.server import Organization, ServerId, ServerKey
from world.kubeapi import CountingMeter, FaultyApi

if TYPE_CHECKING:
    from world.controlplane import ControlPlane


@pytest.fixture(scope="module", autouse=True)
def _crd(control_plane: ControlPlane) -> None:
    control_plane.install_crd()


@pytest.fixture
async def api(control_plane: ControlPlane):
    async with FaultyApi(control_plane) as api:
        yield api


@pytest.fixture
async def sink(api: FaultyApi, tmp_path):
    login = Login(kubeconfig=str(api.write_kubeconfig(tmp_path / "kubeconfig")))
    client = KubeClient(meter=CountingMeter(), login=login, timeout=5)
    await client.open()
    yield EventSink(client, identity="pod-1_9e2f")
    await client.close()


@pytest.fixture
def server(control_plane: ControlPlane, namespace: str) -> ServerKey:
    document = {
        "apiVersion": "hostwatch.dev/v1alpha1",
        "kind": "MonitoredServer",
        "metadata": {"name": "web-1", "namespace": namespace},
        "spec": {"host": "web-1", "credentials": {"secretRef": {"name": "ssh"}}},
    }
    control_plane.apply(json.dumps(document))
    uid = control_plane.kubectl(
        *("get", "msrv", "web-1", "-n", namespace, "-ojsonpath={.metadata.uid}")
    )
    return ServerKey(ServerId(uid), namespace, "web-1", Organization("acme"))


def firing(server: ServerKey) -> Alert:
    now = datetime.now(UTC)
    return Alert(
        server=server,
        rule=AlertRule.CPU_HIGH,
        label="",
        state=AlertState.FIRING,
        severity=Severity.CRITICAL,
        since=now,
        seen_at=now,
        id="5f6d1f2e-0001-5002-8003-00000000000a",
        value=95,
        threshold=90,
        started_at=now,
        transition=1,
    )


def resolved(server: ServerKey) -> Alert:
    return replace(
        firing(server),
        state=AlertState.RESOLVED,
        ended_at=datetime.now(UTC),
        ended_reason=EndedReason.CLEARED,
        transition=2,
    )


def events(control_plane: ControlPlane, server: ServerKey) -> list[tuple[str, ...]]:
    """Return type, reason and note of each Event, oldest first."""
    listed = json.loads(
        control_plane.kubectl(
            *("get", "events.v1.events.k8s.io", "-n", server.namespace, "-o", "json"),
            "--sort-by=.eventTime",
        )
    )
    return [(item["type"], item["reason"], item["note"]) for item in listed["items"]]


FIRED = ("Warning", "CPUHigh", "CPU use has reached 90 % (critical)")
ENDED = ("Normal", "CPUHighResolved", "CPU use is below 90 % again")


async def test_each_transition_is_an_event_that_kubectl_shows(
    sink, control_plane, server
):
    await sink.deliver(Notification(firing(server)))
    await sink.deliver(Notification(resolved(server)))

    assert events(control_plane, server) == [FIRED, ENDED]
    described = control_plane.kubectl(
        "describe", "msrv", "web-1", "-n", server.namespace
    )
    rows = [line.split() for line in described.split("Events:")[1].splitlines()]
    assert [row[:2] for row in rows if row[:1] in (["Warning"], ["Normal"])] == [
        ["Warning", "CPUHigh"],
        ["Normal", "CPUHighResolved"],
    ]
    assert "hostwatch.dev/operator" in described
    listed = control_plane.kubectl(
        "events", "--for", "msrv/web-1", "-n", server.namespace
    )
    assert FIRED[2] in listed
    assert ENDED[2] in listed


async def test_a_repeat_makes_no_second_event(sink, control_plane, server):
    for _ in range(3):
        await sink.deliver(Notification(firing(server)))

    assert events(control_plane, server) == [FIRED]


async def test_events_of_a_resource_that_is_gone_are_kept(sink, control_plane, server):
    control_plane.kubectl("delete", "msrv", "web-1", "-n", server.namespace)
    alert = replace(resolved(server), ended_reason=EndedReason.SERVER_DELETED)
    await sink.deliver(Notification(alert))

    note = "CPUHigh has ended: the resource is deleted"
    assert events(control_plane, server) == [("Normal", "CPUHighResolved", note)]


async def test_a_namespace_that_is_gone_cannot_be_told(sink, server):
    nowhere = replace(server, namespace="nowhere")
    with capture_logs() as logs, pytest.raises(UndeliverableError, match="not found"):
        await sink.deliver(Notification(firing(nowhere)))

    (told,) = logs
    assert told["event"] == "An alert cannot be told as an Event"
    assert (told["server"], told["namespace"]) == ("web-1", "nowhere")


async def test_a_namespace_that_ends_cannot_be_told(sink, control_plane, server):
    hold = {"metadata": {"finalizers": ["hostwatch.dev/test"]}}
    lift = {"metadata": {"finalizers": None}}
    resource = ("patch", "msrv", "web-1", "-n", server.namespace, "--type=merge", "-p")
    control_plane.kubectl(*resource, json.dumps(hold))
    control_plane.kubectl("delete", "namespace", server.namespace, "--wait=false")
    try:
        with pytest.raises(UndeliverableError, match="being terminated"):
            await sink.deliver(Notification(firing(server)))
    finally:
        control_plane.kubectl(*resource, json.dumps(lift))


async def test_a_missing_right_may_be_granted_later(control_plane, server):
    control_plane.kubectl("create", "serviceaccount", "nobody", "-n", server.namespace)
    path = control_plane.kubeconfig_for(control_plane.token(server.namespace, "nobody"))
    client = KubeClient(meter=CountingMeter(), login=Login(kubeconfig=str(path)))
    await client.open()
    with pytest.raises(TryOthersMeanwhileError, match="cannot create resource"):
        await EventSink(client, identity="x").deliver(Notification(firing(server)))
    await client.close()


async def test_an_api_server_that_is_away_is_tried_again(
    sink, api, control_plane, server
):
    async def fail(_: web.Request) -> web.Response:
        return web.json_response({"message": "etcd is away"}, status=503)

    passes, api.before = api.before, fail
    with pytest.raises(TryAgainLaterError, match="etcd is away"):
        await sink.deliver(Notification(firing(server)))
    api.before = passes
    await sink.deliver(Notification(firing(server)))

    assert events(control_plane, server) == [FIRED]


async def test_a_conflict_of_a_quota_is_tried_again(sink, api, server):
    async def conflict(_: web.Request) -> web.Response:
        message = "Operation cannot be fulfilled on resourcequotas"
        return web.json_response({"message": message}, status=409)

    api.before = conflict
    with pytest.raises(TryOthersMeanwhileError, match="resourcequotas"):
        await sink.deliver(Notification(firing(server)))
