"""The arguments of ``hostwatch collect``, and what is said without any cluster."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hostwatch.cli.asking import explain
from hostwatch.cli.main import app
from hostwatch.kube.client import ApiAwayError, ApiRefusedError


def collect(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["collect", *arguments])
    assert done.stdout == ""
    return done.exit_code, done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            (
                "no server was specified: give NAMEs, a selector (-l), --all for all "
                "of the namespace, or -A for all namespaces"
            ),
        ),
        (
            ["web-1", "-l", "tier=web"],
            "name cannot be provided when a selector is specified",
        ),
        (
            ["web-1", "-A"],
            "a resource cannot be retrieved by name across all namespaces",
        ),
        (["web-1", "--all"], "name cannot be provided with --all"),
        (
            ["--all", "-l", "tier=web"],
            "cannot set --all and --selector at the same time",
        ),
        (
            ["web-1", "../../secrets/x"],
            "'../../secrets/x' is not the name of a MonitoredServer",
        ),
        (["web-1", "-n", "a/b"], "'a/b' is not the name of a namespace"),
        (["\x1b[31m"], r"'\x1b[31m' is not the name of a MonitoredServer"),
    ],
)
def test_arguments_that_say_nothing_or_too_much_are_refused(arguments, message):
    assert collect(*arguments) == (2, f"error: {message}")


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_a_timeout_is_a_number_of_seconds(seconds):
    code, message = collect("web-1", "--sync", "--timeout", seconds)

    assert code == 2
    assert "--timeout" in message


def test_a_missing_kubeconfig_is_named(tmp_path):
    path = tmp_path / "none"
    code, message = collect("web-1", "--kubeconfig", str(path))

    assert code == 2
    assert message.startswith(
        "error: cannot read the Kubernetes configuration: the command line names "
        f"{path}, which is not there; set KUBECONFIG"
    )


def test_a_variable_kubeconfig_that_names_nothing_is_told(tmp_path, monkeypatch):
    paths = f"{tmp_path / 'none'}:{tmp_path / 'neither'}"
    monkeypatch.setenv("KUBECONFIG", paths)
    code, message = collect("web-1")

    assert code == 2
    assert f"KUBECONFIG names {paths}, which is not there" in message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ApiRefusedError(404, 'monitoredservers.hostwatch.dev "web-9" not found'),
            (
                "Error from server (NotFound): "
                'monitoredservers.hostwatch.dev "web-9" not found'
            ),
        ),
        (
            ApiRefusedError(403, "is forbidden"),
            "Error from server (Forbidden): is forbidden",
        ),
        (ApiRefusedError(418, "tea\n\x1b[2J"), "Error from server (418): tea  [2J"),
        (
            ApiAwayError("no answer: ClientConnectorError"),
            "Unable to connect to the server: no answer: ClientConnectorError",
        ),
        (
            ApiAwayError("401: Unauthorized", status=401),
            "error: You must be logged in to the server (Unauthorized)",
        ),
        (
            ApiAwayError("503: etcd is away", status=503),
            "Error from server: 503: etcd is away",
        ),
    ],
)
def test_the_api_servers_words_are_passed_on_as_kubectl_does(error, words):
    assert explain(error) == words
