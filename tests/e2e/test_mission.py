"""The mission, line by line, with two operators, of which one is killed during it."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import nats as nats_py
import psycopg
import pytest

from fix_operator import Rights, Settled, Tenant, until
from world.operator import Operator
from world.patient import Patient
from world.process import free_ports

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from world.controlplane import ControlPlane
    from world.nats import Nats
    from world.postgres import Postgres
    from world.scripted import ScriptedServer

INTERVAL = 5


class Pair:
    """Two replicas of one installation, and what they left in the database."""

    def __init__(
        self,
        directory: Path,
        cluster: ControlPlane,
        rights: Rights,
        dsn: str,
        bus: Nats,
    ) -> None:
        self.cluster = cluster
        self._rights = rights
        self.dsn = dsn
        self._bus = bus
        self._directory = directory
        self._settled = Settled(None, dsn)  # type: ignore[arg-type]
        self.replicas = [self._replica(name) for name in ("first", "second")]

    def _replica(self, name: str) -> Operator:
        return Operator(
            self._directory / name,
            name=name,
            kubeconfig=self._rights.kubeconfig,
            postgres_dsn=self.dsn,
            nats_url=self._bus.url,
            allowed_destinations="127.0.0.1/32",
            instance="mission",
            identity=name,
            spool_dir=self._directory / name / "spool",
        )

    @property
    def lines(self) -> Callable[..., list[dict[str, Any]]]:
        def lines(**having: object) -> list[dict[str, Any]]:
            return [x for replica in self.replicas for x in replica.lines(**having)]

        return lines

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        return self._settled.rows(query, *arguments)

    def samples(self, name: str) -> list[dict[str, Any]]:
        return self._settled.samples(name)

    def leader(self) -> Operator | None:
        """Return the replica that holds the Lease."""
        lease = json.loads(
            self.cluster.kubectl(
                *("-n", self._rights.namespace, "get", "lease"),
                *("mission-shard-0-of-1", "-o", "json"),
            )
        )
        holder = lease["spec"].get("holderIdentity") or ""
        held = [r for r in self.replicas if holder.startswith(r.name) and r.running]
        return held[0] if held else None

    def start(self) -> None:
        for replica in self.replicas:
            replica.start()

    def stop(self) -> None:
        for replica in self.replicas:
            replica.stop()


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory,
    control_plane: ControlPlane,
    rights: Rights,
    postgres: Postgres,
    bus: Nats,
) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("mission")
    dsn = postgres.create_database(f"mission_{time.monotonic_ns()}")
    running = Pair(directory, control_plane, rights, dsn, bus)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def admit(
    tenant: Tenant,
    scripted_server: Callable[..., Awaitable[ScriptedServer]],
    credential_secret: Callable[..., str],
) -> Callable[..., Awaitable[tuple[Patient, ScriptedServer]]]:
    """Give a way to declare a server whose vital signs the test sets."""

    async def admit(name: str, **spec: Any) -> tuple[Patient, ScriptedServer]:
        labels = spec.pop("labels", {})
        patient = Patient()
        server = await scripted_server(session=patient.session)
        await asyncio.to_thread(
            credential_secret,
            f"key-{name}",
            ssh_privatekey=server.private_key,
            known_hosts=server.known_hosts,
        )
        declared = {
            "host": server.host,
            "port": server.port,
            "credentials": {"secretRef": {"name": f"key-{name}"}},
            "intervalSeconds": INTERVAL,
            "retries": 0,
            **spec,
        }
        await asyncio.to_thread(tenant.apply, name, labels=labels, **declared)
        return patient, server

    return admit


Admit = "Callable[..., Awaitable[tuple[Patient, ScriptedServer]]]"


async def collected(
    pair: Pair, name: str, *, at_least: int = 1
) -> list[dict[str, Any]]:
    """Wait for a server's rows."""
    rows: list[dict[str, Any]] = await until(
        lambda: (r := pair.samples(name))[at_least - 1 :] and r
    )
    return rows


