"""``hostwatch collect`` against the real API server; the test acknowledges."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from hostwatch.cli.main import app
from hostwatch.kube.client import KubeClient
from hostwatch.kube.login import Login
from hostwatch.kube.names import COLLECT_ANNOTATION, server_path, servers_path
from world.command import Ended
from world.kubeapi import CountingMeter, FaultyApi
from world.process import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from world.controlplane import ControlPlane

LABEL = "tier"
KIND = "monitoredserver.hostwatch.dev"


class Cluster:
    """One namespace with servers, and an operator that answers as it is told."""

    def __init__(self, client: KubeClient, namespace: str, kubeconfig: Path) -> None:
        self.client = client
        self.namespace = namespace
        self.kubeconfig = kubeconfig

    async def make(self, name: str, *, tier: str = "web") -> None:
        await self.client.post(
            servers_path(self.namespace),
            {
                "apiVersion": "hostwatch.dev/v1alpha1",
                "kind": "MonitoredServer",
                "metadata": {"name": name, "labels": {LABEL: tier}},
                "spec": {"host": name, "credentials": {"secretRef": {"name": "ssh"}}},
            },
            query={},
        )

    async def servers(self) -> dict[str, dict[str, Any]]:
        listed = await self.client.get(servers_path(self.namespace))
        return {body["metadata"]["name"]: body for body in listed["items"]}

    async def requests(self) -> dict[str, str]:
        """Return the request each server was given."""
        found = await self.servers()
        return {name: _request(body) for name, body in found.items() if _request(body)}

    async def annotate(self, name: str, request: str) -> None:
        await self.client.patch(
            server_path(self.namespace, name),
            {"metadata": {"annotations": {COLLECT_ANNOTATION: request}}},
            query={},
        )

    async def acknowledge(
        self, name: str, request: str, *, reason: str = "Collected", took: int = 41
    ) -> None:
        """Write the answer into the status, as the operator does."""
        answer = {
            "request": request,
            "result": "Succeeded" if reason == "Collected" else "Failed",
            "reason": reason,
            "finishedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "durationMilliseconds": took,
        }
        status = {"lastHandledCollectRequest": request, "lastCollectResult": answer}
        await self.client.patch(
            f"{server_path(self.namespace, name)}/status", {"status": status}, query={}
        )

    async def run(self, *arguments: str, kubeconfig: Path | None = None) -> Ended:
        """Run the command in this namespace, on a thread with a loop of its own."""
        done = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["collect", *arguments],
            env={"KUBECONFIG": str(kubeconfig or self.kubeconfig)},
            catch_exceptions=False,
        )
        return Ended(done.exit_code, done.stdout.splitlines(), done.stderr.splitlines())

    async def run_answered(
        self,
        *arguments: str,
        reasons: dict[str, str] | None = None,
    ) -> Ended:
        """Run the command while every request is answered once, in order of names."""
        answering = asyncio.create_task(self._answer(reasons or {}), name="answers")
        try:
            return await self.run(*arguments)
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _answer(self, reasons: dict[str, str]) -> None:
        answered: dict[str, str] = {}
        while True:
            for name, request in sorted((await self.requests()).items()):
                if answered.get(name) != request:
                    reason = reasons.get(name, "Collected")
                    await self.acknowledge(name, request, reason=reason)
                    answered[name] = request
            await asyncio.sleep(0.1)


def _request(body: dict[str, Any]) -> str:
    return str((body["metadata"].get("annotations") or {}).get(COLLECT_ANNOTATION, ""))


@pytest.fixture(scope="module", autouse=True)
def _crd(control_plane: ControlPlane) -> None:
    control_plane.install_crd()


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    login = Login(kubeconfig=str(control_plane.kubeconfig))
    client = KubeClient(meter=CountingMeter(), login=login)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
def write_kubeconfig(control_plane: ControlPlane, tmp_path) -> Callable[..., Path]:
    """Give a maker of administrator's kubeconfigs for a namespace or another server."""

    def write(namespace: str, *, server: str | None = None) -> Path:
        document = json.loads(control_plane.kubeconfig.read_text())
        document["contexts"][0]["context"]["namespace"] = namespace
        if server is not None:
            document["clusters"][0]["cluster"] = {"server": server}
        path: Path = tmp_path / f"kubeconfig-{secrets.token_hex(4)}"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
