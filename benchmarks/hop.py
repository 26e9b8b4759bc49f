"""One hop on Apache Kafka: Antiphon's worker beside loops written by hand, all in one run.

    raw    consume and produce in transactions; nothing is read or written but bytes
    hand   a loop that does a whole hop's work: headers, Avro, pydantic, an async handler, Avro again,
           a derived id, an activity record, and a transaction per 1,000 events, one after the other
    ours   `Worker`: the same work, with lanes by key, retries, dead letters, state and rebalances beside it

What counts is the ratios: the machine's own speed falls out. Each way gets the
same records, on topics of its own, in turns; the medians are printed.

    python benchmarks/hop.py [--events 20000] [--rounds 3] [-b HOST:PORT]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import fastavro
from confluent_kafka import Consumer as Client
from confluent_kafka import Producer

from antiphon import Event, Worker, agent
from antiphon.agents.agent import agent_of
from antiphon.bus.activity import Activity
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.port import Bus, TopicSpec
from antiphon.bus.record import Outgoing
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec, header_of
from antiphon.schemas.envelope import Envelope, from_headers, now_us, to_headers
from antiphon.schemas.ids import caused_id

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "kafka"))
from cluster import start

PARTITIONS = 4
BATCH = 1_000


class Asked(Event, type="hop.asked"):
    """Seven fields, about 300 bytes with its headers."""

    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


class Answered(Event, type="hop.answered"):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


@agent
async def answer(asked: Asked) -> Answered:
    """Say what was heard."""
    return Answered(**asked.__dict__)


def records(topic: str, count: int, codec: Codec) -> list[Outgoing]:
    made: list[Outgoing] = []
    for n in range(count):
        envelope = Envelope.root("hop.asked", source="/benchmarks")
        asked = Asked(
            name=f"n{n}", text="to be or not to be, " * 4, count=n, share=0.5, is_new=True, place="here", when_us=n
        )
        made.append(Outgoing(topic, envelope.id.encode(), codec.encode(asked), to_headers(envelope)))
    return made


def clients(bootstrap: str, names: Names) -> tuple[Client, Producer]:
    """Make a consumer and a transactional producer, configured as the worker's are where it matters."""
    consumer = Client(
        {
            "bootstrap.servers": bootstrap,
            "group.id": names.group("loop"),
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 5,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": names.group("loop"),
            "delivery.report.only.error": True,
            "retry.backoff.ms": 10,
            "partitioner": "murmur2_random",
        }
    )
    producer.init_transactions()
    consumer.subscribe([names.topic("hop.asked")])
    return consumer, producer


def loop(bootstrap: str, names: Names, count: int, handle: Callable[[Producer, list[Any]], None]) -> float:
    """Consume *count* records in transactions of up to `BATCH`; return the seconds from the first batch on."""
    consumer, producer = clients(bootstrap, names)
    done, started = 0, 0.0
    while done < count:
        batch = consumer.consume(BATCH, timeout=1.0)
        if not batch:
            continue
        started = started or time.perf_counter()
        producer.begin_transaction()
        handle(producer, batch)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        done += len(batch)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


async def raw(bootstrap: str, names: Names, count: int) -> float:
    topic = names.topic("hop.answered")

    def handle(producer: Producer, batch: list[Any]) -> None:
        for record in batch:
            producer.produce(topic, record.value(), record.key(), headers=record.headers())

    return await asyncio.to_thread(loop, bootstrap, names, count, handle)


