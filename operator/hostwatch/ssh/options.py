"""How asyncssh is used: nothing from the environment, nothing weak, nothing extra."""

from __future__ import annotations

import getpass
import logging
import os
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hostwatch.model.credential import Target
    from hostwatch.ssh.keys import Login
    from hostwatch.ssh.trust import Trust

WINDOW = 65536
"""Bytes the server may send before we read on: this much is buffered at the most."""

KEEPALIVE_INTERVAL = 15
KEEPALIVE_COUNT = 2

# What a hardened ssh-audit policy lets pass, the fastest first. Group 16 is for servers
# in FIPS mode, which have no curve25519.
_KEX = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
)
_CIPHERS = (
    # AES-GCM cannot be truncated (CVE-2023-48795), whatever the server's age.
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
)
_MACS = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com")
_SIGNATURES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


def prepare() -> None:
    """Quieten asyncssh, and give it the local user name that it asks for.

    It names hosts and users in its log at the level INFO, and refuses to work under a
    user id without a name, which is what a container has.
    """
    asyncssh.set_log_level(logging.WARNING)
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = "hostwatch"


def options(target: Target, trust: Trust, login: Login) -> dict[str, Any]:
    """Return the keyword arguments of `asyncssh.connect` for one target."""
    return {
        "host": target.host.lower(),
        "port": target.port,
        "username": target.user,
        "client_username": target.user,
        **_authentication(login),
        # Nothing is trusted by itself: the client is asked about every key.
        "known_hosts": ((), (), ()),
        "server_host_key_algs": trust.algorithms,
        "x509_trusted_certs": None,
        "x509_trusted_cert_paths": (),
        "kex_algs": _available(_KEX, get_kex_algs()),
        "encryption_algs": _available(_CIPHERS, get_encryption_algs()),
        "mac_algs": _available(_MACS, get_mac_algs()),
        "signature_algs": _SIGNATURES,
        "compression_algs": None,
        "config": [],
        "agent_path": None,
        "agent_forwarding": False,
        "gss_host": None,
        "gss_auth": False,
        "gss_kex": False,
        "host_based_auth": False,
        "x11_forwarding": False,
        "request_pty": False,
        "encoding": None,
        "window": WINDOW,
        # Whoever connects has a limit of his own, which says more.
        "login_timeout": 0,
        "keepalive_interval": _keepalive(target.interval),
        "keepalive_count_max": KEEPALIVE_COUNT,
        "utf8_decode_errors": "replace",
    }


def _authentication(login: Login) -> dict[str, Any]:
    if login.key is None:
        return {
            "password": login.password,
            "client_keys": None,
            "public_key_auth": False,
            "preferred_auth": ("password", "keyboard-interactive"),
        }
    key = (login.key, login.certificate) if login.certificate else login.key
    return {
        "client_keys": [key],
        "public_key_auth": True,
        "password_auth": False,
        "kbdint_auth": False,
        "preferred_auth": ("publickey",),
    }


def _keepalive(interval: int) -> float:
    """Return after how many silent seconds the server is asked for a sign of life.

    A server that is sampled often shows by its samples that it lives; a question in
    between would cost a fifth of a sample.
    """
    often = 3 * KEEPALIVE_INTERVAL
    return interval + 5 if interval <= often else KEEPALIVE_INTERVAL


def _available(wanted: Iterable[str], known: Iterable[bytes]) -> list[str]:
    """Leave out what this build of asyncssh lacks: naming it would be an error."""
    present = {name.decode() for name in known}
    return [name for name in wanted if name in present]
