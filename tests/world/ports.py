"""The monitor's ports, held in memory: what it did is read off them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hostwatch.model.credential import Credential
from hostwatch.model.reason import TryAgainLaterError
from hostwatch.model.sample import Shown
from hostwatch.model.server import Fingerprint, Server, ServerId, ServerSpec
from hostwatch.monitor.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.credential import Target
    from hostwatch.model.sample import PinnedKey, Sample, ServerState
    from hostwatch.model.server import ServerKey
    from hostwatch.monitor.ports import Urgency

KEY = Fingerprint("SHA256:first")

DOCUMENT = """\
/proc/stat:cpu  100 0 100 800 0 0 0 0 0 0
/proc/stat:btime 1700000000
/proc/meminfo:MemTotal:       1000 kB
/proc/meminfo:MemAvailable:    600 kB
/proc/loadavg:0.10 0.20 0.30 1/100 1
/proc/uptime:100.00 50.00
"""


def server(number: int = 1, **spec: object) -> Server:
    """Return a resource; keywords change its spec."""
    return Server(
        id=ServerId(f"00000000-0000-0000-0000-{number:012d}"),
        namespace="acme",
        name=f"web-{number}",
        generation=1,
        spec=replace(
            ServerSpec(host=f"web-{number}.example.com", secret_name="web-ssh"),
            **{"timeout": 60, **spec},
        ),
    )


class VirtualClock(Clock):
    """Stamps samples with the event loop's time, which a test may have replaced."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.epoch(), UTC)


@dataclass
class MemoryShell:
    """Answers as the test says."""

    answer: Callable[[Target], Awaitable[str]]
    target: Target
    host_key: Fingerprint = KEY

    async def ask(self, word: str) -> str:
        assert word == "all"
        return await self.answer(self.target)


@dataclass
class MemoryShells:
    """Opens at once; ``answer`` is a coroutine function that a test replaces."""

    opened: list[Target] = field(default_factory=list)
    closed: list[ServerId] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    fails: list[BaseException] = field(default_factory=list)
    key: Fingerprint = KEY
    document: str = DOCUMENT
    delay: float = 0.0
    closes_in: float = 0.0
    asking: int = 0
    most_asking: int = 0

    async def open(self, target: Target, deadline: asyncio.Timeout) -> MemoryShell:
        assert deadline.when() is not None
        self.opened.append(target)
        if self.fails:
            self.asked_at.append(asyncio.get_running_loop().time())
            raise self.fails.pop(0)
        return MemoryShell(self._answer, target, self.key)

    async def close(self, server: ServerId) -> None:
        self.closed.append(server)
        await asyncio.sleep(self.closes_in)

    async def _answer(self, target: Target) -> str:
        self.asked_at.append(asyncio.get_running_loop().time())
        self.asking += 1
        self.most_asking = max(self.most_asking, self.asking)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.asking -= 1
        return self.document


@dataclass
class MemoryCredentials:
    credential: Credential = Credential(version="1", private_key=b"", known_hosts="k")
    forgotten: int = 0
    fails: BaseException | None = None
    takes: float = 0.0
    after_forget: Credential | None = None

    async def get(self, namespace: str, name: str) -> Credential:
        if self.fails is not None:
            raise self.fails
        await asyncio.sleep(self.takes)
        return self.credential

    def forget(self, namespace: str, name: str) -> None:
        self.forgotten += 1
        self.credential = self.after_forget or self.credential


@dataclass
class MemoryPins:
    pins: dict[str, PinnedKey] = field(default_factory=dict)
    away: bool = False

    async def find(self, server: ServerKey, host: str, port: int) -> PinnedKey | None:
        if self.away:
            raise TryAgainLaterError("the database is away")
        pin = self.pins.get(server.name)
        return pin if pin is not None and (pin.host, pin.port) == (host, port) else None

    async def keep(self, server: ServerKey, pin: PinnedKey) -> None:
        if self.away:
            raise TryAgainLaterError("the database is away")
        self.pins[server.name] = pin


@dataclass
class MemorySink:
    samples: list[Sample] = field(default_factory=list)

    def put(self, sample: Sample) -> None:
        self.samples.append(sample)


@dataclass
class MemoryRoster:
    known: dict[ServerId, ServerKey] = field(default_factory=dict)
    left: list[ServerId] = field(default_factory=list)
    forgotten: list[ServerId] = field(default_factory=list)

    def seen(self, server: ServerKey, resource: Server) -> None:
        self.known[server.id] = server

    def gone(self, server: ServerId, when: datetime) -> None:
        self.left.append(server)

    def forget(self, server: ServerId) -> None:
        self.forgotten.append(server)


@dataclass
class MemoryBoard:
    written: list[tuple[ServerState, Urgency]] = field(default_factory=list)
    before: Shown = field(default_factory=Shown)
    dropped: list[ServerId] = field(default_factory=list)

    def show(self, state: ServerState, urgency: Urgency) -> None:
        self.written.append((state, urgency))

    def shown(self, server: ServerId) -> Shown:
        return self.before

    def drop(self, server: ServerId) -> None:
        self.dropped.append(server)

    @property
    def last(self) -> ServerState:
        return self.written[-1][0]

    def results(self) -> list[tuple[str, bool, str]]:
        return [
            (s.result.request, s.result.succeeded, s.result.reason)
            for s, _ in self.written
            if s.result is not None
        ]


@dataclass
class MemoryRelay:
    """Remembers what was to be kept, and what was to be told."""

    kept: dict[ServerId, tuple[Alert, ...]] = field(default_factory=dict)
    told: list[Notification] = field(default_factory=list)

    def record(
        self,
        server: ServerKey,
        alerts: tuple[Alert, ...],
        notifications: tuple[Notification, ...],
    ) -> None:
        self.kept[server.id] = alerts
        self.told += notifications


@dataclass
class MemoryMeter:
    lateness: list[float] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    slots_skipped: int = 0
    fleet: tuple[int, int] = (0, 0)
    left: list[ServerKey] = field(default_factory=list)

    def collected(self, sample: Sample, *, duration: float, lateness: float) -> None:
        self.lateness.append(lateness)

    def gave_up(self, server: ServerKey, why: str) -> None:
        self.given_up.append(why)

    def skipped(self, server: ServerKey) -> None:
        self.slots_skipped += 1

    def gone(self, server: ServerKey) -> None:
        self.left.append(server)

    def watching(self, servers: int, suspended: int) -> None:
        self.fleet = (servers, suspended)
