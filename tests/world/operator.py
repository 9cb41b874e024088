"""The operator as a process of its own, and what it says."""

from __future__ import annotations

import json
import secrets
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import psutil

from world.process import LOOPBACK, Process, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Operator:
    """``hostwatch operator`` on loopback; keywords are settings without the prefix.

    Its log is one JSON object a line.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kubeconfig: Path,
        name: str = "operator",
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        (self.port,) = free_ports(1)
        self.name = name
        # Installations that share a cluster differ in the name of their Lease.
        settings.setdefault("instance", f"hostwatch-{secrets.token_hex(4)}")
        settings.setdefault("identity", name)
        settings.setdefault("spool_dir", directory / "spool")
        named = {f"HOSTWATCH_{key.upper()}": str(v) for key, v in settings.items()}
        self._process = Process(
            name,
            [sys.executable, "-m", "hostwatch", "operator"],
            directory=directory,
            environment={
                "KUBECONFIG": str(kubeconfig),
                "HOSTWATCH_HTTP_PORT": str(self.port),
                **named,
                **(environment or {}),
            },
        )
        self.log = self._process.log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def process(self) -> psutil.Process:
        """The running process, for a test that ends it in its own way."""
        return psutil.Process(self.pid)

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self._process.start(self.is_ready)

    def stop(self) -> None:
        """Send SIGTERM and wait."""
        self._process.stop(grace=20)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.stop(grace=0)

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of one of its endpoints; 0 where nobody answers."""
        url = f"http://{LOOPBACK}:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def lines(self, **having: object) -> list[dict[str, Any]]:
        """Return the log's lines in which every given key has that value."""
        lines = []
        for text in self.log.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                line = {"event": text, "level": "unreadable"}
            if all(line.get(key) == value for key, value in having.items()):
                lines.append(line)
        return lines

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
