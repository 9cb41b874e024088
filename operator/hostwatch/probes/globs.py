"""Globs on mount points, matched in linear time whatever a user or a server wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST = 256
"""Characters of a mount point that are looked at: as many as a glob may have."""

# Between slashes, "**" stands for any number of whole directories, none too.
_TOKEN = re.compile(
    r"(?P<directories>(?<=/)\*\*(?:/\*\*)*(?=/))|\*+|.",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Globs:
    """Patterns of one server, with answers that are kept: most mounts stay."""

    patterns: tuple[str, ...]

    def match(self, path: str) -> bool:
        """Tell whether any of the patterns matches the path, its start if very long."""
        return bool(self.patterns) and _match(self.patterns, path[:_LONGEST])


def compile_globs(patterns: tuple[str, ...]) -> Globs:
    """Read globs: ``*`` and ``?`` within a directory name, ``**`` across them."""
    return Globs(patterns)


# Entries may have tens of kilobytes, automata megabytes, where somebody wants it so.
@lru_cache(maxsize=4096)
def _match(patterns: tuple[str, ...], path: str) -> bool:
    return _automaton(patterns).match(path)


@lru_cache(maxsize=8)
def _automaton(patterns: tuple[str, ...]) -> Automaton:
    return Automaton.of(patterns)


@dataclass(frozen=True, slots=True)
class Automaton:
    """All patterns as one automaton whose states are the bits of an integer.

    A set bit stands for a token that may come next. One character moves all states at
    once, so that there is nothing to go back to.
    """

    _start: int
    _accept: int
    _moves: Mapping[str, int]
    _any: int
    _stay: int
    _stay_at_slash: int
    _directories: int

    @classmethod
    def of(cls, patterns: tuple[str, ...]) -> Automaton:
        """Build it in one pass over the patterns."""
        start = accept = any_one = stay = stay_at_slash = directories = 0
        moves: dict[str, int] = {}
        bit = 1
        for pattern in patterns:
            start |= bit
            for found in _TOKEN.finditer(pattern):
                piece = found[0]
                if found["directories"]:
                    directories |= bit
                    bit <<= 1
                if piece == "?":
                    any_one |= bit
                elif piece.startswith("*"):
                    stay |= bit
                    stay_at_slash |= bit if piece != "*" else 0
                else:
                    moves[piece] = moves.get(piece, 0) | bit
                bit <<= 1
            accept |= bit
            bit <<= 1
        return cls(start, accept, moves, any_one, stay, stay_at_slash, directories)

    def match(self, path: str) -> bool:
        """Tell whether any of the patterns matches the whole path."""
        moves, any_one, stay = self._moves, self._any, self._stay
        states = self._skip(self._start)
        for c in path:
            if c == "/":
                next_ones = states & moves.get(c, 0)
                states &= self._stay_at_slash
            else:
                next_ones = states & (moves.get(c, 0) | any_one)
                states &= stay
            states = self._skip(next_ones << 1 | states)
            if not states:
                return False
        return bool(states & self._accept)

    def _skip(self, states: int) -> int:
        """Add what is reached where a star matches nothing.

        Directories are three tokens: this choice, ``**``, and the slash after it.
        """
        if directories := states & self._directories:
            states |= directories << 1 | directories << 3
        return states | (states & self._stay) << 1
