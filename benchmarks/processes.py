"""Two processes of one agent (`antiphon run --processes 2`) against one, where the handler uses the processor.

Beside it what the machine itself gives: two processes that only compute. On two
cores the broker and the workers share them, so neither figure reaches two.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping

from arrivals import arrivals
from feed import ANSWERED, Feed
from running import WorkerProcess
from stage import Experiment, Stage
from table import Figure, Pair, Unit

EVENTS = 60_000
_COMPUTE = "for n in range(12_000_000): n * n % 7"
_UNITS = 1_000

WORKERS = Figure("processes", "two processes of 200 us handlers, against one", Unit.RATE, "1.7, aim 1.9")
MACHINE = Figure("processes", "two processes that only compute, against one (this machine's part)", Unit.RATE, "")


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Run two, then one; the same events."""
    return {
        WORKERS: (await _through(stage, 2), await _through(stage, 1)),
        MACHINE: (await asyncio.to_thread(_compute, 2), await asyncio.to_thread(_compute, 1)),
    }


async def _through(stage: Stage, count: int) -> float:
    stage.say(f"handlers that compute: {count} processes")
    names = stage.names(f"processes-{count}")
    feed = Feed(stage, names)
    await feed.open()
    records = [*feed.records(EVENTS)]
    with WorkerProcess(stage, names, "think", "--processes", str(count)) as worker:
        await worker.ready(count)
        # Only now: a backlog would be half done by whichever comes first.
        with worker.frozen():
            await feed.publish(records)
        began_s = time.time()
        times = await arrivals(stage.bootstrap, names.topic(ANSWERED), EVENTS, alive=worker.alive)
    # All of it: a worker that computes commits in bursts, and between marks they would count for more than they are.
    return EVENTS / (times[-1] - began_s)


def _compute(count: int) -> float:
    """Return how many thousandths of the same computation *count* processes do a second."""
    started = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", _COMPUTE]) for _ in range(count)]
    for one in running:
        one.wait()
    return count * _UNITS / (time.perf_counter() - started)


EXPERIMENT = Experiment((WORKERS, MACHINE), once)
