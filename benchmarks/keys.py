"""Ten thousand keys in flight at once: the memory that handlers take while they wait."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Mapping

from antiphon.bus.kafka.tether import free_port
from antiphon.testing.waiting import eventually
from feed import Feed
from running import WorkerProcess
from stage import Experiment, Stage
from table import Figure, Pair, Unit

KEYS = 10_000
_SETTLE_S = 120.0

MEMORY = Figure("keys", "a worker's memory with 10,000 keys in flight, against none", Unit.MEGABYTES, "bounded")


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Let every handler wait, and look."""
    stage.say("10,000 keys in flight")
    names = stage.names("keys")
    feed = Feed(stage, names)
    await feed.open()
    port = free_port()
    options = ("--concurrency", str(KEYS), "--metrics-port", str(port))
    with WorkerProcess(stage, names, "hold", *options) as worker:
        await worker.ready()
        idle_mb = worker.memory_mb
        await feed.publish(feed.records(KEYS))

        async def all_in_flight() -> bool:
            worker.alive()
            return await asyncio.to_thread(_in_flight, port) >= KEYS

        await eventually(all_in_flight, _SETTLE_S, what=f"{KEYS} events in flight")
        return {MEMORY: (worker.memory_mb, idle_mb)}


def _in_flight(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        found = re.search(r"^antiphon_in_flight\{[^}]*\} (\S+)", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


EXPERIMENT = Experiment((MEMORY,), once)
