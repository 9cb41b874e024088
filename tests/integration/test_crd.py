"""The CustomResourceDefinition, as the real API server enforces it."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from world.controlplane import ControlPlane

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBp6WlYq3VnqRGgBVnYBTfWZlkHmFvS0OCdZo6Tv3m0h"
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nssh-ed25519 AAAAC3Nz\n"

MINIMAL: dict[str, Any] = {
    "host": "web-1.example.com",
    "credentials": {"secretRef": {"name": "web-ssh"}},
}
DEFAULTS: dict[str, Any] = {
    "port": 22,
    "user": "hostwatch",
    "connection": "Persistent",
    "intervalSeconds": 30,
    "timeoutSeconds": 60,
    "retries": 2,
    "suspend": False,
}
FULL: dict[str, Any] = {
    **MINIMAL,
    "port": 2222,
    "user": "ACME\\svc.hostwatch",
    "hostKey": {"knownHosts": KEY},
    "connection": "PerCollection",
    "intervalSeconds": 5,
    "timeoutSeconds": 300,
    "retries": 5,
    "suspend": True,
    "thresholds": {
        "cpu": {"warning": 75, "critical": 90},
        "memory": {"warning": 70.5, "critical": 99.5},
        "disk": {"warning": 85, "critical": 100},
    },
    "alerting": {
        "cpu": "Critical",
        "memory": "Never",
        "disk": "Warning",
        "forSeconds": 60,
        "clearMargin": 5,
        "keepFiringForSeconds": 0,
    },
    "filesystems": {"exclude": ["/var/lib/docker/**", "**/snap/*"]},
}


@pytest.fixture(scope="module", autouse=True)
def _crd(control_plane: ControlPlane) -> None:
    control_plane.install_crd()


def manifest(spec: dict[str, Any], *, name: str = "web-1") -> dict[str, Any]:
    return {
        "apiVersion": "hostwatch.dev/v1alpha1",
        "kind": "MonitoredServer",
        "metadata": {"name": name},
        "spec": spec,
    }


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Apply a JSON merge patch: null removes."""
    result = copy.deepcopy(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result


def refusal(control_plane: ControlPlane, namespace: str, document: Any) -> str:
    """Return what kubectl prints for a resource that must be refused."""
    printed = control_plane.kubectl(
        *("create", "-n", namespace, "--dry-run=server", "-f", "-"),
        stdin=json.dumps(document),
        check=False,
    )
    assert "created" not in printed
    return printed


def created(
    control_plane: ControlPlane, namespace: str, document: dict[str, Any]
) -> dict[str, Any]:
    control_plane.kubectl(
        "create", "-n", namespace, "-f", "-", stdin=json.dumps(document)
    )
    name = document["metadata"]["name"]
    answer = control_plane.kubectl("get", "msrv", name, "-n", namespace, "-o", "json")
    stored: dict[str, Any] = json.loads(answer)
    return stored


def patch_status(
    control_plane: ControlPlane, namespace: str, status: dict[str, Any]
) -> str:
    return control_plane.kubectl(
        *("patch", "msrv", "web-1", "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", json.dumps({"status": status})),
        check=False,
    )


def test_a_minimal_resource_is_stored_with_its_defaults(control_plane, namespace):
    stored = created(control_plane, namespace, manifest(MINIMAL))
    assert stored["spec"] == MINIMAL | DEFAULTS
    assert stored["status"] == {"health": "Unknown"}


def test_a_full_resource_is_stored_as_written(control_plane, namespace):
    assert created(control_plane, namespace, manifest(FULL))["spec"] == FULL


def test_thresholds_and_alerting_have_no_schema_default(control_plane, namespace):
    change = {"thresholds": {"cpu": {"warning": 50}}, "alerting": {"disk": "Never"}}
    stored = created(control_plane, namespace, manifest(MINIMAL | change))
    assert stored["spec"] == MINIMAL | DEFAULTS | change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"host": "192.0.2.7"}, id="IPv4"),
        pytest.param({"host": "2001:db8::7"}, id="IPv6"),
        pytest.param({"host": "::1"}, id="IPv6 loopback"),
        pytest.param({"host": "localhost"}, id="one label"),
        pytest.param({"host": "web-1.example.com."}, id="trailing dot"),
        pytest.param({"host": "1.web.example.com"}, id="label of digits"),
        pytest.param({"user": "admin@example.com"}, id="user at domain"),
        pytest.param({"user": "machine$"}, id="user with a dollar"),
        pytest.param({"hostKey": {"knownHosts": f"web-1 {KEY}"}}, id="known_hosts"),
        pytest.param({"hostKey": {"certificateAuthority": KEY}}, id="authority"),
        pytest.param({"hostKey": {"trustOnFirstUse": True}}, id="first use"),
        pytest.param(
            {"hostKey": {"trustOnFirstUse": False, "knownHosts": KEY}},
            id="first use switched off beside keys",
        ),
        pytest.param({"hostKey": {}}, id="keys from the Secret"),
        pytest.param({"jumpHostRef": {"name": "bastion"}}, id="jump host"),
        pytest.param({"thresholds": {"cpu": {"critical": 20}}}, id="critical alone"),
        pytest.param(
            {"alerting": {"clearMargin": 50}}, id="margin without own thresholds"
        ),
        pytest.param(
            {
                "alerting": {"clearMargin": 20, "cpu": "Never"},
                "thresholds": {"cpu": {"warning": 5, "critical": 10}},
            },
            id="margin where nothing alerts",
        ),
        pytest.param(
            {
                "alerting": {"clearMargin": 20, "cpu": "Critical"},
                "thresholds": {"cpu": {"warning": 10, "critical": 30}},
            },
            id="margin between the levels, the upper alerts",
        ),
        pytest.param(
            {"filesystems": {"exclude": ["/" + "x" * 255] * 32}}, id="most globs"
        ),
    ],
)
def test_each_variant_is_accepted(control_plane, namespace, change):
    stored = created(control_plane, namespace, manifest(merged(MINIMAL, change)))
    assert stored["spec"] == DEFAULTS | merged(MINIMAL, change)


