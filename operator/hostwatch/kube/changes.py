"""What is new in the bodies a watch delivers, and what is only an echo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from hostwatch.kube.names import ACCEPT_HOST_KEY_ANNOTATION, COLLECT_ANNOTATION
from hostwatch.kube.observed import observed_of
from hostwatch.kube.resource import organization_of, server_of
from hostwatch.model.server import ServerId

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostwatch.kube.observed import Observed
    from hostwatch.model.server import Organization, Server
    from hostwatch.settings import KubernetesSettings


class Fleet(Protocol):
    """Who is told what changed."""

    def update(self, server: Server) -> None:
        """Take a server as it is now."""
        ...

    def remove(self, server: ServerId) -> None:
        """Forget a server."""
        ...

    def organize(self, namespace: str, organization: Organization | None) -> None:
        """Take a namespace's organization."""
        ...


class Statuses(Protocol):
    """Who needs to know what a resource's status says."""

    def observe(self, server: ServerId, observed: Observed) -> None:
        """Take what was seen of a resource."""
        ...


class Changes:
    """Passes on what differs in identity, spec, labels or our annotations.

    Every status we write comes back as an event: those end here, after the status
    writer has learnt the new resource version.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        statuses: Statuses,
        settings: KubernetesSettings,
        allow_trust_on_first_use: bool,
    ) -> None:
        self._fleet = fleet
        self._statuses = statuses
        self._settings = settings
        self._allow_trust_on_first_use = allow_trust_on_first_use
        self._seen: dict[ServerId, tuple[object, ...]] = {}

    def server_seen(self, body: Mapping[str, Any]) -> None:
        """Take a MonitoredServer as a watch delivers it."""
        metadata = body["metadata"]
        server = ServerId(metadata["uid"])
        self._statuses.observe(server, observed_of(body))
        annotations = metadata.get("annotations") or {}
        seen = (
            metadata.get("generation"),
            dict(metadata.get("labels") or {}),
            annotations.get(COLLECT_ANNOTATION),
            annotations.get(ACCEPT_HOST_KEY_ANNOTATION),
        )
        if self._seen.get(server) == seen:
            return
        self._seen[server] = seen
        resource = server_of(
            body, allow_trust_on_first_use=self._allow_trust_on_first_use
        )
        self._fleet.update(resource)

    def server_gone(self, server: ServerId) -> None:
        """Take the deletion of a MonitoredServer."""
        self._seen.pop(server, None)
        self._fleet.remove(server)

    def namespace_seen(self, body: Mapping[str, Any]) -> None:
        """Take a Namespace as a watch delivers it."""
        metadata = body["metadata"]
        name = str(metadata["name"])
        organization = organization_of(
            name,
            metadata.get("labels"),
            require_label=self._settings.require_organization_label,
        )
        self._fleet.organize(name, organization)
