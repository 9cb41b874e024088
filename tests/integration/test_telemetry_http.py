from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from hostwatch.settings import TelemetrySettings
from hostwatch.telemetry.http import Endpoints, HttpPortError
from hostwatch.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def serving(**options) -> AsyncIterator[Endpoints]:
    telemetry = Telemetry(TelemetrySettings(), version="1.2.3")
    made = Endpoints(
        options.pop("port", 0),
        **(
            {"render": telemetry.metrics.render, "alive": list, "ready": list} | options
        ),
    )
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def web():
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


async def _get(web: aiohttp.ClientSession, served: Endpoints, path: str):
    async with web.get(f"http://127.0.0.1:{served.port}{path}") as response:
        return response.status, await response.text()


async def test_metrics_are_the_rendered_page(web):
    async with serving() as served:
        url = f"http://127.0.0.1:{served.port}/metrics"
        async with web.get(url) as response:
            text = await response.text()

    assert response.status == 200
    assert response.headers["Content-Type"] == (
        "text/plain; version=0.0.4; charset=utf-8"
    )
    assert '\nhostwatch_build_info{version="1.2.3"} 1.0\n' in text


@pytest.mark.parametrize(("asked", "given"), [("gzip", "gzip"), ("identity", None)])
async def test_metrics_are_compressed_for_who_asks(web, asked, given):
    async with serving() as served:
        url = f"http://127.0.0.1:{served.port}/metrics"
        async with web.get(url, headers={"Accept-Encoding": asked}) as response:
            text = await response.text()

    assert response.headers.get("Content-Encoding") == given
    assert "hostwatch_build_info" in text


async def test_openmetrics_is_given_to_who_asks(web):
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    async with serving() as served:
        url = f"http://127.0.0.1:{served.port}/metrics"
        async with web.get(url, headers=accept) as response:
            text = await response.text()

    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_pages_are_rendered_one_at_a_time_and_beside_the_event_loop(web):
    at_work, most, threads = 0, 0, set()

    def render(_accept: str) -> tuple[bytes, str]:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        threads.add(threading.current_thread())
        time.sleep(0.2)
        at_work -= 1
        return b"page", "text/plain"

    async with serving(render=render) as served:
        pages = asyncio.gather(*(_get(web, served, "/metrics") for _ in range(4)))
        health = await _get(web, served, "/healthz")
        assert not pages.done()
        assert await pages == [(200, "page")] * 4

    assert health == (200, "ok\n")
    assert most == 1
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    ("path", "argument"), [("/healthz", "alive"), ("/readyz", "ready")]
)
async def test_problems_are_told_and_end_by_themselves(web, path, argument):
    problems = ["the cache is not synced", "the API server does not answer"]
    async with serving(**{argument: lambda: problems}) as served:
        before = await _get(web, served, path)
        problems.clear()
        after = await _get(web, served, path)

    assert before == (503, "the cache is not synced\nthe API server does not answer\n")
    assert after == (200, "ok\n")


async def test_health_and_readiness_do_not_mix(web):
    async with serving(ready=lambda: ["not yet"]) as served:
        assert (await _get(web, served, "/healthz"))[0] == 200
        assert (await _get(web, served, "/readyz"))[0] == 503
        assert (await _get(web, served, "/"))[0] == 404


async def test_a_taken_port_names_the_setting():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HttpPortError) as caught:
            async with serving(port=port):
                pass

    assert str(caught.value) == (
        f"cannot listen on port {port} for /metrics, /healthz and /readyz "
        "(Address already in use); HOSTWATCH_HTTP_PORT chooses another"
    )


async def test_ipv6_is_served_where_there_is_any(web):
    async with serving() as served:
        for address in ("127.0.0.1", *(["[::1]"] if _has_ipv6() else [])):
            url = f"http://{address}:{served.port}/healthz"
            async with web.get(url) as response:
                assert response.status == 200


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_closing_ends_requests_under_way(web):
    rendering = threading.Event()

    def render(_accept: str) -> tuple[bytes, str]:
        rendering.set()
        time.sleep(4)
        return b"", "text/plain"

    async with serving(render=render) as served:
        url = f"http://127.0.0.1:{served.port}/metrics"
        page = asyncio.create_task(web.get(url).__aenter__(), name="page")
        await asyncio.to_thread(rendering.wait)
        begun = time.monotonic()
    took = time.monotonic() - begun

    with pytest.raises(aiohttp.ClientError):
        await page
    assert took < 3
