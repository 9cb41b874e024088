"""The election on the real API server: takeovers, and never two that work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from hostwatch.kube.client import ApiRefusedError, KubeClient
from hostwatch.kube.elector import Elector, Term, unique_identity
from hostwatch.kube.lease import leases_path
from hostwatch.kube.login import Login
from world.kubeapi import CountingMeter, FaultyApi
from world.process import Process
from world.proxy import TcpProxy
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from world.controlplane import ControlPlane

NAME = "shard-0-of-1"
DURATION, DEADLINE, RETRY = 3.0, 2.0, 0.4
TAKEOVER = DURATION + 1.2 * RETRY + 0.5
SLOWNESS = 3.0  # of a busy machine; only ever added to what must come soon
QUERY = {"fieldManager": "test"}

OPERATOR = Path(__file__).parents[2] / "operator"
CHILD = """
import asyncio, sys, time
from hostwatch.kube.client import KubeClient
from hostwatch.kube.elector import Elector, unique_identity
from hostwatch.kube.login import Login

class Meter:
    def __getattr__(self, name):
        return lambda *args: None

async def lead(term):
    while True:
        if term.valid():
            print("works", time.monotonic(), flush=True)
        await asyncio.sleep(0.02)

async def main(kubeconfig, namespace, name):
    client = KubeClient(meter=Meter(), login=Login(kubeconfig=kubeconfig))
    await client.open()
    await Elector(
        client, namespace=namespace, name=name, identity=unique_identity("child"),
        meter=Meter(), duration=3, deadline=2, retry=0.4,
    ).run(lead)

asyncio.run(main(*sys.argv[1:]))
"""


class LeaseMeter:
    def __init__(self) -> None:
        self.states: list[bool] = []
        self.renewals = 0
        self.failures: list[str] = []
        self.seen: list[int] = []

    def leading(self, leading: bool) -> None:  # noqa: FBT001 - as the protocol
        self.states.append(leading)

    def renewed(self, seconds: float) -> None:
        self.renewals += 1

    def failed(self, why: str) -> None:
        self.failures.append(why)

    def transitions(self, number: int) -> None:
        self.seen.append(number)


class Replica:
    """One elector; its work notes when it began and when it had ended."""

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self.identity = unique_identity(name)
        self.meter = LeaseMeter()
        self.terms: list[Term] = []
        self.began: list[float] = []
        self.ended: list[float] = []
        self.failing = asyncio.Event()
        self.elector = Elector(
            client,
            namespace=namespace,
            name=NAME,
            identity=self.identity,
            meter=self.meter,
            duration=DURATION,
            deadline=DEADLINE,
            retry=RETRY,
            abandon=lambda: pytest.fail("the work did not stop in time"),
        )
        self.task = asyncio.create_task(self.elector.run(self.work), name=name)

    @property
    def works(self) -> bool:
        return len(self.began) > len(self.ended)

    async def work(self, term: Term) -> None:
        self.terms.append(term)
        self.began.append(time.monotonic())
        try:
            await self.failing.wait()
            raise LookupError("the work broke")
        finally:
            await asyncio.sleep(0.1)
            self.ended.append(time.monotonic())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


class Stage:
    """Makes replicas in one namespace, and reads their Lease."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.path = f"{leases_path(namespace)}/{NAME}"

    @asynccontextmanager
    async def client(self, kubeconfig: Path | None = None) -> AsyncIterator[KubeClient]:
        login = Login(kubeconfig=str(kubeconfig or self.control_plane.kubeconfig))
        client = KubeClient(meter=CountingMeter(), login=login)
        await client.open()
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def replica(
        self, name: str, kubeconfig: Path | None = None
    ) -> AsyncIterator[Replica]:
        async with self.client(kubeconfig) as client:
            replica = Replica(client, self.namespace, name)
            try:
                yield replica
            finally:
                await replica.stop()

    async def spec(self) -> dict[str, Any]:
        async with self.client() as client:
            return (await client.get(self.path))["spec"]


@pytest.fixture
def stage(control_plane: ControlPlane, namespace: str) -> Stage:
    return Stage(control_plane, namespace)


