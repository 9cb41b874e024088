"""What the API server says of the cluster and of the resources in it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from hostwatch.kube.client import ApiRefusedError
from hostwatch.kube.names import API_PATH, GROUP, PLURAL, VERSION, servers_path
from hostwatch.model.server import ServerId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostwatch.kube.client import KubeClient

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class CrdMissingError(Exception):
    """The cluster does not know MonitoredServers; the message says what to do."""

    def __init__(self) -> None:
        super().__init__(
            f"the cluster does not serve {PLURAL}.{GROUP} {VERSION}: install the "
            "CustomResourceDefinition (kubectl apply --server-side -f crds/)"
        )


class ClusterIdError(Exception):
    """The cluster's identity may not be read; the message says what to grant."""


class Inventory:
    """What the API server says about the watched namespaces; none given means all."""

    def __init__(self, client: KubeClient, *, namespaces: Sequence[str] = ()) -> None:
        self._client = client
        self._namespaces = tuple(namespaces)

    async def list_present(self) -> set[ServerId]:
        """Return the servers that exist, as the API server's cache knows.

        The cache may lag behind: absence from one list proves nothing. Raises
        `CrdMissingError` and the errors of `KubeClient`.
        """
        present: set[ServerId] = set()
        for namespace in self._namespaces or (None,):
            present |= await self._list(namespace)
        return present

    async def require_crd(self) -> None:
        """Raise `CrdMissingError` unless the API serves our resources."""
        try:
            served = await self._client.get(API_PATH)
        except ApiRefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise CrdMissingError from error
        names = {resource.get("name") for resource in served.get("resources") or ()}
        if PLURAL not in names:
            raise CrdMissingError

    async def cluster_id(self) -> str:
        """Return the UID of the namespace kube-system, which names the cluster.

        Raises `ClusterIdError` where it may not be read.
        """
        try:
            namespace = await self._client.get("/api/v1/namespaces/kube-system")
        except ApiRefusedError as error:
            raise ClusterIdError(
                "cannot read the namespace kube-system, whose UID names the cluster: "
                "grant the operator's ServiceAccount the verb get on namespaces "
                f"(the API server says: {error})"
            ) from error
        return str(namespace["metadata"]["uid"])

    async def _list(self, namespace: str | None) -> set[ServerId]:
        try:
            listed = await self._client.get(
                servers_path(namespace),
                # 0 is answered from memory: a tenth of the cost of a read from etcd.
                query={"resourceVersion": "0"},
                accept=_METADATA_ONLY,
            )
        except ApiRefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise CrdMissingError from error
        # One that waits for its finalizers counts as gone, as it does for the watch.
        return {
            ServerId(item["metadata"]["uid"])
            for item in listed.get("items") or ()
            if "deletionTimestamp" not in item["metadata"]
        }
