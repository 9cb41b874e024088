"""Helm by itself, and a release of the chart in a namespace of its own."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from world.helm import Helm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from world.controlplane import ControlPlane


@dataclass(frozen=True, slots=True)
class Release:
    """An installed chart; everything it made bears the ``name``."""

    name: str
    namespace: str
    notes: str

    @property
    def user(self) -> str:
        """The ServiceAccount, as the API server names it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@pytest.fixture(scope="session")
def helm(tmp_path_factory) -> Helm:
    """Give a helm that knows no cluster."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def install(
    tmp_path_factory, control_plane: ControlPlane
) -> Iterator[Callable[..., Release]]:
    """Give an installer, which takes values; all is removed after the module.

    The namespace admits only pods that fit the restricted Pod Security standard.
    """
    helm = Helm(
        tmp_path_factory.mktemp("helm-cluster"), kubeconfig=control_plane.kubeconfig
    )
    releases: list[Release] = []

    def run(**values: Any) -> Release:
        name = f"hostwatch-{secrets.token_hex(4)}"
        control_plane.apply(_restricted(name))
        notes = helm.install(name, namespace=name, values=values)
        releases.append(Release(name, name, notes))
        return releases[-1]

    yield run
    for release in releases:
        helm.uninstall(release.name, namespace=release.namespace)
        control_plane.kubectl("delete", "namespace", release.namespace, "--wait=false")


def _restricted(name: str) -> str:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": name, "labels": labels}
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
