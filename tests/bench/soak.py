"""Run the operator long against everything real, and look for growth and lateness.

    python tests/bench/soak.py --servers 50 --interval 5 --minutes 10

All servers are this machine's sshd, so client and servers share its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psycopg
from rich.console import Console
from rich.table import Table

from world.controlplane import ControlPlane
from world.nats import Nats
from world.operator import Operator
from world.postgres import Postgres
from world.sshd import OpenSSH

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTLE_SECONDS = 60
_LOOK_SECONDS = 10
_LARGEST_SLOPE = 0.2
"""MiB per minute of resident memory that still counts as flat in ten minutes."""

_ALLOWANCE = 5
"""Tasks and descriptors by which the last third may exceed the first."""


@dataclass(frozen=True)
class Look:
    """The operator's process at one moment; seconds and bytes."""

    at: float
    cpu: float
    memory: int
    descriptors: int
    tasks: float
    skipped: float


def main() -> int:
    """Return 0 when nothing grew and nothing failed."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="hostwatch-soak-") as directory:
        return _soak(Path(directory), arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=50)
    parser.add_argument("--interval", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10)
    return parser.parse_args()


def _soak(directory: Path, arguments: argparse.Namespace) -> int:
    def folder(name: str) -> Path:
        path = directory / name
        path.mkdir()
        return path

    with (
        OpenSSH(folder("sshd")) as sshd,
        Postgres(folder("postgres")) as postgres,
        Nats(folder("nats")) as nats,
        ControlPlane(folder("cluster")) as cluster,
    ):
        cluster.install_crd()
        with Operator(
            folder("operator"),
            kubeconfig=cluster.kubeconfig,
            postgres_dsn=postgres.dsn(),
            nats_url=nats.url,
            allowed_destinations="127.0.0.1/32",
        ) as operator:
            cluster.apply(json.dumps(_manifests(sshd, arguments)))
            looks = list(_look(operator, arguments.minutes * 60))
            seconds = looks[-1].at - looks[0].at
            time.sleep(5)  # the last batch is on its way
            intervals = _intervals(postgres.dsn(), looks[0].at, looks[-1].at)
            lines = operator.lines()
    bad = [line for line in lines if line.get("level") not in ("info", "debug")]
    return _report(arguments, looks, intervals, bad, seconds)


def _look(operator: Operator, seconds: float) -> Iterator[Look]:
    """Look at the process from when it has settled until the time is over."""
    process = operator.process
    end = time.time() + _SETTLE_SECONDS + seconds
    time.sleep(_SETTLE_SECONDS)
    while time.time() < end:
        times = process.cpu_times()
        page = operator.get("/metrics")[1]
        yield Look(
            at=time.time(),
            cpu=times.user + times.system,
            memory=process.memory_info().rss,
            descriptors=process.num_fds(),
            tasks=_value(page, "hostwatch_event_loop_tasks"),
            skipped=_value(page, "hostwatch_slots_skipped_total"),
        )
        time.sleep(_LOOK_SECONDS)


def _value(page: str, name: str) -> float:
    return sum(
        float(value)
        for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
    )


def _intervals(dsn: str, since: float, until: float) -> list[float]:
    """Return the seconds between each server's consecutive samples, sorted."""
    query = (
        "SELECT extract(epoch FROM collected_at - lag(collected_at) OVER"
        " (PARTITION BY server_id ORDER BY collected_at))::float"
        " FROM hostwatch.server_resource_metrics"
        " WHERE collected_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)"
    )
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(query, [since, until]).fetchall()
    return sorted(row[0] for row in rows if row[0] is not None)


def _report(
    arguments: argparse.Namespace,
    looks: list[Look],
    intervals: list[float],
    bad: list[dict[str, object]],
    seconds: float,
) -> int:
    first, last = looks[0], looks[-1]
    samples = len(intervals)
    skipped = last.skipped - first.skipped
    cpu = last.cpu - first.cpu
    slope = _slope(looks) / 2**20 * 60
    tasks = sorted(look.tasks for look in looks)
    table = Table(title="Soak", show_header=False)
    for row in (
        ("cores of this machine", str(os.cpu_count())),
        ("servers, interval", f"{arguments.servers}, {arguments.interval} s"),
        ("measured for", f"{seconds / 60:.1f} min"),
        ("samples", str(samples)),
        ("operator CPU", f"{cpu / seconds:.3f} core"),
        ("operator CPU per sample", f"{1000 * cpu / max(1, samples):.2f} ms"),
        ("interval p50, p99, max", _quantiles(intervals)),
        ("slots skipped", f"{skipped:.0f}"),
        ("memory, first and last", f"{first.memory >> 20} and {last.memory >> 20} MiB"),
        ("memory slope", f"{slope:+.2f} MiB/min"),
        ("tasks, least and most", f"{tasks[0]:.0f} and {tasks[-1]:.0f}"),
        ("descriptors, first and last", f"{first.descriptors} and {last.descriptors}"),
        ("warnings and errors in the log", str(len(bad))),
    ):
        table.add_row(*row)
    Console().print(table)
    for line in bad[:10]:
        sys.stderr.write(json.dumps(line) + "\n")
    third = max(1, len(looks) // 3)
    grew = slope > _LARGEST_SLOPE or any(
        median(getattr(look, what) for look in looks[-third:])
        > median(getattr(look, what) for look in looks[:third]) + _ALLOWANCE
        for what in ("tasks", "descriptors")
    )
    return 1 if bad or grew or skipped or not samples else 0


def _quantiles(values: list[float]) -> str:
    if not values:
        return "none"
    last = len(values) - 1
    return (
        ", ".join(f"{values[round(share * last)]:.3f}" for share in (0.5, 0.99, 1))
        + " s"
    )


def _slope(looks: list[Look]) -> float:
    """Return bytes per second, by least squares."""
    mean_at = sum(look.at for look in looks) / len(looks)
    mean = sum(look.memory for look in looks) / len(looks)
    over = sum((look.at - mean_at) * (look.memory - mean) for look in looks)
    under = sum((look.at - mean_at) ** 2 for look in looks)
    return over / under if under else 0.0


def _manifests(sshd: OpenSSH, arguments: argparse.Namespace) -> dict[str, object]:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "ssh",
            "namespace": "default",
            "labels": {"hostwatch.dev/ssh-credential": "true"},
        },
        "type": "kubernetes.io/ssh-auth",
        "stringData": {
            "ssh-privatekey": sshd.private_key,
            "known_hosts": sshd.known_hosts,
        },
    }
    servers = [
        {
            "apiVersion": "hostwatch.dev/v1alpha1",
            "kind": "MonitoredServer",
            "metadata": {"name": f"server-{number}", "namespace": "default"},
            "spec": {
                "host": sshd.host,
                "port": sshd.port,
                "user": sshd.user,
                "credentials": {"secretRef": {"name": "ssh"}},
                "intervalSeconds": arguments.interval,
            },
        }
        for number in range(arguments.servers)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": [secret, *servers]}


if __name__ == "__main__":
    sys.exit(main())