@pytest.fixture
async def faulty(control_plane: ControlPlane, tmp_path: Path):
    async with FaultyApi(control_plane) as api:
        api.write_kubeconfig(tmp_path / "faulty")
        yield api


@pytest.fixture
def through_faulty(faulty: FaultyApi, tmp_path: Path) -> Path:
    return tmp_path / "faulty"


async def soon(condition: Callable[[], object]) -> None:
    await eventually(condition, within=TAKEOVER + SLOWNESS)


def since(left: dict[str, Any], successor: Replica) -> float:
    """Return the seconds from the last renewal of a Lease to the next one's work."""
    renewed = datetime.fromisoformat(left["renewTime"])
    silent = (datetime.now(UTC) - renewed).total_seconds()
    return silent - (time.monotonic() - successor.began[-1])


async def test_exactly_one_of_two_works(stage):
    async with stage.replica("a") as a, stage.replica("b") as b:
        await soon(lambda: a.works or b.works)
        holder, follower = (a, b) if a.works else (b, a)
        await soon(lambda: holder.meter.renewals >= 10)
        assert follower.began == []
        assert holder.meter.states == [True]
        spec = await stage.spec()
        assert spec["holderIdentity"] == holder.identity
        assert spec["leaseDurationSeconds"] == 3
        assert spec["leaseTransitions"] == holder.terms[0].number == 0
        assert spec["acquireTime"] < spec["renewTime"]
        assert holder.terms[0].valid()


async def test_a_released_lease_is_taken_within_a_poll(stage):
    async with stage.replica("a") as a:
        await soon(lambda: a.works)
        async with stage.replica("b") as b:
            await soon(lambda: b.meter.seen)
            with capture_logs() as logs:
                stopped = time.monotonic()
                await a.stop()
                await soon(lambda: b.works)
            assert a.task.cancelled()
            assert a.ended[0] < b.began[0] < stopped + 1.5
            assert b.terms[0].number == 1
            assert [line["event"] for line in logs] == ["Released the lease", "Leading"]
    spec = await stage.spec()
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("", 1)


async def test_a_holder_that_could_not_release_is_waited_for(
    stage, faulty, through_faulty
):
    async def refuse(request: web.Request) -> web.Response | None:
        if request.method == "PUT":
            return web.json_response({"message": "broken"}, status=500)
        return None

    async with stage.replica("a", through_faulty) as a:
        await soon(lambda: a.works)
        async with stage.replica("b") as b:
            await soon(lambda: b.meter.seen)
            faulty.before = refuse
            await a.stop()
            left = await stage.spec()
            await soon(lambda: b.works)
            assert since(left, b) > DURATION


async def test_work_behind_a_lost_api_has_stopped_before_another_begins(
    stage, faulty, through_faulty
):
    async with stage.replica("a", through_faulty) as a:
        await soon(lambda: a.meter.renewals)
        async with stage.replica("b") as b:
            await soon(lambda: b.meter.seen)
            await faulty.stop()
            lost = time.monotonic()
            await soon(lambda: b.works)
            assert not a.terms[0].valid()
            assert a.ended[0] < b.began[0]
            assert b.began[0] - lost < TAKEOVER + SLOWNESS

            await faulty.start()
            renewals = b.meter.renewals
            await soon(lambda: b.meter.renewals > renewals + 3)
            assert not a.works
            await b.stop()
            await soon(lambda: a.works)
            assert [term.number for term in a.terms] == [0, 2]


async def test_work_behind_a_silent_api_has_stopped_before_another_begins(
    stage, control_plane, tmp_path
):
    host, port = control_plane.url.removeprefix("https://").split(":")
    async with TcpProxy(host, int(port)) as proxy:
        kubeconfig = tmp_path / "behind-proxy"
        text = control_plane.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(f":{port}", f":{proxy.port}"))
        async with stage.replica("a", kubeconfig) as a:
            await soon(lambda: a.meter.renewals)
            async with stage.replica("b") as b:
                await soon(lambda: b.meter.seen)
                proxy.pause()
                await soon(lambda: b.works)
                assert a.ended[0] < b.began[0]
                assert set(a.meter.failures) == {"away"}
                await proxy.resume()
            await soon(lambda: a.works)


