"""The command line as a person runs it: a process, its output, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple


class Ended(NamedTuple):
    """How a command ended; the output line by line."""

    code: int
    out: list[str]
    err: list[str]


def hostwatch(*arguments: str, **environment: str) -> Ended:
    """Run ``hostwatch``; keywords are variables, without any of the caller's own."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HOSTWATCH_", "KUBE"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "hostwatch", *arguments],
        env={**inherited, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Ended(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())
