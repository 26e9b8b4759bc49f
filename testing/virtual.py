"""An event loop whose time passes at once: what waits for an hour is done when nothing else is left to do.

With a seeded `MemoryBus` a whole run, time-outs included, comes again exactly.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

from antiphon.bus.clock import Handle

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_START_US = 1_763_805_600_000_000  # 2025-11-22T10:00:00Z


class _Skipping(selectors.DefaultSelector):
    """Never waits: notes how long it should have."""

    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if timeout is None and not ready:
            message = "expected something to wait for, and every task waits for another: the simulation stands still"
            raise RuntimeError(message)
        if not ready:
            self.skipped_s += timeout or 0.0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock stands still while there is work, and jumps to the next timer when there is none."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped_s

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - a loop's
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run *func* here and now, not in a thread: what threads do comes in another order each time."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class VirtualClock:
    """The time of a virtual loop, as a worker's clock. Implements `bus.clock.Clock`."""

    def now_us(self) -> int:
        return _START_US + round(asyncio.get_running_loop().time() * 1_000_000)

    def call_at(self, time_us: int, callback: Callable[[], None]) -> Handle:
        return asyncio.get_running_loop().call_at((time_us - _START_US) / 1_000_000, callback)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* as `asyncio.run` would, in virtual time. Nothing outside its loop can take part: no sockets, and what would run in a thread runs in the loop.

    >>> async def wait() -> float:
    ...     await asyncio.sleep(3600)
    ...     return asyncio.get_running_loop().time()
    >>> run_virtually(wait())
    3600.0
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