BAD = {
    "no host": ({"host": None}, "spec.host: Required value"),
    "empty host": ({"host": ""}, "spec.host"),
    "long host": ({"host": "a." * 126 + "ab"}, "spec.host: Too long"),
    "upper case": (
        {"host": "Web-1"},
        "spec.host: ... must be a DNS name in lower case",
    ),
    "host with port": (
        {"host": "web-1:22"},
        "spec.host: ... put the port into spec.port",
    ),
    "host with user": (
        {"host": "root@web-1"},
        "spec.host: ... and the user into spec.user",
    ),
    "brackets": ({"host": "[2001:db8::7]"}, "spec.host"),
    "zone": ({"host": "fe80::1%eth0"}, "spec.host"),
    "mapped": ({"host": "::ffff:127.0.0.1"}, "spec.host"),
    "hexadecimal": ({"host": "0x7f.1"}, "spec.host"),
    "decimal": ({"host": "2130706433"}, "spec.host"),
    "octal": ({"host": "0177.0.0.1"}, "spec.host"),
    "leading hyphen": ({"host": "-oProxyCommand"}, "spec.host"),
    "newline": ({"host": "web-1\n"}, "spec.host"),
    "long label": ({"host": "a" * 64}, "spec.host"),
    "port 0": ({"port": 0}, "spec.port"),
    "port 65536": ({"port": 65536}, "spec.port"),
    "port text": ({"port": "22"}, "spec.port"),
    "empty user": ({"user": ""}, "spec.user"),
    "user option": ({"user": "-l"}, "spec.user"),
    "user with space": ({"user": "a b"}, "spec.user"),
    "long user": ({"user": "a" * 65}, "spec.user"),
    "no credentials": ({"credentials": None}, "spec.credentials: Required value"),
    "no secretRef": (
        {"credentials": {"secretRef": None}},
        "spec.credentials.secretRef: Required value",
    ),
    "no Secret name": (
        {"credentials": {"secretRef": {"name": None}}},
        "spec.credentials.secretRef.name: Required value",
    ),
    "Secret name": (
        {"credentials": {"secretRef": {"name": "../web"}}},
        "spec.credentials.secretRef.name",
    ),
    "Secret of another namespace": (
        {"credentials": {"secretRef": {"namespace": "kube-system"}}},
        'unknown field "spec.credentials.secretRef.namespace"',
    ),
    "password": ({"password": "s3cret"}, 'unknown field "spec.password"'),
    "two host keys": (
        {"hostKey": {"knownHosts": KEY, "certificateAuthority": KEY}},
        "spec.hostKey: Invalid value: set at most one",
    ),
    "first use beside keys": (
        {"hostKey": {"knownHosts": KEY, "trustOnFirstUse": True}},
        "spec.hostKey: Invalid value: set at most one",
    ),
    "no key": ({"hostKey": {"knownHosts": "SHA256:abc"}}, "spec.hostKey.knownHosts"),
    "empty keys": ({"hostKey": {"knownHosts": ""}}, "spec.hostKey.knownHosts"),
    "long keys": (
        {"hostKey": {"knownHosts": KEY + " " * 16384}},
        "spec.hostKey.knownHosts: Too long",
    ),
    "private key": (
        {"hostKey": {"knownHosts": PRIVATE_KEY}},
        "spec.hostKey.knownHosts: ... must not hold a private key",
    ),
    "private authority": (
        {"hostKey": {"certificateAuthority": PRIVATE_KEY}},
        "spec.hostKey.certificateAuthority: ... must not hold a private",
    ),
    "no authority": (
        {"hostKey": {"certificateAuthority": "nothing"}},
        "spec.hostKey.certificateAuthority",
    ),
    "first use as text": (
        {"hostKey": {"trustOnFirstUse": "yes"}},
        "spec.hostKey.trustOnFirstUse",
    ),
    "jump host name": ({"jumpHostRef": {"name": "A"}}, "spec.jumpHostRef.name"),
    "connection": ({"connection": "persistent"}, "spec.connection: Unsupported value"),
    "short interval": ({"intervalSeconds": 4}, "spec.intervalSeconds"),
    "long interval": ({"intervalSeconds": 3601}, "spec.intervalSeconds"),
    "no timeout": ({"timeoutSeconds": 0}, "spec.timeoutSeconds"),
    "long timeout": ({"timeoutSeconds": 301}, "spec.timeoutSeconds"),
    "negative retries": ({"retries": -1}, "spec.retries"),
    "many retries": ({"retries": 6}, "spec.retries"),
    "suspend as text": ({"suspend": "true"}, "spec.suspend"),
    "threshold 0": (
        {"thresholds": {"cpu": {"warning": 0}}},
        "spec.thresholds.cpu.warning",
    ),
    "threshold 101": (
        {"thresholds": {"disk": {"critical": 100.5}}},
        "spec.thresholds.disk.critical",
    ),
    "warning over critical": (
        {"thresholds": {"cpu": {"warning": 91, "critical": 90}}},
        "spec.thresholds.cpu.warning: Invalid value: must be lower than critical",
    ),
    "warning is critical": (
        {"thresholds": {"memory": {"warning": 90, "critical": 90}}},
        "spec.thresholds.memory.warning: Invalid value: must be lower than critical",
    ),
    "disk warning over critical": (
        {"thresholds": {"disk": {"warning": 90.5, "critical": 90}}},
        "spec.thresholds.disk.warning: Invalid value: must be lower than critical",
    ),
    "alerting level": ({"alerting": {"cpu": "Error"}}, "spec.alerting.cpu"),
    "negative for": ({"alerting": {"forSeconds": -1}}, "spec.alerting.forSeconds"),
    "long for": ({"alerting": {"forSeconds": 86401}}, "spec.alerting.forSeconds"),
    "keep firing": (
        {"alerting": {"keepFiringForSeconds": 86401}},
        "spec.alerting.keepFiringForSeconds",
    ),
    "negative margin": ({"alerting": {"clearMargin": -1}}, "spec.alerting.clearMargin"),
    "large margin": ({"alerting": {"clearMargin": 51}}, "spec.alerting.clearMargin"),
    "margin over critical": (
        {"alerting": {"clearMargin": 20}, "thresholds": {"cpu": {"critical": 20}}},
        "spec.alerting.clearMargin: Invalid value: must be smaller than the cpu",
    ),
    "margin over the warning that alerts": (
        {
            "alerting": {"clearMargin": 20, "memory": "Warning"},
            "thresholds": {"memory": {"warning": 10, "critical": 30}},
        },
        "spec.alerting.clearMargin: Invalid value: must be smaller than the memory",
    ),
    "margin over disk": (
        {"alerting": {"clearMargin": 40}, "thresholds": {"disk": {"critical": 30}}},
        "spec.alerting.clearMargin: Invalid value: must be smaller than the disk",
    ),
    "regular expression": (
        {"filesystems": {"exclude": ["^/var/.*$"]}},
        "spec.filesystems.exclude[0]: ... must be a glob",
    ),
    "glob with newline": (
        {"filesystems": {"exclude": ["/var", "/a\nb"]}},
        "spec.filesystems.exclude[1]: ... must be a glob",
    ),
    "empty glob": ({"filesystems": {"exclude": [""]}}, "spec.filesystems.exclude[0]"),
    "long glob": (
        {"filesystems": {"exclude": ["/" + "x" * 256]}},
        "spec.filesystems.exclude[0]: Too long",
    ),
    "many globs": (
        {"filesystems": {"exclude": ["/x"] * 33}},
        "spec.filesystems.exclude: Too many",
    ),
    "misspelt field": ({"hots": "web-1"}, 'unknown field "spec.hots"'),
}


