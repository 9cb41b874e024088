"""How the operator starts, stops, and bears what it depends on being away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from fix_operator import Settled, Tenant, until
from world.controlplane import ControlPlane
from world.nats import Nats
from world.operator import Operator
from world.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory) -> Iterator[ControlPlane]:
    """Run a cluster that may lose its API server and its CRD."""
    with ControlPlane(tmp_path_factory.mktemp("own-cluster")) as started:
        started.install_crd()
        yield started


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("own-postgres")) as started:
        yield started


@pytest.fixture
def own_nats(tmp_path) -> Iterator[Nats]:
    directory = tmp_path / "nats"
    directory.mkdir()
    with Nats(directory) as started:
        yield started


@pytest.fixture
def home(own_cluster: ControlPlane, openssh) -> Iterator[Tenant]:
    """Use a namespace of that cluster, with a Secret that works."""
    name = f"home-{time.monotonic_ns()}"
    own_cluster.kubectl("create", "namespace", name)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "ssh",
            "namespace": name,
            "labels": {"hostwatch.dev/ssh-credential": "true"},
        },
        "type": "kubernetes.io/ssh-auth",
        "stringData": {
            "ssh-privatekey": openssh.private_key,
            "known_hosts": openssh.known_hosts,
        },
    }
    own_cluster.apply(json.dumps(secret))
    yield Tenant(own_cluster, name)
    own_cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def spec(openssh) -> dict[str, Any]:
    return {
        "host": openssh.host,
        "port": openssh.port,
        "user": openssh.user,
        "credentials": {"secretRef": {"name": "ssh"}},
        "intervalSeconds": 5,
    }


@contextmanager
def running(
    directory: Path, cluster: ControlPlane, dsn: str, nats: Nats, **more: object
) -> Iterator[Settled]:
    with Operator(
        directory,
        kubeconfig=cluster.kubeconfig,
        postgres_dsn=dsn,
        nats_url=nats.url,
        allowed_destinations="127.0.0.1/32",
        **more,
    ) as operator:
        yield Settled(operator, dsn)


@pytest.fixture
def own_database(own_postgres: Postgres) -> str:
    return own_postgres.create_database(f"own_{time.monotonic_ns()}")


async def test_samples_taken_while_the_database_is_away_arrive_later(
    tmp_path: Path,
    own_cluster: ControlPlane,
    own_postgres: Postgres,
    own_database: str,
    own_nats: Nats,
    home: Tenant,
    spec: dict[str, Any],
) -> None:
    own_postgres.stop()
    with running(tmp_path, own_cluster, own_database, own_nats) as settled:
        home.apply("early", **spec)
        await until(lambda: home.reasons().get("early") == "Collected")
        await asyncio.sleep(6)
        assert settled.operator.lines(level="error") == []
        assert "hostwatch_postgres_up 0" in settled.operator.get("/metrics")[1]

        own_postgres.start()
        rows = await until(lambda: stored(settled, "early", at_least=2))
        await until(
            lambda: "hostwatch_postgres_up 1" in settled.operator.get("/metrics")[1]
        )

        own_postgres.stop()
        await asyncio.sleep(7)
        own_postgres.start()
        later = await until(lambda: stored(settled, "early", at_least=len(rows) + 2))

    stamps = [row["collected_at"] for row in later]
    gaps = [(later - sooner).total_seconds() for sooner, later in pairwise(stamps)]
    assert max(gaps[1:]) < 7.5


def stored(settled: Settled, name: str, *, at_least: int) -> list[dict[str, Any]]:
    """Return a server's rows once there are that many; a closed door counts as none."""
    try:
        rows = settled.samples(name)
    except psycopg.Error:
        return []
    return rows if len(rows) >= at_least else []


async def test_the_bus_being_away_stops_nothing(
    tmp_path: Path,
    own_cluster: ControlPlane,
    own_database: str,
    own_nats: Nats,
    home: Tenant,
    spec: dict[str, Any],
) -> None:
    own_nats.stop()
    with running(tmp_path, own_cluster, own_database, own_nats) as settled:
        home.apply("quiet", **spec)
        await until(lambda: stored(settled, "quiet", at_least=2))
        assert "hostwatch_nats_connected 0" in settled.operator.get("/metrics")[1]
        own_nats.start()
        await until(
            lambda: "hostwatch_nats_connected 1" in settled.operator.get("/metrics")[1]
        )
        assert settled.operator.lines(level="error") == []


async def test_the_operator_outlives_its_api_server(
    tmp_path: Path,
    own_cluster: ControlPlane,
    own_database: str,
    own_nats: Nats,
    home: Tenant,
    spec: dict[str, Any],
) -> None:
    with running(tmp_path, own_cluster, own_database, own_nats) as settled:
        home.apply("lasting", **spec)
        await until(lambda: home.reasons().get("lasting") == "Collected")
        own_cluster.stop_api()
        await asyncio.sleep(5)
        own_cluster.start_api()
        home.collect("lasting", "after")
        await until(
            lambda: (
                home.get("lasting")["status"].get("lastHandledCollectRequest")
                == "after"
            )
        )
        assert settled.operator.running


