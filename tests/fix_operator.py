"""The operator against everything real, and a tenant's hands on kubectl."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from world.helm import Helm
from world.nats import Nats, NatsUser, organization_user
from world.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from world.controlplane import ControlPlane
    from world.postgres import Postgres
    from world.sshd import OpenSSH

TENANTS = ("blue", "green")


@pytest.fixture(scope="module")
def bus(tmp_path_factory) -> Iterator[Nats]:
    """Run a NATS server that knows the operator and two organizations."""
    users = [
        NatsUser(name="operator", password="operator"),
        *(organization_user(tenant, tenant) for tenant in TENANTS),
    ]
    with Nats(tmp_path_factory.mktemp("bus"), users=users) as started:
        yield started


@dataclass(frozen=True)
class Rights:
    """A login as the chart's ServiceAccount, and where that lives."""

    kubeconfig: Path
    namespace: str


@pytest.fixture(scope="module")
def rights(tmp_path_factory, control_plane: ControlPlane) -> Iterator[Rights]:
    """Install the chart: the operator has its rights, though it is no pod here."""
    control_plane.install_crd()
    name = f"chart-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", name)
    label = "pod-security.kubernetes.io/enforce=restricted"
    control_plane.kubectl("label", "namespace", name, label)
    helm = Helm(tmp_path_factory.mktemp("helm"), kubeconfig=control_plane.kubeconfig)
    helm.install(name, namespace=name, values={"secrets": {"clusterWide": True}})
    account = json.loads(
        control_plane.kubectl("-n", name, "get", "statefulset", "-o", "json")
    )["items"][0]["spec"]["template"]["spec"]["serviceAccountName"]
    token = control_plane.token(name, account)
    yield Rights(control_plane.kubeconfig_for(token, namespace=name), name)
    helm.uninstall(name, namespace=name)
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@dataclass
class Settled:
    """An operator and the database it writes to."""

    operator: Operator
    dsn: str

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Read the database as psql would."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            return connection.execute(query, arguments).fetchall()

    def samples(self, name: str) -> list[dict[str, Any]]:
        """Return a server's rows, oldest first."""
        return self.rows(
            "SELECT m.* FROM hostwatch.server_resource_metrics m"
            " JOIN hostwatch.servers s USING (server_id)"
            " WHERE s.name = %s ORDER BY collected_at",
            name,
        )


@pytest.fixture(scope="module")
def settled(
    tmp_path_factory, rights: Rights, postgres: Postgres, bus: Nats
) -> Iterator[Settled]:
    """Run one operator for the tests of a module."""
    directory = tmp_path_factory.mktemp("operator")
    dsn = postgres.create_database(f"e2e_{directory.name.replace('-', '_')}")
    with Operator(
        directory,
        kubeconfig=rights.kubeconfig,
        postgres_dsn=dsn,
        nats_url=bus.url,
        allowed_destinations="127.0.0.1/32",
        allow_trust_on_first_use="true",
        log_level="debug",
    ) as operator:
        yield Settled(operator, dsn)


class Tenant:
    """One namespace, used through kubectl."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.cluster = control_plane
        self.namespace = namespace

    def apply(self, name: str, *, labels: Any = None, **spec: Any) -> str:
        """Apply a server; keywords are fields of its spec."""
        document = {
            "apiVersion": "hostwatch.dev/v1alpha1",
            "kind": "MonitoredServer",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": labels or {},
            },
            "spec": spec,
        }
        return self.cluster.apply(json.dumps(document))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, check=check)

    def get(self, name: str) -> dict[str, Any]:
        """Return a server as JSON."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", "msrv", name, "-o", "json")
        )
        return found

    def reasons(self) -> dict[str, str]:
        """Return each server's reason of Ready, where it has one."""
        listed = json.loads(self.kubectl("get", "msrv", "-o", "json"))
        return {
            item["metadata"]["name"]: condition["reason"]
            for item in listed["items"]
            for condition in item.get("status", {}).get("conditions", ())
            if condition["type"] == "Ready" and condition["reason"] != "NotCollectedYet"
        }

    def collect(self, name: str, request: str) -> None:
        """Ask for a collection now."""
        annotation = f"hostwatch.dev/collect={request}"
        self.kubectl("annotate", "msrv", name, annotation, "--overwrite")


@pytest.fixture
def tenant(control_plane: ControlPlane, namespace: str) -> Tenant:
    return Tenant(control_plane, namespace)


@pytest.fixture
def real_server(openssh: OpenSSH, tenant: Tenant, credential_secret) -> dict[str, Any]:
    """Return the spec of a server that works: this machine's sshd."""
    credential_secret(
        "ssh", ssh_privatekey=openssh.private_key, known_hosts=openssh.known_hosts
    )
    return {
        "host": openssh.host,
        "port": openssh.port,
        "user": openssh.user,
        "credentials": {"secretRef": {"name": "ssh"}},
        "intervalSeconds": 5,
    }


async def until(condition: Any, *, within: float = 60) -> Any:
    """Return what the condition gives once that is true; it may run kubectl."""
    async with asyncio.timeout(within):
        while not (given := await asyncio.to_thread(condition)):
            await asyncio.sleep(0.2)
    return given
