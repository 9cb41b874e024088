"""The chart in a real cluster: what is admitted, what is allowed, what stays."""

from __future__ import annotations

import copy
import json
import os
import secrets
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from fix_operator import Tenant, until
from world.helm import CHART, Helm
from world.operator import Operator
from world.process import script
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fix_helm import Release
    from world.controlplane import ControlPlane
    from world.nats import Nats

CRD = "monitoredservers.hostwatch.dev"


@pytest.fixture(scope="module")
def teams(control_plane: ControlPlane) -> Iterator[tuple[str, str]]:
    """Make two namespaces; of the first alone the Secrets are served."""
    names = (f"served-{secrets.token_hex(4)}", f"other-{secrets.token_hex(4)}")
    for name in names:
        control_plane.kubectl("create", "namespace", name)
    yield names
    control_plane.kubectl("delete", "namespace", *names, "--wait=false")


@pytest.fixture(scope="module")
def release(install, teams) -> Release:
    """Install the chart for all namespaces, with the Secrets of one."""
    return install(secrets={"namespaces": [teams[0]]})


@pytest.fixture(scope="module")
def narrow(install, teams) -> Release:
    """Install the chart for one namespace alone."""
    return install(namespaces=[teams[0]])


def items(control_plane: ControlPlane, *arguments: str) -> list[dict[str, Any]]:
    listed = json.loads(control_plane.kubectl("get", *arguments, "-o", "json"))
    found: list[dict[str, Any]] = listed["items"]
    return found


def may(control_plane: ControlPlane, user: str, namespace: str, action: str) -> bool:
    """Ask the API server whether a user may do this, as kubectl names it."""
    arguments = ("auth", "can-i", *action.split(), f"--as={user}", "-n", namespace)
    answer = control_plane.kubectl(*arguments, check=False).splitlines()[0]
    assert answer in {"yes", "no"}
    return answer == "yes"


async def test_the_pods_are_admitted_where_only_restricted_ones_are(
    control_plane: ControlPlane, release: Release
) -> None:
    def pods() -> list[dict[str, Any]]:
        return items(control_plane, "pods", "-n", release.namespace)

    await eventually(lambda: len(pods()) == 2)
    assert {pod["spec"]["serviceAccountName"] for pod in pods()} == {release.name}
    events = items(control_plane, "events", "-n", release.namespace)
    assert [e["message"] for e in events if e["type"] == "Warning"] == []


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("container", {"allowPrivilegeEscalation": True}),
        ("container", {"capabilities": {}}),
        ("container", {"capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]}}),
        ("container", {"seLinuxOptions": {"user": "system_u"}}),
        ("pod", {"runAsUser": 0}),
        ("pod", {"runAsNonRoot": None}),
        ("pod", {"seccompProfile": {"type": "Unconfined"}}),
        ("pod", {"seccompProfile": None}),
    ],
)
def test_a_pod_that_may_do_more_is_refused_there(
    control_plane: ControlPlane, release: Release, where: str, change: dict[str, Any]
) -> None:
    (workload,) = items(control_plane, "statefulsets", "-n", release.namespace)
    spec = workload["spec"]["template"]["spec"]

    def admitted(spec: dict[str, Any]) -> str:
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "copy"}}
        return control_plane.kubectl(
            *("create", "-n", release.namespace, "--dry-run=server", "-f", "-"),
            stdin=json.dumps({**manifest, "spec": spec}),
            check=False,
        )

    assert admitted(spec) == "pod/copy created (server dry run)\n"
    changed = copy.deepcopy(spec)
    owner = changed["containers"][0] if where == "container" else changed
    owner["securityContext"].update(change)
    assert 'violates PodSecurity "restricted:latest"' in admitted(changed)


