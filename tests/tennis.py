"""Two agents that answer one another for ever: what ends them is a limit that travels."""

from __future__ import annotations

from antiphon import Agent, Context, Event


class BallServed(Event):
    by: str


class BallReturned(Event):
    by: str


ada, bob = Agent("ada"), Agent("bob")


@ada.on(BallReturned)
async def serve(returned: BallReturned, context: Context) -> BallServed:
    context.spend(model="small", cost=0.25)
    return BallServed(by="ada")


@bob.on(BallServed)
async def back(served: BallServed) -> BallReturned:
    return BallReturned(by="bob")
