"""Requests to the real API server, and what happens when it is away."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from hostwatch.kube.client import ApiAwayError, ApiRefusedError, KubeClient
from hostwatch.kube.login import KubeConfigError, Login
from world.kubeapi import CountingMeter, FaultyApi
from world.proxy import TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

    from world.controlplane import ControlPlane

NAMESPACE = "/api/v1/namespaces/kube-system"


@pytest.fixture
def meter():
    return CountingMeter()


@pytest.fixture
async def client(control_plane: ControlPlane, meter):
    client = KubeClient(
        meter=meter, login=Login(kubeconfig=str(control_plane.kubeconfig))
    )
    await client.open()
    yield client
    await client.close()


@pytest.fixture
async def faulty(control_plane: ControlPlane):
    async with FaultyApi(control_plane) as api:
        yield api


@pytest.fixture
async def behind(faulty, meter, tmp_path):
    login = Login(kubeconfig=str(faulty.write_kubeconfig(tmp_path / "kubeconfig")))
    client = KubeClient(meter=meter, login=login, timeout=0.5)
    await client.open()
    yield client
    await client.close()


async def test_an_object_is_read_and_the_servers_clock_learnt(client, meter):
    assert client.last_answer is None
    namespace = await client.get(NAMESPACE)
    assert namespace["metadata"]["name"] == "kube-system"
    assert time.monotonic() - client.last_answer < 10
    late = datetime.now(UTC) - client.clock.now()
    assert timedelta(0) <= late <= timedelta(seconds=2)
    assert client.namespace == "default"
    assert not meter.failures


async def test_what_is_not_there_is_a_final_no(client, meter):
    with pytest.raises(ApiRefusedError) as refused:
        await client.get("/api/v1/namespaces/nowhere")
    assert refused.value.status == 404
    assert refused.value.detail == 'namespaces "nowhere" not found'
    assert meter.failures == {404: 1}
    assert client.last_answer is not None


@pytest.fixture
def token(control_plane: ControlPlane, namespace: str) -> str:
    """Give the token of a ServiceAccount without any rights."""
    control_plane.kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    return control_plane.token(namespace, "nobody")


async def test_what_may_not_be_read_is_a_final_no(
    control_plane, namespace, token, meter
):
    path = control_plane.kubeconfig_for(token, namespace=namespace)
    client = KubeClient(meter=meter, login=Login(kubeconfig=str(path)))
    await client.open()
    assert client.namespace == namespace
    with pytest.raises(ApiRefusedError) as refused:
        await client.get(NAMESPACE)
    assert refused.value.status == 403
    await client.close()


@pytest.fixture
def pod(
    control_plane: ControlPlane, namespace: str, token: str, tmp_path: Path, monkeypatch
):
    """Give the directory that a pod would have, with the token of a ServiceAccount."""
    host, port = control_plane.url.removeprefix("https://").split(":")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_bytes(control_plane.certificate_authority.read_bytes())
    (tmp_path / "namespace").write_text(namespace)
    return tmp_path


async def test_a_pods_token_is_read_again_when_it_was_replaced(pod, namespace, meter):
    login = Login(service_account=pod, renew_after=0)
    client = KubeClient(meter=meter, login=login)
    await client.open()
    assert client.namespace == namespace
    assert "resources" in await client.get("/api/v1")
    good = (pod / "token").read_text()

    (pod / "token").write_text("expired")
    with pytest.raises(ApiAwayError) as away:
        await client.get("/api/v1")
    assert away.value.status == 401

    (pod / "token").unlink()
    with pytest.raises(ApiAwayError):
        await client.get("/api/v1")

    (pod / "token").write_text(good)
    assert "resources" in await client.get("/api/v1")
    await client.close()


async def test_a_fresh_token_is_not_read_again(pod, meter):
    client = KubeClient(meter=meter, login=Login(service_account=pod, renew_after=60))
    await client.open()
    (pod / "token").unlink()
    assert "resources" in await client.get("/api/v1")
    await client.close()


async def test_the_variable_kubeconfig_is_followed(control_plane, meter, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    client = KubeClient(meter=meter)
    await client.open()
    assert "resources" in await client.get("/api/v1")
    await client.close()


async def test_a_missing_configuration_is_told(tmp_path, meter):
    client = KubeClient(meter=meter, login=Login(kubeconfig=str(tmp_path / "none")))
    with pytest.raises(KubeConfigError, match="set KUBECONFIG"):
        await client.open()


async def test_a_pod_without_token_is_told(pod, meter):
    (pod / "token").unlink()
    client = KubeClient(meter=meter, login=Login(service_account=pod))
    with pytest.raises(KubeConfigError, match="token file does not exist"):
        await client.open()


async def test_a_silent_api_server_is_given_up(control_plane, meter, tmp_path):
    host, port = control_plane.url.removeprefix("https://").split(":")
    async with TcpProxy(host, int(port)) as proxy:
        text = control_plane.kubeconfig.read_text()
        path = tmp_path / "kubeconfig"
        path.write_text(text.replace(f":{port}", f":{proxy.port}"))
        client = KubeClient(meter=meter, login=Login(kubeconfig=str(path)), timeout=0.5)
        await client.open()
        assert "resources" in await client.get("/api/v1")
        answered = client.last_answer

        proxy.pause()
        started = time.monotonic()
        with pytest.raises(ApiAwayError) as away:
            await client.get("/api/v1")
        assert time.monotonic() - started < 5
        assert away.value.status is None
        assert client.last_answer == answered

        await proxy.refuse()
        await proxy.cut()
        with pytest.raises(ApiAwayError):
            await client.get("/api/v1")
        assert meter.failures == {None: 2}

        await proxy.resume()
        assert "resources" in await client.get("/api/v1")
        await client.close()


@pytest.mark.parametrize(
    ("status", "headers", "retry_after"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (429, {"Retry-After": "Mon, 23 Nov 2026 10:00:00 GMT"}, None),
        (503, {}, None),
        (500, {}, None),
        (408, {}, None),
    ],
)
async def test_what_may_change_is_told_apart(
    behind, faulty, status, headers, retry_after
):
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"message": "busy"}, status=status, headers=headers)

    faulty.before = refuse
    with pytest.raises(ApiAwayError, match=f"{status}: busy") as away:
        await behind.get("/api/v1")
    assert (away.value.status, away.value.retry_after) == (status, retry_after)
    assert (behind.last_answer is None) is (status >= 500)


@pytest.mark.parametrize("body", ["<html>", "[]", "", "7"])
async def test_an_answer_that_is_no_object_is_no_answer(behind, faulty, body):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    faulty.before = answer
    with pytest.raises(ApiAwayError, match="no Kubernetes object"):
        await behind.get("/api/v1")


async def test_an_unreadable_date_changes_nothing(behind, faulty):
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({}, headers={"Date": "yesterday"})

    faulty.before = answer
    await behind.get("/api/v1")
    assert abs(datetime.now(UTC) - behind.clock.now()) < timedelta(seconds=1)


async def test_a_closed_client_answers_no_more(control_plane, meter):
    login = Login(kubeconfig=str(control_plane.kubeconfig))
    client = KubeClient(meter=meter, login=login)
    await client.open()
    await client.close()
    await client.close()
    with pytest.raises(ApiAwayError, match="closed"):
        await client.get("/api/v1")