async def health_of(tenant: Tenant, name: str, health: str) -> dict[str, Any]:
    """Wait until a server shows that health, and return its status."""

    def shown() -> dict[str, Any] | None:
        status: dict[str, Any] = tenant.get(name).get("status", {})
        return status if status.get("health") == health else None

    status: dict[str, Any] = await until(shown)
    return status


async def test_every_30_seconds(pair: Pair, admit, tenant: Tenant) -> None:
    patient, _ = await admit("default-rhythm", intervalSeconds=None)
    assert (await asyncio.to_thread(tenant.get, "default-rhythm"))["spec"][
        "intervalSeconds"
    ] == 30
    await until(lambda: len(patient.asked) >= 3, within=90)
    assert patient.asked[2] - patient.asked[1] == pytest.approx(30, abs=1.5)


async def test_every_active_server_also_after_it_was_offline(
    pair: Pair, admit, tenant: Tenant
) -> None:
    _patient, server = await admit("comes-back")
    await collected(pair, "comes-back")
    await server.stop()
    await health_of(tenant, "comes-back", "Error")
    await asyncio.sleep(2 * INTERVAL)
    await server.start()
    status = await health_of(tenant, "comes-back", "Healthy")
    assert status["consecutiveFailures"] == 0


async def test_suspended_servers_skipped(pair: Pair, admit, tenant: Tenant) -> None:
    patient, _ = await admit("rests", suspend=True)
    await health_of(tenant, "rests", "Suspended")
    await asyncio.sleep(2 * INTERVAL)
    assert patient.asked == []


async def test_no_overlap(pair: Pair, admit) -> None:
    patient, _ = await admit("slow", timeoutSeconds=60)
    patient.delay = 1.6 * INTERVAL
    await until(lambda: len(patient.asked) >= 4)
    assert patient.most_busy == 1
    gaps = [later - sooner for sooner, later in pairwise(patient.asked)]
    assert min(gaps) >= patient.delay


async def test_one_scheduler_among_two_operators(pair: Pair, admit) -> None:
    patient, server = await admit("once")
    await until(lambda: len(patient.asked) >= 4)
    gaps = [later - sooner for sooner, later in pairwise(patient.asked[1:])]
    assert min(gaps) > INTERVAL - 1
    assert server.seen.connections == 1
    working = [
        r for r in pair.replicas if "hostwatch_server_up{" in r.get("/metrics")[1]
    ]
    assert len(working) == 1
    assert {r.is_ready() for r in pair.replicas} == {True}


async def test_the_holder_is_killed_and_the_other_takes_over(
    pair: Pair, admit, tenant: Tenant, control_plane: ControlPlane, bus: Nats
) -> None:
    """While an alert fires: it is told neither again nor never resolved."""
    label = "hostwatch.dev/organization=green"
    control_plane.kubectl("label", "ns", tenant.namespace, label, "--overwrite")
    patient, _ = await admit("outlives", alerting={"forSeconds": 5})
    patient.memory = 95
    rule = of(tenant, "MemoryHigh")
    await until(lambda: pair.lines(event="Alert firing", **rule))
    await until(lambda: events_of(tenant, "outlives"))
    holder = await asyncio.to_thread(pair.leader)
    assert holder is not None
    await asyncio.to_thread(holder.kill)
    killed = time.time()
    await until(lambda: patient.asked[-1] > killed + 0.5, within=40)

    assert patient.asked[-1] - killed <= 20
    successor = await asyncio.to_thread(pair.leader)
    assert successor is not None
    assert successor is not holder
    await asyncio.to_thread(holder.start)
    await asyncio.sleep(3 * INTERVAL)
    patient.memory = 20
    await until(lambda: pair.lines(event="Alert resolved", **rule))
    assert len(pair.lines(event="Alert firing", **rule)) == 1
    told = await alerts_of("green", bus, tenant.namespace)
    assert [message["state"] for message in told] == ["firing", "resolved"]


