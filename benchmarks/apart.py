"""Nine agents that nobody touches, while a tenth is deployed, scaled, killed and removed, against the same nine left alone.

All hear the same; the tenth says nothing, so that what arrives is the nine's. Two loads: one that comes steadily
and leaves the machine room, as in most meshes, and one of which there is always more, where whatever the tenth
takes of the machine, the start of its processes too, the nine have not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack

from antiphon.bus.names import Names
from arrivals import arrivals, rate
from feed import ANSWERED, Feed
from hops import ECHOES
from running import WorkerProcess
from stage import Experiment, Stage
from table import Figure, Pair, Unit

STEADY = 3_000
BACKLOG = 20_000
_A_SECOND = 100
_LOT = 10

AT_EASE = Figure(
    "apart", "nine agents while a tenth is changed, a steady load, against left alone", Unit.RATE, "0.95, aim 1.0"
)
AT_THE_LIMIT = Figure("apart", "the same, as fast as they can", Unit.RATE, "")


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Left alone and disturbed, in turns of the same nine processes' kind."""
    found: dict[Figure, Pair] = {}
    for figure, count, steady in ((AT_EASE, STEADY, True), (AT_THE_LIMIT, BACKLOG, False)):
        alone = await _through(stage, count, steady=steady, disturbed=False)
        found[figure] = (await _through(stage, count, steady=steady, disturbed=True), alone)
    return found


async def _through(stage: Stage, count: int, *, steady: bool, disturbed: bool) -> float:
    stage.say(f"nine agents: {'steady' if steady else 'a backlog'}{', a tenth is changed' if disturbed else ''}")
    names = stage.names(f"apart-{'steady' if steady else 'backlog'}-{'disturbed' if disturbed else 'alone'}")
    feed = Feed(stage, names)
    await feed.open()
    with ExitStack() as running:
        nine = [running.enter_context(WorkerProcess(stage, names, name)) for name in ECHOES]
        for worker in nine:
            await worker.ready()

        def alive() -> None:
            for worker in nine:
                worker.alive()

        fed = asyncio.create_task(_feed(feed, count, steady=steady))
        stirring = asyncio.create_task(_stir(stage, names, fed)) if disturbed else None
        times = await arrivals(stage.bootstrap, names.topic(ANSWERED), count * len(nine), alive=alive)
        await fed
        if stirring is not None:
            await stirring
    return rate(times)


async def _feed(feed: Feed, count: int, *, steady: bool) -> None:
    records = [*feed.records(count)]
    if not steady:
        await feed.publish(records)
        return
    began_s = time.monotonic()
    for first in range(0, count, _LOT):
        await asyncio.sleep(max(0.0, began_s + first / _A_SECOND - time.monotonic()))
        await feed.publish(records[first : first + _LOT])


async def _stir(stage: Stage, names: Names, fed: asyncio.Task[None]) -> None:
    """Deploy it, add a second worker, kill the first, remove the second; over and over while there is load."""
    turn = 0
    while turn == 0 or not fed.done():
        turn += 1
        with WorkerProcess(stage, names, "listen", label=f"-{turn}a") as first:
            await first.ready()
            with WorkerProcess(stage, names, "listen", label=f"-{turn}b") as second:
                await second.ready()
                first.kill()
                await asyncio.to_thread(second.end)


EXPERIMENT = Experiment((AT_EASE, AT_THE_LIMIT), once)
