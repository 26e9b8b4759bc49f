"""Ten agents that hear the same and answer apart: nine that nobody touches, and one to which all happens.

The soloist has a first and a second version, and one that is broken.
"""

from __future__ import annotations

from antiphon import Agent, Event, PermanentError

SINGERS = [f"singer-{number}" for number in range(9)]


class Intoned(Event, type="choir.intoned"):
    n: int


class Answered(Event, type="choir.answered"):
    n: int
    singer: str
    version: str


def singer(name: str, version: str = "1") -> Agent:
    """Make an agent that answers what is intoned."""
    agent = Agent(name, version=version)

    @agent.on(Intoned)
    async def answer(intoned: Intoned) -> Answered:
        return Answered(n=intoned.n, singer=name, version=version)

    return agent


singer_0, singer_1, singer_2, singer_3, singer_4, singer_5, singer_6, singer_7, singer_8 = map(singer, SINGERS)
soloist = singer("soloist")
soloist_2 = singer("soloist", "2")
descant = singer("descant")
soloist_broken = Agent("soloist", version="3")


@soloist_broken.on(Intoned)
async def croak(intoned: Intoned) -> Answered:
    """Fail, whatever comes."""
    raise PermanentError(f"no voice for {intoned.n}")
