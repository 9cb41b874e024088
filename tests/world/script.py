"""The script in real shells of this machine, as a login shell would start it."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager, suppress
from shutil import which
from typing import TYPE_CHECKING

import psutil

from hostwatch.probes.script import GREETING, SCRIPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"
DEADLINE = 10


def installed(program: str) -> str:
    """Return the path of a program that the tests need."""
    path = which(program)
    assert path, f"{program} must be installed"
    return path


class Session:
    """A running script, its input and output as the operator has them."""

    def __init__(self, argv: Sequence[str], tools: Path, mark: str) -> None:
        path = f"{tools}:{os.environ['PATH']}"
        self.mark = mark
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": path, "HOME": str(tools), "HOSTWATCH_TEST": mark},
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def greeted(self) -> Session:
        assert self.stdout.readline() == f"{GREETING}\n".encode()
        return self

    def ask(self, number: str = FIRST, word: str = "all") -> str:
        self.send(f"{word} {number}\n")
        assert self.stdout.readline() == f"BEGIN {number}\n".encode()
        end = f"END {number}\n".encode()
        return b"".join(iter(self.stdout.readline, end)).decode()

    def send(self, text: str) -> None:
        self.stdin.write(text.encode())
        self.stdin.flush()

    def processes(self) -> list[psutil.Process]:
        """Return all processes that this session started, wherever they hang now."""
        return [process for process in psutil.process_iter() if self._started(process)]

    def _started(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("HOSTWATCH_TEST") == self.mark
        except psutil.Error:
            return False

    def ended(self) -> bool:
        return self.process.poll() is not None and not self.processes()


def eventually(condition: Callable[[], bool]) -> bool:
    """Tell whether the condition comes true in time, without an event loop."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def session(argv: Sequence[str], tools: Path) -> Iterator[Session]:
    """Run a script with these tools first on its path; at the end nothing is left."""
    running = Session(argv, tools, mark=f"{tools}-{time.monotonic_ns()}")
    try:
        yield running
    finally:
        for process in running.processes():
            process.kill()
        for pipe in (running.stdin, running.stdout, running.process.stderr):
            if pipe and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()
        running.process.wait(DEADLINE)


def make_tools(folder: Path, shell: str) -> Path:
    """Put a ``sh`` first on the path, with BusyBox all of its tools."""
    if shell == "busybox":
        for name in ("sh", "grep", "stat", "awk", "sleep"):
            (folder / name).symlink_to(installed("busybox"))
    elif " " in shell:
        program, *options = shell.split()
        text = f'#!/bin/sh\nexec {installed(program)} {" ".join(options)} "$@"\n'
        (folder / "sh").write_text(text)
        (folder / "sh").chmod(0o755)
    else:
        (folder / "sh").symlink_to(installed(shell))
    return folder


def by(tools: Path, script: str = SCRIPT) -> list[str]:
    """Return the call of that ``sh`` without a login shell around it."""
    return [
        str(tools / "sh"),
        "-c",
        script.removeprefix("sh -c '").removesuffix("'"),
    ]
