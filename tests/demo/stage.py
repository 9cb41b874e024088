"""Everything the demo runs on: a cluster, a database, a bus, servers, the operator."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from world.controlplane import ControlPlane
from world.nats import Nats, NatsUser, organization_user
from world.operator import Operator
from world.postgres import Postgres
from world.sshd import OpenSSH

if TYPE_CHECKING:
    from pathlib import Path

# Two organizations; what the second hears of the first is nothing.
SERVERS = {
    "acme": ("web-1", "web-2", "db-1"),
    "globex": ("build-1", "build-2"),
}
INTERVAL_SECONDS = 5
INSTANCE = "demo"


class Stage:
    """Starts all parts in order, and ends them in reverse."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            self.openssh = parts.enter_context(OpenSSH(self._folder("sshd")))
            self.postgres = parts.enter_context(Postgres(self._folder("postgres")))
            self.nats = parts.enter_context(
                Nats(self._folder("nats"), users=self._users())
            )
            self.cluster = parts.enter_context(ControlPlane(self._folder("cluster")))
            self.cluster.install_crd()
            self.operators = [
                parts.enter_context(self._operator(name))
                for name in ("replica-1", "replica-2")
            ]
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._parts.close()

    def create_servers(self) -> None:
        """Apply the namespaces, their Secrets and the servers."""
        documents = []
        for organization, names in SERVERS.items():
            documents += [self._namespace(organization), self._secret(organization)]
            documents += [self._server(organization, name) for name in names]
        items = {"apiVersion": "v1", "kind": "List", "items": documents}
        self.cluster.apply(json.dumps(items))

    def _folder(self, name: str) -> Path:
        folder = self.directory / name
        folder.mkdir(parents=True)
        return folder

    def _users(self) -> list[NatsUser]:
        members = [organization_user(name, name) for name in SERVERS]
        return [NatsUser(name="operator", password="operator"), *members]

    def leader(self) -> Operator:
        """Return the replica that holds the Lease."""
        holder = self.cluster.kubectl(
            *("get", "lease", f"{INSTANCE}-shard-0-of-1"),
            *("-o", "jsonpath={.spec.holderIdentity}"),
        )
        return next(o for o in self.operators if holder.startswith(o.name))

    def _operator(self, name: str) -> Operator:
        return Operator(
            self._folder(name),
            name=name,
            instance=INSTANCE,
            lease_namespace="default",
            kubeconfig=self.cluster.kubeconfig,
            postgres_dsn=self.postgres.dsn(),
            nats_url=self.nats.url,
            # This machine is the monitored server, and loopback is closed otherwise.
            allowed_destinations="127.0.0.1/32",
        )

    def _namespace(self, organization: str) -> dict[str, object]:
        labels = {"hostwatch.dev/organization": organization}
        return {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": organization, "labels": labels},
        }

    def _secret(self, namespace: str) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "ssh",
                "namespace": namespace,
                "labels": {"hostwatch.dev/ssh-credential": "true"},
            },
            "type": "kubernetes.io/ssh-auth",
            "stringData": {
                "ssh-privatekey": self.openssh.private_key,
                "known_hosts": self.openssh.known_hosts,
            },
        }

    def _server(self, namespace: str, name: str) -> dict[str, object]:
        return {
            "apiVersion": "hostwatch.dev/v1alpha1",
            "kind": "MonitoredServer",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"tier": name.split("-", maxsplit=1)[0]},
            },
            "spec": {
                "host": self.openssh.host,
                "port": self.openssh.port,
                "user": self.openssh.user,
                "credentials": {"secretRef": {"name": "ssh"}},
                "intervalSeconds": INTERVAL_SECONDS,
            },
        }
