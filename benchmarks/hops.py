"""The hop that is measured: what is asked, what is answered, and agents that take their time over it.

antiphon run benchmarks/hops.py:answer
"""

from __future__ import annotations

import asyncio

from antiphon import Agent, Event, agent

SLOW_S = 0.1
NOWHERE = "nowhere"
# About 200 us of it on a machine of 2024. Work, not time: who has to wait for the processor does not get out of it.
_SPINS = 2_000
_LONG_S = 3_600.0


class Asked(Event, type="hop.asked"):
    """Seven fields, about 300 bytes with its headers."""

    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


class Answered(Event, type="hop.answered"):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


@agent
async def answer(asked: Asked) -> Answered:
    """Say what was heard."""
    return Answered(**asked.__dict__)


@agent
async def think(asked: Asked) -> Answered:
    """Use the processor first."""
    spun = 0
    for n in range(_SPINS):
        spun += n * n % 7
    return Answered(**asked.__dict__)


@agent
async def wait(asked: Asked) -> Answered:
    """Wait for something first, as one does for a model."""
    await asyncio.sleep(SLOW_S)
    return Answered(**asked.__dict__)


@agent
async def hold(asked: Asked) -> Answered:
    """Never come back."""
    await asyncio.sleep(_LONG_S)
    return Answered(**asked.__dict__)


find = Agent("find")


@find.on(Asked)
async def look(asked: Asked) -> Answered:
    """Fail for ever where there is nothing to be found."""
    if asked.place == NOWHERE:
        message = f"no such place: {asked.place}"
        raise RuntimeError(message)
    return Answered(**asked.__dict__)


ECHOES = [f"echo_{number}" for number in range(9)]
"""Nine agents that hear the same and answer apart."""


def echo(name: str) -> Agent:
    """Make an agent that says what it heard."""
    made = Agent(name)

    @made.on(Asked)
    async def say(asked: Asked) -> Answered:
        return Answered(**asked.__dict__)

    return made


echo_0, echo_1, echo_2, echo_3, echo_4, echo_5, echo_6, echo_7, echo_8 = map(echo, ECHOES)


@agent
async def listen(asked: Asked) -> None:
    """Hear the same, and say nothing."""


class Held(Event, type="hop.held"):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


class Lost(Event, type="hop.lost", fails=True):
    """Says, from outside, that a workflow has failed."""

    name: str


class Freed(Event, type="hop.freed"):
    name: str


rooms = Agent("rooms")


@rooms.on(Asked)
async def take(asked: Asked) -> Held | None:
    """Do something that can be undone."""
    return None if asked.place == NOWHERE else Held(**asked.__dict__)


@rooms.undoes(Held)
async def free(held: Held) -> Freed:
    """Undo it."""
    return Freed(name=held.name)


@rooms.on(Lost)
async def note(lost: Lost) -> None:
    """Hear of it, so that the coordinator does."""
