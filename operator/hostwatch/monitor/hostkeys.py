"""Whom to believe: the host keys a connection may accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostwatch.model.credential import Credential, HostTrust
from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError
from hostwatch.model.sample import PinnedKey

if TYPE_CHECKING:
    from datetime import datetime

    from hostwatch.model.server import Fingerprint, ServerKey, ServerSpec
    from hostwatch.monitor.ports import HostKeyPins


class HostKeys:
    """The pins of keys accepted on first use, in memory before the database.

    A pin is bound to namespace, name, host and port: another host or port is a new
    first use.
    """

    def __init__(self, pins: HostKeyPins) -> None:
        self._pins = pins
        self._known: dict[ServerKey, PinnedKey] = {}

    async def pin_of(
        self, server: ServerKey, spec: ServerSpec, shown: PinnedKey | None
    ) -> PinnedKey | None:
        """Return the pin to hold a server to, None for a first use.

        ``shown`` is what the resource's status says; the database has the last word.
        Raises `CollectionError` where the two differ, `TryAgainLaterError` where
        neither answers.
        """
        known = self._known.get(server)
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
        if shown is not None and shown.fingerprint != stored.fingerprint:
            raise CollectionError(
                Reason.HOST_KEY_MISMATCH,
                "the pinned key in the status is not the one that was stored; check "
                "who may write status, then name the right one in "
                "hostwatch.dev/accept-host-key",
                presented=shown.fingerprint,
            )
        self._known[server] = stored
        return stored

    async def keep(
        self, server: ServerKey, spec: ServerSpec, key: Fingerprint, when: datetime
    ) -> PinnedKey:
        """Pin a key that a server has proved to hold after a login that succeeded."""
        pin = PinnedKey(key, spec.host, spec.port, when)
        await self._pins.keep(server, pin)
        self._known[server] = pin
        return pin

    def forget(self, server: ServerKey) -> None:
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


def _is_of(pin: PinnedKey, spec: ServerSpec) -> bool:
    return (pin.host, pin.port) == (spec.host, spec.port)