@pytest.mark.parametrize(("change", "says"), BAD.values(), ids=BAD.keys())
def test_a_bad_resource_is_refused_by_name(control_plane, namespace, change, says):
    document = manifest(merged(MINIMAL, change))
    printed = refusal(control_plane, namespace, document)
    for part in says.split(" ... "):
        assert part in printed


def test_a_name_has_at_most_63_characters(control_plane, namespace):
    longest = manifest(MINIMAL, name="a" * 63)
    stored = created(control_plane, namespace, longest)
    assert stored["metadata"]["name"] == "a" * 63
    printed = refusal(control_plane, namespace, manifest(MINIMAL, name="a" * 64))
    assert "metadata.name must have at most 63 characters" in printed


def test_a_resource_without_spec_is_refused(control_plane, namespace):
    document = manifest(MINIMAL)
    del document["spec"]
    assert "spec: Required value" in refusal(control_plane, namespace, document)


def test_the_tables_have_the_promised_columns(control_plane, namespace):
    created(control_plane, namespace, manifest(MINIMAL))
    patch_status(control_plane, namespace, STATUS)
    narrow = control_plane.kubectl("get", "msrv", "-n", namespace)
    wide = control_plane.kubectl("get", "msrv", "-n", namespace, "-o", "wide")
    headers = ["NAME", "STATUS", "CPU", "MEMORY", "DISK", "LAST", "AGE"]
    assert narrow.splitlines()[0].split() == headers
    assert wide.splitlines()[0].split() == [
        *headers,
        *("HOST", "LOAD", "UPTIME", "ORGANIZATION", "MESSAGE"),
    ]
    row = wide.splitlines()[1]
    for shown in ("Healthy", "12%", "72% /var", "0.10 0.20 0.30", "acme", "all well"):
        assert shown in row