async def test_60_second_limit(pair: Pair, admit, tenant: Tenant) -> None:
    """Five retries with their waits alone would take over fifteen seconds."""
    patient, _ = await admit("hangs", timeoutSeconds=4, retries=5, intervalSeconds=3600)
    patient.delay = 1000
    status = await health_of(tenant, "hangs", "Error")
    reasons = {c["type"]: c["reason"] for c in status["conditions"]}
    assert reasons["Ready"] == "CollectTimeout"
    await collected(pair, "hangs")
    first = patient.asked[0]
    ended = pair.lines(event="Collection failed", server="hangs")[0]["timestamp"]
    seconds = datetime.fromisoformat(ended).timestamp() - first
    assert seconds < 4 + 2
    await admit("by-default", timeoutSeconds=None)
    declared = await asyncio.to_thread(tenant.get, "by-default")
    assert declared["spec"]["timeoutSeconds"] == 60


async def test_two_retries_with_exponential_backoff(
    pair: Pair, tenant: Tenant, credential_secret
) -> None:
    attempts: list[float] = []

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(time.time())
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    credential_secret("any", password="secret", known_hosts=f"[127.0.0.1]:{port} {KEY}")
    tenant.apply(
        "flaky",
        host="127.0.0.1",
        port=port,
        credentials={"secretRef": {"name": "any"}},
        intervalSeconds=3600,
    )
    await until(lambda: len(attempts) >= 3)
    await until(lambda: tenant.reasons().get("flaky"))
    listener.close()
    await listener.wait_closed()
    first, second = (later - sooner for sooner, later in pairwise(attempts[:3]))
    assert len(attempts) == 3
    assert 0.4 < first < second


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


async def test_cpu_memory_disk_network_load_uptime(
    pair: Pair, tenant: Tenant, real_server: dict[str, Any]
) -> None:
    tenant.apply("real", **real_server)
    row = (await collected(pair, "real"))[0]
    missing = [
        column
        for column in (
            *("cpu_usage", "memory_usage", "memory_total"),
            *("disk_usage", "disk_total", "network_rx_bytes", "network_tx_bytes"),
            *("load_1", "load_5", "load_15", "uptime_seconds"),
        )
        if row[column] is None
    ]
    assert missing == []


async def test_rows_in_server_resource_metrics(pair: Pair, admit) -> None:
    patient, _ = await admit("recorded")
    patient.memory = 42
    rows = await collected(pair, "recorded", at_least=3)
    assert rows[-1]["memory_usage"] == pytest.approx(0.42 * 1_000_000 * 1024, rel=0.01)
    assert {row["status"] for row in rows} == {"healthy"}


async def test_latest_values_on_the_resource(pair: Pair, admit, tenant: Tenant) -> None:
    await admit("shown")
    status = await health_of(tenant, "shown", "Healthy")
    assert status["metrics"]["memoryTotalBytes"] == 1_000_000 * 1024
    assert status["metrics"]["diskMountPoint"] == "/"
    assert status["summary"]["disk"] == "30% /"
    assert status["lastCollectionTime"] <= f"{datetime.now(UTC):%FT%TZ}"


@pytest.mark.parametrize(
    ("sign", "percent", "health"),
    [
        ("cpu", 80, "Warning"),
        ("cpu", 95, "Critical"),
        ("memory", 76, "Warning"),
        ("memory", 91, "Critical"),
        ("disk", 86, "Warning"),
        ("disk", 91, "Critical"),
    ],
)
async def test_health_by_the_thresholds_75_90_75_90_85_90(
    pair: Pair, admit, tenant: Tenant, sign: str, percent: float, health: str
) -> None:
    patient, _ = await admit("judged")
    await health_of(tenant, "judged", "Healthy")
    setattr(patient, sign, percent)
    await health_of(tenant, "judged", health)


async def test_error_when_collection_fails_never_a_0(
    pair: Pair, admit, tenant: Tenant
) -> None:
    _, server = await admit("fails")
    await collected(pair, "fails")
    await server.stop()
    await health_of(tenant, "fails", "Error")
    rows = await until(
        lambda: [r for r in pair.samples("fails") if r["status"] == "error"]
    )
    values = {
        rows[0][column]
        for column in rows[0]
        if column
        not in ("server_id", "collected_at", "organization", "status", "reason")
    }
    assert values == {None}
    assert rows[0]["reason"] in ("ConnectionRefused", "ConnectionLost")


