"""From a Secret to a `Credential`. Pure."""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from hostwatch.kube.names import CREDENTIAL_LABEL
from hostwatch.model.credential import Credential
from hostwatch.model.reason import CollectionError, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES = frozenset({"kubernetes.io/ssh-auth", "kubernetes.io/basic-auth", "Opaque"})

_LONGEST = {
    "ssh-privatekey": 65536,
    "passphrase": 1024,
    "ssh-certificate": 65536,
    "password": 1024,
    "known_hosts": 262144,
}
"""The members that are read, and how many bytes each may have."""


def credential_of(secret: Mapping[str, Any], *, salt: bytes) -> Credential:
    """Return what a Secret gives to log in with.

    ``salt`` keeps the version from telling anything about a short password. Raises
    `CollectionError` with a Secret reason; its text names the member at fault.
    """
    metadata = secret.get("metadata") or {}
    name = str(metadata.get("name", ""))
    if (metadata.get("labels") or {}).get(CREDENTIAL_LABEL) != "true":
        raise CollectionError(
            Reason.SECRET_FORBIDDEN,
            f'Secret {name} needs the label {CREDENTIAL_LABEL}: "true"',
        )
    if secret.get("type") not in _TYPES:
        raise _invalid(name, f"must be of one of the types {', '.join(sorted(_TYPES))}")
    members = {
        key: _decode(name, key, value)
        for key, value in (secret.get("data") or {}).items()
        if key in _LONGEST
    }
    return _credential(name, members, version=_version(members, salt))


def _credential(name: str, members: Mapping[str, bytes], *, version: str) -> Credential:
    key, password = members.get("ssh-privatekey"), members.get("password")
    if (key is None) == (password is None):
        raise _invalid(name, "must have either ssh-privatekey or password")
    hosts = members.get("known_hosts")
    known_hosts = _text(name, "known_hosts", hosts) if hosts is not None else None
    if password is not None:
        return Credential(
            version=version,
            password=_text(name, "password", _without_newline(password)),
            known_hosts=known_hosts,
        )
    if key is not None and b"PRIVATE KEY-----" not in key:
        raise _invalid(name, "ssh-privatekey must be a private key (OpenSSH or PEM)")
    passphrase = members.get("passphrase")
    return Credential(
        version=version,
        private_key=key,
        passphrase=None if passphrase is None else _without_newline(passphrase),
        certificate=members.get("ssh-certificate"),
        known_hosts=known_hosts,
    )


def _decode(name: str, key: str, value: object) -> bytes:
    try:
        content = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(name, f"{key} is no base64") from None
    if not content.strip():
        raise _invalid(name, f"{key} is empty")
    if len(content) > _LONGEST[key]:
        raise _invalid(name, f"{key} is longer than {_LONGEST[key]} bytes")
    return content


def _text(name: str, key: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _invalid(name, f"{key} is no UTF-8 text") from None


def _without_newline(content: bytes) -> bytes:
    """Drop the line end that `echo` and editors put after a password."""
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _version(members: Mapping[str, bytes], salt: bytes) -> str:
    digest = blake2b(key=salt, digest_size=16)
    for key, content in sorted(members.items()):
        digest.update(f"{key} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _invalid(name: str, remedy: str) -> CollectionError:
    return CollectionError(Reason.SECRET_INVALID, f"Secret {name}: {remedy}")
