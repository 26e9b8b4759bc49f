"""Threads for plain `def` handlers: as many as the agent may handle events at a time, made when they are needed.

The event loop's own pool has a handful of threads, for the whole process; there
blocking handlers would wait for one another, and their time-outs run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import ThreadPoolExecutor


class Threads:
    """Runs functions in threads named after their agent.

    A thread cannot be interrupted: of a call that is cancelled the result is
    thrown away when it comes.
    """

    def __init__(self, agent: str, most: int) -> None:
        self._agent = agent
        self._most = most
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, loop: AbstractEventLoop, function: Callable[..., Any], *arguments: object) -> Any:
        """Call *function* in a thread that sees this task's context variables, and return what it returns.

        What it raises is raised here, the very error.
        """
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - start-up time; a loop has loaded it

            self._pool = ThreadPoolExecutor(max_workers=self._most, thread_name_prefix=self._agent)
        context = copy_context()
        result, error = await loop.run_in_executor(self._pool, lambda: context.run(_plain, function, *arguments))
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


def _plain(function: Callable[..., Any], *arguments: object) -> tuple[Any, Exception | None]:
    """Return what *function* returns and what it raises, past the future of the event loop.

    That makes a TimeoutError anew, without its cause and without the lines that led to it, and what
    a thread's future raised that was cancelled, its own cancellation. A StopIteration it would never pass on.
    """
    try:
        return function(*arguments), None
    except StopIteration as stopped:
        refused = RuntimeError("a handler raised StopIteration; catch it, or give next() a default")
        refused.__cause__ = stopped
        return None, refused
    except Exception as error:
        return None, error
