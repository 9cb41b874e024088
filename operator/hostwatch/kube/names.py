"""What our resources are called in the Kubernetes API."""

from __future__ import annotations

from typing import Final

GROUP: Final = "hostwatch.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "monitoredservers"

FIELD_MANAGER: Final = "hostwatch"

COLLECT_ANNOTATION: Final = f"{GROUP}/collect"
ACCEPT_HOST_KEY_ANNOTATION: Final = f"{GROUP}/accept-host-key"
ORGANIZATION_LABEL: Final = f"{GROUP}/organization"
CREDENTIAL_LABEL: Final = f"{GROUP}/ssh-credential"

API_PATH: Final = f"/apis/{GROUP}/{VERSION}"


def servers_path(namespace: str | None = None) -> str:
    """Return the path of the list of one namespace, or of all."""
    if namespace is None:
        return f"{API_PATH}/{PLURAL}"
    return f"{API_PATH}/namespaces/{namespace}/{PLURAL}"


def server_path(namespace: str, name: str) -> str:
    """Return the path of one MonitoredServer."""
    return f"{servers_path(namespace)}/{name}"


def secret_path(namespace: str, name: str) -> str:
    """Return the path of one Secret."""
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"
