"""What the reasons have in common: who may try again, and how soon."""

from __future__ import annotations

from hostwatch.model.reason import Reason

NETWORK = frozenset(
    {
        Reason.DNS_FAILED,
        Reason.CONNECTION_REFUSED,
        Reason.CONNECT_TIMEOUT,
        Reason.NETWORK_UNREACHABLE,
        Reason.CONNECTION_LOST,
    }
)
"""The server could not be talked to; the condition Reachable is False."""

HOST_KEY = frozenset({Reason.HOST_KEY_MISMATCH, Reason.HOST_KEY_UNKNOWN})
"""The server did not prove who it is; the condition HostKeyTrusted is False."""

TRANSIENT = NETWORK | {
    Reason.COLLECT_TIMEOUT,
    Reason.COMMAND_FAILED,
    Reason.OUTPUT_TOO_LARGE,
    Reason.OUTPUT_UNREADABLE,
}
"""A second attempt within the same collection may succeed.

The others need somebody to change something first, and a second attempt at a refused
key is what gets an address banned.
"""

AFTER_TRUST = frozenset(
    {
        Reason.AUTHENTICATION_FAILED,
        Reason.COMMAND_FAILED,
        Reason.NOT_LINUX,
        Reason.OUTPUT_TOO_LARGE,
        Reason.OUTPUT_UNREADABLE,
    }
)
"""These can only happen once the host key was accepted."""

REFUSED = frozenset(
    {
        Reason.AUTHENTICATION_FAILED,
        Reason.WEAK_HOST_KEY,
        Reason.NO_COMMON_ALGORITHM,
    }
)
"""Asking again costs a key exchange and changes nothing by itself."""

LONGEST_PAUSE = 600.0
"""Seconds: a refused key or login is tried again at least this often."""


def pause_after(reason: Reason, *, failures: int, interval: float) -> float:
    """Return how many seconds to leave a server alone after its latest failure.

    0 means until its next slot. ``failures`` counts those for that reason running,
    from 1. Refused
    logins double the pause from one interval on, so that neither fail2ban nor
    sshd's PerSourcePenalties is fed; a changed host key is looked at every ten
    minutes.
    """
    if reason in HOST_KEY:
        return LONGEST_PAUSE
    if reason in REFUSED:
        doublings = min(failures - 1, 10)
        return min(LONGEST_PAUSE, interval * 2.0**doublings)
    return 0.0
