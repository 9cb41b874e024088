"""What asyncssh asks while it connects: whether the server's key is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.model.server import Fingerprint
from hostwatch.ssh.errors import translate
from hostwatch.ssh.trust import fingerprint

if TYPE_CHECKING:
    from hostwatch.ssh.trust import Trust


class Client(asyncssh.SSHClient):
    """Answers for one connection.

    A refusal is raised, not returned: asyncssh then closes the connection before it
    logs in, and `asyncssh.connect` raises the very same error.
    """

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self._connection: asyncssh.SSHClientConnection | None = None
        self._shown: asyncssh.SSHKey | None = None
        self.presented = b""
        """The kind of the key that was shown last, believed or not."""
        self.host_key = Fingerprint("")
        self.lost: CollectionError | None = None

    @property
    def believes(self) -> bool:
        """Whether the server showed a key that is believed."""
        return self._shown is not None

    def explain(self, error: CollectionError) -> CollectionError:
        """Return what an error means once it is known how far the server came."""
        if self._shown is None or error.reason is not Reason.NO_COMMON_ALGORITHM:
            return error
        return CollectionError(
            Reason.HOST_KEY_MISMATCH,
            "the server showed the right host key but could not prove that it holds "
            "it: somebody may stand in between",
            reached=True,
            presented=fingerprint(self._shown),
        )

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Keep the connection: it knows the key of a certificate."""
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep the reason for those who have no session yet."""
        self._connection = None
        self.lost = translate(exc or asyncssh.ConnectionLost("closed"), reached=True)

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002 - asyncssh's signature
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        """Return True for the server's key; raises `CollectionError`."""
        self.presented = key.algorithm
        self.trust.check(key)
        if self._shown not in (None, key):
            # Keys are exchanged anew each hour; a first use ends with the first.
            raise CollectionError(
                Reason.HOST_KEY_MISMATCH,
                "the server changed its host key within one connection: find out why",
                reached=True,
                presented=fingerprint(key),
            )
        self._shown = key
        return True

    def validate_host_ca_key(
        self,
        host: str,  # noqa: ARG002 - asyncssh's signature
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        """Return True for a trusted authority; raises `CollectionError`."""
        self.trust.check_authority(key)
        return True

    def begin_auth(self, username: str) -> None:  # noqa: ARG002
        """Look at the proved key, before anything of the login is sent."""
        key = self._connection.get_server_host_key() if self._connection else None
        if key is None:
            raise CollectionError(
                Reason.HOST_KEY_UNKNOWN, "the server showed no host key", reached=True
            )
        self.trust.check_strength(key)
        self.host_key = fingerprint(key)
