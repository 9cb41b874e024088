"""Whom to believe: the host keys a connection may accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostwatch.model.credential import Credential, HostTrust
from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError
from hostwatch.model.sample import PinnedKey
from hostwatch.model.server import Fingerprint

if TYPE_CHECKING:
    from datetime import datetime

    from hostwatch.model.server import ServerId, ServerKey, ServerSpec
    from hostwatch.monitor.ports import HostKeyPins


class HostKeys:
    """The pins of keys accepted on first use, in memory before the database.

    A pin is bound to namespace, name, host and port: another host or port is a new
    first use.
    """

    def __init__(self, pins: HostKeyPins) -> None:
        self._pins = pins
        self._known: dict[ServerId, PinnedKey] = {}

    async def pin_of(
        self,
        server: ServerKey,
        spec: ServerSpec,
        *,
        shown: PinnedKey | None,
        accepted: str,
        now: datetime,
    ) -> PinnedKey | None:
        """Return the pin to hold a server to, None for a first use.

        ``shown`` is what the resource's status says; the database has the last word,
        and a status that is only older than it. ``accepted`` is the fingerprint that
        the annotation names. Raises `CollectionError` where the two differ,
        `TryAgainLaterError` where neither answers.
        """
        known = self._known.get(server.id)
        if known is not None and _is_of(known, spec):
            return known
        shown = shown if shown is not None and _is_of(shown, spec) else None
        try:
            stored = await self._pins.find(server, spec.host, spec.port)
        except TryAgainLaterError:
            if shown is None:
                raise
            return shown
        if stored is None:
            return shown
        self._known[server.id] = stored
        if shown is None or _agree(shown, stored):
            return stored
        self._known.pop(server.id)
        if accepted in (shown.fingerprint, stored.fingerprint):
            return await self.keep(server, spec, Fingerprint(accepted), now)
        raise CollectionError(
            Reason.HOST_KEY_MISMATCH,
            "the pinned key in the status is not the stored one; check who may write "
            "status, then name the right one in hostwatch.dev/accept-host-key",
        )

    async def keep(
        self, server: ServerKey, spec: ServerSpec, key: Fingerprint, when: datetime
    ) -> PinnedKey:
        """Pin a key that a server has proved to hold after a login that succeeded."""
        pin = PinnedKey(key, spec.host, spec.port, when)
        await self._pins.keep(server, pin)
        self._known[server.id] = pin
        return pin

    def clear(self) -> None:
        """Forget every pin in memory: another replica may have stored others."""
        self._known.clear()

    def forget(self, server: ServerId) -> None:
        """Drop a server from memory; what is stored stays."""
        self._known.pop(server, None)


def trust_of(
    spec: ServerSpec, credential: Credential, pin: PinnedKey | None
) -> HostTrust:
    """Return what the spec, the Secret and the pin say of a server's host key."""
    policy = spec.host_key
    if policy.known_hosts is not None:
        return HostTrust(known_hosts=policy.known_hosts)
    if policy.certificate_authority is not None:
        return HostTrust(certificate_authority=policy.certificate_authority)
    if policy.trust_on_first_use:
        if pin is not None:
            return HostTrust(pin=pin.fingerprint)
        return HostTrust(first_use=True)
    if credential.known_hosts is not None:
        return HostTrust(known_hosts=credential.known_hosts)
    raise CollectionError(
        Reason.HOST_KEY_UNKNOWN,
        "no host key is known: set spec.hostKey.knownHosts, or known_hosts in the "
        "Secret, to the line that ssh-keyscan prints for this server",
    )


def _agree(shown: PinnedKey, stored: PinnedKey) -> bool:
    """Tell whether the status shows the stored key, or one that it replaced."""
    if shown.fingerprint == stored.fingerprint:
        return True
    return shown.pinned_at < stored.pinned_at.replace(microsecond=0)


def _is_of(pin: PinnedKey, spec: ServerSpec) -> bool:
    return (pin.host, pin.port) == (spec.host, spec.port)
