"""Which host key is believed: known lines, an authority, a pin, a first use.

asyncssh is given no known host at all, so that it asks about every key; the decision
is made here, in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.model.server import Fingerprint
from hostwatch.ssh.known_hosts import read_host_keys

if TYPE_CHECKING:
    import asyncssh

    from hostwatch.model.credential import Target
    from hostwatch.ssh.known_hosts import HostKeys

SHORTEST_RSA = 3072
"""Bits of an RSA host key; shorter ones are refused (NIST SP 800-57: 128 bits)."""

_OFFERED = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
_CERTIFIED = tuple(f"{name}-cert-v01@openssh.com" for name in _OFFERED)

_SIGNATURES = {
    b"ssh-ed25519": ("ssh-ed25519",),
    b"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),  # never with SHA-1
    # Good enough for a key that is known; not offered where another may be shown.
    b"ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    b"ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    b"ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
}
"""How a host key of each kind may sign."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What is known of one server's host key."""

    keys: tuple[asyncssh.SSHKey, ...] = ()
    authorities: tuple[asyncssh.SSHKey, ...] = ()
    revoked: tuple[asyncssh.SSHKey, ...] = ()
    pin: Fingerprint | None = None
    first_use: bool = False
    sends_password: bool = False
    left_out: frozenset[bytes] = frozenset()
    """Kinds of key that the server is not asked for."""

    @classmethod
    def of(cls, target: Target) -> Trust:
        """Read what a target says; raises `CollectionError` for an unreadable text."""
        trust = target.trust
        if trust.known_hosts is not None:
            found = _read(target, trust.known_hosts, "spec.hostKey.knownHosts")
            return cls(
                keys=found.keys, authorities=found.authorities, revoked=found.revoked
            )
        if trust.certificate_authority is not None:
            found = _read(
                target,
                trust.certificate_authority,
                "spec.hostKey.certificateAuthority",
            )
            # The field says what its keys are; a line need not say it again.
            return cls(
                authorities=(*found.keys, *found.authorities), revoked=found.revoked
            )
        return cls(
            pin=trust.pin,
            first_use=trust.first_use,
            sends_password=target.credential.password is not None,
        )

    @property
    def algorithms(self) -> list[str]:
        """What the server may sign with, the kinds of its known keys first.

        A server with several keys then shows the one that is known.
        """
        known = [
            name for key in self.keys for name in _SIGNATURES.get(key.algorithm, ())
        ]
        certified = _CERTIFIED if self.authorities else ()
        unwanted = {name for kind in self.left_out for name in _SIGNATURES[kind]}
        names = dict.fromkeys((*certified, *known, *_OFFERED))
        return [name for name in names if name not in unwanted]

    def without(self, kind: bytes) -> Trust | None:
        """Return how to ask for the pinned key where one of another kind was shown.

        A pin does not tell its kind, and a server may have got a key of one that is
        asked for first. None where that leaves nothing to ask for.
        """
        if self.pin is None or kind not in _SIGNATURES or kind in self.left_out:
            return None
        left = replace(self, left_out=self.left_out | {kind})
        return left if left.algorithms else None

    def check(self, key: asyncssh.SSHKey) -> None:
        """Raise `CollectionError` unless this is the server's key."""
        presented = fingerprint(key)
        if self.pin is not None:
            if presented != self.pin:
                raise _changed(presented)
        elif self.first_use:
            if self.sends_password:
                raise _unknown(
                    "a password is sent only to a server whose key was known before: "
                    "set spec.hostKey.knownHosts",
                    presented,
                )
        elif key not in self.keys:
            if self.keys or self.authorities:
                raise _changed(presented)
            raise _unknown(
                "no known_hosts line is for this host and port: compare the key with "
                "the server's, then add it",
                presented,
            )

    def check_authority(self, key: asyncssh.SSHKey) -> None:
        """Raise `CollectionError` unless this key may certify the server's."""
        if key not in self.authorities or key in self.revoked:
            raise CollectionError(
                Reason.HOST_KEY_MISMATCH,
                "the server's host certificate is of another authority, or of a "
                "revoked one: check that this is the right server",
                reached=True,
            )

    def check_strength(self, key: asyncssh.SSHKey) -> None:
        """Raise `CollectionError` for a key that is revoked or too short."""
        if key in self.revoked:
            raise CollectionError(
                Reason.HOST_KEY_MISMATCH,
                "the server's host key is marked as revoked: give the server a new one",
                reached=True,
                presented=fingerprint(key),
            )
        if 0 < rsa_bits(key) < SHORTEST_RSA:
            raise CollectionError(
                Reason.WEAK_HOST_KEY,
                f"the server's RSA host key has fewer than {SHORTEST_RSA} bits: give "
                "it an ed25519 key with ssh-keygen -A",
                reached=True,
                presented=fingerprint(key),
            )


def fingerprint(key: asyncssh.SSHKey) -> Fingerprint:
    """Return a key's SHA256 fingerprint, as ``ssh-keygen -l`` prints it."""
    return Fingerprint(key.get_fingerprint("sha256"))


def rsa_bits(key: asyncssh.SSHKey) -> int:
    """Return the length of an RSA key, 0 for a key of another kind."""
    is_rsa = key.algorithm == b"ssh-rsa"
    return int(getattr(key.pyca_key, "key_size", 0)) if is_rsa else 0


def _read(target: Target, text: str, field: str) -> HostKeys:
    try:
        return read_host_keys(text, host=target.host, port=target.port)
    except ValueError as error:
        if text == target.credential.known_hosts:
            raise CollectionError(
                Reason.SECRET_INVALID, f"known_hosts in the Secret: {error}"
            ) from None
        raise CollectionError(Reason.INVALID_SPEC, f"{field}: {error}") from None


def _changed(presented: Fingerprint) -> CollectionError:
    return CollectionError(
        Reason.HOST_KEY_MISMATCH,
        "the server showed another host key than the one that is known: find out why "
        "before you accept it",
        reached=True,
        presented=presented,
    )


def _unknown(detail: str, presented: Fingerprint) -> CollectionError:
    return CollectionError(
        Reason.HOST_KEY_UNKNOWN, detail, reached=True, presented=presented
    )
