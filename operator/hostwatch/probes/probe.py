"""What a probe is, and how it reads its lines of a document."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INT64_MAX = 2**63 - 1

_COUNTER = re.compile(r"[0-9]{1,19}")
_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{1,20})?")


class NotMeasuredError(Exception):
    """A document does not say what a probe looks for; the message is our own."""


@dataclass(frozen=True, slots=True)
class Document:
    """The lines of one answer by where they come from.

    A line reads ``source:text``; the source is a file's path, as ``grep -H`` prints
    it, or a word of the script.
    """

    _lines: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, body: str) -> Document:
        """Split an answer; a line without a source is dropped."""
        lines: dict[str, list[str]] = {}
        # Not splitlines(): names may hold other separators than the newline.
        for line in body.split("\n"):
            source, colon, text = line.partition(":")
            if colon:
                lines.setdefault(source, []).append(text)
        return cls(lines)

    def lines(self, source: str) -> list[str]:
        """Return all lines of a source, none where it is missing."""
        return self._lines.get(source, [])

    def line(self, source: str) -> str:
        """Return the first line of a source, empty where it is missing."""
        return next(iter(self.lines(source)), "")

    def rows(self, source: str) -> dict[str, list[str]]:
        """Return the lines of a source as words, by their first one."""
        words = (line.split() for line in self.lines(source))
        return {row[0]: row[1:] for row in words if row}

    @property
    def from_linux(self) -> bool:
        """Whether any file of /proc could be read."""
        return any(source.startswith("/proc/") for source in self._lines)


@dataclass(frozen=True, slots=True)
class Probe:
    """One subject: what the script reads for it, and what that means.

    ``patterns`` are extended regular expressions for the lines to keep of all
    ``files`` of all probes, as they stand between double quotes in the shell. They must
    fail on every line of /proc/mounts, unless that is the subject: the second word of
    these begins with a slash. ``before`` and ``after`` are shell statements around the
    one ``grep``, whose output is ``$out``; ``prints`` are the lines to print after it,
    as they stand between double quotes. ``parse`` returns a reading, or raises
    `NotMeasuredError`, ValueError or LookupError.
    """

    name: str
    files: tuple[str, ...]
    patterns: tuple[str, ...]
    parse: Callable[[Document], object]
    before: str = ""
    after: str = ""
    prints: str = ""


def counter(word: str) -> int:
    """Read a number that PostgreSQL's bigint can hold."""
    if not _COUNTER.fullmatch(word):
        raise NotMeasuredError("a number is not one")
    return in_range(int(word))


def decimal(word: str) -> float:
    """Read a number such as a load average: digits, and a point at most."""
    if not _DECIMAL.fullmatch(word):
        raise NotMeasuredError("a number is not one")
    return float(word)


def in_range(number: int) -> int:
    """Return a count of bytes or ticks that fits PostgreSQL's bigint."""
    if not 0 <= number <= INT64_MAX:
        raise NotMeasuredError("a number is out of range")
    return number


def printable(text: str, limit: int) -> str:
    """Return a name without control characters and surrogates, cut at the limit."""
    if text.isprintable():
        return text[:limit]
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:limit])
