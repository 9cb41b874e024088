"""Makes any value safe to print: no control of a terminal, no forged line, no flood."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

_T = TypeVar("_T")

LONGEST = 1_024
_LONGEST_TRACEBACK = 16_384
_MOST_ITEMS = 64
_DEEPEST = 4

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters: newline, escape and their C1 kin
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks reorder a line
    "\u2028\u2029"  # line and paragraph separators
    "\u200b-\u200d\u2060\ufeff"  # invisible: two words look alike
    "\ud800-\udfff"  # lone surrogates cannot be encoded
    "\U000e0000-\U000e007f"  # invisible tags
    "]"
)


def clean(value: object, *, depth: int = 0) -> object:
    """Return a value that JSON can hold and a terminal can show.

    Unsafe characters become visible escapes, texts end at 1,024 characters. An object
    is shown by its repr, which is where secrets are hidden.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return clean_text(str(value))
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {
                clean_text(str(key)): clean(item, depth=depth + 1)
                for key, item in _first(value.items())
            }
        if isinstance(value, (Sequence, AbstractSet)) and not isinstance(
            value, (bytes, bytearray, memoryview, range)
        ):
            return [clean(item, depth=depth + 1) for item in _first(value)]
    return clean_text(_show(value))


def clean_text(text: str, longest: int = LONGEST) -> str:
    """Escape what a terminal would obey; cut, with an ellipsis, what is too long."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    text = _UNSAFE.sub(_escape, text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def clean_traceback(text: str) -> str:
    """Clean a traceback line by line, indented so that no line looks like our own.

    The end is kept: it names the error.
    """
    if len(text) > _LONGEST_TRACEBACK:
        text = "…" + text[1 - _LONGEST_TRACEBACK :]
    return "\n".join("  " + clean_text(line) for line in text.split("\n"))


def _show(value: object) -> str:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _first(items: Iterable[_T]) -> Iterable[_T]:
    return islice(items, _MOST_ITEMS)
