"""Which of many like log lines are written: the first hundred of a second, then every hundredth.

So does zap, and for the same reason (uber-go/zap, FAQ, "Why sample application logs?"): what fails by the thousand says
the same each time, and a line with its traceback takes about as long as an event. Nothing is lost by it, for the activity record
has every attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic

MOST = 100


class Sampler:
    """Counts lines by their kind.

    >>> sampler = Sampler(most=2, clock_s=lambda: 0.0)
    >>> [sampler.left_out("down") for _ in range(6)]
    [0, 0, None, 1, None, 1]
    """

    def __init__(self, *, most: int = MOST, clock_s: Callable[[], float] | None = None) -> None:
        self._most = most
        self._clock_s = clock_s or monotonic
        self._second = -1
        self._counts: dict[Hashable, int] = {}
        self._left_out: dict[Hashable, int] = {}

    def left_out(self, kind: Hashable) -> int | None:
        """Return how many of *kind* were left out since the last one that was written, or None: leave this one out too."""
        second = int(self._clock_s())
        if second != self._second:
            self._second = second
            self._counts.clear()
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count > self._most and count % self._most:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return None
        return self._left_out.pop(kind, 0)


def kind_of(error: BaseException) -> Hashable:
    """Return what errors have in common that are raised by the same line; what they say often names an event."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return type(error), None if at is None else (at.tb_frame.f_code.co_filename, at.tb_lineno)
