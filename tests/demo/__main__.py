"""Run the demo; DEMO_SECONDS ends it, otherwise Ctrl-C does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import nats
import psycopg
from rich.console import Console

from demo.stage import SERVERS, Stage

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_TABLE_SECONDS = 5
_PATIENCE_SECONDS = 60


class Demo:
    """What a newcomer is shown, step by step."""

    def __init__(self, stage: Stage, console: Console) -> None:
        self._stage = stage
        self._console = console
        self._heard: dict[str, int] = {}

    async def run(self, seconds: float | None) -> None:
        """Show everything once, then the table until the time is over."""
        end = None if seconds is None else time.monotonic() + seconds
        listening = [await self._listen(name) for name in SERVERS]
        try:
            await self._health()
            await self._forced()
            await self._record()
            await self._alert()
            await self._failover()
            await asyncio.to_thread(self._how_to_go_on)
            while end is None or time.monotonic() < end:
                await self._table()
                await asyncio.sleep(_TABLE_SECONDS)
        finally:
            for client in listening:
                await client.close()

    def _say(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/]", highlight=False, soft_wrap=True)

    async def _kubectl(self, *arguments: str) -> str:
        return await asyncio.to_thread(self._stage.cluster.kubectl, *arguments)

    async def _table(self) -> None:
        self._say(f"$ kubectl get msrv -A      ({time.strftime('%H:%M:%S')})")
        self._console.print(
            await self._kubectl("get", "msrv", "-A"),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    async def _health(self) -> None:
        self._say("Five servers are declared; each is sampled over SSH.")
        created = time.monotonic()
        await asyncio.to_thread(self._stage.create_servers)
        await self._table()
        while not await self._all_collected():
            if time.monotonic() - created > _PATIENCE_SECONDS:
                raise TimeoutError("the servers did not get a health in time")
            await asyncio.sleep(0.2)
        took = time.monotonic() - created
        self._say(f"All have a health {took:.1f} s after their creation.")
        await self._table()

    async def _all_collected(self) -> bool:
        listed = json.loads(await self._kubectl("get", "msrv", "-A", "-o", "json"))
        health = [item.get("status", {}).get("health") for item in listed["items"]]
        return all(value in ("Healthy", "Warning", "Critical") for value in health)

    async def _forced(self) -> None:
        request = f"demo-{time.time_ns()}"
        self._say(
            f"$ kubectl annotate msrv -n acme web-1 hostwatch.dev/collect={request}"
        )
        asked = time.monotonic()
        annotation = f"hostwatch.dev/collect={request}"
        await self._kubectl("-n", "acme", "annotate", "msrv", "web-1", annotation)
        path = "{.status.lastCollectResult}"
        while request not in (answer := await self._result(path)):
            if time.monotonic() - asked > _PATIENCE_SECONDS:
                raise TimeoutError("the forced collection was not answered in time")
        took = time.monotonic() - asked
        self._console.print(answer, highlight=False, markup=False, soft_wrap=True)
        self._say(f"Answered {took:.1f} s after the annotation, kubectl included.")

    async def _result(self, path: str) -> str:
        return await self._kubectl(
            "-n", "acme", "get", "msrv", "web-1", "-o", f"jsonpath={path}"
        )

    async def _record(self) -> None:
        query = (
            "SELECT s.organization, s.name, count(*),"
            " round(avg(m.cpu_usage)::numeric, 1)"
            " FROM hostwatch.server_resource_metrics m JOIN hostwatch.servers s"
            " USING (server_id) GROUP BY 1, 2 ORDER BY 1, 2"
        )
        await asyncio.sleep(1.5)
        self._say(
            "Every sample is a row in PostgreSQL (organization, server, rows, CPU):"
        )
        async with await psycopg.AsyncConnection.connect(
            self._stage.postgres.dsn()
        ) as connection:
            for row in await (await connection.execute(query)).fetchall():
                self._console.print("  ", *row, highlight=False)
        self._say("and a message on NATS, which only its organization can hear:")
        for organization, count in self._heard.items():
            self._console.print(f"   hostwatch.{organization}.>  {count} messages")

    async def _alert(self) -> None:
        self._say("db-1 may use 2 % of its memory from now on: an alert, once.")
        await self._spec("db-1", thresholds={"memory": {"warning": 1, "critical": 2}})
        fired = await self._transition("Alert firing")
        self._console.print(f"  {fired['detail']}", highlight=False)
        self._say("The usual threshold again: the alert resolves.")
        await self._spec("db-1", thresholds=None)
        await self._transition("Alert resolved")
        self._say("$ kubectl -n acme get events")
        events = await self._kubectl("-n", "acme", "get", "events")
        self._console.print(events, highlight=False, markup=False, soft_wrap=True)

    async def _spec(self, name: str, **fields: object) -> None:
        alerting = {"forSeconds": 5, "clearMargin": 1}
        patch = json.dumps({"spec": {"alerting": alerting, **fields}})
        await self._kubectl(
            *("-n", "acme", "patch", "msrv", name, "--type=merge", "-p", patch)
        )

    async def _transition(self, event: str) -> dict[str, object]:
        """Wait for a line in the log of either replica."""
        started = time.monotonic()
        while time.monotonic() - started < _PATIENCE_SECONDS:
            for operator in self._stage.operators:
                if lines := operator.lines(event=event):
                    return lines[-1]
            await asyncio.sleep(0.2)
        raise TimeoutError(f"no line {event!r} in time")

    async def _failover(self) -> None:
        leader = await asyncio.to_thread(self._stage.leader)
        self._say(f"{leader.name} holds the Lease and is killed; the other takes over.")
        await asyncio.to_thread(leader.kill)
        killed = time.monotonic()
        # What the killed one published may still arrive.
        await asyncio.sleep(1)
        heard = sum(self._heard.values())
        while sum(self._heard.values()) == heard:
            if time.monotonic() - killed > _PATIENCE_SECONDS:
                raise TimeoutError("nobody took over in time")
            await asyncio.sleep(0.05)
        took = time.monotonic() - killed
        self._say(f"The next samples came {took:.1f} s after the kill.")
        self._console.print(
            await self._kubectl("get", "leases", "-n", "default"),
            highlight=False,
            markup=False,
        )
        await asyncio.to_thread(leader.start)

    async def _listen(self, organization: str) -> nats.NATS:
        client = await nats.connect(
            self._stage.nats.url_for(organization, organization)
        )
        self._heard[organization] = 0

        async def count(_: Msg) -> None:
            self._heard[organization] += 1

        await client.subscribe(f"hostwatch.{organization}.resources.>", cb=count)
        return client

    def _how_to_go_on(self) -> None:
        self._say("Try it yourself, in another terminal:")
        for line in (
            f"export KUBECONFIG={self._stage.cluster.kubeconfig}",
            f"export PATH={Path(sys.executable).parent}:$PATH",
            "kubectl get msrv -A -o wide",
            "kubectl describe msrv -n acme web-1",
            "hostwatch collect -n acme --all --sync",
            f"tail -f {self._stage.leader().log}",
            f"curl http://127.0.0.1:{self._stage.leader().port}/metrics",
        ):
            self._console.print(f"  {line}", highlight=False, soft_wrap=True)


async def _until_a_signal(demo: Demo, seconds: float | None) -> None:
    showing = asyncio.create_task(demo.run(seconds), name="demo")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, showing.cancel)
    try:
        await showing
    except asyncio.CancelledError:
        return


def main() -> None:
    """Start everything, show it, end everything."""
    seconds = (
        float(os.environ["DEMO_SECONDS"]) if "DEMO_SECONDS" in os.environ else None
    )
    console = Console()
    with tempfile.TemporaryDirectory(prefix="hostwatch-demo-") as directory:
        console.print("Starting a cluster, PostgreSQL, NATS, sshd and the operator ...")
        with Stage(Path(directory)) as stage:
            asyncio.run(_until_a_signal(Demo(stage, console), seconds))
            console.print("Ending everything.")


if __name__ == "__main__":
    main()
