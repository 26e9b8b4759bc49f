"""Waiting for what will be so, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

_POLL_S = 0.01


@overload
async def eventually(condition: Callable[[], Awaitable[T]], timeout_s: float = ..., *, what: str = ...) -> T: ...
@overload
async def eventually(condition: Callable[[], T], timeout_s: float = ..., *, what: str = ...) -> T: ...
async def eventually(
    condition: Callable[[], object], timeout_s: float = 30.0, *, what: str = "the condition to hold"
) -> object:
    """Return what *condition* returns as soon as that is true; it is asked again and again, and may be async.

    Raises `TimeoutError`, which says *what* was waited for, after *timeout_s*.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        message = f"expected {what} within {timeout_s:g} s, and it did not"
        raise TimeoutError(message) from None
