"""Loops written by hand, to compare with: nothing but bytes, or a whole hop's work, in transactions.

python benchmarks/loops.py HOST:PORT NAMESPACE     the first one, until it is killed
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any, cast

import fastavro
from confluent_kafka import Consumer as Client
from confluent_kafka import Message, Producer

from antiphon.bus.activity import Activity
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig, member_consumer, member_producer
from antiphon.bus.names import Names
from antiphon.bus.port import Membership
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import header_of
from antiphon.schemas.envelope import Envelope, from_headers, now_us, to_headers
from antiphon.schemas.ids import caused_id
from feed import ACTIVITY, ANSWERED, ASKED
from hops import Answered, Asked, answer

BATCH = 1_000
Handle = Callable[[Producer, list[Message]], None]


def clients(bootstrap: str, names: Names) -> tuple[Client, Producer]:
    """Make a consumer and a transactional producer with the settings of a worker, but for what only a worker sees to."""
    config = KafkaConfig(bootstrap_servers=bootstrap)
    membership = Membership(group=names.group("loop"), topics=(names.topic(ASKED),), instance="loop")
    plain = {"auto.offset.reset": "earliest", "enable.partition.eof": False}
    consumer = Client({**member_consumer(config, membership, GroupProtocol.CONSUMER), **plain})
    producer = Producer(dict(member_producer(config, membership)))
    producer.init_transactions()
    consumer.subscribe([*membership.topics])
    return consumer, producer


def transact(consumer: Client, producer: Producer, batch: list[Message], handle: Handle) -> None:
    producer.begin_transaction()
    handle(producer, batch)
    producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
    producer.commit_transaction()


def loop(bootstrap: str, names: Names, count: int, handle: Handle) -> float:
    """Consume *count* records in transactions of up to `BATCH`; return the seconds from the first batch on."""
    consumer, producer = clients(bootstrap, names)
    done, started = 0, 0.0
    while done < count:
        batch = consumer.consume(BATCH, timeout=0.1)
        if not batch:
            continue
        started = started or time.perf_counter()
        transact(consumer, producer, batch, handle)
        done += len(batch)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def forwarding(names: Names) -> Handle:
    """Return what hands bytes and headers on, and reads neither."""
    topic = names.topic(ANSWERED)

    def handle(producer: Producer, batch: list[Message]) -> None:
        for record in batch:
            producer.produce(topic, record.value(), record.key(), headers=cast("Any", record.headers()))

    return handle


async def raw(bootstrap: str, names: Names, count: int) -> float:
    """Consume and produce; nothing is read or written but bytes."""
    return await asyncio.to_thread(loop, bootstrap, names, count, forwarding(names))


async def hand(bootstrap: str, names: Names, count: int) -> float:
    """Do a hop's whole work, one event after the other; what can be done once is done once."""
    topic, activity_topic = names.topic(ANSWERED), names.topic(ACTIVITY)
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
            type=ANSWERED,
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
                "topic": ASKED,
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

    def handle(producer: Producer, batch: list[Message]) -> None:
        async def all_of_it() -> None:
            by_partition: dict[int, list[dict[str, Any]]] = {}
            for record in batch:
                await one(producer, record, by_partition.setdefault(record.partition() or 0, []))
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


def one_at_a_time(bootstrap: str, names: Names) -> None:
    """Hop for ever, a transaction an event."""
    consumer, producer = clients(bootstrap, names)
    handle = forwarding(names)
    for turn in itertools.count():
        record = consumer.poll(1.0)
        if turn == 0:
            print("hopping", flush=True)
        if record is not None:
            transact(consumer, producer, [record], handle)


if __name__ == "__main__":
    one_at_a_time(sys.argv[1], Names(sys.argv[2]))