async def test_update_to_the_organizations_subject_only(
    pair: Pair, admit, tenant: Tenant, control_plane: ControlPlane, bus: Nats
) -> None:
    label = "hostwatch.dev/organization=green"
    control_plane.kubectl("label", "ns", tenant.namespace, label, "--overwrite")
    subjects: list[str] = []

    async def take(message: Any) -> None:
        if ".speaks" in message.subject:
            subjects.append(message.subject)

    everything = await nats_py.connect(bus.url)
    await everything.subscribe("hostwatch.>", cb=take)
    await admit("speaks")
    await until(lambda: len(subjects) >= 2)
    await everything.close()
    assert set(subjects) == {f"hostwatch.green.resources.{tenant.namespace}.speaks"}


@pytest.mark.parametrize(
    ("sign", "percent", "rule"),
    [("cpu", 95, "CPUHigh"), ("memory", 92, "MemoryHigh"), ("disk", 86, "DiskFull")],
)
async def test_alert_at_cpu_90_memory_90_disk_85_once(
    pair: Pair,
    admit,
    tenant: Tenant,
    control_plane: ControlPlane,
    bus: Nats,
    sign: str,
    percent: float,
    rule: str,
) -> None:
    label = "hostwatch.dev/organization=blue"
    control_plane.kubectl("label", "ns", tenant.namespace, label, "--overwrite")
    patient, _ = await admit("alarms", alerting={"forSeconds": 5})
    setattr(patient, sign, percent)
    fired = await until(lambda: pair.lines(event="Alert firing", **of(tenant, rule)))
    await asyncio.sleep(2 * INTERVAL)
    setattr(patient, sign, 10)
    await until(lambda: pair.lines(event="Alert resolved", **of(tenant, rule)))
    await asyncio.sleep(INTERVAL)

    assert len(pair.lines(event="Alert firing", **of(tenant, rule))) == 1
    assert len(pair.lines(event="Alert resolved", **of(tenant, rule))) == 1
    messages = await alerts_of("blue", bus, tenant.namespace)
    assert [m["state"] for m in messages if m["rule"] == rule] == ["firing", "resolved"]
    assert {m["alert_id"] for m in messages} == {fired[0]["alert_id"]}
    events = await until(lambda: (e := events_of(tenant, "alarms"))[1:] and e)
    assert sorted(event["type"] for event in events) == ["Normal", "Warning"]


def of(tenant: Tenant, rule: str) -> dict[str, str]:
    return {"namespace": tenant.namespace, "rule": rule}


def events_of(tenant: Tenant, name: str) -> list[dict[str, Any]]:
    listed = json.loads(tenant.kubectl("get", "events.events.k8s.io", "-o", "json"))
    return [e for e in listed["items"] if e["regarding"]["name"] == name]


async def alerts_of(
    organization: str, bus: Nats, namespace: str
) -> list[dict[str, Any]]:
    """Read an organization's alerts as one of its members."""
    client = await nats_py.connect(
        bus.url_for(organization, organization),
        inbox_prefix=f"_INBOX_{organization}",
    )
    subscription = await client.jetstream().pull_subscribe_bind(
        durable=organization, stream="HOSTWATCH_ALERTS"
    )
    found: list[dict[str, Any]] = []
    with suppress(TimeoutError, nats_py.errors.TimeoutError):
        while True:
            for message in await subscription.fetch(10, timeout=2):
                found.append(json.loads(message.data))
                await message.ack()
    await client.close()
    return [body for body in found if body["namespace"] == namespace]


async def test_forced_collection_by_annotation_one_server_with_acknowledgement(
    pair: Pair, admit, tenant: Tenant
) -> None:
    patient, _ = await admit("asked", intervalSeconds=3600)
    await collected(pair, "asked")
    before = len(patient.asked)
    await asyncio.to_thread(tenant.collect, "asked", "please")
    status = await until(
        lambda: (
            (s := tenant.get("asked")["status"]).get("lastHandledCollectRequest")
            == "please"
            and s
        )
    )
    assert status["lastCollectResult"]["result"] == "Succeeded"
    assert len(patient.asked) == before + 1