def test_a_fresh_resource_shows_unknown(control_plane, namespace):
    created(control_plane, namespace, manifest(MINIMAL))
    printed = control_plane.kubectl("get", "hostwatch", "-n", namespace)
    assert printed.splitlines()[1].split()[:2] == ["web-1", "Unknown"]


def test_servers_are_selected_by_health_and_host(control_plane, namespace):
    created(control_plane, namespace, manifest(MINIMAL))
    created(control_plane, namespace, manifest(MINIMAL | {"host": "db-1"}, name="db-1"))
    patch_status(control_plane, namespace, {"health": "Critical"})

    def names(selector: str) -> str:
        return control_plane.kubectl(
            *("get", "msrv", "-n", namespace, "-o", "name"),
            f"--field-selector={selector}",
        ).strip()

    assert names("status.health=Critical") == "monitoredserver.hostwatch.dev/web-1"
    assert names("spec.host=db-1") == "monitoredserver.hostwatch.dev/db-1"


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("msrv", "A Linux server that is watched over SSH"),
        ("msrv.spec.host", "DNS name, IPv4 or IPv6 address"),
        ("msrv.spec.thresholds.disk.warning", "Percent from which"),
        ("msrv.spec.hostKey.trustOnFirstUse", "Believe the first key"),
        ("msrv.status.health", "Healthy, Warning or Critical by the thresholds"),
    ],
)
def test_explain_describes(control_plane, field, says):
    assert says in " ".join(control_plane.kubectl("explain", field).split())


