"""Notices a handler that blocks the event loop, and says which, on which event, and where it is.

While a handler of `async def` computes, or calls something that waits without
`await`, nothing else of its worker runs: no other event, no commit, no time-out.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import FrameType
from typing import Any, Self

from antiphon.bus.error_text import users_own

log = logging.getLogger(__name__)

# A silence is counted in so many turns of waiting, not by the clock: a process that was
# suspended wakes up to a clock far ahead, and to a loop that has had no chance to answer.
_TURNS = 10
# Between two pings, as a share of the limit.
_REST = 0.25


class Watchdog:
    """A thread that pings the running event loop while the context lasts, and warns when *limit_s* bring no answer.

    One warning for each blocking, with the fields that *in_hand* gives for the
    task that runs, and the stack of the loop's thread; one more line when the
    loop goes on. The loop's part is an empty callback a few times a second.
    Code that holds the interpreter's lock throughout, as one call into an
    extension may, holds up this thread too, and is noticed by nobody.
    """

    def __init__(
        self, in_hand: Callable[[asyncio.Task[Any]], Mapping[str, object] | None], *, limit_s: float = 1.0
    ) -> None:
        self._in_hand = in_hand
        self._limit_s = limit_s
        self._stopping = threading.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="antiphon-watchdog", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()

    # The thread's side.

    def _watch(self) -> None:
        while not self._stopping.wait(self._limit_s * _REST):
            answered = threading.Event()
            began_s = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            if self._answers(answered):
                continue
            self._warn()
            while not answered.wait(self._limit_s):
                if self._stopping.is_set():
                    return
            blocked_s = round(time.monotonic() - began_s, 1)
            log.info("the event loop goes on", extra={"blocked_s": blocked_s})

    def _answers(self, answered: threading.Event) -> bool:
        return any(answered.wait(self._limit_s / _TURNS) or self._stopping.is_set() for _ in range(_TURNS))

    def _warn(self) -> None:
        # The one way to another thread's stack.
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        task = asyncio.current_task(self._loop)
        fields = None if task is None else self._in_hand(task)
        log.warning(
            "the event loop is blocked: nothing else of this worker runs. "
            "Use await, or make the handler a plain def, which gets a thread",
            extra={**(fields or {}), "limit_s": self._limit_s, "stack": _stack(frame)},
        )


def _stack(frame: FrameType | None) -> str:
    """Write down *frame* and what called it, from where the event loop called it."""
    frames = traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()
    loops = [
        number
        for number, entry in enumerate(frames)
        if entry.name == "_run" and PurePath(entry.filename).parts[-2:] == ("asyncio", "events.py")
    ]
    return "".join(users_own(frames[loops[-1] + 1 if loops else 0 :])).rstrip()
