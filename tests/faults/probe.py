"""An agent that does what its event says: waits, blocks its event loop, fails, dies; each attempt leaves a line in a file.

The file is what a side effect outside Kafka is: at least once. It is written
in worker processes alone, where `PROBE_FOLDER` says where.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from antiphon import Agent, Context, Event, RetryPolicy
from antiphon.bus.handler import Handler
from antiphon.testing.waiting import eventually


class Act(StrEnum):
    """What becomes of an attempt."""

    NOTHING = "nothing"
    HOLD = "hold"
    """Lasts until the file `go` is there."""
    LAST = "last"
    """Lasts for some seconds, as a slow model call does."""
    BLOCK = "block"
    """The same, and nothing else of the worker runs meanwhile."""
    FAIL = "fail"
    DIE = "die"
    """The first time, `kill -9` when the handler is through and nothing is committed."""


class Asked(Event, type="probe.asked", key="key"):
    key: str
    n: int
    act: Act = Act.NOTHING
    seconds: float = 0.0


class Answered(Event, type="probe.answered", key="key"):
    key: str
    n: int
    place: int
    """How many answers of this key came before: falsified by any loss or repeat."""


def _folder() -> Path | None:
    named = os.environ.get("PROBE_FOLDER")
    return Path(named) if named else None


def attempts(folder: Path) -> list[tuple[int, int]]:
    """Return the process and the event's number of every attempt, in order."""
    path = folder / "attempts"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(int(pid), int(n)) for pid, n in (line.split() for line in lines)]


def tallied(following: Handler) -> Handler:
    """Write down each attempt, and have the process die between a handler's end and its commit."""

    async def tally(event: Event) -> Sequence[Event]:
        folder = _folder()
        if folder is None or not isinstance(event, Asked):
            return await following(event)
        with (folder / "attempts").open("a") as file:
            file.write(f"{os.getpid()} {event.n}\n")
        again = sum(n == event.n for _, n in attempts(folder)) > 1
        emitted = await following(event)
        if event.act is Act.DIE and not again:
            os.kill(os.getpid(), signal.SIGKILL)
        return emitted

    return tally


probe = Agent(
    "probe", middleware=[tallied], retry=RetryPolicy(attempts=4, base_s=2.0, cap_s=2.0, jitter=False), concurrency=50
)


@probe.on(Asked)
async def answer(asked: Asked, context: Context) -> Answered:
    folder = _folder()
    if folder is not None:
        await _act(asked, folder)
    if asked.act is Act.FAIL:
        message = "as asked"
        raise ConnectionError(message)
    place = context.state.get("place", 0)
    context.state["place"] = place + 1
    return Answered(key=asked.key, n=asked.n, place=place)


async def _act(asked: Asked, folder: Path) -> None:
    match asked.act:
        case Act.HOLD:
            await eventually((folder / "go").exists, 600.0, what="to be let go")
        case Act.LAST:
            await asyncio.sleep(asked.seconds)
        case Act.BLOCK:
            time.sleep(asked.seconds)  # noqa: ASYNC251 - that is the fault
        case _:
            pass