def test_every_field_has_a_description(control_plane):
    crd = json.loads(
        control_plane.kubectl(
            "get", "crd", "monitoredservers.hostwatch.dev", "-o", "json"
        )
    )
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def silent(path: str, schema: dict[str, Any]) -> list[str]:
        found = [] if schema.get("description") else [path]
        for name, member in schema.get("properties", {}).items():
            found += silent(f"{path}.{name}", member)
        items = schema.get("items", {})
        for name, member in items.get("properties", {}).items():
            found += silent(f"{path}[].{name}", member)
        return found

    # The API server describes metadata itself.
    assert silent("", root) == [".metadata"]


CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Collected",
    "message": "all well",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-11-23T10:00:30Z",
}
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "health": "Healthy",
    "organization": "acme",
    "lastCollectionTime": "2026-11-23T10:00:30Z",
    "lastAttemptTime": "2026-11-23T10:00:30Z",
    "consecutiveFailures": 0,
    "metrics": {
        "cpuPercent": 12.5,
        "memoryUsedBytes": 1,
        "memoryTotalBytes": 9223372036854775807,
        "diskUsedBytes": 1,
        "diskAvailableBytes": 1,
        "diskTotalBytes": 2,
        "diskMountPoint": "/var",
        "networkReceiveBytes": 0,
        "networkTransmitBytes": 0,
        "loadAverage": "0.10 0.20 0.30",
        "bootTime": "2026-10-01T08:00:00Z",
        "uptimeSeconds": 0,
    },
    "summary": {"cpu": "12%", "memory": "41%", "disk": "72% /var"},
    "hostKey": {
        "fingerprint": "SHA256:abc",
        "host": "web-1",
        "port": 22,
        "pinnedAt": "2026-11-23T10:00:30Z",
    },
    "lastHandledCollectRequest": "now",
    "lastCollectResult": {
        "request": "now",
        "result": "Succeeded",
        "reason": "Collected",
        "finishedAt": "2026-11-23T10:00:30Z",
        "durationMilliseconds": 41,
    },
    "conditions": [CONDITION],
}


def test_a_full_status_is_stored_as_written(control_plane, namespace):
    created(control_plane, namespace, manifest(MINIMAL))
    patch_status(control_plane, namespace, STATUS)
    answer = control_plane.kubectl("get", "msrv", "web-1", "-n", namespace, "-ojson")
    assert json.loads(answer)["status"] == STATUS


BAD_STATUS = {
    "two conditions of one type": (
        {"conditions": [CONDITION, CONDITION]},
        "status.conditions[1]: Duplicate value",
    ),
    "message": (
        {"conditions": [CONDITION | {"message": "x" * 257}]},
        "status.conditions[0].message: Too long",
    ),
    "condition status": (
        {"conditions": [CONDITION | {"status": "true"}]},
        "status.conditions[0].status",
    ),
    "empty reason": (
        {"conditions": [CONDITION | {"reason": ""}]},
        "status.conditions[0].reason",
    ),
    "health": ({"health": "healthy"}, "status.health: Unsupported value"),
    "time": ({"lastCollectionTime": "yesterday"}, "status.lastCollectionTime"),
    "organization": ({"organization": "a" * 64}, "status.organization"),
    "request": (
        {"lastHandledCollectRequest": "x" * 129},
        "status.lastHandledCollectRequest",
    ),
    "result": (
        {"lastCollectResult": {"result": "Done"}},
        "status.lastCollectResult.result",
    ),
    "negative bytes": (
        {"metrics": {"memoryUsedBytes": -1}},
        "status.metrics.memoryUsedBytes",
    ),
}


@pytest.mark.parametrize(("status", "says"), BAD_STATUS.values(), ids=BAD_STATUS)
def test_a_bad_status_is_refused_by_name(control_plane, namespace, status, says):
    created(control_plane, namespace, manifest(MINIMAL))
    assert says in patch_status(control_plane, namespace, status)


def test_annotating_leaves_the_generation_alone(control_plane, namespace):
    created(control_plane, namespace, manifest(MINIMAL))
    control_plane.kubectl(
        "annotate", "msrv", "web-1", "-n", namespace, "hostwatch.dev/collect=now"
    )
    answer = control_plane.kubectl("get", "msrv", "web-1", "-n", namespace, "-ojson")
    assert json.loads(answer)["metadata"]["generation"] == 1
