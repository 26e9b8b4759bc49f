"""What recurs in records, and is found out once: text as numbers, seconds as microseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from antiphon.schemas.envelope import parse_time
from antiphon.tracing.index.database import Row

_MOST = 10_000


class Numbers(dict[str, int]):
    """Text that recurs, as numbers. What is asked for and has none gets the next one, or what *assign* gives it."""

    def __init__(self, known: Mapping[str, int], assign: Callable[[str], int] | None = None) -> None:
        super().__init__(known)
        self._assign = assign
        self.fresh: list[Row] = []
        """Those that are not written down yet."""
        self._next = max(known.values(), default=0) + 1

    def __missing__(self, name: str) -> int:
        if self._assign is not None:
            number = self[name] = self._assign(name)
            return number
        number = self[name] = self._next
        self._next += 1
        self.fresh.append((number, name))
        return number


class Numbered(dict[bytes, int]):
    """Numbers of text, as headers have it."""

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self._numbers = numbers

    def __missing__(self, name: bytes) -> int:
        number = self[name] = self._numbers[name.decode()]
        return number


class Seconds(dict[bytes, int]):
    """Seconds, as headers have them, in microseconds since 1970."""

    def __missing__(self, second: bytes) -> int:
        if len(self) >= _MOST:
            self.clear()
        us = self[second] = parse_time(second.decode() + "Z")
        return us
