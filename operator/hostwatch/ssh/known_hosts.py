"""known_hosts text (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), and bare public keys."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import asyncssh

from hostwatch.probes.globs import Automaton

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_TEXT = 65536
_MOST_PATTERNS = 64
_LONGEST_PATTERN = 300
"""Room for the longest DNS name, or a digest, in one line."""

_SSH_PORT = 22
_AUTHORITY, _REVOKED = "@cert-authority", "@revoked"

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


@dataclass(frozen=True, slots=True)
class _Line:
    """One line; ``patterns`` is empty where no host was written."""

    marker: str
    patterns: tuple[str, ...]
    key: asyncssh.SSHKey

    def is_for(self, name: str) -> bool:
        """Tell whether the line has ``name``, a host or ``[host]:port``."""
        if self.patterns[0].startswith("|"):
            salt, digest = _hashed(self.patterns[0])
            return digest == hmac.digest(salt, name.encode(errors="replace"), "sha1")
        wanted = [p for p in self.patterns if not p.startswith("!")]
        refused = [p[1:] for p in self.patterns if p.startswith("!")]
        return _is_one(name, wanted) and not _is_one(name, refused)


def read_host_keys(text: str, *, host: str, port: int) -> HostKeys:
    """Return the keys that a text holds for ``host``; no address is ever matched.

    Keys of a kind that is not known here are passed over. Raises `ValueError` saying
    which line cannot be read, and why.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"it is longer than {_LONGEST_TEXT // 1024} KiB")
    lines = []
    for number, written in enumerate(text.splitlines(), 1):
        if not written.strip() or written.lstrip().startswith("#"):
            continue
        try:
            line = _read_line(written)
        except ValueError:
            raise ValueError(
                f"line {number} is neither a known_hosts line nor a public key"
            ) from None
        if line is None:
            continue
        if len(line.patterns) > _MOST_PATTERNS or any(
            len(pattern) > _LONGEST_PATTERN for pattern in line.patterns
        ):
            raise ValueError(
                f"line {number} has more than {_MOST_PATTERNS} hosts, or one of more "
                f"than {_LONGEST_PATTERN} characters: leave out what is not needed"
            )
        lines.append(line)
    return _choose(lines, host.lower(), port)


def _read_line(text: str) -> _Line | None:
    """Return a line, None for one with a key of an unknown kind."""
    words = text.split()
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", _AUTHORITY, _REVOKED):
        raise ValueError(marker)
    hosts = "" if words and words[0] in KINDS else words.pop(0) if words else ""
    if len(words) < 2:  # noqa: PLR2004 - the kind and the key; comments may follow
        raise ValueError(text)
    if hosts.startswith("|"):
        _hashed(hosts)
        patterns: tuple[str, ...] = (hosts,)
    else:
        patterns = tuple(hosts.lower().split(",")) if hosts else ()
    key = _read_key(*words[:2])
    return None if key is None else _Line(marker, patterns, key)


def _read_key(kind: str, blob: str) -> asyncssh.SSHKey | None:
    """Return a public key, None for a well-formed one of an unknown kind."""
    data = base64.b64decode(blob, validate=True)
    name = kind.encode()
    # RFC 4253 6.6: the blob starts with the length and the name of its kind.
    if not data.startswith(len(name).to_bytes(4, "big") + name):
        raise ValueError(kind)
    if kind not in KINDS:
        return None
    return asyncssh.import_public_key(f"{kind} {blob}")


def _hashed(pattern: str) -> tuple[bytes, bytes]:
    """Return the salt and the HMAC-SHA1 of ``|1|salt|digest``."""
    nothing, magic, *parts = pattern.split("|")
    salt, digest = (base64.b64decode(part, validate=True) for part in parts)
    if nothing or magic != "1":
        raise ValueError(magic)
    return salt, digest


def _is_one(name: str, patterns: list[str]) -> bool:
    if name in patterns:
        return True
    globs = tuple(p for p in patterns if "*" in p or "?" in p)
    return bool(globs) and Automaton.of(globs).match(name)


def _choose(lines: list[_Line], host: str, port: int) -> HostKeys:
    """Match ``[host]:port`` before ``host``, as ssh(1) does; both for port 22.

    What is revoked for the host is revoked on every port.
    """
    bare = [line for line in lines if not line.patterns]
    named = [line for line in lines if line.patterns]
    exact = [line for line in named if line.is_for(f"[{host}]:{port}")]
    plain = [line for line in named if line.is_for(host)]
    settled = port != _SSH_PORT and any(line.marker != _REVOKED for line in exact)
    believed = [*bare, *exact, *(() if settled else plain)]
    return HostKeys(
        keys=_marked("", believed),
        authorities=_marked(_AUTHORITY, believed),
        revoked=_marked(_REVOKED, [*bare, *exact, *plain]),
    )


def _marked(marker: str, lines: Iterable[_Line]) -> tuple[asyncssh.SSHKey, ...]:
    return tuple(dict.fromkeys(line.key for line in lines if line.marker == marker))
