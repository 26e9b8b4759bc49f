"""What a process that only runs agents asks of its interpreter: garbage looked for seldom, threads let in soon."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncGenerator

# An event in hand is some thirty objects, and a worker has ten thousand in hand, which come and go in waves of a transaction. By
# the interpreter's own measure (700) it would look through them, and through every module, many times a second, and find
# nothing: events make no cycles. Only what outgrows such waves is looked at at once; handlers' cycles wait for `_SWEEP_S`.
_YOUNG, _MIDDLE, _OLD = 500_000, 20, 20
_SWEEP_S = 5.0
# The client takes the interpreter's lock once for each record that it has written, while a transaction ends. Beside handlers that
# compute it waits for it as long as this each time: by the interpreter's own measure (5 ms) up to seconds a transaction.
_SWITCH_S = 0.001


def settle() -> None:
    """Leave out what exists now from every later collection, collect less often, and let threads in sooner.

    Once a process's modules are loaded: it is the whole process that is told.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    sys.setswitchinterval(_SWITCH_S)


@contextlib.asynccontextmanager
async def settled() -> AsyncGenerator[None]:
    """Settle, and meanwhile look every few seconds for what is young: cycles may hold much, however few they are."""
    settle()
    sweeping = asyncio.create_task(_sweep())
    try:
        yield
    finally:
        sweeping.cancel()


async def _sweep() -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        gc.collect(1)
