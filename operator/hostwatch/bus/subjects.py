"""The NATS subjects that samples and alerts are published on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwatch.model.server import ServerKey

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""A DNS label (RFC 1123): what organizations and namespaces are."""

_NAME = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")
"""A resource's name: DNS labels joined by dots."""


def resources_subject(server: ServerKey) -> str:
    """Return ``hostwatch.<organization>.resources.<namespace>.<name>``.

    A dot in a name becomes ``_``, which no name holds: two servers never share a
    subject. Raises `ValueError` for what is not a name, because a ``*``, ``>`` or dot
    would reach into another organization's subjects.
    """
    return _subject("resources", server)


def alerts_subject(server: ServerKey) -> str:
    """Return ``hostwatch.<organization>.alerts.<namespace>.<name>``, as above."""
    return _subject("alerts", server)


def alerts_filter(organization: str) -> str:
    """Return the pattern of all alerts of one organization; raises `ValueError`."""
    return f"hostwatch.{_checked('organization', _LABEL, organization)}.alerts.>"


def _subject(kind: str, server: ServerKey) -> str:
    organization = _checked("organization", _LABEL, server.organization)
    namespace = _checked("namespace", _LABEL, server.namespace)
    name = _checked("name", _NAME, server.name).replace(".", "_")
    return f"hostwatch.{organization}.{kind}.{namespace}.{name}"


def _checked(what: str, pattern: re.Pattern[str], value: str) -> str:
    if pattern.fullmatch(value) is None:
        raise ValueError(f"{what} {value!r} cannot be part of a NATS subject")
    return value