@pytest.mark.parametrize(
    ("action", "served", "other", "own"),
    [
        ("list namespaces", True, True, True),
        ("watch customresourcedefinitions.apiextensions.k8s.io", True, True, True),
        ("list servicecidrs.networking.k8s.io", True, True, True),
        ("get monitoredservers.hostwatch.dev", True, True, True),
        ("list monitoredservers.hostwatch.dev", True, True, True),
        ("watch monitoredservers.hostwatch.dev", True, True, True),
        ("patch monitoredservers.hostwatch.dev --subresource=status", *[True] * 3),
        ("create events.events.k8s.io", True, True, True),
        ("get secrets/web-ssh", True, False, False),
        ("get leases.coordination.k8s.io", False, False, True),
        ("create leases.coordination.k8s.io", False, False, True),
        ("update leases.coordination.k8s.io", False, False, True),
        *[
            (action, False, False, False)
            for action in (
                "list secrets",
                "watch secrets",
                "create secrets",
                "update secrets",
                "patch secrets/web-ssh",
                "delete secrets/web-ssh",
                "create monitoredservers.hostwatch.dev",
                "update monitoredservers.hostwatch.dev",
                "patch monitoredservers.hostwatch.dev",
                "update monitoredservers.hostwatch.dev --subresource=status",
                "delete monitoredservers.hostwatch.dev",
                "delete leases.coordination.k8s.io",
                "watch leases.coordination.k8s.io",
                "patch namespaces",
                "delete events.events.k8s.io",
                "get pods",
                "create pods --subresource=exec",
                "get configmaps",
                "create serviceaccounts --subresource=token",
                "escalate clusterroles.rbac.authorization.k8s.io",
                "impersonate users",
                "* *",
            )
        ],
    ],
)
def test_the_service_account_may_do_its_work_and_no_more(
    control_plane: ControlPlane,
    release: Release,
    teams: tuple[str, str],
    action: str,
    *,
    served: bool,
    other: bool,
    own: bool,
) -> None:
    allowed = [
        may(control_plane, release.user, namespace, action)
        for namespace in (*teams, release.namespace)
    ]
    assert allowed == [served, other, own]


@pytest.mark.parametrize(
    "action",
    [
        "list monitoredservers.hostwatch.dev",
        "patch monitoredservers.hostwatch.dev --subresource=status",
        "create events.events.k8s.io",
        "get secrets/web-ssh",
    ],
)
def test_with_a_list_of_namespaces_no_other_is_open(
    control_plane: ControlPlane, narrow: Release, teams: tuple[str, str], action: str
) -> None:
    served, other = teams
    assert may(control_plane, narrow.user, served, action)
    assert not may(control_plane, narrow.user, other, action)


def test_every_field_of_every_manifest_is_known_to_the_api_server(
    control_plane: ControlPlane, helm: Helm, teams: tuple[str, str]
) -> None:
    values = {
        "namespaces": list(teams),
        "imagePullSecrets": [{"name": "pull"}],
        "postgres": {
            "dsnSecret": {"name": "dsn"},
            "maintenanceDsnSecret": {"name": "dsn", "key": "maintenance"},
            "ca": {"configMap": "ca"},
        },
        "nats": {"credentialsSecret": {"name": "nats"}, "ca": {"secret": "ca"}},
        "spool": {"persistence": {"enabled": True}},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
    }
    manifests = helm.template(namespace=teams[0], values=values)
    applied = control_plane.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump_all(manifests),
    )
    assert len(applied.splitlines()) == len(manifests)
    assert "Warning" not in applied


def test_the_notes_bring_a_first_server(
    control_plane: ControlPlane, install, tmp_path: Path
) -> None:
    namespace = f"acme-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", namespace)
    release = install()
    (tmp_path / "hostwatch-key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "hosts").write_text("web-1.example.com ssh-ed25519 AAAA\n")
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],
        cwd=tmp_path,
        env={
            **os.environ,
            "KUBECONFIG": str(control_plane.kubeconfig),
            "PATH": f"{script('kubectl').parent}:{os.environ['PATH']}",
        },
        input=release.notes.replace("acme", namespace),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "web-1" in done.stdout.splitlines()[-1]
    assert may(control_plane, release.user, namespace, "get secrets/web-ssh")
    (labelled,) = items(
        control_plane, "secrets", "-n", namespace, "-l", "hostwatch.dev/ssh-credential"
    )
    assert labelled["type"] == "kubernetes.io/ssh-auth"
    control_plane.kubectl("delete", "namespace", namespace, "--wait=false")


def test_the_notes_say_whose_secrets_may_be_read(
    release: Release, narrow: Release, teams: tuple[str, str]
) -> None:
    only_these = f"# It may read SSH credentials in {teams[0]}.\n"
    assert f"watches every namespace.\n{only_these}" in release.notes
    assert f"watches {teams[0]}.\n{only_these}" in narrow.notes


def test_an_upgrade_changes_a_release_in_place(
    control_plane: ControlPlane, install, tmp_path: Path
) -> None:
    release = install()
    helm = Helm(tmp_path, kubeconfig=control_plane.kubeconfig)
    helm.upgrade(
        release.name,
        namespace=release.namespace,
        values={"replicas": 3, "logLevel": "debug", "nats": {"url": "nats://n:4222"}},
    )
    (workload,) = items(control_plane, "statefulsets", "-n", release.namespace)
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert workload["spec"]["replicas"] == 3
    assert {"name": "HOSTWATCH_LOG_LEVEL", "value": "debug"} in container["env"]


