"""Reading a resource's spec again, member by member, with errors that name it.

The schema has refused most of what is refused here. An object stored under an older
schema, or under none, must not reach a connection all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import StrEnum

_E = TypeVar("_E", bound="StrEnum")


class InvalidFieldError(Exception):
    """A member of the spec is not usable; the text names it and the remedy."""

    def __init__(self, path: str, remedy: str) -> None:
        super().__init__(f"{path}: {remedy}")


class Part:
    """One object within a spec, and its path for messages.

    Every reader returns the default where the member is absent or null, and raises
    `InvalidFieldError` where it is of another kind or out of bounds.
    """

    def __init__(self, path: str, value: object) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise InvalidFieldError(path, "must be an object")
        self.path = path
        self._value: Mapping[str, object] = value

    def has(self, name: str) -> bool:
        """Tell whether the member is there and not null."""
        return self._value.get(name) is not None

    def part(self, name: str) -> Part:
        """Return an object within this one, an empty one if absent."""
        return Part(self._path(name), self._value.get(name))

    def text(self, name: str, *, longest: int, default: str | None = None) -> str:
        """Return a string of 1 to ``longest`` characters."""
        value = self._value.get(name)
        if value is None:
            if default is None:
                raise self.invalid(name, "is required")
            return default
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise self.invalid(name, f"must be a text of 1 to {longest} characters")
        return value

    def integer(self, name: str, *, low: int, high: int, default: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.invalid(name, f"must be a whole number from {low} to {high}")
        if not low <= value <= high:
            raise self.invalid(name, f"must be from {low} to {high}, not {value}")
        return value

    def number(self, name: str, *, low: float, high: float, default: float) -> float:
        """Return a number from ``low`` to ``high``."""
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.invalid(name, f"must be a number from {low:g} to {high:g}")
        if not low <= value <= high:
            raise self.invalid(name, f"must be from {low:g} to {high:g}, not {value:g}")
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.invalid(name, "must be true or false")
        return value

    def choice(self, name: str, *, default: _E) -> _E:
        """Return a member of the default's enumeration."""
        value = self._value.get(name)
        if value is None:
            return default
        for known in type(default):
            if known == value:
                return known
        raise self.invalid(name, f"must be one of {', '.join(type(default))}")

    def texts(self, name: str, *, most: int, longest: int) -> Iterator[tuple[str, str]]:
        """Yield the path and the value of each text of a list."""
        values = self._value.get(name)
        if values is None:
            return
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise self.invalid(name, "must be a list of texts")
        if len(values) > most:
            raise self.invalid(name, f"must have at most {most} entries")
        for index, value in enumerate(values):
            path = f"{self._path(name)}[{index}]"
            if not isinstance(value, str) or not 0 < len(value) <= longest:
                raise InvalidFieldError(
                    path, f"must be a text of 1 to {longest} characters"
                )
            yield path, value

    def invalid(self, name: str, remedy: str) -> InvalidFieldError:
        """Return the error that names a member of this object."""
        return InvalidFieldError(self._path(name), remedy)

    def _path(self, name: str) -> str:
        return f"{self.path}.{name}"
