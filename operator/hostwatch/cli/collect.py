"""``hostwatch collect``: servers collected now, whether or not they are due."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated

import typer

from hostwatch.cli.ending import EXIT_CRD, EXIT_FAILED, EXIT_SETTING, fail

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which servers, as the arguments say it."""

    names: tuple[str, ...] = ()
    namespace: str | None = None
    all_namespaces: bool = False
    selector: str = ""
    every: bool = False

    def problem(self) -> str:
        """Return what is wrong with it in kubectl's words, empty if nothing is."""
        wrong = next((name for name in self.names if not _NAME.fullmatch(name)), None)
        checks = (
            (self.names and self.selector, _NAME_AND_SELECTOR),
            (self.names and self.all_namespaces, _NAME_AND_NAMESPACES),
            (self.names and self.every, "name cannot be provided with --all"),
            (self.selector and self.every, _ALL_AND_SELECTOR),
            (wrong is not None, f"{wrong!r} is not the name of a MonitoredServer"),
            (
                self.namespace and not _NAMESPACE.fullmatch(self.namespace),
                f"{self.namespace!r} is not the name of a namespace",
            ),
            (
                not (self.names or self.selector or self.every or self.all_namespaces),
                _NOTHING,
            ),
        )
        return next((problem for found, problem in checks if found), "")


_NAME_AND_SELECTOR = "name cannot be provided when a selector is specified"
_NAME_AND_NAMESPACES = "a resource cannot be retrieved by name across all namespaces"
_ALL_AND_SELECTOR = "cannot set --all and --selector at the same time"
_NOTHING = (
    "no server was specified: give NAMEs, a selector (-l), --all for all of the "
    "namespace, or -A for all namespaces"
)


def collect(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="MonitoredServers.", show_default=False),
    ] = None,
    *,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Default: that of the context."),
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Servers everywhere.")
    ] = False,
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="Servers with these labels.")
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="All servers of the namespace.")
    ] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Wait for the results and print them.")
    ] = False,
    timeout: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="How long --sync waits.")
    ] = 60,
    context: Annotated[
        str | None, typer.Option(help="A context of the kubeconfig.")
    ] = None,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Path. Default: KUBECONFIG, ~/.kube/config.")
    ] = None,
) -> None:
    """Collect servers now, whether or not they are due, also suspended ones.

    Exit codes: 0 all were asked (with --sync: collected), 1 otherwise, 2 a bad
    argument or kubeconfig, 4 a missing CustomResourceDefinition.
    """
    from hostwatch.cli.asking import Asking, explain
    from hostwatch.kube.client import ApiAwayError, ApiRefusedError, KubeClient
    from hostwatch.kube.inventory import CrdMissingError
    from hostwatch.kube.login import KubeConfigError, Login
    from hostwatch.kube.meter import Unmetered

    choice = Choice(
        names=tuple(dict.fromkeys(names or ())),
        namespace=namespace,
        all_namespaces=all_namespaces,
        selector=selector,
        every=every,
    )
    if problem := choice.problem():
        raise fail(f"error: {problem}", EXIT_SETTING)
    client = KubeClient(
        meter=Unmetered(), login=Login(kubeconfig=kubeconfig, context=context)
    )
    asking = Asking(client, choice, wait=timeout if sync else None)
    try:
        succeeded = asyncio.run(asking.run())
    except KubeConfigError as error:
        raise fail(f"error: {error}", EXIT_SETTING) from None
    except CrdMissingError as error:
        raise fail(f"error: {error}", EXIT_CRD) from None
    except (ApiAwayError, ApiRefusedError) as error:
        raise fail(explain(error), EXIT_FAILED) from None
    if not succeeded:
        raise typer.Exit(EXIT_FAILED)
