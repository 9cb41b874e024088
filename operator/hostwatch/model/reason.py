"""Why a collection failed, and the one exception that says so."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwatch.model.server import Fingerprint


class Reason(StrEnum):
    """A failure's name in conditions, logs, rows, messages and metrics."""

    DNS_FAILED = "DNSFailed"
    CONNECTION_REFUSED = "ConnectionRefused"
    CONNECT_TIMEOUT = "ConnectTimeout"
    NETWORK_UNREACHABLE = "NetworkUnreachable"
    DESTINATION_FORBIDDEN = "DestinationForbidden"
    HOST_KEY_MISMATCH = "HostKeyMismatch"
    HOST_KEY_UNKNOWN = "HostKeyUnknown"
    NO_COMMON_ALGORITHM = "NoCommonAlgorithm"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_FORBIDDEN = "SecretForbidden"
    SECRET_INVALID = "SecretInvalid"
    CONNECTION_LOST = "ConnectionLost"
    COMMAND_FAILED = "CommandFailed"
    NOT_LINUX = "NotLinux"
    WEAK_HOST_KEY = "WeakHostKey"
    JUMP_HOST_FAILED = "JumpHostFailed"
    COLLECT_TIMEOUT = "CollectTimeout"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    OUTPUT_UNREADABLE = "OutputUnreadable"
    INVALID_SPEC = "InvalidSpec"
    INVALID_ORGANIZATION = "InvalidOrganization"


class CollectionError(Exception):
    """A collection, or one attempt at it, failed; raised at the edge that saw it.

    ``detail`` is our own sentence for a person: what happened and what to do, never
    text that a server sent. ``reached`` tells whether the TCP connection stood when
    it failed, ``presented`` which host key the server showed where that matters.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        reached: bool = False,
        presented: Fingerprint | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.reached = reached
        self.presented = presented


class TryAgainLaterError(Exception):
    """A service of our own (API server, database) does not answer.

    Says nothing about the server: the collection is given up without a sample, and
    its health stays what it was.
    """


class TryOthersMeanwhileError(TryAgainLaterError):
    """The service answers, but does not do it for this namespace or organization."""
