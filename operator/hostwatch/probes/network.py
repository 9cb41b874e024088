"""Traffic of the interfaces with a device, from /proc/net/dev (proc_pid_net(5))."""

from __future__ import annotations

from hostwatch.model.reading import Interface, Network
from hostwatch.probes.probe import (
    Document,
    NotMeasuredError,
    Probe,
    counter,
    in_range,
    printable,
)

_MOST = 100
_LONGEST_NAME = 32
_RECEIVE, _TRANSMIT = 0, 8

# Only an interface with a device has this link: no bridge, bond, VLAN, tunnel or veth,
# whose bytes would count twice, and of which a Kubernetes node has hundreds. A name
# that could spoil the regular expression is left out.
_FIND_DEVICES = """
nics=; bad="[[(){*+?|]";
for x in /sys/class/net/*/device; do
  x=${x%/*}; x=${x##*/};
  case $x in
    *$bad*|*"$backslash"*) ;;
    *) nics=$nics${nics:+|}$x ;;
  esac;
done;
"""


def _parse(document: Document) -> Network:
    found = dict(_interface(line) for line in document.lines("/proc/net/dev"))
    devices = document.line("devices").split("|")
    physical = tuple(found[name] for name in devices if name in found)
    taken = physical or tuple(found[name] for name in found if name != "lo")
    if not taken:
        raise NotMeasuredError("there is no network interface but lo")
    if len(taken) > _MOST:
        raise NotMeasuredError(f"there are more than {_MOST} network interfaces")
    in_range(sum(interface.receive_bytes for interface in taken))
    in_range(sum(interface.transmit_bytes for interface in taken))
    return Network(interfaces=taken, physical=bool(physical))


def _interface(line: str) -> tuple[str, Interface]:
    name, _, columns = line.rpartition(":")  # old kernels print no space after it
    words = columns.split()
    return name.strip(), Interface(
        name=printable(name.strip(), _LONGEST_NAME),
        receive_bytes=counter(words[_RECEIVE]),
        transmit_bytes=counter(words[_TRANSMIT]),
    )


PROBE = Probe(
    name="network",
    files=("/proc/net/dev",),
    patterns=("^ *(${nics:-[^ :]+}): *[0-9]+ +[0-9]",),
    parse=_parse,
    before=_FIND_DEVICES,
    prints="devices:$nics",
)