async def test_one_alone_works_again_when_the_api_is_back(
    stage, faulty, through_faulty
):
    async with stage.replica("a", through_faulty) as a:
        await soon(lambda: a.meter.renewals)
        with capture_logs() as logs:
            await faulty.stop()
            lost = time.monotonic()
            await soon(lambda: a.ended)
            assert a.ended[0] - lost < DURATION
            await faulty.start()
            await soon(lambda: a.works)
        events = [line["event"] for line in logs]
        assert events[0] == "The lease cannot be read or written"
        assert "Lost the lease" in events
        assert events[-1] == "Leading"
        assert a.meter.states == [True, False, True]


async def test_a_deleted_lease_is_made_again_by_its_holder(stage, control_plane):
    async with stage.replica("a") as a:
        await soon(lambda: a.works)
        async with stage.replica("b") as b, stage.client() as client:
            await soon(lambda: b.meter.seen)
            uid = (await client.get(stage.path))["metadata"]["uid"]
            with capture_logs() as logs:
                control_plane.kubectl("delete", "lease", NAME, "-n", stage.namespace)
                renewals = a.meter.renewals
                await soon(lambda: a.meter.renewals > renewals + 3)
            made = await client.get(stage.path)
            assert made["metadata"]["uid"] != uid
            assert made["spec"]["holderIdentity"] == a.identity
            assert a.works
            assert (len(a.began), len(b.began)) == (1, 0)
            events = [line["event"] for line in logs]
            assert events == ["The lease was deleted, making it again"]


async def test_an_annotation_on_the_lease_stays_and_disturbs_nobody(
    stage, control_plane
):
    async with stage.replica("a") as a:
        await soon(lambda: a.works)
        control_plane.kubectl(
            "annotate", "lease", NAME, "-n", stage.namespace, "seen=yes"
        )
        renewals = a.meter.renewals
        await soon(lambda: a.meter.renewals > renewals + 3)
        async with stage.client() as client:
            stored = await client.get(stage.path)
        assert stored["metadata"]["annotations"] == {"seen": "yes"}
        assert len(a.began) == 1


async def test_work_that_breaks_ends_the_run_after_the_release(stage):
    async with stage.replica("a") as a:
        await soon(lambda: a.works)
        async with stage.replica("b") as b:
            await soon(lambda: b.meter.seen)
            a.failing.set()
            with pytest.raises(LookupError, match="the work broke"):
                await a.task
            released = time.monotonic()
            await soon(lambda: b.works)
            assert a.ended[0] < b.began[0] < released + 1.5


async def test_a_loop_that_stood_still_has_lost_and_does_not_renew(
    stage, faulty, through_faulty
):
    async with stage.replica("a", through_faulty) as a:
        await soon(lambda: a.meter.renewals)
        faulty.requests.clear()
        with capture_logs() as logs:
            time.sleep(DEADLINE + 0.2)  # noqa: ASYNC251 - the loop stands still
            assert not a.terms[0].valid()
            await soon(lambda: a.ended)
        # It may look at the Lease again already, and follow its own last term.
        assert logs[0]["event"] == "Lost the lease"
        # A renewal that was under way when the loop stopped may still arrive.
        assert len([one for one in faulty.requests if "PUT" in one]) <= 1
        await soon(lambda: a.works)


# Rights --------------------------------------------------------------------------


def grant(control_plane: ControlPlane, namespace: str, *verbs: str) -> None:
    role = ("--role=lease", f"--serviceaccount={namespace}:replica", "-n", namespace)
    control_plane.kubectl(
        *("create", "role", "lease", f"--verb={','.join(verbs)}"),
        *("--resource=leases.coordination.k8s.io", "-n", namespace),
    )
    control_plane.kubectl("create", "rolebinding", "lease", *role)


@pytest.fixture
def account(control_plane: ControlPlane, namespace: str) -> Path:
    """Give the kubeconfig of a ServiceAccount without any rights."""
    control_plane.kubectl("create", "serviceaccount", "replica", "-n", namespace)
    token = control_plane.token(namespace, "replica")
    return control_plane.kubeconfig_for(token, namespace=namespace)


