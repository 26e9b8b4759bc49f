"""Keys that always fail, with the default retries and dead letters: what they cost the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from antiphon.schemas.ids import root_id
from arrivals import arrivals
from feed import ANSWERED, Feed, asked, own_workflow
from hops import NOWHERE, Asked
from running import WorkerProcess
from stage import Experiment, Stage
from table import Figure, Pair, Unit

EVENTS = 90_000
EVERY = 50
KEYS = 500

LASTING = Figure(
    "failing",
    f"one key in fifty always fails, {KEYS} keys: the others, against none failing",
    Unit.RATE,
    "0.9, aim 0.98",
)
PASSING = Figure(
    "failing",
    "one key in fifty always fails, a key an event: the others, against none failing",
    Unit.RATE,
    "0.9, aim 0.98",
)


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Run the same events with failing ones among them and without, for a few keys and for many."""
    workflows = [root_id() for _ in range(KEYS)]

    def few(n: int) -> str:
        return workflows[n % KEYS]

    return {
        LASTING: (await _others(stage, few, _failing), await _others(stage, few, asked)),
        PASSING: (await _others(stage, own_workflow, _failing), await _others(stage, own_workflow, asked)),
    }


def _failing(n: int) -> Asked:
    return asked(n, place=NOWHERE if n % EVERY == 0 else "here")


async def _others(stage: Stage, workflow: Callable[[int], str | None], event: Callable[[int], Asked]) -> float:
    """Return how many events a second come through of those that do not fail in either run."""
    stage.say("failing keys" if event is _failing else "the same keys, none failing")
    names = stage.names("failing")
    feed = Feed(stage, names)
    await feed.open()
    records = [*feed.records(EVENTS, workflow=workflow, event=event)]
    others = EVENTS - EVENTS // EVERY
    came = others if event is _failing else EVENTS
    with WorkerProcess(stage, names, "find") as worker:
        await worker.ready()
        with worker.frozen():
            await feed.publish(records)
        began_s = time.time()
        times = await arrivals(stage.bootstrap, names.topic(ANSWERED), came, alive=worker.alive)
    # All of it: a busy worker commits in bursts, and between marks they would count for more than they are.
    return others / (times[-1] - began_s)


EXPERIMENT = Experiment((LASTING, PASSING), once)
