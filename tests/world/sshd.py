"""The OpenSSH server of this machine, with keys and a configuration of its own."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import asyncssh

from world.process import LOOPBACK, ComponentError, Process, free_ports, listens

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRIVILEGE_SEPARATION = Path("/run/sshd")
_FIRST_WITH_PENALTIES = (9, 8)


class OpenSSH:
    """A real sshd that lets the current user in with one throw-away key.

    ``prefix`` stands before the key in the authorized keys, for example
    ``restrict,command="..."``; ``settings`` are further lines of sshd_config.
    """

    host = LOOPBACK

    def __init__(
        self, directory: Path, *, prefix: str = "", settings: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        (self.port,) = free_ports(1)
        self._binary = _find()
        self._process = Process(
            "sshd",
            [self._binary, "-D", "-e", "-f", directory / "sshd_config"],
            directory=directory,
        )
        self._user_key = asyncssh.generate_private_key("ssh-ed25519")
        self._write_host_key()
        self.authorize(prefix)
        (directory / "sshd_config").write_text(self._config(settings))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def private_key(self) -> str:
        """The user's key in OpenSSH format."""
        return self._user_key.export_private_key("openssh").decode()

    @property
    def public_key(self) -> str:
        """The user's public key, as a line of authorized_keys."""
        return self._user_key.export_public_key("openssh").decode().strip()

    @property
    def host_public_key(self) -> str:
        """The server's public key: type and base64."""
        return self._host_key.export_public_key("openssh").decode().strip()

    @property
    def known_hosts(self) -> str:
        """The line that a client's known_hosts needs."""
        return f"[{self.host}]:{self.port} {self.host_public_key}"

    @property
    def fingerprint(self) -> str:
        """The server's key as ``SHA256:...``."""
        return self._host_key.get_fingerprint()

    def authorize(self, prefix: str = "", *, public_key: str | None = None) -> None:
        """Let only this key in from the next login on, with these options."""
        line = f"{prefix} {public_key or self.public_key}".strip()
        (self.directory / "authorized_keys").write_text(f"{line}\n")

    def change_host_key(self) -> None:
        """Restart it with another host key."""
        self.stop()
        self._write_host_key()
        self.start()

    def start(self) -> None:
        """Start it on the same port."""
        if os.geteuid() == 0:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        self._process.start(lambda: listens(self.port))

    def stop(self) -> None:
        """End it and every session."""
        self._process.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _write_host_key(self) -> None:
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        path = self.directory / "host_key"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(self._host_key.export_private_key("openssh"))

    def _config(self, settings: Sequence[str]) -> str:
        lines = [
            f"ListenAddress {self.host}:{self.port}",
            f"HostKey {self.directory / 'host_key'}",
            f"AuthorizedKeysFile {self.directory / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "UseDNS no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 200:30:500",
            "MaxSessions 50",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
        ]
        if _version(self._binary) >= _FIRST_WITH_PENALTIES:
            # Every test comes from one address; one that fails to log in on
            # purpose must not lock out the next.
            lines.append("PerSourcePenalties no")
        # The first value of a keyword wins in sshd_config.
        return "\n".join([*settings, *lines, ""])


def _find() -> str:
    # sbin is not on everybody's PATH; sshd itself asks for an absolute path.
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise ComponentError("sshd is missing: install the package openssh-server")
    return found


def _version(binary: str) -> tuple[int, int]:
    """Read the version; before 9.2 it stands in the usage message."""
    done = subprocess.run(
        [binary, "-V"], capture_output=True, text=True, check=False, timeout=30
    )
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stdout + done.stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)
