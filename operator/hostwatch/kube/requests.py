"""Forced collections as a person asks for them: annotate, then watch the status."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.inventory import CrdMissingError
from hostwatch.kube.names import (
    COLLECT_ANNOTATION,
    FIELD_MANAGER,
    server_path,
    servers_path,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from hostwatch.kube.client import KubeClient

_PAGE = 500
_PARALLEL = 8
_POLL_SECONDS = 0.5
# Lists take at most this share of the time, however large they are.
_BUSY_SHARE = 0.25
_FEW = 10


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A server by its name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Servers of one namespace, or of all, that a label selector selects."""

    namespace: str | None
    selector: str = ""


class Outcome(StrEnum):
    """How a request ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUPERSEDED = "Superseded"
    DELETED = "Deleted"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request; ``reason`` is one of the status, or empty."""

    target: Target
    outcome: Outcome
    reason: str = ""
    milliseconds: int | None = None


class CollectRequests:
    """One request, put to any number of servers.

    ``request`` is the annotation's value; it must differ from every earlier one.
    """

    def __init__(self, client: KubeClient, *, request: str) -> None:
        self._client = client
        self._request = request
        self._uids: dict[Target, str] = {}

    async def select(self, selection: Selection) -> list[Target]:
        """Return the selected servers by namespace and name.

        Raises `CrdMissingError` and the errors of `KubeClient`.
        """
        return sorted([_target_of(body) async for body in self._list(selection)])

    async def ask(
        self, targets: Iterable[Target]
    ) -> AsyncGenerator[tuple[Target, ApiRefusedError | ApiAwayError | None]]:
        """Annotate each, and yield it in the order given with what went wrong.

        Raises `CrdMissingError`.
        """
        turns = asyncio.Semaphore(_PARALLEL)

        async def annotate(target: Target) -> None:
            async with turns:
                await self._annotate(target)

        tasks = {
            target: asyncio.create_task(annotate(target), name=f"ask {target.name}")
            for target in targets
        }
        try:
            for target, task in tasks.items():
                try:
                    await task
                except (ApiRefusedError, ApiAwayError) as error:
                    yield target, error
                else:
                    yield target, None
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def answers(self, selection: Selection | None) -> AsyncGenerator[Answer]:
        """Yield the answers of those that were asked, as they come, until all are in.

        ``selection`` is what they were selected by, None where they were named. An
        API server that is away is waited for; raises `ApiRefusedError`.
        """
        waiting = dict(self._uids)
        clock = asyncio.get_running_loop().time
        while waiting:
            begun = clock()
            with suppress(ApiAwayError):
                found = await self._look(waiting.keys(), selection)
                for target in sorted(waiting):
                    answer = self._answer(target, waiting[target], found.get(target))
                    if answer is not None:
                        del waiting[target]
                        yield answer
            if waiting:
                took = clock() - begun
                await asyncio.sleep(max(_POLL_SECONDS, took / _BUSY_SHARE - took))

    async def _annotate(self, target: Target) -> None:
        path = server_path(target.namespace, target.name)
        annotations = {COLLECT_ANNOTATION: self._request}
        try:
            body = await self._client.patch(
                path,
                {"metadata": {"annotations": annotations}},
                query={"fieldManager": f"{FIELD_MANAGER}-collect"},
            )
        except ApiRefusedError as error:
            raise _without_crd(error) from error
        self._uids[target] = str(body["metadata"]["uid"])

    async def _look(
        self, waiting: AbstractSet[Target], selection: Selection | None
    ) -> dict[Target, Mapping[str, Any]]:
        """Read the servers; one that is not there is left out."""
        found: dict[Target, Mapping[str, Any]] = {}
        if selection is not None and len(waiting) > _FEW:
            found = {_target_of(body): body async for body in self._list(selection)}
        # Its labels may have changed: what is not selected any more may be there.
        for target in waiting - found.keys():
            try:
                found[target] = await self._client.get(
                    server_path(target.namespace, target.name)
                )
            except ApiRefusedError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
        return found

    async def _list(self, selection: Selection) -> AsyncGenerator[dict[str, Any]]:
        query = {"limit": str(_PAGE), "labelSelector": selection.selector}
        while True:
            try:
                page = await self._client.get(
                    servers_path(selection.namespace), query=query
                )
            except ApiRefusedError as error:
                raise _without_crd(error) from error
            for body in page.get("items") or ():
                yield body
            query["continue"] = str(page["metadata"].get("continue") or "")
            if not query["continue"]:
                return

    def _answer(
        self, target: Target, uid: str, body: Mapping[str, Any] | None
    ) -> Answer | None:
        """Judge a server as it stands; None while nothing is known."""
        if body is None or body["metadata"]["uid"] != uid:
            return Answer(target, Outcome.DELETED)
        status = body.get("status") or {}
        if status.get("lastHandledCollectRequest") == self._request:
            return _acknowledged(target, status.get("lastCollectResult") or {})
        annotations = body["metadata"].get("annotations") or {}
        if annotations.get(COLLECT_ANNOTATION) != self._request:
            return Answer(target, Outcome.SUPERSEDED)
        return None


def _acknowledged(target: Target, result: Mapping[str, Any]) -> Answer:
    succeeded = result.get("result") == Outcome.SUCCEEDED
    took = result.get("durationMilliseconds")
    return Answer(
        target,
        Outcome.SUCCEEDED if succeeded else Outcome.FAILED,
        reason=str(result.get("reason", "")),
        milliseconds=took if isinstance(took, int) else None,
    )


def _target_of(body: Mapping[str, Any]) -> Target:
    metadata = body["metadata"]
    return Target(str(metadata["namespace"]), str(metadata["name"]))


def _without_crd(error: ApiRefusedError) -> ApiRefusedError | CrdMissingError:
    """Recognize the 404 of an unknown resource, which speaks of no object."""
    unknown = error.status == HTTPStatus.NOT_FOUND and "not found" not in error.detail
    return CrdMissingError() if unknown else error
