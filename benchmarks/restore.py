"""Restoring state: a worker's way beside a bare client that reads the same topic into a dictionary.

raw     confluent-kafka's consumer, `consume` of 1,000 at a time, into a dictionary
ours    `States`, as an engine restores its partitions: keys decoded, memory counted, copies noted
again   the same instance with its copy on disk: what an orderly restart costs
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.consumer import Consumer
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing
from antiphon.bus.state import Memory
from antiphon.bus.states import States, StateSettings
from antiphon.schemas.event import Event
from stage import PARTITIONS, Experiment, Stage
from table import Figure, Pair, Unit

RECORDS = 200_000
VALUE = b"x" * 200
ROOM = 4 * 1024**3
FRESH = Figure(
    "restore", "restoring state of 200,000 records, against a bare client that reads them", Unit.RATE, "over 100,000/s"
)
COPIED = Figure("restore", "the same, with the copy on disk that the last run of this instance left", Unit.RATE, "")


async def nothing(event: Event) -> list[Event]:  # noqa: ARG001 - a handler gets one
    """Handle nothing: only state is looked at here."""
    return []


def raw(bootstrap: str, topic: str) -> float:
    """Read the topic into a dictionary; return the seconds that took."""
    options = {"bootstrap.servers": bootstrap, "group.id": "raw", "isolation.level": "read_committed"}
    consumer = Client({**options, "enable.auto.commit": False})
    began = time.perf_counter()
    consumer.assign([Offset(topic, partition, 0) for partition in range(PARTITIONS)])
    found: dict[bytes | None, bytes | None] = {}
    read = 0
    while read < RECORDS:
        messages = consumer.consume(1_000, timeout=1.0)
        for message in messages:
            found[message.key()] = message.value()
        read += len(messages)
    seconds = time.perf_counter() - began
    consumer.close()
    return seconds


async def ours(bus: KafkaBus, topic: str, folder: Path) -> tuple[float, int]:
    """Return how long restoring took, and how many records were read; leave a copy in *folder*."""
    consumer = Consumer(name="bench", hears={}, handler=nothing)
    settings = StateSettings(folder=folder, memory=Memory(ROOM))
    states = States(bus, consumer, topic=topic, instance="bench", settings=settings)
    began = time.perf_counter()
    await states.restore(range(PARTITIONS))
    seconds = time.perf_counter() - began
    await states.save(proven)
    await states.close()
    return seconds, states.restored


async def proven(number: int, records: list[Outgoing]) -> bool:  # noqa: ARG001 - nobody else is there
    return True


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Fill a state topic, and read it each way."""
    stage.say("restoring state")
    topic = stage.names("restore").state("bench")
    await stage.bus.create([TopicSpec(topic, PARTITIONS, compact=True)])
    for first in range(0, RECORDS, 10_000):
        some = range(first, first + 10_000)
        await stage.bus.publish([Outgoing(topic, f"key-{n:09d}".encode(), VALUE, [], n % PARTITIONS) for n in some])
    bare_s = await asyncio.to_thread(raw, stage.bootstrap, topic)
    with tempfile.TemporaryDirectory(dir=stage.folder) as folder:
        fresh_s, read = await ours(stage.bus, topic, Path(folder))
        again_s, reread = await ours(stage.bus, topic, Path(folder))
    assert (read, reread) == (RECORDS, 0), (read, reread)  # noqa: S101 - or nothing was measured
    return {FRESH: (RECORDS / fresh_s, RECORDS / bare_s), COPIED: (RECORDS / again_s, RECORDS / bare_s)}


EXPERIMENT = Experiment((FRESH, COPIED), once)
