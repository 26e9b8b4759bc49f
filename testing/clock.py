"""A clock that stands still until it is told to go on."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

_START_US = 1_763_805_600_000_000  # 2025-11-22T10:00:00Z


class FakeClock:
    """Stands in for `antiphon.schemas.envelope.now_us`, and for the clock of a worker. Implements `bus.clock.Clock`.

    >>> clock = FakeClock()
    >>> before = clock.now_us()
    >>> _ = clock.call_at(before + 1_000_000, lambda: print("it is time"))
    >>> clock.advance(1.5)
    it is time
    >>> clock.now_us() - before
    1500000
    """

    def __init__(self, start_us: int = _START_US) -> None:
        self._now_us = start_us
        self._calls: list[tuple[int, int, _Call]] = []
        self._numbers = itertools.count()

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._now_us

    def call_at(self, time_us: int, callback: Callable[[], None]) -> _Call:
        """Call *callback* when `advance` comes to *time_us*; at the next one if that is past."""
        call = _Call(callback)
        heapq.heappush(self._calls, (time_us, next(self._numbers), call))
        return call

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass. Less than none is a clock set back, which clocks are."""
        self._now_us += round(seconds * 1_000_000)
        while self._calls and self._calls[0][0] <= self._now_us:
            heapq.heappop(self._calls)[2].come()


class _Call:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def come(self) -> None:
        if self._callback is not None:
            self._callback()