async def cluster(
    client: KubeClient, namespace: str, write_kubeconfig: Callable[..., Path]
) -> Cluster:
    made = Cluster(client, namespace, write_kubeconfig(namespace))
    await made.make("web-1")
    await made.make("web-2")
    await made.make("db-1", tier="db")
    return made


async def test_named_servers_are_asked_with_the_time_of_now(cluster):
    ended = await cluster.run("web-1", "db-1", "web-1")

    assert ended == Ended(
        0,
        [f"{KIND}/web-1 collection requested", f"{KIND}/db-1 collection requested"],
        [],
    )
    requests = await cluster.requests()
    assert requests.keys() == {"web-1", "db-1"}
    (request,) = set(requests.values())
    asked = datetime.strptime(request, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - asked) < timedelta(seconds=30)


async def test_every_call_is_a_request_of_its_own(cluster):
    asked = []
    for _ in range(2):
        await cluster.run("web-1")
        asked.append((await cluster.requests())["web-1"])

    assert asked[0] < asked[1]


async def test_a_selector_chooses_by_labels(cluster):
    ended = await cluster.run("-l", "tier=web")

    assert ended.code == 0
    assert (await cluster.requests()).keys() == {"web-1", "web-2"}


async def test_all_means_all_of_the_namespace_and_of_no_other(
    cluster, control_plane, client
):
    other = f"test-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", other)
    neighbour = Cluster(client, other, cluster.kubeconfig)
    await neighbour.make("web-1", tier=cluster.namespace)
    await cluster.make("web-3", tier=cluster.namespace)
    try:
        assert (await cluster.run("--all")).code == 0
        assert len(await cluster.requests()) == 4
        assert await neighbour.requests() == {}

        assert (await cluster.run("--all", "-n", other)).code == 0
        assert len(await neighbour.requests()) == 1

        ended = await cluster.run("-A", "-l", f"tier={cluster.namespace}")
        assert (ended.code, sorted(ended.out)) == (
            0,
            sorted(
                (
                    f"{KIND}/{cluster.namespace}/web-3 collection requested",
                    f"{KIND}/{other}/web-1 collection requested",
                )
            ),
        )
    finally:
        control_plane.kubectl("delete", "namespace", other, "--wait=false")


async def test_a_selection_without_servers_is_told(cluster):
    nothing = f"No resources found in {cluster.namespace} namespace."

    assert await cluster.run("-l", "tier=none") == Ended(0, [], [nothing])
    assert await cluster.run("-l", "tier=none", "--sync") == Ended(1, [], [nothing])


async def test_a_large_selection_is_read_in_pages(cluster, client):
    created = [cluster.make(f"many-{n}", tier="many") for n in range(501)]
    for start in range(0, len(created), 50):
        await asyncio.gather(*created[start : start + 50])
    ended = await cluster.run("-l", "tier=many")

    assert (ended.code, len(ended.out)) == (0, 501)
    assert len(await cluster.requests()) == 501


async def test_sync_prints_each_result(cluster):
    ended = await cluster.run_answered("web-1", "web-2", "--sync")

    assert ended == Ended(
        0,
        [
            "SERVER  RESULT      REASON                DURATION",
            "web-1   Succeeded   Collected             41 ms",
            "web-2   Succeeded   Collected             41 ms",
        ],
        [],
    )


async def test_sync_fails_when_one_of_them_fails(cluster):
    ended = await cluster.run_answered(
        "--all", "--sync", reasons={"web-1": "AuthenticationFailed"}
    )

    assert ended.code == 1
    assert sorted(ended.out[1:]) == [
        "db-1    Succeeded   Collected             41 ms",
        "web-1   Failed      AuthenticationFailed  41 ms",
        "web-2   Succeeded   Collected             41 ms",
    ]


async def test_sync_over_many_servers_hears_all_of_them(cluster):
    for number in range(12):
        await cluster.make(f"many-{number}", tier=cluster.namespace)
    ended = await cluster.run_answered(
        "-A", "-l", f"tier={cluster.namespace}", "--sync"
    )

    assert (ended.code, len(ended.out)) == (0, 13)
    assert {tuple(line.split()[:2]) for line in ended.out[1:]} == {
        (f"{cluster.namespace}/many-{number}", "Succeeded") for number in range(12)
    }


