"""What time it is, and being called when a time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from antiphon.schemas.envelope import now_us

# A clock that somebody sets, or a machine that slept, is noticed after this long at most.
_AT_MOST_S = 30.0


class Handle(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Have it not come. One that has come already: nothing."""
        ...


class Clock(Protocol):
    """Microseconds since 1970, UTC, as every machine of the mesh has them, more or less."""

    def now_us(self) -> int: ...

    def call_at(self, time_us: int, callback: Callable[[], None]) -> Handle:
        """Call *callback* once on the event loop, at *time_us* or some time before: whoever is called looks at the clock."""
        ...


class WallClock:
    """This machine's clock. Implements `Clock`; it may be set while somebody waits."""

    def now_us(self) -> int:
        return now_us()

    def call_at(self, time_us: int, callback: Callable[[], None]) -> Handle:
        wait_s = min(max(0.0, (time_us - now_us()) / 1_000_000), _AT_MOST_S)
        return asyncio.get_running_loop().call_later(wait_s, callback)
