"""F25: more comes than can be handled. What is in hand stays within bounds, and other keys go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from antiphon import Agent, Event
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.partition import partition_for
from antiphon.bus.pressure import Bounds
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

KB, MB = 1_000, 1_000_000


class Sent(Event, type="pressure.sent"):
    n: int
    text: str = ""


class Seen(Event, type="pressure.seen"):
    n: int


async def most_in_hand(mesh: MemoryMesh, count: int, size: int, bounds: Bounds) -> int:
    """Have an agent handle *count* events of *size* bytes, none before it has taken what it may; return its most bytes."""
    agent, go, most = Agent("slow", concurrency=4), asyncio.Event(), 0

    @agent.on(Sent)
    async def see(sent: Sent) -> Seen:
        nonlocal most
        await go.wait()
        most = max(most, worker.statuses()[0].in_hand_bytes)
        return Seen(n=sent.n)

    await mesh.prepare(agent)
    await mesh.publisher.publish([Sent(n=n, text="x" * size) for n in range(count)])
    async with mesh.running(agent, bounds=bounds) as worker:
        await eventually(lambda: worker.statuses()[0].paused >= mesh.partitions, 60, what="all partitions to be paused")
        go.set()
        await mesh.eventually(Seen, count=count, timeout=60)
        status = worker.statuses()[0]
    assert (status.paused, status.in_hand_bytes) == (0, 0)
    return most


async def test_f25_what_is_in_hand_is_bounded_by_bytes() -> None:
    """Thirty megabytes wait; beyond the bound there comes what was on its way, at most 500 records here."""
    mesh = MemoryMesh(4)
    assert await most_in_hand(mesh, 3_000, 10 * KB, Bounds(most_in_hand_bytes=2 * MB)) < 2 * MB + 500 * 10.5 * KB


async def test_f25_a_partition_is_bounded_by_bytes() -> None:
    """By its own bound, long before that of the worker."""
    mesh = MemoryMesh(1)
    assert await most_in_hand(mesh, 3_000, 10 * KB, Bounds(most_pending_bytes=2 * MB)) < 2 * MB + 500 * 10.5 * KB


@pytest.mark.kafka
async def test_f25_large_records_on_kafka(kafka: str, namespace: str) -> None:
    """The client's own batches are cut to a few megabytes, so that they do not outgrow the bound."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka, prefetch_bytes=4 * MB))
    mesh = MemoryMesh(1, bus=bus, names=Names(namespace))
    assert await most_in_hand(mesh, 300, 100 * KB, Bounds(most_in_hand_bytes=4 * MB)) < 16 * MB
    await bus.close()


def keys(partition: int, count: int) -> Iterable[str]:
    """Yield keys that lie on *partition* of two."""
    found = (f"key-{n}" for n in range(1_000) if partition_for(f"key-{n}".encode(), 2) == partition)
    return (key for key, _ in zip(found, range(count), strict=False))


async def test_f25_a_hot_key_holds_up_itself() -> None:
    """Hundreds of events of one key wait behind a handler that does not end; every other key is handled meanwhile."""
    agent, go = Agent("slow", concurrency=20), asyncio.Event()
    hot, near = keys(0, 2)

    @agent.on(Sent)
    async def see(sent: Sent) -> Seen:
        if sent.text == "hot":
            await go.wait()
        return Seen(n=sent.n)

    mesh = MemoryMesh(2)
    async with mesh.running(agent, bounds=Bounds(most_pending=200)) as worker:
        for n in range(50):
            await mesh.publish(Sent(n=n, text="hot"), key=hot)
        await mesh.publish(Sent(n=1_000), key=near)
        for n in range(300):
            await mesh.publish(Sent(n=n, text="hot"), key=hot)
        for n, far in enumerate(keys(1, 50)):
            await mesh.publish(Sent(n=2_000 + n), key=far)
        seen = await mesh.eventually(Seen, count=51)
        assert sorted(event.n for event in seen) == [1_000, *range(2_000, 2_050)]
        status = worker.statuses()[0]
        assert (status.paused, status.in_flight, status.lanes) == (1, 1, 1)
        go.set()
        await mesh.eventually(Seen, count=401)
