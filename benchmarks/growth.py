"""Whether an event costs more, or memory grows, the more events a worker has handled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from arrivals import arrivals
from feed import ANSWERED, Feed
from running import WorkerProcess
from stage import Experiment, Stage
from table import Figure, Pair, Unit

FEW, MANY, LONG = 10_000, 100_000, 1_000_000
# Handled before anything is measured: what is loaded, filled and learnt once is nobody's growth.
WARM = 10_000

CPU = Figure(
    "growth", "processor time an event, 10^5 events (10^6 with --long) against 10^4", Unit.MICROSECONDS, "1.1, aim 1.0"
)
WALL = Figure("growth", "the same, by the clock", Unit.MICROSECONDS, "1.1, aim 1.0")
MEMORY = Figure(
    "growth", "a worker's memory after 10^5 events (10^6 with --long), against after 10^4", Unit.MEGABYTES, "1.2"
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run took, an event in microseconds, and the worker's memory after the first and the last of them."""

    cpu_us: float
    wall_us: float
    early_mb: float
    late_mb: float


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Work off a small backlog, then a large one, each with a fresh worker."""
    few = await _work_off(stage, FEW)
    many = await _work_off(stage, LONG if stage.long else MANY)
    return {
        CPU: (many.cpu_us, few.cpu_us),
        WALL: (many.wall_us, few.wall_us),
        MEMORY: (many.late_mb, many.early_mb),
    }


async def _work_off(stage: Stage, events: int) -> Cost:
    stage.say(f"{events:,} events")
    names = stage.names("growth")
    feed = Feed(stage, names)
    await feed.open()
    await feed.publish(feed.records(WARM))
    answered = names.topic(ANSWERED)
    memory: list[float] = []

    def look(count: int) -> None:
        if count >= WARM + FEW and not memory:
            memory.append(worker.memory_mb)

    with WorkerProcess(stage, names, "answer") as worker:
        await arrivals(stage.bootstrap, answered, WARM, alive=worker.alive)
        before_s = worker.cpu_s
        # Fetching ahead is part of what an event costs: none of it before the worker is measured, none of it beside the feed.
        with worker.frozen():
            await feed.publish(feed.records(events))
        times = (await arrivals(stage.bootstrap, answered, WARM + events, alive=worker.alive, look=look))[WARM:]
        return Cost(
            cpu_us=(worker.cpu_s - before_s) / events * 1e6,
            wall_us=(times[-1] - times[0]) / events * 1e6,
            early_mb=memory[0],
            late_mb=worker.memory_mb,
        )


EXPERIMENT = Experiment((CPU, WALL, MEMORY), once)
