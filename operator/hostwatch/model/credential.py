"""What a Secret gives, and whom an SSH connection is made to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwatch.model.server import Fingerprint, ServerKey


@dataclass(frozen=True, slots=True)
class Credential:
    """The usable content of one Secret; nothing secret shows in its repr.

    Exactly one of ``private_key`` (OpenSSH or PEM text) and ``password`` is set.
    ``version`` changes whenever the content does.
    """

    version: str
    private_key: bytes | None = field(default=None, repr=False)
    passphrase: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    known_hosts: str | None = None


@dataclass(frozen=True, slots=True)
class HostTrust:
    """Which host keys a connection accepts: exactly one of the first four members.

    ``pin`` is the key remembered from an earlier first use; ``first_use`` accepts any
    key once, so that the caller can pin it. Texts are bare keys or known_hosts lines.
    """

    known_hosts: str | None = None
    certificate_authority: str | None = None
    pin: Fingerprint | None = None
    first_use: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Everything a connection is made from; another value means another connection.

    ``interval`` (seconds) tells how often something will be asked.
    """

    server: ServerKey
    host: str
    port: int
    user: str
    credential: Credential
    trust: HostTrust
    persistent: bool = True
    interval: int = 30
