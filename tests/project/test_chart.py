"""The chart as text: what it refuses, what it grants, what it tells the operator."""

from __future__ import annotations

import json
import os
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
import yaml

from hostwatch.settings import Settings
from world.helm import CHART, DSN_SECRET, Helm, of_kind
from world.process import ComponentError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

EVERYTHING: dict[str, Any] = {
    "image": {
        "repository": "registry.example.com:5000/hostwatch",
        "tag": "1.10",
        "digest": f"sha256:{'0' * 64}",
    },
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 3,
    "namespaces": ["acme", "globex"],
    "requireOrganizationLabel": False,
    "secrets": {"namespaces": ["acme"]},
    "postgres": {
        "dsnSecret": {"name": DSN_SECRET},
        "maintenanceDsnSecret": {"name": "hostwatch-maintenance", "key": "url"},
        "ca": {"configMap": "postgres-ca"},
    },
    "nats": {
        "url": "tls://a:4222,tls://b:4222",
        "credentialsSecret": {"name": "nats-operator"},
        "ca": {"secret": "nats-ca", "key": "tls.crt"},
    },
    "allowedDestinations": ["10.0.0.0/8", "fd00::/8"],
    "allowedPorts": [22, "2200-2299"],
    "clusterCidrs": ["10.244.0.0/16"],
    "trustOnFirstUse": True,
    "retentionDays": 90,
    "spool": {"size": "5Gi", "persistence": {"enabled": True, "storageClass": "fast"}},
    "serverMetrics": False,
    "logLevel": "debug",
    "logFormat": "console",
    "extraEnv": [{"name": "HOSTWATCH_STATUS_WRITES_PER_SECOND", "value": "5"}],
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "monitoring", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}


def pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (workload,) = of_kind(manifests, "StatefulSet")
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def environment(manifests: list[dict[str, Any]]) -> dict[str, str]:
    """Return the container's variables; one from elsewhere as what it is taken from."""
    (container,) = pod(manifests)["containers"]
    return {
        variable["name"]: variable.get("value", json.dumps(variable.get("valueFrom")))
        for variable in container["env"]
    }