async def test_a_server_that_leaves_the_selection_is_heard_all_the_same(cluster):
    for number in range(12):
        await cluster.make(f"many-{number}", tier="many")
    running = asyncio.create_task(cluster.run("-l", "tier=many", "--sync"))
    requests = await _asked(cluster, 12)
    label = {"metadata": {"labels": {LABEL: "other"}}}
    path = server_path(cluster.namespace, "many-0")
    await cluster.client.patch(path, label, query={})
    for name, request in requests.items():
        await cluster.acknowledge(name, request)
    ended = await running

    assert ended.code == 0
    assert {line.split()[1] for line in ended.out[1:]} == {"Succeeded"}
    assert len(ended.out) == 13


async def _asked(cluster: Cluster, servers: int) -> dict[str, str]:
    """Wait until so many servers have a request, and return them."""
    async with asyncio.timeout(60):
        while len(found := await cluster.requests()) < servers:
            await asyncio.sleep(0.05)
    return found


async def test_a_request_that_a_newer_one_replaced_is_told(cluster):
    running = asyncio.create_task(cluster.run("web-1", "web-2", "--sync"))
    requests = await _asked(cluster, 2)
    await cluster.annotate("web-1", "newer")
    await cluster.acknowledge("web-2", requests["web-2"])
    ended = await running

    assert ended.code == 1
    assert sorted(ended.out[1:]) == [
        "web-1   Superseded",
        "web-2   Succeeded   Collected             41 ms",
    ]


async def test_a_server_that_is_deleted_or_made_anew_meanwhile_is_told(
    cluster, control_plane
):
    running = asyncio.create_task(cluster.run("web-1", "web-2", "--sync"))
    await _asked(cluster, 2)
    await asyncio.to_thread(
        control_plane.kubectl,
        *("delete", "msrv", "web-1", "web-2", "-n", cluster.namespace),
    )
    await cluster.make("web-2")
    ended = await running

    assert (ended.code, sorted(ended.out[1:])) == (
        1,
        ["web-1   Deleted", "web-2   Deleted"],
    )


async def test_a_timeout_names_who_did_not_answer(cluster):
    running = asyncio.create_task(cluster.run("--all", "--sync", "--timeout", "3"))
    requests = await _asked(cluster, 3)
    await cluster.acknowledge("web-1", requests["web-1"])
    ended = await running

    assert ended.code == 1
    assert ended.out[1:] == ["web-1   Succeeded   Collected             41 ms"]
    assert ended.err == ["error: no answer within 3 s from db-1, web-2"]


async def test_a_result_of_an_earlier_request_is_no_answer(cluster):
    await cluster.acknowledge("web-1", "earlier")
    ended = await cluster.run("web-1", "--sync", "--timeout", "2")

    assert ended.code == 1
    assert ended.err == ["error: no answer within 2 s from web-1"]


async def test_one_missing_server_keeps_no_other_from_its_turn(cluster):
    ended = await cluster.run_answered("web-9", "web-1", "--sync")

    assert ended.code == 1
    assert ended.err == [
        'Error from server (NotFound): monitoredservers.hostwatch.dev "web-9" not found'
    ]
    assert ended.out[1:] == ["web-1   Succeeded   Collected             41 ms"]


async def test_a_selector_that_cannot_be_read_is_told(cluster):
    ended = await cluster.run("-l", "tier==!web")

    assert ended.code == 1
    assert ended.err[0].startswith("Error from server (BadRequest): ")


@pytest.mark.parametrize("arguments", [["web-1"], ["--all"], ["-A"]])
async def test_what_is_forbidden_is_told_as_kubectl_does(
    cluster, control_plane, arguments
):
    control_plane.kubectl("create", "serviceaccount", "nobody", "-n", cluster.namespace)
    token = control_plane.token(cluster.namespace, "nobody")
    path = control_plane.kubeconfig_for(token, namespace=cluster.namespace)
    ended = await cluster.run(*arguments, kubeconfig=path)

    assert ended.code == 1
    (line,) = ended.err
    assert line.startswith("Error from server (Forbidden): monitoredservers.")
    assert f'User "system:serviceaccount:{cluster.namespace}:nobody" cannot' in line


