"""What exists, as the real API server says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from hostwatch.kube.client import ApiRefusedError, KubeClient
from hostwatch.kube.inventory import ClusterIdError, CrdMissingError, Inventory
from hostwatch.kube.login import Login
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
async def client(api: FaultyApi, tmp_path):
    login = Login(kubeconfig=str(api.write_kubeconfig(tmp_path / "kubeconfig")))
    client = KubeClient(meter=CountingMeter(), login=login)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
async def powerless(control_plane: ControlPlane, namespace: str):
    """Give a client of a ServiceAccount without any rights."""
    control_plane.kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    path = control_plane.kubeconfig_for(control_plane.token(namespace, "nobody"))
    client = KubeClient(meter=CountingMeter(), login=Login(kubeconfig=str(path)))
    await client.open()
    yield client
    await client.close()


def make(control_plane: ControlPlane, namespace: str, name: str) -> str:
    document = {
        "apiVersion": "hostwatch.dev/v1alpha1",
        "kind": "MonitoredServer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"host": "web-1", "credentials": {"secretRef": {"name": "ssh"}}},
    }
    control_plane.apply(json.dumps(document))
    return control_plane.kubectl(
        *("get", "msrv", name, "-n", namespace, "-ojsonpath={.metadata.uid}")
    )


async def test_the_watched_namespaces_are_listed(control_plane, namespace, client):
    first, second = (make(control_plane, namespace, name) for name in ("a", "b"))
    inventory = Inventory(client, namespaces=[namespace, "nowhere"])
    assert await inventory.list_present() == {first, second}
    control_plane.kubectl("delete", "msrv", "a", "-n", namespace)
    assert await inventory.list_present() == {second}


async def test_all_namespaces_are_listed_by_metadata_alone(
    control_plane, namespace, client, api
):
    uid = make(control_plane, namespace, "a")
    seen = []

    async def look(request: web.Request) -> None:
        seen.append((request.query_string, request.headers["Accept"]))

    api.before = look
    assert uid in await Inventory(client).list_present()
    assert seen == [
        (
            "resourceVersion=0",
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        )
    ]


async def test_a_list_that_is_refused_is_no_empty_list(powerless):
    with pytest.raises(ApiRefusedError):
        await Inventory(powerless).list_present()


async def test_the_cluster_is_known_by_its_kube_system(
    control_plane, client, powerless
):
    uid = control_plane.kubectl(
        "get", "ns", "kube-system", "-ojsonpath={.metadata.uid}"
    )
    assert await Inventory(client).cluster_id() == uid
    with pytest.raises(ClusterIdError, match="grant the operator's ServiceAccount"):
        await Inventory(powerless).cluster_id()


async def test_an_installed_crd_is_found(client):
    await Inventory(client).require_crd()


@pytest.mark.parametrize(
    ("status", "body"), [(404, {}), (200, {"resources": [{"name": "others"}]})]
)
async def test_a_missing_crd_is_told(client, api, status, body):
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    api.before = answer
    with pytest.raises(CrdMissingError, match="kubectl apply"):
        await Inventory(client).require_crd()


async def test_without_the_crd_there_is_no_list(client, api):
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({}, status=404)

    api.before = answer
    with pytest.raises(CrdMissingError):
        await Inventory(client).list_present()
    api.requests.clear()


async def test_a_crd_check_that_is_refused_says_so(client, api):
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"message": "no"}, status=403)

    api.before = answer
    with pytest.raises(ApiRefusedError, match="403: no"):
        await Inventory(client).require_crd()
