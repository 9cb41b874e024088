"""How a command ends when it cannot do its work."""

from __future__ import annotations

import typer

EXIT_FAILED = 1
EXIT_SETTING = 2
EXIT_DATABASE = 3
EXIT_CRD = 4


def fail(message: str, code: int) -> typer.Exit:
    """Print why the command ends, and return the exit to raise."""
    typer.echo(message, err=True)
    return typer.Exit(code)
