"""The script that runs on a server: one ``sh`` that answers until it is left alone.

It greets with `GREETING` when it is ready to read. A request is a line of a word and
16 hexadecimal digits; the answer, printed by one ``printf``, is ``BEGIN <id>``, the
body, ``END <id>``. ``all`` asks for everything; ``fs`` is empty until network mounts
are read. Anything else ends the script, the reserved ``top`` too.

The text is the argument of an SSH exec request, or of ``command=`` in authorized_keys,
and passes through login shells of all kinds: one line of printable ASCII without a
single quote, ``!`` (csh) or a double backslash (fish). It runs in every POSIX shell,
with GNU or BusyBox tools, writes no file, and needs two processes for an answer.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from hostwatch.probes.document import PROBES

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1
GREETING = f"HOSTWATCH {VERSION}"

# The id of the last background process has a name that csh would not leave alone:
# $last holds it, written \041.
_SET_UP = r"""
cd /; exec 2>/dev/null;
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C GREP_OPTIONS=;
export PATH LC_ALL GREP_OPTIONS;
nl=$(printf "\n."); nl=${nl%.}; IFS=$nl; backslash=$(printf "\134");
last="\$$(printf "\041")";
"""

# The watchdog ends a shell that nothing was asked of between two looks: any answer
# changes the shell's fault counters. It goes with the shell, and by itself where that
# was killed, which it knows by the time the process with that id was started. The
# shell goes on when the watchdog has closed its output: from then on it hears the
# signal, and does not hold the channel open. Where there is no sleep there is none.
_WATCHDOG = """
watchdog=$(
  ( trap "kill $last; exit" 15; exec </dev/null; IFS=" ";
    read -r seen </proc/$$/stat; set -- $seen; born=${22};
    sleep 0 || exit;
    sleep @IDLE@ >/dev/null & exec >/dev/null;
    while :; do wait;
      now=; read -r now </proc/$$/stat; set -- $now;
      [ "${22}" = "$born" ] || exit;
      [ "$now" = "$seen" ] && { kill -9 $$; exit; };
      seen=$now; sleep @IDLE@ &
    done ) &
  eval "printf %s $last"
);
trap "kill $watchdog; exit" 0 1 2 13 15;
"""

_LOOP = r"""
printf "@GREETING@\n"; first=1;
id=[0-9a-f]; id=$id$id$id$id; id=$id$id$id$id;
while read -r request; do
  body=;
  case $request in
    "all "$id) @GATHER@ ;;
    "fs "$id) ;;
    *) exit ;;
  esac;
  request=${request#* };
  printf "BEGIN %s\n%s\nEND %s\n" $request "$body" $request;
done
"""

_GATHER = """
@BEFORE@
out=$(grep -asHE "@PATTERN@" @FILES@);
@AFTER@
body="@PRINTS@"; first=; cpu=;
"""


def compose(*, idle_seconds: int = 900) -> str:
    """Return the exec argument.

    The shell ends when nothing was asked for that long, at the latest after twice that.
    """
    parts = {
        "@GATHER@": _GATHER,
        "@BEFORE@": "".join(probe.before for probe in PROBES),
        "@PATTERN@": "|".join(_distinct(probe.patterns for probe in PROBES)),
        "@FILES@": " ".join(_distinct(probe.files for probe in PROBES)),
        "@AFTER@": "".join(probe.after for probe in PROBES),
        "@PRINTS@": "${nl}".join(["$out", *(p.prints for p in PROBES if p.prints)]),
        "@GREETING@": GREETING,
        "@IDLE@": str(idle_seconds),
    }
    text = _SET_UP + _WATCHDOG + _LOOP
    for mark, part in parts.items():
        text = text.replace(mark, part)
    lines = [line.strip() for line in text.splitlines()]
    return f"sh -c '{' '.join(line for line in lines if line)}'"


def _distinct(groups: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(groups)))


SCRIPT = compose()