def grants(manifests: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return what each role of the chart allows: "group/resource" and its verbs."""
    rules: dict[str, set[str]] = {}
    for role in of_kind(manifests, "ClusterRole") + of_kind(manifests, "Role"):
        short = role["metadata"]["name"].removeprefix("hostwatch-")
        for rule in role["rules"]:
            assert set(rule) == {"apiGroups", "resources", "verbs"}
            (group,), (resource,) = rule["apiGroups"], rule["resources"]
            rules[f"{short}: {group}/{resource}"] = set(rule["verbs"])
    return rules


def bindings(manifests: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return the bound roles and the namespaces in which they are bound."""
    both = of_kind(manifests, "ClusterRoleBinding") + of_kind(manifests, "RoleBinding")
    account = {"kind": "ServiceAccount", "name": "hostwatch", "namespace": "monitoring"}
    assert all(binding["subjects"] == [account] for binding in both)
    return {
        (
            binding["roleRef"]["name"].removeprefix("hostwatch-"),
            binding["metadata"].get("namespace", "everywhere"),
        )
        for binding in both
    }


@pytest.fixture
def read_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    def read(variables: dict[str, str]) -> Settings:
        for name in [name for name in os.environ if name.startswith("HOSTWATCH_")]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings.read()

    return read


def known_variables() -> set[str]:
    return {
        f"HOSTWATCH_{field.upper()}"
        for concern in get_type_hints(Settings).values()
        for field in concern.model_fields
    }


def test_helm_finds_nothing_to_complain_about(helm: Helm) -> None:
    printed = helm.run("lint", "--strict", CHART)
    assert "[WARNING]" not in printed
    assert "[ERROR]" not in printed


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        ({"replicas": 17}, "at '/replicas': maximum: got 17, want 16"),
        (
            {"requireOrganizationLabel": "yes"},
            "at '/requireOrganizationLabel': got string, want boolean",
        ),
        ({"trustOnFirstUse": 1}, "at '/trustOnFirstUse': got number, want boolean"),
        ({"namespaces": "acme"}, "at '/namespaces': got string, want array"),
        ({"namespaces": ["Acme"]}, "at '/namespaces/0': 'Acme' does not match"),
        ({"retentionDays": 0}, "at '/retentionDays': minimum: got 0, want 1"),
        (
            {"allowedDestinations": "10.0.0.0/8"},
            "at '/allowedDestinations': got string, want array",
        ),
        ({"clusterCidrs": ["10.1.2.3"]}, "at '/clusterCidrs/0': '10.1.2.3' does not"),
        ({"allowedPorts": [0]}, "at '/allowedPorts/0': minimum: got 0, want 1"),
        ({"allowedPorts": ["ssh"]}, "at '/allowedPorts/0': 'ssh' does not match"),
        ({"allowedPorts": ["65536"]}, "at '/allowedPorts/0': '65536' does not match"),
        ({"allowedPorts": ["22-70000"]}, "at '/allowedPorts/0': '22-70000' does not"),
        (
            {"allowedDestinations": ["fd00::/129"]},
            "at '/allowedDestinations/0': 'fd00::/129' does not match",
        ),
        ({"image": {"tag": 1.1}}, "at '/image/tag': got number, want string"),
        ({"nats": {"url": "nats"}}, "at '/nats/url': 'nats' does not match"),
        ({"nats": None}, "at '': missing property 'nats'"),
        ({"spool": {"size": 2}}, "at '/spool/size': got number, want string"),
        ({"logLevel": "loud"}, "at '/logLevel': value must be one of 'debug'"),
        (
            {"extraEnv": [{"name": "A", "value": 1}]},
            "at '/extraEnv/0/value': got number, want string",
        ),
        ({"podAnnotations": {"a": True}}, "at '/podAnnotations/a': got boolean"),
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        (
            {"secrets": {"clusterwide": True}},
            "at '/secrets': additional properties 'clusterwide' not allowed",
        ),
        (
            {"namespaces": ["acme"], "secrets": {"namespaces": ["acme", "globex"]}},
            "secrets.namespaces: globex is not among namespaces",
        ),
        (
            {"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            "extraEnv: A is there twice",
        ),
        ({"postgres": {}}, "postgres.dsnSecret.name: name the Secret"),
        (
            {"nats": {"ca": {"configMap": "a", "secret": "b"}}},
            "nats.ca: set configMap or secret, not both",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    helm: Helm, values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ComponentError) as refused:
        helm.template(values=values)
    assert complaint in str(refused.value)


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def names(node: dict[str, Any], path: str = "") -> Iterator[str]:
        node = schema["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node
        for name, child in node.get("properties", {}).items():
            yield f"{path}{name}"
            yield from names(child, f"{path}{name}.")

    def given(node: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, child in node.items():
            yield f"{path}{name}"
            if isinstance(child, dict) and path + name != "resources":
                yield from given(child, f"{path}{name}.")

    inner = ("global", "resources.")
    assert set(given(values)) == {n for n in names(schema) if not n.startswith(inner)}


def test_the_operator_may_do_this_and_nothing_else(helm: Helm) -> None:
    expected = {
        "cluster: /namespaces": {"get", "list", "watch"},
        "cluster: apiextensions.k8s.io/customresourcedefinitions": {
            *("get", "list", "watch")
        },
        "cluster: networking.k8s.io/servicecidrs": {"list"},
        "servers: hostwatch.dev/monitoredservers": {"get", "list", "watch"},
        "servers: hostwatch.dev/monitoredservers/status": {"patch"},
        "servers: events.k8s.io/events": {"create"},
        "secrets: /secrets": {"get"},
        "leases: coordination.k8s.io/leases": {*("get", "create", "update")},
    }
    assert grants(helm.template()) == expected
    assert grants(helm.template(values=EVERYTHING)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {("servers", "everywhere")}),
        (
            {"secrets": {"namespaces": ["acme"]}},
            {("servers", "everywhere"), ("secrets", "acme")},
        ),
        (
            {"namespaces": ["acme", "globex"]},
            {
                *(("servers", "acme"), ("servers", "globex")),
                *(("secrets", "acme"), ("secrets", "globex")),
            },
        ),
        (
            {"namespaces": ["acme", "globex"], "secrets": {"namespaces": ["acme"]}},
            {("servers", "acme"), ("servers", "globex"), ("secrets", "acme")},
        ),
        (
            {"namespaces": ["acme"], "secrets": {"clusterWide": True}},
            {("servers", "acme"), ("secrets", "everywhere")},
        ),
    ],
)
def test_rights_reach_as_far_as_the_values_say(
    helm: Helm, values: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    always = {("cluster", "everywhere"), ("leases", "monitoring")}
    assert bindings(helm.template(values=values)) == always | expected


def test_every_variable_of_the_chart_is_a_setting(helm: Helm) -> None:
    variables = set(environment(helm.template(values=EVERYTHING)))
    assert variables - {"USER", "PGSSLROOTCERT"} <= known_variables()


def test_the_values_reach_the_operator(helm: Helm, read_settings) -> None:
    settings: Settings = read_settings(environment(helm.template(values=EVERYTHING)))
    assert settings.kubernetes.namespaces == ("acme", "globex")
    assert settings.kubernetes.require_organization_label is False
    assert settings.kubernetes.status_writes_per_second == 5
    assert settings.ssh.allowed_destinations == (
        *(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    )
    assert settings.ssh.allowed_ports == "22,2200-2299"
    assert settings.ssh.cluster_cidrs == (ip_network("10.244.0.0/16"),)
    assert settings.ssh.allow_trust_on_first_use is True
    assert settings.postgres.retention_days == 90
    assert settings.nats.nats_url == ("tls://a:4222", "tls://b:4222")
    assert settings.nats.nats_credentials == "/etc/hostwatch/nats.creds"
    assert settings.nats.nats_ca == "/etc/hostwatch/nats-ca.crt"
    assert settings.telemetry.server_metrics is False
    assert settings.telemetry.log_level == "debug"
    assert settings.telemetry.log_format == "console"


def test_without_values_the_operator_keeps_its_defaults(
    helm: Helm, read_settings
) -> None:
    variables = environment(helm.template())
    given = read_settings(variables)
    chosen = {
        "HOSTWATCH_REQUIRE_ORGANIZATION_LABEL": "true",
        "HOSTWATCH_NATS_URL": "nats://nats:4222",
    }
    assert variables.items() >= chosen.items()
    required = ("HOSTWATCH_POSTGRES_DSN", "HOSTWATCH_SPOOL_DIR", "HOSTWATCH_IDENTITY")
    placed = (*required, "HOSTWATCH_INSTANCE", "HOSTWATCH_LEASE_NAMESPACE")
    assert given == read_settings({**{n: variables[n] for n in placed}, **chosen})


@pytest.mark.parametrize("port", ["1", "22", "9999", "59999", "64999", "65535"])
def test_every_port_may_be_allowed(helm: Helm, read_settings, port: str) -> None:
    ports = [int(port), port, f"1-{port}"]
    manifests = helm.template(values={"allowedPorts": ports})
    allowed = read_settings(environment(manifests)).ssh.allowed_ports
    assert allowed == f"{port},{port},1-{port}"


def test_a_variable_of_the_user_takes_the_place_of_ours(helm: Helm) -> None:
    url = {"secretKeyRef": {"name": "nats", "key": "url"}}
    mine = [
        {"name": "HOSTWATCH_NATS_URL", "valueFrom": url},
        {"name": "HOSTWATCH_LOG_LEVEL", "value": "debug"},
        {"name": "TZ", "value": "UTC"},
    ]
    (container,) = pod(helm.template(values={"extraEnv": mine}))["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names))
    assert container["env"][-3:] == mine
    ours = set(environment(helm.template()))
    assert set(names) == ours | {"TZ"}


def test_passwords_come_from_secrets(helm: Helm) -> None:
    variables = environment(helm.template(values=EVERYTHING))
    assert json.loads(variables["HOSTWATCH_POSTGRES_DSN"]) == {
        "secretKeyRef": {"name": DSN_SECRET, "key": "dsn"}
    }
    assert json.loads(variables["HOSTWATCH_POSTGRES_MAINTENANCE_DSN"]) == {
        "secretKeyRef": {"name": "hostwatch-maintenance", "key": "url"}
    }


def test_the_files_lie_where_the_variables_point(helm: Helm) -> None:
    manifests = helm.template(values=EVERYTHING)
    (container,) = pod(manifests)["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (files,) = (v for v in pod(manifests)["volumes"] if v["name"] == "files")
    paths = {
        f"{mounted['files']}/{item['path']}": (kind, source["name"], item["key"])
        for entry in files["projected"]["sources"]
        for kind, source in entry.items()
        for item in source["items"]
    }
    variables = environment(manifests)
    assert paths == {
        variables["PGSSLROOTCERT"]: ("configMap", "postgres-ca", "ca.crt"),
        variables["HOSTWATCH_NATS_CA"]: ("secret", "nats-ca", "tls.crt"),
        variables["HOSTWATCH_NATS_CREDENTIALS"]: (
            *("secret", "nats-operator", "nats.creds"),
        ),
    }
    assert mounted["spool"] == variables["HOSTWATCH_SPOOL_DIR"]


def test_the_spool_is_the_pods_or_a_volume_of_its_own(helm: Helm) -> None:
    spool = {"name": "spool", "emptyDir": {"sizeLimit": "256Mi"}}
    assert spool in pod(helm.template())["volumes"]
    manifests = helm.template(values=EVERYTHING)
    assert "spool" not in {volume["name"] for volume in pod(manifests)["volumes"]}
    (workload,) = of_kind(manifests, "StatefulSet")
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "spool"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "5Gi"}},
    }


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("hostwatch", "hostwatch"),
        ("blue", "blue-hostwatch"),
        ("team.blue", "team-blue-hostwatch"),
        ("b" * 53, "b" * 52),
    ],
)
def test_everything_is_named_after_the_release(
    helm: Helm, release: str, name: str, read_settings
) -> None:
    manifests = helm.template(release)
    names = {manifest["metadata"]["name"] for manifest in manifests}
    parts = ("cluster", "servers", "secrets", "leases")
    assert names == {name, *(f"{name}-{part}" for part in parts)}
    assert read_settings(environment(manifests)).replica.instance == name


def test_a_cluster_that_is_too_old_is_refused(helm: Helm) -> None:
    dsn = f"postgres.dsnSecret.name={DSN_SECRET}"
    command = ("template", "hostwatch", CHART, "--set", dsn, "--kube-version")
    assert helm.run(*command, "1.31.0-gke.100")
    with pytest.raises(ComponentError, match=r"requires kubeVersion: >=1\.31\.0-0"):
        helm.run(*command, "1.30.9")


def test_the_chart_and_the_package_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_a_packaged_chart_brings_the_resources_as_they_are(
    helm: Helm, tmp_path: Path
) -> None:
    helm.run("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.iterdir()
    packed = list(yaml.safe_load_all(helm.run("show", "crds", package)))
    ours = sorted((ROOT / "crds").glob("*.yaml"))
    assert packed == [yaml.safe_load(path.read_text()) for path in ours]
