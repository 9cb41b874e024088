"""known_hosts text (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), and bare public keys."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST_TEXT = 65536
_SSH_PORT = 22
_MARKERS = {"", "@cert-authority", "@revoked"}

KINDS = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-ed448",
        "ssh-dss",
    }
)
"""A line that starts with one of these has no host in front of its key."""


class HostKeys(NamedTuple):
    """What the lines for one host say."""

    keys: tuple[asyncssh.SSHKey, ...]
    authorities: tuple[asyncssh.SSHKey, ...]
    revoked: tuple[asyncssh.SSHKey, ...]


@dataclass(frozen=True)
class _Line:
    """One line; ``pattern`` is empty where no host was written."""

    marker: str
    pattern: str
    kind: str
    key: asyncssh.SSHKey | None
    blob: str


def read_host_keys(text: str, *, host: str, port: int) -> HostKeys:
    """Return the keys that a text holds for ``host``; no address is ever matched.

    Keys of a kind that is not known here are passed over. Raises `ValueError` saying
    which line cannot be read, and why.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"it is longer than {_LONGEST_TEXT // 1024} KiB")
    hosts = asyncssh.SSHKnownHosts()
    bare: dict[str, list[asyncssh.SSHKey]] = {marker: [] for marker in _MARKERS}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entry = _read_line(line)
            if entry.key is None:
                continue
            if entry.pattern:
                hosts.load(
                    f"{entry.marker} {entry.pattern} {entry.kind} {entry.blob}".strip()
                )
            else:
                bare[entry.marker].append(entry.key)
        except ValueError:
            raise ValueError(
                f"line {number} is neither a known_hosts line nor a public key"
            ) from None
    found = _match(hosts, host.lower(), port)
    return HostKeys(
        keys=(*bare[""], *found.keys),
        authorities=(*bare["@cert-authority"], *found.authorities),
        revoked=(*bare["@revoked"], *found.revoked),
    )


def _read_line(line: str) -> _Line:
    words = line.split()
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in _MARKERS:
        raise ValueError(marker)
    pattern = "" if words and words[0] in KINDS else words.pop(0) if words else ""
    if len(words) < 2:  # noqa: PLR2004 - the kind and the key; comments may follow
        raise ValueError(line)
    kind, blob = words[:2]
    return _Line(marker, pattern, kind, _read_key(kind, blob), blob)


def _read_key(kind: str, blob: str) -> asyncssh.SSHKey | None:
    """Return a public key, None for a well-formed one of an unknown kind."""
    try:
        data = base64.b64decode(blob, validate=True)
    except binascii.Error:
        raise ValueError(blob) from None
    name = kind.encode()
    # RFC 4253 6.6: the blob starts with the length and the name of its kind.
    if not data.startswith(len(name).to_bytes(4, "big") + name):
        raise ValueError(kind)
    if kind not in KINDS:
        return None
    return asyncssh.import_public_key(f"{kind} {blob}")


def _match(hosts: asyncssh.SSHKnownHosts, host: str, port: int) -> HostKeys:
    """Match ``[host]:port`` before ``host``, as ssh(1) does; both for port 22.

    What is revoked for the host is revoked on every port.
    """
    plain = hosts.match(host, "", None)
    exact = hosts.match(host, "", port)
    both = port == _SSH_PORT
    return HostKeys(
        keys=_distinct(exact[0], plain[0] if both else ()),
        authorities=_distinct(exact[1], plain[1] if both else ()),
        revoked=_distinct(exact[2], plain[2]),
    )


def _distinct(*several: Sequence[asyncssh.SSHKey]) -> tuple[asyncssh.SSHKey, ...]:
    return tuple(dict.fromkeys(key for keys in several for key in keys))