async def test_a_restart_keeps_the_rhythm_and_repeats_no_request(
    tmp_path: Path,
    own_cluster: ControlPlane,
    own_database: str,
    own_nats: Nats,
    home: Tenant,
    spec: dict[str, Any],
) -> None:
    resting = {**spec, "intervalSeconds": 3600}
    with running(tmp_path, own_cluster, own_database, own_nats) as settled:
        home.apply("steady", **spec)
        home.apply("asked", **resting, suspend=True)
        home.collect("asked", "once")
        await until(lambda: stored(settled, "asked", at_least=1))
        await until(lambda: stored(settled, "steady", at_least=3))
        await until(lambda: "lastCollectResult" in home.get("asked")["status"])
    with running(tmp_path, own_cluster, own_database, own_nats) as settled:
        count = len(settled.samples("steady"))
        rows = await until(lambda: stored(settled, "steady", at_least=count + 3))

    seconds = [row["collected_at"].timestamp() % 5 for row in (*rows[1:3], *rows[-2:])]
    spread = [min(abs(s - seconds[0]), 5 - abs(s - seconds[0])) for s in seconds]
    assert max(spread) < 1
    assert len(settled.samples("asked")) == 1


async def test_sigterm_ends_it_in_order(
    tmp_path: Path,
    own_cluster: ControlPlane,
    own_database: str,
    own_nats: Nats,
    home: Tenant,
    spec: dict[str, Any],
) -> None:
    operator = Operator(
        tmp_path,
        kubeconfig=own_cluster.kubeconfig,
        postgres_dsn=own_database,
        nats_url=own_nats.url,
        allowed_destinations="127.0.0.1/32",
    )
    with operator:
        settled = Settled(operator, own_database)
        home.apply("ends", **spec)
        await until(lambda: stored(settled, "ends", at_least=1))
        shown = home.get("ends")["status"]["lastAttemptTime"]
        child, asked = operator.process, time.monotonic()
        child.terminate()
        assert await asyncio.to_thread(child.wait, 20) == 0
        took = time.monotonic() - asked
    assert took < 10
    assert operator.lines(level="error") == operator.lines(level="warning") == []
    newest = max(row["collected_at"] for row in settled.samples("ends"))
    assert f"{newest:%FT%TZ}" >= shown


async def test_a_removed_crd_ends_its_servers_and_nothing_else(
    tmp_path: Path,
    own_cluster: ControlPlane,
    own_database: str,
    own_nats: Nats,
    home: Tenant,
    spec: dict[str, Any],
) -> None:
    with running(tmp_path, own_cluster, own_database, own_nats) as settled:
        home.apply("swept", **spec)
        await until(lambda: stored(settled, "swept", at_least=1))
        own_cluster.kubectl("delete", "crd", "monitoredservers.hostwatch.dev")
        query = "SELECT deleted_at FROM hostwatch.servers WHERE name = 'swept'"
        await until(lambda: settled.rows(query)[0]["deleted_at"])
        own_cluster.install_crd()
        home.apply("new", **spec)

        def sampled() -> list[dict[str, Any]]:
            # A watch that missed the CRD's return ends the process, on purpose, and
            # Kubernetes starts it again.
            if not settled.operator.running:
                settled.operator.stop()
                settled.operator.start()
            return stored(settled, "new", at_least=1)

        await until(sampled, within=240)


def ends(cluster_config: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the operator where it must not start, and return how it ended."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HOSTWATCH_")}
    named = {f"HOSTWATCH_{key.upper()}": value for key, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "hostwatch", "operator"],
        env={**kept, "KUBECONFIG": str(cluster_config), **named},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


OFF = {"http_port": "0", "spool_dir": "off"}


def test_a_bad_setting_ends_it_with_a_line_for_each(tmp_path: Path) -> None:
    done = ends(tmp_path / "none", retention_days="0", allowed_destinations="here")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        "HOSTWATCH_ALLOWED_DESTINATIONS",
        "HOSTWATCH_POSTGRES_DSN",
        "HOSTWATCH_RETENTION_DAYS",
        "HOSTWATCH_SPOOL_DIR",
    ]


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    done = ends(tmp_path / "none", postgres_dsn="host=127.0.0.1", **OFF)
    assert done.returncode == 2
    assert "KUBECONFIG" in done.stderr


def test_a_refused_login_to_the_database_names_the_setting(
    control_plane: ControlPlane, postgres: Postgres
) -> None:
    control_plane.install_crd()
    done = ends(
        control_plane.kubeconfig,
        postgres_dsn=postgres.dsn("no_such_database"),
        **OFF,
    )
    assert done.returncode == 3
    assert "HOSTWATCH_POSTGRES_DSN" in done.stderr


def test_a_missing_crd_is_named(own_cluster: ControlPlane, postgres: Postgres) -> None:
    own_cluster.kubectl(
        "delete", "crd", "monitoredservers.hostwatch.dev", "--ignore-not-found"
    )
    try:
        done = ends(own_cluster.kubeconfig, postgres_dsn=postgres.dsn(), **OFF)
    finally:
        own_cluster.install_crd()
    assert done.returncode == 4
    assert "kubectl apply" in done.stderr