async def hand(bootstrap: str, names: Names, count: int) -> float:
    """A careful loop: everything that can be done once is done once."""
    topic, activity_topic = names.topic("hop.answered"), names.topic("antiphon.activity")
    read = fastavro.parse_schema(dict(schema_of(Asked)))
    write = fastavro.parse_schema(dict(schema_of(Answered)))
    activity = fastavro.parse_schema(dict(schema_of(Activity)))
    header = header_of(fingerprint(schema_of(Answered)))
    activity_header = header_of(fingerprint(schema_of(Activity)))
    events = asyncio.new_event_loop()

    async def one(producer: Producer, record: Any, deliveries: list[dict[str, Any]]) -> None:
        started = now_us()
        envelope = from_headers(record.headers(), key=record.key(), timestamp_ms=record.timestamp()[1])
        stream = BytesIO(record.value())
        stream.seek(10)
        asked = Asked.model_validate(fastavro.schemaless_reader(stream, read, None))
        answered = await answer(asked)
        effect = Envelope(
            id=caused_id(envelope.id, "answer", 0),
            type="hop.answered",
            source="/agents/answer",
            time_us=now_us(),
            correlation_id=envelope.correlation_id,
            parent_id=envelope.id,
            hops=1,
        )
        out = BytesIO()
        out.write(header)
        fastavro.schemaless_writer(out, write, answered.__dict__)
        producer.produce(topic, out.getvalue(), record.key(), headers=cast("Any", to_headers(effect)))
        deliveries.append(
            {
                "event_id": envelope.id,
                "event_type": envelope.type,
                "correlation_id": envelope.correlation_id,
                "topic": "hop.asked",
                "partition": record.partition(),
                "offset": record.offset(),
                "attempt": 1,
                "outcome": "completed",
                "started_us": started,
                "duration_us": now_us() - started,
                "queue_us": started - envelope.time_us,
                "emitted": [{"id": effect.id, "type": effect.type, "fails": False, "undo": None}],
                "causes": [],
                "usage": [],
            }
        )

    def handle(producer: Producer, batch: list[Any]) -> None:
        async def all_of_it() -> None:
            by_partition: dict[int, list[dict[str, Any]]] = {}
            for record in batch:
                await one(producer, record, by_partition.setdefault(record.partition(), []))
            for partition, deliveries in by_partition.items():
                for first in range(0, len(deliveries), 500):
                    out = BytesIO()
                    out.write(activity_header)
                    some = deliveries[first : first + 500]
                    entry = {"agent": "answer", "version": "0", "instance": "loop", "deliveries": some}
                    fastavro.schemaless_writer(out, activity, entry)
                    headers = to_headers(Envelope.root("antiphon.activity.recorded", source="/agents/answer"))
                    producer.produce(activity_topic, out.getvalue(), partition=partition, headers=cast("Any", headers))

        events.run_until_complete(all_of_it())

    seconds = await asyncio.to_thread(loop, bootstrap, names, count, handle)
    events.close()
    return seconds


async def ours(bootstrap: str, names: Names, count: int) -> float:
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


async def prepare(bus: Bus, names: Names, count: int) -> None:
    topics = ["hop.asked", "hop.answered", "antiphon.activity", "antiphon.schemas", "antiphon.agents"]
    await bus.create([TopicSpec(names.topic(topic), PARTITIONS) for topic in topics])
    codec = Codec(TopicStore(bus, names, partitions=PARTITIONS))
    await codec.announce([Asked])
    made = records(names.topic("hop.asked"), count, codec)
    for first in range(0, count, 5_000):
        await bus.publish(made[first : first + 5_000])


WAYS: dict[str, Callable[[str, Names, int], Awaitable[float]]] = {"raw": raw, "hand": hand, "ours": ours}


async def measure(bootstrap: str, events: int, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    bus = KafkaBus(KafkaConfig(bootstrap_servers=bootstrap))
    for number in range(rounds):
        for way, run in WAYS.items():
            names = Names(f"bench-{os.getpid()}-{way}-{number}")
            await prepare(bus, names, events)
            rates[way].append(events / await run(bootstrap, names, events))
            say(f"round {number + 1} of {rounds}: {way:4} {rates[way][-1]:9,.0f}/s")
    say("")
    await bus.close()
    return rates


def say(progress: str) -> None:
    """Show how far it is, where somebody looks on."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{progress:50}\r")


@contextlib.contextmanager
def broker(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    cluster = start()
    try:
        yield cluster.bootstrap_servers
    finally:
        cluster.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-b", "--bootstrap-servers")
    arguments = parser.parse_args()
    with broker(arguments.bootstrap_servers) as bootstrap:
        rates = asyncio.run(measure(bootstrap, arguments.events, arguments.rounds))
    medians = {way: statistics.median(found) for way, found in rates.items()}
    print(
        f"one hop on Apache Kafka, {arguments.events:,} events, {PARTITIONS} partitions, median of {arguments.rounds}"
    )
    print(f"{'':6}{'events/s':>10}{'of raw':>9}{'of hand':>9}   rounds")
    for way, rate in medians.items():
        each = " ".join(f"{found:,.0f}" for found in rates[way])
        print(f"{way:6}{rate:>10,.0f}{rate / medians['raw']:>9.2f}{rate / medians['hand']:>9.2f}   {each}")


if __name__ == "__main__":
    main()
