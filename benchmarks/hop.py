"""One hop on Apache Kafka: an event heard, handled, answered, accounted for and committed.

    python benchmarks/hop.py                       on a Kafka of its own, from the test kit
    python benchmarks/hop.py -b localhost:9092     on yours

Prints events a second and what each loop costs beside the raw one, all from
one run: the machine decides the figures, the ratios say something.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from pydantic import BaseModel

from antiphon.bus.activity import Activity
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.port import Assigned, Membership, Records, Transaction
from antiphon.bus.record import Committed, Outgoing
from antiphon.bus.record import TopicPartition as Partition
from antiphon.schemas.avro import schema_of
from antiphon.schemas.envelope import now_us
from antiphon.schemas.ids import caused_id

KIT = Path(__file__).parents[1] / "tests" / "kafka" / "cluster.py"
PARTITIONS = 4
BATCH = 1_000
FRAME = b"\xc3\x01" + bytes(8)
ORDER: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "fields": [
        *({"name": name, "type": "string"} for name in ("order_id", "customer", "item", "note", "city")),
        {"name": "quantity", "type": "long"},
        {"name": "price", "type": "double"},
    ],
}


class Order(BaseModel):
    """What the hand-written loop reads and writes."""

    order_id: str
    customer: str
    item: str
    note: str
    city: str
    quantity: int
    price: float


class Loop(NamedTuple):
    """One way to do a hop."""

    name: str
    run: Callable[[str, str, str, int], float]
    """Bootstrap servers, topic in, topic out, how many events; returns seconds."""


def raw(bootstrap: str, heard: str, said: str, count: int) -> float:
    """Take and give, transactionally, and look at nothing: what the client costs."""
    consumer, producer = clients(bootstrap, heard)
    done, started = 0, 0.0
    while done < count:
        messages = consumer.consume(BATCH, 0.5)
        started = started or (time.perf_counter() if messages else 0.0)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(said, message.value(), message.key(), headers=message.headers())
        commit(consumer, producer, messages)
        done += len(messages)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def by_hand(bootstrap: str, heard: str, said: str, count: int) -> float:
    """Do all that an agent's hop asks for, in one loop made for it and nothing else."""
    return asyncio.run(_by_hand(bootstrap, heard, said, count))


async def _by_hand(bootstrap: str, heard: str, said: str, count: int) -> float:
    consumer, producer = clients(bootstrap, heard)
    schema, activity = fastavro.parse_schema(ORDER), fastavro.parse_schema(dict(schema_of(Activity)))
    done, started = 0, 0.0
    while done < count:
        messages: list[Any] = consumer.consume(BATCH, 0.5)
        started = started or (time.perf_counter() if messages else 0.0)
        if not messages:
            continue
        producer.begin_transaction()
        handled: dict[int, list[dict[str, Any]]] = {}
        for message in messages:
            began = now_us()
            headers = dict(message.headers() or [])
            id, correlation = headers["ce_id"].decode(), headers["ce_correlationid"].decode()
            order = Order.model_validate(
                fastavro.schemaless_reader(io.BytesIO(message.value()[len(FRAME) :]), schema, None)
            )
            answer = await handler(order)
            body = io.BytesIO()
            body.write(FRAME)
            fastavro.schemaless_writer(body, schema, answer.model_dump())
            new_id = caused_id(id, "by-hand", 0)
            producer.produce(
                said, body.getvalue(), message.key(), headers=envelope(new_id, correlation, parent=id, time_us=now_us())
            )
            handled.setdefault(message.partition(), []).append(
                {
                    "event_id": id,
                    "event_type": "order.placed",
                    "correlation_id": correlation,
                    "topic": heard,
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "attempt": 1,
                    "outcome": "completed",
                    "started_us": began,
                    "duration_us": now_us() - began,
                    "queue_us": 0,
                    "emitted": [{"id": new_id, "type": "order.checked"}],
                }
            )
        for partition, deliveries in handled.items():
            for first in range(0, len(deliveries), 500):
                body = io.BytesIO()
                part = {
                    "agent": "by-hand",
                    "version": "0",
                    "instance": "0",
                    "deliveries": deliveries[first : first + 500],
                }
                fastavro.schemaless_writer(body, activity, part)
                producer.produce(f"{said}.activity", body.getvalue(), partition=partition)
        commit(consumer, producer, messages)
        done += len(messages)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def by_bus(bootstrap: str, heard: str, said: str, count: int) -> float:
    """Take and give through the mesh's bus, as the raw loop does: what its threads cost, and what their overlap gains."""
    return asyncio.run(_by_bus(bootstrap, heard, said, count))


