"""Restoring state from Apache Kafka: a worker's way beside a bare client that reads the same topic into a dictionary.

    raw     confluent-kafka's consumer, `consume` of 1,000 at a time, into a dictionary
    ours    `States`, as an engine restores its partitions: keys decoded, memory counted, copies noted
    again   the same instance with its copy on disk: what an orderly restart costs

What counts is the ratios: the machine's own speed falls out. The ways take turns; medians are printed.

    python benchmarks/restore.py [--records 200000] [--rounds 3] [-b HOST:PORT]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.consumer import Consumer
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing
from antiphon.bus.state import Memory
from antiphon.bus.states import States, StateSettings
from antiphon.schemas.event import Event

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "kafka"))
from cluster import start

PARTITIONS = 4
VALUE = b"x" * 200
ROOM = 4 * 1024**3


async def nothing(event: Event) -> list[Event]:  # noqa: ARG001 - a handler gets one
    """Handle nothing: only state is looked at here."""
    return []


def raw(bootstrap: str, topic: str, count: int) -> float:
    consumer = Client(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "raw",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    began = time.perf_counter()
    consumer.assign([Offset(topic, partition, 0) for partition in range(PARTITIONS)])
    found: dict[bytes | None, bytes | None] = {}
    read = 0
    while read < count:
        messages = consumer.consume(1_000, timeout=1.0)
        for message in messages:
            found[message.key()] = message.value()
        read += len(messages)
    seconds = time.perf_counter() - began
    consumer.close()
    return seconds


async def ours(bus: KafkaBus, topic: str, folder: Path | None = None) -> tuple[float, int]:
    """Return how long restoring took, and how many records were read; with *folder* leave a copy there."""
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


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[str]:
    if address is not None:
        yield address
        return
    running = start()
    try:
        yield running.bootstrap_servers
    finally:
        running.stop()


async def measure(bootstrap: str, count: int, rounds: int) -> None:
    bus = KafkaBus(KafkaConfig(bootstrap_servers=bootstrap))
    topic = f"bench-{uuid.uuid4().hex[:8]}.state"
    await bus.create([TopicSpec(topic, PARTITIONS, compact=True)])
    for first in range(0, count, 10_000):
        some = range(first, min(first + 10_000, count))
        await bus.publish([Outgoing(topic, f"key-{n:09d}".encode(), VALUE, [], n % PARTITIONS) for n in some])
    taken: dict[str, list[float]] = {"raw": [], "ours": [], "ours, and a copy to make": [], "again": []}
    for _ in range(rounds):
        taken["raw"].append(await asyncio.to_thread(raw, bootstrap, topic, count))
        taken["ours"].append((await ours(bus, topic))[0])
        with tempfile.TemporaryDirectory() as folder:
            seconds, read = await ours(bus, topic, Path(folder))
            taken["ours, and a copy to make"].append(seconds)
            again, reread = await ours(bus, topic, Path(folder))
            taken["again"].append(again)
        assert (read, reread) == (count, 0), (read, reread)  # noqa: S101 - or nothing was measured
    await bus.close()
    rate = {way: count / statistics.median(seconds) for way, seconds in taken.items()}
    print(f"{count:,} records of 200 bytes on {PARTITIONS} partitions, medians of {rounds}")
    for way, per_s in rate.items():
        print(f"{way:26} {per_s:10,.0f} records/s   {per_s / rate['raw']:.2f} x raw")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast state is restored.")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-b", "--bootstrap-servers")
    given = parser.parse_args()
    with cluster(given.bootstrap_servers) as bootstrap:
        asyncio.run(measure(bootstrap, given.records, given.rounds))


if __name__ == "__main__":
    main()
