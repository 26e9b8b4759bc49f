"""A stateless agent that promises less, for tests that kill it."""

from __future__ import annotations

import asyncio

from antiphon import Agent, Event


class Ground(Event, type="mill.ground", key="n"):
    n: str


class Flour(Event, type="mill.flour", key="n"):
    n: str


mill = Agent("mill", guarantee="at_least_once")


@mill.on(Ground)
async def grind(ground: Ground) -> Flour:
    await asyncio.sleep(0.005)  # so that a kill finds some in hand
    return Flour(n=ground.n)
