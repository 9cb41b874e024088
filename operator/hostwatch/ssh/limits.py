"""How long each step may take, and how much may happen at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one replica; times in seconds, sizes in bytes.

    ``look_ups`` counts names in a thread, ``look_ups_each`` those of one namespace:
    names whose DNS servers are silent hold their place for half a minute. ``connects``
    counts servers between address and login: silent ones hold their place for the
    whole time limit. ``handshakes`` counts key exchanges and logins, which cost
    milliseconds of CPU each. ``login_bytes`` bounds what is received until the login
    ends, ``sample_bytes`` from one question to the next, ``noise_bytes`` what start-up
    files print before the script, ``document_bytes`` one answer.
    """

    look_ups: int = 32
    look_ups_each: int = 8
    connects: int = 1024
    handshakes: int = 64
    dns_time: float = 5
    connect_time: float = 5
    login_time: float = 10
    greeting_time: float = 10
    login_bytes: int = 256 * 1024
    sample_bytes: int = 512 * 1024
    noise_bytes: int = 64 * 1024
    document_bytes: int = 256 * 1024
    lifetime: float = 86_400
    """Seconds after which a connection is made anew, up to a tenth less."""
