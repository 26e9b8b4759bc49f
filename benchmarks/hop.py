"""One fast hop, exactly once: the worker beside loops written by hand, each on the same records.

    raw    consume and produce in transactions; nothing is read or written but bytes
    hand   a loop that does a whole hop's work: headers, Avro, pydantic, an async handler, Avro again,
           a derived id, an activity record, and a transaction per 1,000 events, one after the other
    ours   `Worker`: the same work, with lanes by key, retries, dead letters, state and rebalances beside it

All three run in this process, so none pays for its start, and in an interpreter that is told what `antiphon run` tells it.
Once more the loop by hand runs as somebody would write it who has not thought of that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from antiphon import Event, Worker
from antiphon.agents.agent import agent_of
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from feed import Feed
from hops import answer
from loops import hand, raw
from stage import PARTITIONS, Experiment, Stage
from table import Figure, Pair, Unit

# Long enough that a worker's end, which is counted and which the loops do not have, is a small part of it.
EVENTS = 60_000
HAND = Figure("hop", "one fast hop, against a loop by hand that does the same", Unit.RATE, "0.8, aim 1.1")
UNTOLD = Figure("hop", "the same, in an interpreter as it comes", Unit.RATE, "")
RAW = Figure("hop", "the same, against a loop that only forwards bytes", Unit.RATE, "")


async def ours(bootstrap: str, names: Names, count: int) -> float:
    """Run a worker in this process until it has handled *count* events; return the seconds from the first one on."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=bootstrap))
    store = TopicStore(bus, names, partitions=PARTITIONS)
    found = agent_of(answer)
    assert found is not None  # noqa: S101 - for the type checker
    started = 0.0
    handled = 0
    through = asyncio.Event()
    handler = found.consumer().handler

    async def counted(event: Event) -> Any:
        nonlocal started, handled
        started = started or time.perf_counter()
        handled += 1
        if handled == count:
            through.set()
        return await handler(event)

    consumer = dataclasses.replace(found.consumer(), handler=counted)
    worker = Worker(bus, [consumer], names=names, store=store, partitions=PARTITIONS)
    run = asyncio.create_task(worker.run())
    await asyncio.wait([run, asyncio.create_task(through.wait())], return_when=asyncio.FIRST_COMPLETED)
    worker.stop()
    await run  # the last transaction is part of the work
    seconds = time.perf_counter() - started
    await bus.close()
    return seconds


async def untold(bootstrap: str, names: Names, count: int) -> float:
    """Run the loop by hand with the interpreter's own measures of when to look for garbage, and among what."""
    thresholds, interval_s = gc.get_threshold(), sys.getswitchinterval()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    sys.setswitchinterval(0.005)
    try:
        return await hand(bootstrap, names, count)
    finally:
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval_s)
        gc.freeze()


WAYS: Mapping[str, Callable[[str, Names, int], Awaitable[float]]] = {
    "raw": raw,
    "hand": hand,
    "untold": untold,
    "ours": ours,
}


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Run each way on topics of its own."""
    rates: dict[str, float] = {}
    for way, run in WAYS.items():
        stage.say(f"one hop: {way}")
        names = stage.names(f"hop-{way}")
        feed = Feed(stage, names)
        await feed.open()
        await feed.publish(feed.records(EVENTS))
        rates[way] = EVENTS / await run(stage.bootstrap, names, EVENTS)
    return {figure: (rates["ours"], rates[way]) for figure, way in ((HAND, "hand"), (UNTOLD, "untold"), (RAW, "raw"))}


EXPERIMENT = Experiment((HAND, UNTOLD, RAW), once)
