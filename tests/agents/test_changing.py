"""What docs/operate/upgrade.md says of a change to an agent that others do not notice, or that they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from antiphon import Agent, Context, Event
from antiphon.bus.consumer import Guarantee
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.record import Outgoing, Record
from antiphon.testing.mesh import MemoryMesh

PATIENCE_S = 60.0
Headers = Sequence[tuple[str, bytes | None]]


class Paid(Event, key="account"):
    account: str


class Refunded(Event, key="account"):
    account: str


class Booked(Event, key="account"):
    account: str
    count: int


def books(name: str = "books", *, refunds: bool = False, guarantee: Guarantee = Guarantee.EXACTLY_ONCE) -> Agent:
    """Make an agent that counts what it hears of an account."""
    agent = Agent(name, guarantee=guarantee)

    @agent.on(*((Paid, Refunded) if refunds else (Paid,)))
    async def book(event: Paid | Refunded, context: Context) -> Booked:
        context.state["count"] = context.state.get("count", 0) + 1
        return Booked(account=event.account, count=context.state["count"])

    return agent


async def counts(mesh: MemoryMesh, said: int) -> list[int]:
    """Wait for so many bookings, and return what they count, in order of the log; one account, so one partition."""
    return [booked.count for booked in await mesh.eventually(Booked, count=said, timeout=PATIENCE_S)]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def mesh(request: pytest.FixtureRequest) -> AsyncGenerator[MemoryMesh]:
    """In memory, and on Apache Kafka."""
    if request.param == "memory":
        yield MemoryMesh()
        return
    bus = KafkaBus(KafkaConfig(bootstrap_servers=request.getfixturevalue("kafka")))
    yield MemoryMesh(bus=bus, names=Names(request.getfixturevalue("namespace")))
    await bus.close()


async def test_a_guarantee_changes_like_any_version(mesh: MemoryMesh) -> None:
    """There and back, one worker after the other and side by side: each event is counted once."""
    once, often = books(), books(guarantee=Guarantee.AT_LEAST_ONCE)
    for published, agent in enumerate((once, often, once), start=1):
        async with mesh.running(agent):
            await mesh.publish(Paid(account="a"))
            assert await counts(mesh, published) == [*range(1, published + 1)]
    async with mesh.running(once, instance="once"), mesh.running(often, instance="often"):
        await mesh.publish(*(Paid(account="a") for _ in range(3)))
        assert await counts(mesh, 6) == [1, 2, 3, 4, 5, 6]


async def test_a_subscription_more_begins_with_the_oldest_event_there_is(mesh: MemoryMesh) -> None:
    """Its group has no offset there, so what was published long before the deployment is handled too."""
    await mesh.prepare(books(refunds=True))
    async with mesh.running(books()):
        await mesh.publish(Refunded(account="a"), Paid(account="a"))
        assert await counts(mesh, 1) == [1]
    async with mesh.running(books(refunds=True)):
        assert await counts(mesh, 2) == [1, 2]


async def test_the_number_of_partitions_that_is_there_goes_before_the_setting(mesh: MemoryMesh) -> None:
    """Whoever starts a worker with another setting joins the mesh as it is."""
    await mesh.prepare(books())
    mesh.partitions = 48
    async with mesh.running(books()):
        await mesh.publish(Paid(account="a"))
        assert await counts(mesh, 1) == [1]
    ours = {name: width for name, width in (await mesh.bus.topics()).items() if name.startswith(mesh.names.topic(""))}
    assert {*ours.values()} == {4}


async def test_under_another_name_it_is_another_agent(mesh: MemoryMesh) -> None:
    """It handles from the beginning, without state, and what it says has ids of its own."""
    for name in ("books", "ledger"):
        async with mesh.running(books(name)):
            if name == "books":
                await mesh.publish(Paid(account="a"))
            await mesh.eventually(Booked, count=1 if name == "books" else 2, timeout=PATIENCE_S)
    [(first, booked), (second, again)] = await mesh.events(Booked)
    assert (booked.count, again.count, first.parent_id == second.parent_id, first.id == second.id) == (
        1,
        1,
        True,
        False,
    )


@pytest.mark.kafka
async def test_a_group_that_is_given_anothers_offsets_goes_on_where_that_one_was(kafka: str, namespace: str) -> None:
    """With its state carried over, an agent under another name counts on, and handles nothing twice."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    mesh = MemoryMesh(bus=bus, names=Names(namespace))
    async with mesh.running(books("books")):
        await mesh.publish(Paid(account="a"), Paid(account="a"))
        assert await counts(mesh, 2) == [1, 2]
    ledger = books("ledger")
    await mesh.prepare(ledger)
    await bus.publish([Outgoing(mesh.names.state("ledger"), *_kept(one)) for one in await mesh.records("books.state")])
    await asyncio.to_thread(_give_offsets, kafka, mesh.names.group("books"), mesh.names.group("ledger"))
    async with mesh.running(ledger):
        await mesh.publish(Paid(account="a"))
        assert await counts(mesh, 3) == [1, 2, 3]
    await bus.close()


def _kept(record: Record) -> tuple[bytes | None, bytes | None, Headers]:
    return record.key, record.value, record.headers


def _give_offsets(kafka: str, old: str, new: str) -> None:
    """What `kafka-consumer-groups.sh --reset-offsets` does; what stood beside the offsets is about them, and is left."""
    client: Any = AdminClient({"bootstrap.servers": kafka})
    [found] = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(old)]).values()
    offsets = [TopicPartition(one.topic, one.partition, one.offset) for one in found.result().topic_partitions]
    [given] = client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(new, offsets)]).values()
    given.result()
