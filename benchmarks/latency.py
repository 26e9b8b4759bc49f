"""One event at a time: from publishing it until a read_committed reader has what came of it.

Beside it a process that consumes, produces and commits with the same client
settings, and does nothing else. The two take turns event by event.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, Producer, TopicPartition

from antiphon.bus.names import Names
from antiphon.bus.record import Outgoing
from feed import ANSWERED, Feed
from running import HERE, Program, WorkerProcess
from stage import PARTITIONS, Experiment, Stage
from table import Figure, Pair, Unit

EVENTS = 300
WARM = 30
_ANSWER_S = 30.0

P50 = Figure("latency", "one hop, one event at a time, p50, against a raw one", Unit.MILLISECONDS, "1.5, aim 1.1")
P99 = Figure("latency", "the same, p99", Unit.MILLISECONDS, "3, aim 1.5")


class Asking:
    """A client that publishes one event and waits for its answer."""

    def __init__(self, bootstrap: str, topics: list[str]) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "partitioner": "murmur2_random"})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bench-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in range(PARTITIONS)])

    def ask(self, record: Outgoing) -> float:
        """Return the milliseconds until the answer is there."""
        started = time.perf_counter()
        self._producer.produce(record.topic, record.value, record.key, headers=[*record.headers])
        while (answer := self._consumer.poll(_ANSWER_S)) is None or answer.key() != record.key:
            self._producer.poll(0)
            if time.perf_counter() - started > _ANSWER_S:
                message = f"expected an answer to a record on {record.topic} within {_ANSWER_S:g} s, got none"
                raise TimeoutError(message)
        return (time.perf_counter() - started) * 1_000

    def close(self) -> None:
        self._consumer.close()


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Ask both in turns, the first to be asked changing from event to event."""
    stage.say("one event at a time")
    records: dict[str, list[Outgoing]] = {}
    spaces: dict[str, Names] = {}
    for way in ("ours", "raw"):
        spaces[way] = stage.names(f"latency-{way}")
        feed = Feed(stage, spaces[way])
        await feed.open()
        records[way] = [*feed.records(WARM + EVENTS)]
    hop = [sys.executable, str(HERE / "loops.py"), stage.bootstrap, spaces["raw"].namespace]
    with WorkerProcess(stage, spaces["ours"], "answer") as worker, Program(stage, "raw-hop", hop) as loop:
        await worker.ready()
        await loop.said("hopping")
        found = await asyncio.to_thread(_ask_both, stage.bootstrap, spaces, records)
    return {
        P50: (statistics.median(found["ours"]), statistics.median(found["raw"])),
        P99: (_p99(found["ours"]), _p99(found["raw"])),
    }


def _ask_both(
    bootstrap: str, spaces: Mapping[str, Names], records: Mapping[str, list[Outgoing]]
) -> dict[str, list[float]]:
    client = Asking(bootstrap, [names.topic(ANSWERED) for names in spaces.values()])
    found: dict[str, list[float]] = {way: [] for way in records}
    try:
        for turn in range(WARM + EVENTS):
            for way in sorted(records, reverse=turn % 2 == 1):
                took = client.ask(records[way][turn])
                if turn >= WARM:
                    found[way].append(took)
    finally:
        client.close()
    return found


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


EXPERIMENT = Experiment((P50, P99), once)