async def test_a_wrong_token_is_told(cluster, control_plane):
    path = control_plane.kubeconfig_for("wrong")
    ended = await cluster.run("web-1", kubeconfig=path)

    assert (ended.code, ended.err) == (
        1,
        ["error: You must be logged in to the server (Unauthorized)"],
    )


async def test_an_api_server_that_is_not_there_is_told_once(cluster, write_kubeconfig):
    nobody = f"https://127.0.0.1:{free_ports(1)[0]}"
    path = write_kubeconfig("default", server=nobody)
    ended = await cluster.run("web-1", "web-2", kubeconfig=path)

    assert (ended.code, ended.out) == (1, [])
    (line,) = ended.err
    assert line.startswith("Unable to connect to the server: ")


async def test_a_context_and_a_kubeconfig_are_chosen(cluster, tmp_path):
    document = json.loads(cluster.kubeconfig.read_text())
    away = {"name": "away", "context": {"cluster": "none", "user": "user"}}
    document["contexts"].append(away)
    document["current-context"] = "away"
    path = tmp_path / "two-contexts"
    path.write_text(json.dumps(document))
    ended = await cluster.run(
        *("web-1", "--kubeconfig", str(path), "--context", "hostwatch"),
        kubeconfig=tmp_path / "none",
    )
    unknown = await cluster.run("web-1", "--context", "nowhere")

    assert ended.code == 0
    assert (await cluster.requests()).keys() == {"web-1"}
    assert unknown.code == 2
    assert "nowhere" in unknown.err[0]


async def test_a_cluster_without_the_resource_is_told(cluster, control_plane, client):
    async with FaultyApi(control_plane) as api:
        path = api.write_kubeconfig(cluster.kubeconfig.with_name("faulty"))

        async def unknown(_: web.Request) -> web.Response:
            return web.Response(text="404 page not found\n", status=404)

        api.before = unknown
        for arguments in (["web-1"], ["--all"]):
            ended = await cluster.run(*arguments, kubeconfig=path)
            assert ended.code == 4
            assert "install the CustomResourceDefinition" in ended.err[0]


async def test_an_api_server_that_fails_for_a_while_is_waited_for(
    cluster, control_plane
):
    seen: Counter[str] = Counter()

    async def fail(request: web.Request) -> web.Response | None:
        seen[request.method] += 1
        if request.method == "GET" and seen["GET"] <= 2:
            return web.json_response({"message": "busy"}, status=503)
        return None

    async with FaultyApi(control_plane) as api:
        path = api.write_kubeconfig(cluster.kubeconfig.with_name("faulty"))
        api.before = fail
        running = asyncio.create_task(
            cluster.run(*("web-1", "--sync", "-n", cluster.namespace), kubeconfig=path),
            name="command",
        )
        requests = await _asked(cluster, 1)
        await cluster.acknowledge("web-1", requests["web-1"])
        ended = await running

    assert (ended.code, ended.err) == (0, [])
    assert seen["GET"] == 3


async def test_nothing_that_the_api_sends_reaches_the_terminal_raw(
    cluster, control_plane
):
    nasty = "\x1b[2J\nweb-1 Succeeded \u202e"
    asked: dict[str, str] = {}

    async def lie(request: web.Request) -> web.Response:
        metadata = {"namespace": "a", "name": "web-1", "uid": "1"}
        if request.method == "PATCH":
            asked.update((await request.json())["metadata"]["annotations"])
            return web.json_response({"metadata": metadata})
        request_id = asked[COLLECT_ANNOTATION]
        result = {"result": "Failed", "reason": nasty, "durationMilliseconds": nasty}
        status = {"lastHandledCollectRequest": request_id, "lastCollectResult": result}
        return web.json_response({"metadata": metadata, "status": status})

    async with FaultyApi(control_plane) as api:
        path = api.write_kubeconfig(cluster.kubeconfig.with_name("faulty"))
        api.before = lie
        ended = await cluster.run("web-1", "--sync", kubeconfig=path)

    assert ended.code == 1
    assert ended.out[1:] == ["web-1   Failed       [2J web-1 Succeeded"]
