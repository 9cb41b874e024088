"""The command ``hostwatch``; each command is a module of its own."""

from __future__ import annotations

import typer

from hostwatch.cli.operator import operator

app = typer.Typer(
    help="Watch Linux servers over plain SSH from Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(operator)


@app.callback()
def root() -> None:
    """Watch Linux servers over plain SSH from Kubernetes."""
