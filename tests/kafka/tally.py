"""Two versions of one agent, which counts what comes of each workflow; workers load them from here."""

from __future__ import annotations

from antiphon import Agent, Context, Event


class Added(Event):
    n: int


class Counted(Event):
    n: int
    count: int
    by: str


def _tally(version: str) -> Agent:
    agent = Agent("tally", version=version)

    @agent.on(Added)
    async def add(added: Added, context: Context) -> Counted:
        context.state["count"] = context.state.get("count", 0) + 1
        return Counted(n=added.n, count=context.state["count"], by=version)

    return agent


tally = _tally("1")
tally_v2 = _tally("2")
