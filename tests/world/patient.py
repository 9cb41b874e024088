"""A server whose vital signs a test sets; asked over real SSH."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from world.scripted import Process

_TICKS = 100
_BLOCKS = 10_000


@dataclass
class Patient:
    """Percentages as the operator should measure them; ``delay`` in seconds.

    ``asked`` holds when each request came, ``busy`` how many are being answered.
    """

    cpu: float = 10
    memory: float = 20
    disk: float = 30
    delay: float = 0
    asked: list[float] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    _started: float = field(default_factory=time.monotonic)
    _used: float = 0
    _idle: float = 1000
    _last: float = field(default_factory=time.monotonic)

    async def session(self, process: Process, _command: str) -> None:
        """Serve a shell's requests, as the script would."""
        import asyncio

        process.stdout.write(b"HOSTWATCH 1\n")
        async for line in process.stdin:
            self.asked.append(time.time())
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            try:
                await asyncio.sleep(self.delay)
            finally:
                self.busy -= 1
            number = line.split()[1].decode()
            answer = f"BEGIN {number}\n{self.document()}\nEND {number}\n"
            process.stdout.write(answer.encode())

    def document(self) -> str:
        """Return a body in which the counters have moved on since the last."""
        earlier = self._cpu_line()
        now = time.monotonic()
        ticks = max(1.0, now - self._last) * _TICKS
        self._last = now
        self._used += ticks * self.cpu / 100
        self._idle += ticks * (100 - self.cpu) / 100
        free = round(_BLOCKS * (100 - self.disk) / 100)
        lines: list[Any] = [
            f"/proc/stat:{self._cpu_line()}",
            "/proc/meminfo:MemTotal:       1000000 kB",
            f"/proc/meminfo:MemAvailable:   {round(10_000 * (100 - self.memory))} kB",
            "/proc/loadavg:0.10 0.20 0.30 1/100 1",
            f"/proc/uptime:{now - self._started + 1000:.2f} 50.00",
            "/proc/sys/kernel/random/boot_id:11111111-2222-3333-4444-555555555555",
            "/proc/net/dev:  eth0: 500 10 0 0 0 0 0 0 700 12 0 0 0 0 0 0",
            "",
            f"earlier:{earlier}",
            "devices:eth0",
            "",
            "mount:ext4 /dev/sda1 /",
            f"stat:4096 {_BLOCKS} {free} {free} 100 90 ef53",
        ]
        return "\n".join(lines)

    def _cpu_line(self) -> str:
        return f"cpu  {round(self._used)} 0 0 {round(self._idle)} 0 0 0 0 0 0"
