"""Asks for collections and tells of the answers, in the manner of kubectl."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.names import GROUP
from hostwatch.kube.requests import (
    Answer,
    CollectRequests,
    Outcome,
    Selection,
    Target,
)
from hostwatch.kube.text import printable
from hostwatch.model.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from hostwatch.cli.collect import Choice
    from hostwatch.kube.client import KubeClient

_LONGEST = 1024
_STYLES = {Outcome.SUCCEEDED: "green", Outcome.FAILED: "red"}
_WORDS: Mapping[int, str] = {
    HTTPStatus.BAD_REQUEST: "BadRequest",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.CONFLICT: "Conflict",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Invalid",
}


class Asking:
    """One run of the command; ``wait`` is for how many seconds, None for not at all."""

    def __init__(self, client: KubeClient, choice: Choice, *, wait: int | None) -> None:
        self._client = client
        self._choice = choice
        self._wait = wait
        # A request is known by its value, so no two may be the same.
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self._requests = CollectRequests(client, request=now.replace("+00:00", "Z"))

    async def run(self) -> bool:
        """Tell whether everything that was asked for was done.

        Raises `KubeConfigError`, `CrdMissingError` and the errors of `KubeClient`.
        """
        await self._client.open()
        try:
            selection, targets = await self._choose()
            if not targets:
                place = selection and selection.namespace
                where = f" in {place} namespace." if place else ""
                _complain(f"No resources found{where}")
                return self._wait is None
            asked = await self._ask(targets)
            if self._wait is None or not asked:
                return len(asked) == len(targets)
            answered = await self._listen(asked, selection, self._wait)
            return answered and len(asked) == len(targets)
        finally:
            await self._client.close()

    async def _choose(self) -> tuple[Selection | None, list[Target]]:
        choice = self._choice
        namespace = choice.namespace or self._client.namespace
        if choice.names:
            return None, [Target(namespace, name) for name in choice.names]
        place = None if choice.all_namespaces else namespace
        selection = Selection(place, choice.selector)
        return selection, await self._requests.select(selection)

    async def _ask(self, targets: list[Target]) -> list[Target]:
        """Ask all; return those that have the request now."""
        asked = []
        async with aclosing(self._requests.ask(targets)) as results:
            async for target, error in results:
                if isinstance(error, ApiAwayError) and error.status is None:
                    raise error  # the others would fail like this one
                if error is not None:
                    _complain(explain(error))
                    continue
                asked.append(target)
                if self._wait is None:
                    name = printable(self._shown(target), _LONGEST)
                    typer.echo(f"monitoredserver.{GROUP}/{name} collection requested")
        return asked

    async def _listen(
        self, asked: list[Target], selection: Selection | None, seconds: int
    ) -> bool:
        """Print answers as they come; tell whether all came and were good."""
        table = _Table([self._shown(target) for target in asked])
        table.print("SERVER", "RESULT", "REASON", "DURATION")
        missing, succeeded = dict.fromkeys(asked), True
        try:
            async with (
                asyncio.timeout(seconds),
                aclosing(self._requests.answers(selection)) as answers,
            ):
                async for answer in answers:
                    del missing[answer.target]
                    succeeded &= answer.outcome is Outcome.SUCCEEDED
                    self._tell(table, answer)
        except TimeoutError:
            names = ", ".join(self._shown(target) for target in missing)
            _complain(
                f"error: no answer within {seconds} s from {names}",
                longest=len(names) + 99,
            )
            return False
        return succeeded

    def _tell(self, table: _Table, answer: Answer) -> None:
        took = "" if answer.milliseconds is None else f"{answer.milliseconds} ms"
        table.print(
            self._shown(answer.target),
            answer.outcome,
            answer.reason,
            took,
            style=_STYLES.get(answer.outcome, "yellow"),
        )

    def _shown(self, target: Target) -> str:
        if self._choice.all_namespaces:
            return f"{target.namespace}/{target.name}"
        return target.name


class _Table:
    """Lines in columns, each printed when it is known; so widths are fixed before."""

    def __init__(self, servers: Collection[str]) -> None:
        self._console = Console(highlight=False)
        reason = max(map(len, Reason))
        self._widths = (max(6, *map(len, servers)), len(Outcome.SUPERSEDED), reason, 0)

    def print(self, *cells: str, style: str = "") -> None:
        """Print a line; ``style`` colours the result on a terminal."""
        line = Text()
        for index, (cell, width) in enumerate(zip(cells, self._widths, strict=True)):
            text = printable(cell, _LONGEST).ljust(width + 2)
            line.append(text, style=style if index == 1 else "")
        line.rstrip()
        self._console.print(line, soft_wrap=True)


def explain(error: ApiAwayError | ApiRefusedError) -> str:
    """Say what the API server said, as kubectl does."""
    if isinstance(error, ApiRefusedError):
        word = _WORDS.get(error.status, str(error.status))
        text = f"Error from server ({word}): {error.detail}"
    elif error.status is None:
        text = f"Unable to connect to the server: {error}"
    elif error.status == HTTPStatus.UNAUTHORIZED:
        text = "error: You must be logged in to the server (Unauthorized)"
    else:
        text = f"Error from server: {error}"
    return printable(text, _LONGEST)


def _complain(text: str, *, longest: int = _LONGEST) -> None:
    typer.echo(printable(text, longest), err=True)