async def _by_bus(bootstrap: str, heard: str, said: str, count: int) -> float:
    bus = KafkaBus(KafkaConfig(bootstrap_servers=bootstrap))
    member = await bus.join(Membership(group=f"{heard}.{uuid.uuid4().hex[:8]}", topics=(heard,), instance="0"))
    taken = await member.take()
    assert isinstance(taken, Assigned)  # noqa: S101 - the first thing there is
    member.resume([*taken.partitions])
    done, started = 0, 0.0
    outputs: list[Outgoing] = []
    offsets: dict[tuple[str, int], int] = {}
    committing: asyncio.Task[None] | None = None
    while done < count or outputs:
        if done < count:
            taken = await member.take()
            started = started or time.perf_counter()
            assert isinstance(taken, Records)  # noqa: S101 - nobody else joins the group
            outputs += [Outgoing(said, record.key, record.value, record.headers) for record in taken.records]
            offsets |= {(record.topic, record.partition): record.offset + 1 for record in taken.records}
            done += len(taken.records)
        behind = done == count or len(outputs) >= 4 * BATCH
        if committing is not None and behind:
            await committing
        if behind or (len(outputs) >= BATCH and (committing is None or committing.done())):
            ends = {Partition(*partition): Committed(end) for partition, end in offsets.items()}
            committing = asyncio.create_task(member.commit(Transaction(outputs, ends)))
            outputs, offsets = [], {}
    if committing is not None:
        await committing
    seconds = time.perf_counter() - started
    await member.close()
    await bus.close()
    return seconds


async def handler(order: Order) -> Order:
    """Handle, as cheaply as can be: what is measured is the way there and back."""
    return order


def clients(bootstrap: str, topic: str) -> tuple[Consumer, Producer]:
    """Make a group member and the producer that commits for it, told what ours are told."""
    group = f"{topic}.{uuid.uuid4().hex[:8]}"
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([topic])
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": group,
            "delivery.report.only.error": True,
            "linger.ms": 5,
            "retry.backoff.ms": 10,
        }
    )
    producer.init_transactions(30)
    return consumer, producer


def commit(consumer: Consumer, producer: Producer, messages: list[Any]) -> None:
    """Commit what was produced, and how far *messages* go."""
    ends = {(message.topic(), message.partition()): message.offset() + 1 for message in messages}
    offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in ends.items()]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
    producer.commit_transaction()


def envelope(id: str, correlation_id: str, *, parent: str, time_us: int) -> Any:
    """Return nine headers, as an event's that was caused."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_type", b"order.checked"),
        ("ce_source", b"/agents/by-hand"),
        ("ce_time", str(time_us).encode()),
        ("ce_correlationid", correlation_id.encode()),
        ("content-type", b"application/avro"),
        ("ce_causationid", parent.encode()),
        ("ce_hops", b"1"),
    ]


def fill(bootstrap: str, topic: str, count: int) -> None:
    """Write *count* orders to *topic*, of some 300 bytes each."""
    schema = fastavro.parse_schema(ORDER)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "partitioner": "murmur2_random"})
    for number in range(count):
        order = Order(
            order_id=f"A-{number}",
            customer="Ada Lovelace",
            item="tea",
            note="ring twice " * 20,
            city="London",
            quantity=number % 9,
            price=9.5,
        )
        body = io.BytesIO()
        body.write(FRAME)
        fastavro.schemaless_writer(body, schema, order.model_dump())
        id = str(uuid.uuid4())
        headers = envelope(id, id, parent=id, time_us=now_us())
        while True:
            try:
                producer.produce(topic, body.getvalue(), id, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def make(bootstrap: str, *topics: str) -> None:
    """Make *topics*, and wait until they are there."""
    admin: Any = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, -1) for topic in topics]).values():
        made.result()


@contextlib.contextmanager
def kafka(bootstrap: str | None) -> Iterator[str]:
    """Yield the address of a Kafka: the one given, or one started for this run."""
    if bootstrap is not None:
        yield bootstrap
        return
    with subprocess.Popen([sys.executable, str(KIT)], stdout=subprocess.PIPE, text=True) as kit:
        try:
            assert kit.stdout is not None  # noqa: S101 - asked for above
            yield kit.stdout.readline().strip().rpartition("=")[2]
        finally:
            kit.terminate()


# The mesh's own engine belongs here beside them.
LOOPS = (
    Loop("raw confluent-kafka", raw),
    Loop("the mesh's bus, nothing else", by_bus),
    Loop("by hand, a whole hop", by_hand),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", "--bootstrap-servers", default=os.environ.get("ANTIPHON_BOOTSTRAP_SERVERS"))
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    with kafka(arguments.bootstrap_servers) as bootstrap:
        heard = f"hop-{uuid.uuid4().hex[:8]}"
        make(bootstrap, heard)
        fill(bootstrap, heard, arguments.events)
        print(f"{'one hop':<28}{'events/s':>10}{'CPU us':>9}{'of raw':>9}")
        first: float | None = None
        for number, loop in enumerate(LOOPS):
            said = f"{heard}.{number}"
            make(bootstrap, said, f"{said}.activity")
            cpu = time.process_time()
            rate = arguments.events / loop.run(bootstrap, heard, said, arguments.events)
            cpu_us = (time.process_time() - cpu) / arguments.events * 1e6
            first = first or rate
            print(f"{loop.name:<28}{rate:>10,.0f}{cpu_us:>9.1f}{rate / first:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