def test_a_variable_that_the_chart_sets_too_is_installed_and_upgraded(
    control_plane: ControlPlane, install, tmp_path: Path
) -> None:
    url = {"secretKeyRef": {"name": "nats", "key": "url"}}
    values = {"extraEnv": [{"name": "HOSTWATCH_NATS_URL", "valueFrom": url}]}

    def given(release: Release) -> list[dict[str, Any]]:
        (workload,) = items(control_plane, "statefulsets", "-n", release.namespace)
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        return [v for v in container["env"] if v["name"] == "HOSTWATCH_NATS_URL"]

    release = install(**values)
    assert given(release) == values["extraEnv"]
    helm = Helm(tmp_path, kubeconfig=control_plane.kubeconfig)
    helm.upgrade(release.name, namespace=release.namespace, values={})
    plain = {"name": "HOSTWATCH_NATS_URL", "value": "nats://nats:4222"}
    assert given(release) == [plain]
    helm.upgrade(release.name, namespace=release.namespace, values=values)
    assert given(release) == values["extraEnv"]


def test_an_uninstall_leaves_the_servers_and_nothing_else(
    control_plane: ControlPlane, install, tmp_path: Path, namespace: str
) -> None:
    release = install(secrets={"namespaces": [namespace]})
    server = {
        "apiVersion": "hostwatch.dev/v1alpha1",
        "kind": "MonitoredServer",
        "metadata": {"name": "web-1", "namespace": namespace},
        "spec": {"host": "h.example.com", "credentials": {"secretRef": {"name": "s"}}},
    }
    control_plane.apply(json.dumps(server))
    helm = Helm(tmp_path, kubeconfig=control_plane.kubeconfig)
    helm.uninstall(release.name, namespace=release.namespace)
    assert items(control_plane, "msrv", "-n", namespace)
    assert control_plane.kubectl("get", "crd", CRD, "-o", "name")
    left = items(
        control_plane,
        "serviceaccounts,services,statefulsets,poddisruptionbudgets,roles,"
        "rolebindings,clusterroles,clusterrolebindings",
        "--all-namespaces",
        "--selector",
        f"app.kubernetes.io/instance={release.name}",
    )
    assert [f"{item['kind']} {item['metadata']['name']}" for item in left] == []


def test_the_resources_are_brought_up_to_date_as_the_notes_say(
    control_plane: ControlPlane, helm: Helm, release: Release
) -> None:
    applied = control_plane.kubectl(
        *("apply", "--server-side", "--force-conflicts", "-f", "-"),
        stdin=helm.run("show", "crds", CHART),
    )
    definition = "customresourcedefinition.apiextensions.k8s.io"
    assert applied == f"{definition}/{CRD} serverside-applied\n"


@pytest.mark.parametrize("everywhere", [True, False])
async def test_the_operator_works_with_these_rights(
    tmp_path: Path,
    control_plane: ControlPlane,
    install,
    teams: tuple[str, str],
    tenant: Tenant,
    real_server: dict[str, Any],
    database: str,
    nats: Nats,
    *,
    everywhere: bool,
) -> None:
    ours, other = tenant.namespace, Tenant(control_plane, teams[1])
    tenant.apply("ours", **real_server)
    other.apply("other", **real_server)
    served: dict[str, Any] = {"secrets": {"namespaces": [ours]}}
    release = install(**(served if everywhere else {"namespaces": [ours]}))
    token = control_plane.token(release.namespace, release.name)
    with Operator(
        tmp_path,
        kubeconfig=control_plane.kubeconfig_for(token, namespace=release.namespace),
        postgres_dsn=database,
        nats_url=nats.url,
        allowed_destinations="127.0.0.1/32",
        namespaces="" if everywhere else ours,
        instance=release.name,
        spool_dir=tmp_path / "spool",
    ) as operator:
        await until(lambda: tenant.reasons().get("ours") == "Collected")
        if everywhere:
            await until(lambda: other.reasons().get("other") == "SecretForbidden")
        leases = items(control_plane, "leases", "-n", release.namespace)
        assert [lease["metadata"]["name"] for lease in leases] == [
            f"{release.name}-shard-0-of-1"
        ]
        refused = 'hostwatch_kubernetes_request_failures_total{code="403"}'
        assert (refused in operator.get("/metrics")[1]) is everywhere
    other.kubectl("delete", "msrv", "other")