async def test_missing_rights_are_named_and_the_three_named_are_enough(
    stage, control_plane, namespace, account
):
    with capture_logs() as logs:
        async with stage.replica("a", account) as a:
            await soon(lambda: "forbidden" in a.meter.failures)
            assert not a.works
            grant(control_plane, namespace, "get", "create", "update")
            await eventually(lambda: a.meter.renewals >= 2)
    assert logs[0]["event"] == (
        "Grant the verbs get, create and update on leases.coordination.k8s.io "
        "in this namespace"
    )
    assert (logs[0]["namespace"], logs[0]["lease"]) == (namespace, NAME)
    assert "leases.coordination.k8s.io" in logs[0]["detail"]
    assert [line["event"] for line in logs][-2:] == ["Leading", "Released the lease"]


async def test_a_namespace_that_does_not_exist_is_told(control_plane):
    stage = Stage(control_plane, "nowhere")
    with capture_logs() as logs:
        async with stage.replica("a") as a:
            await soon(lambda: "refused" in a.meter.failures)
    assert logs[0]["event"] == "The lease cannot be read or written"
    assert 'namespaces "nowhere" not found' in logs[0]["detail"]


async def test_a_write_over_what_was_not_seen_is_refused(stage):
    path = leases_path(stage.namespace)
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "one", "namespace": stage.namespace},
    }
    async with stage.client() as client:
        made = await client.post(path, body, query=QUERY)
        with pytest.raises(ApiRefusedError) as exists:
            await client.post(path, body, query=QUERY)
        assert exists.value.status == 409

        changed = {**made, "spec": {"holderIdentity": "a"}}
        stored = await client.put(f"{path}/one", changed, query=QUERY)
        assert stored["spec"] == {"holderIdentity": "a"}
        with pytest.raises(ApiRefusedError) as stale:
            await client.put(f"{path}/one", changed, query=QUERY)
        assert stale.value.status == 409


# Processes -----------------------------------------------------------------------


@pytest.fixture
def child(stage: Stage, control_plane: ControlPlane, tmp_path: Path):
    """Start another process that holds the Lease, and works every 20 ms."""
    process = Process(
        "child",
        [
            *(sys.executable, "-c", CHILD),
            *(control_plane.kubeconfig, stage.namespace, NAME),
        ],
        directory=tmp_path,
        environment={"PYTHONPATH": str(OPERATOR)},
    )
    with process:
        process.start(lambda: len(worked(process)) >= 10)
        yield process


def worked(process: Process) -> list[float]:
    """Return the monotonic times at which the process worked."""
    lines = process.log.read_text().splitlines()
    return [float(line.split()[1]) for line in lines if line.startswith("works ")]


async def test_the_lease_of_a_killed_process_is_taken_in_time(stage, child):
    async with stage.replica("b") as b:
        await soon(lambda: b.meter.seen)
        os.kill(child.pid, signal.SIGKILL)
        left = await stage.spec()
        await soon(lambda: b.works)
        assert b.began[0] > worked(child)[-1]
        assert DURATION < since(left, b) < TAKEOVER + SLOWNESS


async def test_a_process_that_was_stopped_does_not_work_when_it_goes_on(stage, child):
    async with stage.replica("b") as b:
        await soon(lambda: b.meter.seen)
        os.kill(child.pid, signal.SIGSTOP)
        await soon(lambda: b.works)
        ticks = len(worked(child))
        os.kill(child.pid, signal.SIGCONT)
        await eventually(lambda: "Lost the lease" in child.log.read_text())
        await eventually(lambda: "Following" in child.log.read_text())
        assert len(worked(child)) == ticks
        assert b.works


async def test_a_process_that_ends_in_order_releases(stage, child):
    async with stage.replica("b") as b:
        await soon(lambda: b.meter.seen)
        os.kill(child.pid, signal.SIGINT)
        ended = time.monotonic()
        await soon(lambda: b.works)
        assert worked(child)[-1] < b.began[0] < ended + 1.5
        await eventually(lambda: not child.running)
