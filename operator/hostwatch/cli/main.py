"""The command ``hostwatch``; each command is a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from hostwatch.cli.collect import collect
from hostwatch.cli.migrate import migrate
from hostwatch.cli.operator import operator
from hostwatch.cli.prune import prune

app = typer.Typer(
    help="Watch Linux servers over plain SSH from Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(operator)
app.command()(collect)
app.command()(migrate)
app.command()(prune)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer's protocol
    if asked:
        from importlib.metadata import version

        typer.echo(f"hostwatch {version('hostwatch')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and end.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Watch Linux servers over plain SSH from Kubernetes."""
