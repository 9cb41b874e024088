"""A real Kubernetes API for the session, a namespace of its own for each test."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from world.controlplane import ControlPlane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as started:
        yield started


@pytest.fixture
def organization() -> str:
    """Name an organization that no other test uses."""
    return f"org-{secrets.token_hex(4)}"


@pytest.fixture
def namespace(control_plane: ControlPlane, organization: str) -> Iterator[str]:
    """Make a namespace labelled with the organization; it is deleted afterwards."""
    name = f"test-{secrets.token_hex(4)}"
    metadata = {"name": name, "labels": {"hostwatch.dev/organization": organization}}
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    control_plane.apply(json.dumps(document))
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def credential_secret(
    control_plane: ControlPlane, namespace: str
) -> Callable[..., str]:
    """Give a maker of Secrets, which returns the name."""

    def make(name: str, *, labelled: bool = True, **data: str) -> str:
        """Apply a Secret; the keys of ``data`` are spelled with ``_`` for ``-``."""
        entries = {
            key if key == "known_hosts" else key.replace("_", "-"): value
            for key, value in data.items()
        }
        labels = {"hostwatch.dev/ssh-credential": "true"} if labelled else {}
        document = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "type": _secret_type(entries),
            "stringData": entries,
        }
        control_plane.apply(json.dumps(document))
        return name

    return make


def _secret_type(data: dict[str, str]) -> str:
    if "ssh-privatekey" in data:
        return "kubernetes.io/ssh-auth"
    return "kubernetes.io/basic-auth" if "password" in data else "Opaque"
