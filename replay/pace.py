"""How fast past events are handled again: so many a second at most, or as far apart as they were."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable


@dataclasses.dataclass(kw_only=True)
class Pace:
    """Lets one after the other go, none before it is due. Neither *rate* nor *speed*: at once."""

    rate: float | None = None
    """Events a second, at most."""
    speed: float | None = None
    """How many times as fast as it was: 10 makes minutes of ten."""
    clock_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _began_s: float | None = None
    _first_us: int = 0
    _gone: int = 0

    async def next(self, happened_us: int) -> None:
        """Return when what happened then is due."""
        if self.rate is None and self.speed is None:
            return
        if self._began_s is None:
            self._began_s, self._first_us = self.clock_s(), happened_us
        after_s = due_s(self._gone, happened_us - self._first_us, rate=self.rate, speed=self.speed)
        self._gone += 1
        wait_s = self._began_s + after_s - self.clock_s()
        if wait_s > 0:
            await self.sleep(wait_s)


def due_s(gone: int, after_us: int, *, rate: float | None, speed: float | None) -> float:
    """Return how long after the first one is due before which *gone* went, and which happened *after_us* the first.

    >>> due_s(20, 0, rate=10, speed=None), due_s(1, 60_000_000, rate=None, speed=10), due_s(1, 0, rate=2, speed=10)
    (2.0, 6.0, 0.5)
    """
    by_rate = 0.0 if rate is None else gone / rate
    by_speed = 0.0 if speed is None else max(0, after_us) / 1e6 / speed
    return max(by_rate, by_speed)
