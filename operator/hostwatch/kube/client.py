"""Requests to the API server, and the one place where its errors are named."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from kubernetes.aio.client import ApiClient, ApiException
from kubernetes.aio.config import ConfigException

from hostwatch.kube.login import Login

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostwatch.kube.meter import KubeMeter

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_TIMEOUT_SECONDS = 10.0
_CONNECT_TIMEOUT_SECONDS = 5.0
_DETAIL_LENGTH = 512

_LATER = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,  # our token is being replaced
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class ApiAwayError(Exception):
    """The API server did not answer, or said that it cannot now: try again.

    ``status`` is None where no answer came. ``retry_after`` is in seconds, as asked
    for by the server.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after


class ApiRefusedError(Exception):
    """The API server answered no, and would again: ``status`` is its 4xx."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class ApiClock:
    """A lower bound of the API server's clock, learnt from the Date of its answers.

    Before the first answer it is our own clock.
    """

    def __init__(self) -> None:
        self._date: datetime | None = None
        self._heard = 0.0

    def hear(self, date: str, now: float) -> None:
        """Take the Date header of an answer that arrived at monotonic ``now``."""
        try:
            self._date = parsedate_to_datetime(date).astimezone(UTC)
        except ValueError:
            return
        self._heard = now

    def now(self) -> datetime:
        """Return a time that the API server's clock has reached."""
        if self._date is None:
            return datetime.now(UTC)
        return self._date + timedelta(seconds=time.monotonic() - self._heard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; the path starts at the root of the API server."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object
    content_type: str
    accept: str


class KubeClient:
    """One connection pool to the API server.

    A request that is not answered whole within ``timeout`` seconds has failed.
    """

    def __init__(
        self,
        *,
        meter: KubeMeter,
        login: Login | None = None,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.clock = ApiClock()
        self._timeout = timeout
        self._meter = meter
        self._login = login or Login()
        self._last_answer: float | None = None
        self._api: ApiClient | None = None

    @property
    def namespace(self) -> str:
        """The pod's namespace, or that of the kubeconfig's context."""
        return self._login.namespace

    @property
    def host(self) -> str:
        """The URL of the API server, empty while closed."""
        return "" if self._api is None else str(self._api.configuration.host)

    @property
    def last_answer(self) -> float | None:
        """Monotonic time when the API server last answered as a sound one does."""
        return self._last_answer

    async def open(self) -> None:
        """Read the configuration; connects at the first request only.

        Raises `KubeConfigError`.
        """
        self._api = ApiClient(await self._login.open())
        self._api.user_agent = "hostwatch"

    async def close(self) -> None:
        """Close the connections; later requests raise `ApiAwayError`."""
        if self._api is not None:
            await self._api.close()  # type: ignore[no-untyped-call]
            self._api = None

    async def get(
        self, path: str, *, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> dict[str, Any]:
        """Return an object or a list; raises as `patch` does."""
        return await self._request(
            Request(
                method="GET",
                path=path,
                query=query or {},
                body=None,
                content_type=JSON,
                accept=accept,
            )
        )

    async def patch(
        self, path: str, body: Mapping[str, object], *, query: Mapping[str, str]
    ) -> dict[str, Any]:
        """Send a merge patch and return the object it made.

        Raises `ApiRefusedError` for a final no, `ApiAwayError` for everything that a
        later try may change.
        """
        return await self._send("PATCH", path, body, query, MERGE_PATCH)

    async def post(
        self, path: str, body: Mapping[str, object], *, query: Mapping[str, str]
    ) -> dict[str, Any]:
        """Create an object and return it; raises as `patch` does."""
        return await self._send("POST", path, body, query, JSON)

    async def put(
        self, path: str, body: Mapping[str, object], *, query: Mapping[str, str]
    ) -> dict[str, Any]:
        """Replace an object and return the new one; raises as `patch` does."""
        return await self._send("PUT", path, body, query, JSON)

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object],
        query: Mapping[str, str],
        content_type: str,
    ) -> dict[str, Any]:
        return await self._request(
            Request(
                method=method,
                path=path,
                query=query,
                body=body,
                content_type=content_type,
                accept=JSON,
            )
        )

    async def _request(self, request: Request) -> dict[str, Any]:
        try:
            # The client's own timeout does not cover a credential plugin.
            async with asyncio.timeout(2 * self._timeout):
                status, headers, data = await self._exchange(request)
        # A TimeoutError is an OSError, as are the errors of TLS and of token files.
        except (aiohttp.ClientError, OSError, ApiException, ConfigException) as error:
            self._meter.api_failed(None)
            raise ApiAwayError(f"no answer: {type(error).__name__}") from error
        self._note(status, headers)
        return _content(status, headers, data)

    async def _exchange(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        if self._api is None:
            raise ApiAwayError("the client is closed")
        method, url, headers, body, _ = await self._api.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params={
                "Accept": request.accept,
                "Content-Type": request.content_type,
            },
            body=request.body,
            auth_settings=["BearerToken"],
        )
        response = await self._api.call_api(
            method,
            url,
            headers,
            body,
            _request_timeout=aiohttp.ClientTimeout(
                total=self._timeout, sock_connect=_CONNECT_TIMEOUT_SECONDS
            ),
        )
        data = await response.read()  # type: ignore[no-untyped-call]
        return response.status, response.headers, data

    def _note(self, status: int, headers: Mapping[str, str]) -> None:
        now = time.monotonic()
        self.clock.hear(headers.get("Date", ""), now)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR and (
            status != HTTPStatus.UNAUTHORIZED
        ):
            self._last_answer = now
        if status >= HTTPStatus.BAD_REQUEST:
            self._meter.api_failed(status)


def _content(status: int, headers: Mapping[str, str], data: bytes) -> dict[str, Any]:
    """Return the object of a complete answer, or raise our error for it."""
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        content = {"message": "the answer is no Kubernetes object"}
    elif status < HTTPStatus.MULTIPLE_CHOICES:
        return content
    detail = str(content.get("message", ""))[:_DETAIL_LENGTH]
    final = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if final and status not in _LATER:
        raise ApiRefusedError(status, detail)
    retry_after = headers.get("Retry-After", "")
    raise ApiAwayError(
        f"{status}: {detail}",
        status=status,
        retry_after=float(retry_after) if retry_after.isdecimal() else None,
    )
