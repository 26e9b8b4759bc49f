"""Members of the embedded broker whose process is gone: what they had goes to others, what they left open is over."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import TopicPartition as Offset
from confluent_kafka.admin import AdminClient

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.failures import error_of
from antiphon.bus.kafka.sessions import Seat, Vacated, is_running, leave, resident, seats, vacated
from antiphon.bus.record import TopicPartition
from antiphon.testing.conformance.world import everything, fresh, membership, new_topic, numbered, values
from antiphon.testing.reading import Reading
from antiphon.testing.waiting import eventually

_MEMBER = """\
import sys, time

from confluent_kafka import Consumer, Producer

from antiphon.bus.kafka.sessions import resident

address, group, topic, out = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": address, "group.id": group, "client.id": resident("first")})
consumer.subscribe([topic])
while not consumer.assignment():
    consumer.poll(0.1)
producer = Producer({"bootstrap.servers": address, "transactional.id": f"{group}/first"})
producer.init_transactions()
producer.begin_transaction()
producer.produce(out, b"never", partition=0)
producer.flush()
print("in the middle of a transaction", flush=True)
while True:
    consumer.poll(0.1)
"""


def a_member_is_killed(*arguments: str) -> None:
    """Have a process of its own be a member, with a transaction open, and end without a word."""
    with subprocess.Popen([sys.executable, "-c", _MEMBER, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert said == b"in the middle of a transaction\n"


@pytest.mark.embedded
async def test_what_a_killed_member_had_goes_to_the_next(embedded: str) -> None:
    """Its partitions, though nobody told its group; and readers pass by what it left open."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=embedded))
    topic, out, group = await new_topic(bus, "orders", 2), await new_topic(bus, "shipped"), fresh("group")
    a_member_is_killed(embedded, group, topic, out)
    await bus.publish(numbered(out, 1))
    async with Reading(await bus.join(membership(group, topic))) as reading:
        await reading.owns([TopicPartition(topic, 0), TopicPartition(topic, 1)])

        async def read() -> list[bytes | None]:
            return values(await everything(bus, out))

        await eventually(read, what="what stands behind the open transaction to be read")
        assert await read() == [b"0"]
    await bus.close()


@pytest.mark.embedded
async def test_those_who_live_go_on_with_all(embedded: str) -> None:
    """Also where nobody joins any more."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=embedded))
    topic, out, group = await new_topic(bus, "orders", 2), await new_topic(bus, "shipped"), fresh("group")
    both = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    async with Reading(await bus.join(membership(group, topic))) as reading:
        await reading.owns(both)
        await asyncio.to_thread(a_member_is_killed, embedded, group, topic, out)
        await reading.owns(both)
    await bus.close()


@pytest.mark.embedded
async def test_why_a_frozen_member_is_left_alone(embedded: str) -> None:
    """Who begins anew under its id commits for partitions that it lost: only outside of a transaction does this broker ask whose member it is.

    Where this fails, a frozen member may be taken out of its group as one is that is gone (ADR 4).
    """
    bus = KafkaBus(KafkaConfig(bootstrap_servers=embedded))
    topic, group = await new_topic(bus, "orders", 1), fresh("group")
    await bus.close()
    assert await asyncio.to_thread(a_member_that_left_commits, embedded, group, topic) == ["taken", "UNKNOWN_MEMBER_ID"]


def a_member_that_left_commits(address: str, group: str, topic: str) -> list[str]:
    """Be a member that another makes leave without its hearing of it, and commit: in a transaction that began after that, and in none."""
    # Heartbeats would tell it.
    quiet = {"session.timeout.ms": 300_000, "heartbeat.interval.ms": 200_000}
    member = Consumer(
        {"bootstrap.servers": address, "group.id": group, "client.id": "frozen", "enable.auto.commit": False, **quiet}
    )
    member.subscribe([topic])
    while not member.assignment():
        member.poll(0.1)
    metadata = member.consumer_group_metadata()
    client = AdminClient({"bootstrap.servers": address})
    [seat] = [seat for seat in seats(client) if seat.group == group]
    host, _, port = address.rpartition(":")
    leave((host, int(port)), group, seat.member)
    assert group not in {seat.group for seat in seats(client)}
    producer = Producer({"bootstrap.servers": address, "transactional.id": f"{group}/frozen"})
    producer.init_transactions(10)
    said: list[str] = []
    for commit in (
        lambda: _in_a_transaction(producer, metadata, topic),
        lambda: member.commit(offsets=[Offset(topic, 0, 2)], asynchronous=False),
    ):
        try:
            commit()
            said.append("taken")
        except KafkaException as exception:
            said.append(error_of(exception).name())
    member.close()
    return said


def _in_a_transaction(producer: Producer, metadata: object, topic: str) -> None:
    producer.begin_transaction()
    producer.send_offsets_to_transaction([Offset(topic, 0, 1)], metadata, 10)
    producer.commit_transaction(10)


def test_who_is_gone() -> None:
    """Whose process ended here. Of a process elsewhere nothing is known, and who has its name now is not fenced."""
    seats = [
        Seat("stock", "m1", "w-1@laptop/11"),
        Seat("stock", "m2", "w-2@laptop/12"),
        Seat("stock", "m3", "w-2@laptop/13"),
        Seat("pay", "m4", "a@b/7@laptop/12"),
        Seat("stock", "m5", "w-5@container/12"),
        Seat("stock", "m6", "kcat"),
    ]
    assert vacated(seats, "laptop", lambda process: process in {11, 13}) == [
        Vacated("stock", "m2", "w-2", None),
        Vacated("pay", "m4", "a@b/7", "pay/a@b/7"),
    ]


def test_this_process_is_there() -> None:
    """What a member calls itself says so."""
    seat = Seat("stock", "m1", resident("w-1"))
    place = seat.client.removeprefix("w-1@").rpartition("/")[0]
    assert vacated([seat], place, is_running) == []
