"""Slow handlers on one partition: how near a thousand that wait 100 ms come to the 10,000 a second that they could do."""

from __future__ import annotations

from collections.abc import Mapping

from arrivals import arrivals, rate
from feed import ANSWERED, Feed
from hops import SLOW_S
from running import WorkerProcess
from stage import Experiment, Stage
from table import Figure, Pair, Unit

EVENTS = 50_000
CONCURRENCY = 1_000
COULD = CONCURRENCY / SLOW_S

STEADY = Figure(
    "slow", "1,000 handlers of 100 ms on one partition, between the 20 % and 80 % marks", Unit.RATE, "0.9, aim 0.97"
)
ALL = Figure("slow", "the same, from the first answer to the last", Unit.RATE, "")


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Work a backlog off with a worker process."""
    stage.say("slow handlers")
    names = stage.names("slow")
    feed = Feed(stage, names, partitions=1)
    await feed.open()
    await feed.publish(feed.records(EVENTS))
    with WorkerProcess(stage, names, "wait", "--concurrency", str(CONCURRENCY), partitions=1) as worker:
        times = await arrivals(stage.bootstrap, names.topic(ANSWERED), EVENTS, alive=worker.alive, partitions=1)
    return {STEADY: (rate(times, 0.2, 0.8), COULD), ALL: (rate(times, 0.0, 1.0), COULD)}


EXPERIMENT = Experiment((STEADY, ALL), once)