async def test_forced_collection_of_all_and_labels_select(
    pair: Pair, admit, tenant: Tenant
) -> None:
    for name, tier in (("web-a", "web"), ("web-b", "web"), ("db-a", "db")):
        await admit(name, intervalSeconds=3600, labels={"tier": tier})
        await collected(pair, name)
    command = ("annotate", "msrv", "--overwrite", "hostwatch.dev/collect")
    await asyncio.to_thread(
        tenant.kubectl, *command[:3], "-l", "tier=web", f"{command[3]}=web"
    )
    await until(lambda: handled(tenant) == {"web-a": "web", "web-b": "web"})
    await asyncio.to_thread(tenant.kubectl, *command[:3], "--all", f"{command[3]}=all")
    await until(lambda: set(handled(tenant).values()) == {"all"})
    assert set(handled(tenant)) == {"web-a", "web-b", "db-a"}


def handled(tenant: Tenant) -> dict[str, str]:
    listed = json.loads(tenant.kubectl("get", "msrv", "-o", "json"))
    return {
        item["metadata"]["name"]: item["status"]["lastHandledCollectRequest"]
        for item in listed["items"]
        if "lastHandledCollectRequest" in item.get("status", {})
    }


async def test_rows_older_than_30_days_pruned_younger_kept(
    pair: Pair, admit, tmp_path: Path
) -> None:
    await admit("aged")
    row = (await collected(pair, "aged"))[0]
    today = datetime.now(UTC).date()
    with psycopg.connect(pair.dsn, autocommit=True) as connection:
        for days in (33, 29):
            day = today - timedelta(days=days)
            start, end = f"{day} 00:00+00", f"{day + timedelta(1)} 00:00+00"
            table = f"hostwatch.server_resource_metrics_{day:%Y%m%d}"
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table} PARTITION OF"
                " hostwatch.server_resource_metrics"
                f" FOR VALUES FROM ('{start}') TO ('{end}')"
            )
            connection.execute(
                "INSERT INTO hostwatch.server_resource_metrics"
                " (server_id, collected_at, organization, status)"
                " VALUES (%s, %s, 'acme', 'healthy')",
                [row["server_id"], f"{day} 12:00+00"],
            )
    await asyncio.to_thread(prune, pair.dsn)
    ages = {
        (today - found["collected_at"].astimezone(UTC).date()).days
        for found in pair.samples("aged")
    }
    assert 29 in ages
    assert 33 not in ages


def prune(dsn: str) -> None:
    """Run the command, as a CronJob or an administrator would."""
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "hostwatch", "prune"],
        env={**os.environ, "HOSTWATCH_POSTGRES_DSN": dsn},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


async def test_a_failing_server_disturbs_no_other(
    pair: Pair, admit, tenant: Tenant
) -> None:
    for number in range(5):
        patient, _ = await admit(f"bad-{number}")
        patient.delay = 1000
    healthy, _ = await admit("good")
    await asyncio.sleep(4 * INTERVAL)
    gaps = [later - sooner for sooner, later in pairwise(healthy.asked[1:])]
    assert gaps
    assert max(gaps) < INTERVAL + 1.5


async def test_log_with_server_namespace_organization_and_reason(
    pair: Pair, tenant: Tenant, organization: str, real_server: dict[str, Any]
) -> None:
    tenant.apply("logged", **{**real_server, "port": free_ports(1)[0], "retries": 0})
    [line, *_] = await until(
        lambda: pair.lines(event="Collection failed", namespace=tenant.namespace)
    )
    assert (line["server"], line["organization"], line["reason"], line["level"]) == (
        "logged",
        organization,
        "ConnectionRefused",
        "warning",
    )


async def test_the_summary_line_with_servers_time_and_success_rate(pair: Pair) -> None:
    line = (await until(lambda: pair.lines(event="Summary")))[-1]
    assert {"timestamp", "servers", "collections", "success_percent"} <= set(line)
