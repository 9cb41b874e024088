"""Globs on mount points, matched in linear time whatever a user or a server wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Between slashes, "**" stands for any number of whole directories, none too.
_TOKEN = re.compile(
    r"(?P<directories>(?<=/)\*\*(?:/\*\*)*(?=/))|\*+|.",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Globs:
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

    def match(self, path: str) -> bool:
        """Tell whether any of the patterns matches the whole path."""
        states = self._skip(self._start)
        for c in path:
            slash = c == "/"
            moves = self._moves.get(c, 0) | (0 if slash else self._any)
            stay = self._stay_at_slash if slash else self._stay
            states = self._skip((states & moves) << 1 | states & stay)
        return bool(states & self._accept)

    def _skip(self, states: int) -> int:
        """Add what is reached where a star matches nothing.

        Directories are three tokens: this choice, ``**``, and the slash after it.
        """
        states |= (states & self._directories) << 1 | (states & self._directories) << 3
        return states | (states & self._stay) << 1


@lru_cache(maxsize=1024)
def compile_globs(patterns: tuple[str, ...]) -> Globs:
    """Read globs: ``*`` and ``?`` within a directory name, ``**`` across them."""
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
    return Globs(start, accept, moves, any_one, stay, stay_at_slash, directories)
