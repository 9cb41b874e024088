"""One child process: its log in a file, its end by its own pid."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sysconfig
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOPBACK = "127.0.0.1"

# Below the range that outgoing connections are given (32768 and up), so that a
# component that is stopped finds its port still free when it is started again.
_PORTS = range(20000, 32000)


class ComponentError(Exception):
    """A component did not come up, or a command to it failed."""


def free_ports(count: int) -> tuple[int, ...]:
    """Return distinct loopback ports that nobody listens on now."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = random.choice(_PORTS)  # noqa: S311 - no secret
            taken = held.enter_context(socket.socket())
            try:
                taken.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(port)
    return tuple(ports)


def listens(port: int) -> bool:
    """Tell whether a loopback port accepts a connection."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def script(name: str) -> Path:
    """Return the path of a command that a wheel of this environment installed."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise ComponentError(f"{path} is missing: install tests/requirements.txt")
    return path


class Process:
    """A long-lived child; it also ends when the thread that started it ends.

    ``stop_signal`` asks it to end, and is sent by the kernel when the parent dies.
    ``prefix`` is a command that runs this one, for example as another user.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        directory: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.directory = directory
        self.log = directory / f"{name}.log"
        self._stop_signal = stop_signal
        self._command = [
            *prefix,
            *("setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG")),
            *map(str, command),
        ]
        self._environment = {**os.environ, **(environment or {})}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; raises `ComponentError` while it does not run."""
        if self._child is None:
            raise ComponentError(f"{self.name} does not run")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, ready: Callable[[], bool], *, within: float = 90) -> None:
        """Start it and wait until ``ready``; raises `ComponentError` with the log."""
        if self.running:
            raise ComponentError(f"{self.name} runs already")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C is for the parent, which ends us in order.
                start_new_session=True,
            )
        try:
            self._wait(ready, within)
        except BaseException:
            self.stop(grace=0)
            raise

    def stop(self, *, grace: float = 10) -> None:
        """End it and all its descendants; nothing running is fine."""
        child, self._child = self._child, None
        if child is None:
            return
        descendants = _descendants(child)
        if grace > 0:
            child.send_signal(self._stop_signal)
            with suppress(subprocess.TimeoutExpired):
                child.wait(grace)
        child.kill()
        child.wait()
        for descendant in descendants:
            _kill(descendant)
        psutil.wait_procs(descendants, timeout=5)

    def tail(self, lines: int = 20) -> str:
        """Return the end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _wait(self, ready: Callable[[], bool], within: float) -> None:
        deadline = time.monotonic() + within
        while True:
            if not self.running:
                code = self._child.returncode if self._child else None
                raise ComponentError(
                    f"{self.name} ended with code {code}; {self.log}:\n{self.tail()}"
                )
            if ready():
                return
            if time.monotonic() > deadline:
                raise ComponentError(
                    f"{self.name} was not ready in {within:.0f} s; "
                    f"{self.log}:\n{self.tail()}"
                )
            time.sleep(0.05)


def _descendants(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    # psutil compares the start time too, so that a reused pid is left alone.
    with suppress(psutil.NoSuchProcess):
        process.kill()
