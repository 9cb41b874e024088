"""Local filesystems: the kernel's mount table, and statfs(2) of each device."""

from __future__ import annotations

import re

from hostwatch.model.reading import Filesystem, Filesystems
from hostwatch.probes.probe import (
    Document,
    NotMeasuredError,
    Probe,
    counter,
    in_range,
    printable,
)

# Types and what statfs(2) calls them. Where the two differ, something else was mounted
# over the mount point, or over a directory above it.
_MAGIC = {
    "ext2": 0xEF53,
    "ext3": 0xEF53,
    "ext4": 0xEF53,
    "xfs": 0x58465342,
    "btrfs": 0x9123683E,
    "zfs": 0x2FC12FC1,
    "f2fs": 0xF2F52010,
    "jfs": 0x3153464A,
    "reiserfs": 0x52654973,
    "vfat": 0x4D44,
    "exfat": 0x2011BAB0,
    "ntfs3": 0x7366746E,
    "bcachefs": 0xCA451A4E,
}
_TYPES = "(" + "|".join(_MAGIC) + ")"

_MOST = 100
_MOST_ASKED = 200
_LONGEST_NAME = 1024
_ESCAPE = re.compile(r"\\([0-7]{3})")

# One line per device: type, device, and its shortest mount point, raw and as a format
# of printf(1), which undoes the kernel's octal escapes. The last mount of a mount point
# is the one that is seen there.
_TABLE = (
    r"{d[NR]=\$1; m[NR]=\$2; t[NR]=\$3; top[\$2]=NR} "
    r"END {for (i=1; i<=NR; i++) if (top[m[i]]==i && t[i] ~ /^" + _TYPES + r"\$/) "
    r"{if (d[i] in best) {if (length(m[i])<length(m[best[d[i]]])) best[d[i]]=i} "
    r"else {best[d[i]]=i; order[++n]=d[i]}} "
    r"for (i=1; i<=n && i<=" + str(_MOST_ASKED) + r"; i++) {j=best[order[i]]; f=m[j]; "
    r"gsub(/%/, \"%%\", f); print \"mount:\" t[j], d[j], m[j], f} "
    r"if (i<=n) print \"more:\" n-i+1}"
)

# The table is made anew only when the mounts changed, or one of them cannot be asked
# any more: those that cannot are left out of it. $1... are the mount points to ask.
_ASK = """
rest=${out%%/proc/mounts:*};
row="stat:%S %b %f %a %c %d %t";
[ "$out" = "$rest$known" ] && rows=${1:+$(stat -f -c "$row" "$@")} || {
  known=${out#"$rest"}; table=; set -f; set --;
  for x in $(awk "@TABLE@" /proc/mounts); do
    case $x in
      more:*) table=$table$nl$x ;;
      *) m=$(printf "${x##* }."); m=${m%.};
        stat -f "$m" >/dev/null && { set -- "$@" "$m"; table=$table$nl${x% *}; } ;;
    esac;
  done;
  set +f;
  rows=${1:+$(stat -f -c "$row" "$@")};
};
out=$rest;
""".replace("@TABLE@", _TABLE)


def _parse(document: Document) -> Filesystems:
    mounts, rows = document.lines("mount"), document.lines("stat")
    if not mounts:
        raise NotMeasuredError("no local filesystem is mounted, or none may be asked")
    if len(mounts) != len(rows):
        raise NotMeasuredError("a filesystem did not answer")
    pairs = zip(mounts, rows, strict=True)
    found = [f for f in (_filesystem(*pair) for pair in pairs) if f is not None]
    if not found:
        raise NotMeasuredError("no filesystem could be measured")
    distinct = _distinct(found)
    more = document.line("more")
    return Filesystems(
        mounted=tuple(distinct[:_MOST]),
        omitted=in_range(len(distinct[_MOST:]) + (counter(more) if more else 0)),
    )


def _filesystem(mount: str, row: str) -> Filesystem | None:
    """Return a mounted device; None where the numbers cannot be its own."""
    kind, device, point = mount.split(" ")
    *words, magic = row.split(" ")
    if int(magic[-8:], 16) != _MAGIC.get(kind) or not point.startswith("/"):
        return None
    try:
        size, blocks, free, available, _inodes, _inodes_free = map(counter, words)
        total = in_range(size * blocks)
    except NotMeasuredError:
        return None
    if not (total and free <= blocks and available <= blocks):
        return None
    return Filesystem(
        mount_point=_decode(point),
        device=_decode(device),
        type=kind,
        total=total,
        used=size * (blocks - free),
        available=size * available,
    )


def _distinct(found: list[Filesystem]) -> list[Filesystem]:
    """Return one filesystem per device and per mount point, fullest first."""
    found = sorted(found, key=lambda f: (len(f.mount_point), f.mount_point))
    devices = {f.device: f for f in reversed(found)}
    fullest = sorted(
        devices.values(), key=lambda f: (-(f.percent or 0), f.mount_point, f.device)
    )
    return list({f.mount_point: f for f in reversed(fullest)}.values())[::-1]


def _decode(name: str) -> str:
    """Undo the escapes of /proc/mounts (getmntent(3)) and make the name harmless."""
    text = _ESCAPE.sub(lambda escape: chr(int(escape[1], 8)), name)
    return printable(text, _LONGEST_NAME)


PROBE = Probe(
    name="filesystems",
    files=("/proc/mounts",),
    patterns=(f"^[^ ]+ [^ ]+ {_TYPES} ",),
    parse=_parse,
    after=_ASK,
    prints="$table$nl$rows",
)
