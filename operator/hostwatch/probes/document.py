"""One answer of the script, read by all probes."""

from __future__ import annotations

from hostwatch.model.reading import Readings
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.probes import cpu, filesystems, load, memory, network, uptime
from hostwatch.probes.probe import Document, NotMeasuredError, Probe

# The mount table stands last: the script cuts it off and compares it with the one
# before.
PROBES: tuple[Probe, ...] = (
    cpu.PROBE,
    memory.PROBE,
    load.PROBE,
    uptime.PROBE,
    network.PROBE,
    filesystems.PROBE,
)


def parse(body: str) -> Readings:
    """Read what stands between BEGIN and END.

    Raises `CollectionError`: ``NotLinux`` where there is nothing of /proc,
    ``OutputUnreadable`` where there is, and no probe can read any of it.
    """
    document = Document.of(body)
    if not document.from_linux:
        raise CollectionError(
            Reason.NOT_LINUX,
            "the server shows nothing of /proc: it must be a Linux with grep",
            reached=True,
        )
    readings: dict[type, object] = {}
    missing: dict[str, str] = {}
    for probe in PROBES:
        try:
            reading = probe.parse(document)
        except NotMeasuredError as reason:
            missing[probe.name] = str(reason)
        except (ValueError, LookupError):
            missing[probe.name] = "the server's output could not be read"
        else:
            readings[type(reading)] = reading
    if not readings:
        raise CollectionError(
            Reason.OUTPUT_UNREADABLE,
            "nothing that the server printed could be read",
            reached=True,
        )
    return Readings(readings, missing)
