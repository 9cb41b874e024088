"""The command itself: its version, its help, and as a plugin of kubectl."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hostwatch.cli.main import app


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_the_version_is_the_packages():
    done = run("--version")

    assert (done.exit_code, done.stdout) == (0, f"hostwatch {version('hostwatch')}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_names_every_command(flag):
    done = run(flag)

    assert done.exit_code == 0
    for command in ("operator", "collect", "migrate", "prune"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("command", ["operator", "collect", "migrate", "prune"])
def test_every_command_tells_its_exit_codes(command):
    done = run(command, "--help")

    assert done.exit_code == 0
    assert "Exit codes: 0 " in done.stdout


def test_an_unknown_command_is_refused():
    assert run("destroy").exit_code == 2


def test_kubectl_finds_it_as_a_plugin():
    scripts = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["kubectl", "hostwatch", "collect", "--help"],
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "Collect servers now" in done.stdout
