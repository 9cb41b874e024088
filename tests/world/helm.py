"""Helm and our chart: rendered without a cluster, or installed into one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from world.process import ComponentError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT = Path(__file__).resolve().parents[2]
CHART = _ROOT / "helm" / "hostwatch"
DSN_SECRET = "hostwatch-postgres"


def find_binary() -> Path:
    """Return the built helm; raises `ComponentError` when it is not built."""
    listed = (_ROOT / "tests" / "go" / "commands").read_text().split()
    (name,) = (Path(line).name for line in listed if "/helm@" in line)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "hostwatch" / name
    if not path.exists():
        raise ComponentError(f"{path} is missing: `make test` builds it")
    return path


class Helm:
    """The command helm with a home of its own.

    ``values`` of its methods are those of the chart, and go through a file as a
    user's would; the one that is required is there without being named.
    """

    def __init__(self, directory: Path, *, kubeconfig: Path | None = None) -> None:
        self._binary = find_binary()
        directory.mkdir(parents=True, exist_ok=True)
        self._environment = {
            **os.environ,
            # Without a cluster there is no file: nothing of this machine is read.
            "KUBECONFIG": str(kubeconfig or directory / "no-kubeconfig"),
            "HELM_CACHE_HOME": str(directory / "cache"),
            "HELM_CONFIG_HOME": str(directory / "config"),
            "HELM_DATA_HOME": str(directory / "data"),
        }

    def run(self, *arguments: str | Path, stdin: str = "") -> str:
        """Return what helm printed; raises `ComponentError` with its complaint."""
        done = subprocess.run(
            [self._binary, *arguments],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise ComponentError(done.stderr.strip())
        return done.stdout

    def template(
        self,
        release: str = "hostwatch",
        *,
        namespace: str = "monitoring",
        values: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the manifests of the chart, CustomResourceDefinitions left out."""
        command = ("template", release, CHART, "--namespace", namespace)
        printed = self.run(*command, "--values", "-", stdin=_values(values))
        return [document for document in yaml.safe_load_all(printed) if document]

    def install(
        self, release: str, *, namespace: str, values: Mapping[str, Any] | None = None
    ) -> str:
        """Install the chart without waiting for its pods; return the notes."""
        self._deploy("install", release, namespace, values)
        notes = self.run("get", "notes", release, "--namespace", namespace)
        return notes.removeprefix("NOTES:\n")

    def upgrade(
        self, release: str, *, namespace: str, values: Mapping[str, Any]
    ) -> None:
        """Give a release other values."""
        self._deploy("upgrade", release, namespace, values)

    def uninstall(self, release: str, *, namespace: str) -> None:
        """Remove a release; one that is not there is fine."""
        self.run("uninstall", release, "--namespace", namespace, "--ignore-not-found")

    def _deploy(
        self,
        verb: str,
        release: str,
        namespace: str,
        values: Mapping[str, Any] | None,
    ) -> None:
        command = (verb, release, CHART, "--namespace", namespace)
        self.run(*command, "--values", "-", stdin=_values(values))


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the manifests of a kind, in their order."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def _values(values: Mapping[str, Any] | None) -> str:
    dsn = {"postgres": {"dsnSecret": {"name": DSN_SECRET}}}
    return json.dumps({**dsn, **(values or {})})
