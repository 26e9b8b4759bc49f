"""F22: what a group was to read next is not there any more. Nothing of that is silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import TopicPartition as Offset
from confluent_kafka.admin import AdminClient

from antiphon import Agent, Event
from antiphon.agents.metrics import Metrics
from antiphon.bus.errors import OffsetsGoneError
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.memory import MemoryBus, MemoryMember, Point
from antiphon.bus.names import Names
from antiphon.bus.port import MissingOffsets, TopicSpec
from antiphon.bus.record import TopicPartition
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

ALARM = "events are gone that were not read; going on elsewhere"


class Ordered(Event, type="gone.ordered"):
    n: int


class Packed(Event, type="gone.packed"):
    n: int


packer = Agent("packer")


@packer.on(Ordered)
async def pack(ordered: Ordered) -> Packed:
    return Packed(n=ordered.n)


class KafkaMesh(MemoryMesh):
    """Agents of this process on Apache Kafka, and what an operator does to its topics."""

    def __init__(self, bootstrap: str, namespace: str) -> None:
        bus = KafkaBus(KafkaConfig(bootstrap_servers=bootstrap))
        super().__init__(1, bus=bus, names=Names(namespace))
        self._admin: Any = AdminClient({"bootstrap.servers": bootstrap})
        self.topic = self.names.topic("gone.ordered")

    async def truncate(self, before: int) -> None:
        """Do what retention does."""
        await _done(self._admin.delete_records([Offset(self.topic, 0, before)]))

    async def delete(self) -> None:
        await _done(self._admin.delete_topics([self.topic]))

    async def create(self) -> None:
        """Make the topic anew; a broker takes a moment to forget the old one."""

        async def made() -> bool:
            return await self.bus.create([TopicSpec(self.topic, 1)]) == [self.topic]

        await eventually(made, 30, what="the topic to be made anew")

    async def packed(self) -> list[int]:
        return [event.n for _, event in await self.events(Packed)]


async def _done(futures: dict[object, Future[object]]) -> None:
    for future in futures.values():
        await asyncio.to_thread(future.result)


@pytest.fixture
async def mesh(kafka: str, namespace: str) -> AsyncIterator[KafkaMesh]:
    mesh = KafkaMesh(kafka, namespace)
    yield mesh
    await mesh.bus.close()


def alarms(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Return what the loud lines say."""
    wanted = ("partition", "expected_offset", "first_offset", "gone")
    return [
        {name: vars(record)[name] for name in wanted}
        for record in caplog.records
        if record.message == ALARM and record.levelno == logging.ERROR
    ]


@pytest.mark.kafka
async def test_f22_retention_was_quicker(mesh: KafkaMesh, caplog: pytest.LogCaptureFixture) -> None:
    """The worker goes on with what is there, and says once how many are gone, in its log and in its figures."""
    async with mesh.running(packer):
        await mesh.publish(Ordered(n=0), Ordered(n=1))
        await mesh.eventually(Packed, count=2, timeout=60)
    await mesh.publish(*(Ordered(n=n) for n in range(2, 7)))
    await mesh.truncate(6)
    metrics = Metrics(["packer"])
    async with mesh.running(packer, telemetry=metrics):
        await mesh.eventually(Packed, count=3, timeout=60)
    async with mesh.running(packer, telemetry=metrics):
        await mesh.publish(Ordered(n=7))
        await mesh.eventually(Packed, count=4, timeout=60)
    assert await mesh.packed() == [0, 1, 6, 7]
    assert alarms(caplog) == [{"partition": 0, "expected_offset": 2, "first_offset": 6, "gone": "up to 4"}]
    assert b'antiphon_offset_jumps_total{agent="packer"} 1.0' in metrics.text([])


@pytest.mark.kafka
async def test_f22_stopping_instead(mesh: KafkaMesh) -> None:
    """With `stop` the worker ends, and the error says what was lost and how to go on."""
    async with mesh.running(packer):
        await mesh.publish(Ordered(n=0))
        await mesh.eventually(Packed, count=1, timeout=60)
    await mesh.publish(Ordered(n=1), Ordered(n=2))
    await mesh.truncate(3)
    worker = mesh.worker(packer, on_missing_offsets=MissingOffsets.STOP)
    with pytest.raises(OffsetsGoneError, match=r"at offset 1 of .*ordered\[0\], got 3 to 3: 2 offsets are gone"):
        await asyncio.wait_for(worker.run(), 60)


@pytest.mark.kafka
async def test_f22_topic_made_anew_under_running_workers(mesh: KafkaMesh, caplog: pytest.LogCaptureFixture) -> None:
    """Every event of the new topic is handled, though its offsets are those of the old one's; both events are told."""
    async with mesh.running(packer):
        await mesh.publish(*(Ordered(n=n) for n in range(3)))
        await mesh.eventually(Packed, count=3, timeout=60)
        await mesh.delete()
        gone = "a topic does not exist any more; waiting for it to be made anew"
        await eventually(lambda: gone in [record.message for record in caplog.records], 60, what="the alarm")
        await mesh.create()
        await mesh.publish(*(Ordered(n=n) for n in range(10, 15)))
        await mesh.eventually(Packed, count=8, timeout=60)
    assert sorted(await mesh.packed()) == [0, 1, 2, 10, 11, 12, 13, 14]
    assert [alarm["gone"] for alarm in alarms(caplog)] == ["unknown: the topic was made anew"]


async def test_f22_retention_overtakes_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    """What it has in hand is finished; behind it, it goes on where there is something, and says so."""
    members: list[MemoryMember] = []

    async def meet(_point: Point, member: MemoryMember) -> None:
        members.append(member)

    bus = MemoryBus(partitions=1, faults=meet)
    mesh, busy, go = MemoryMesh(1, bus=bus), asyncio.Event(), asyncio.Event()
    slow = Agent("packer", concurrency=1)

    @slow.on(Ordered)
    async def pack_slowly(ordered: Ordered) -> Packed:
        busy.set()
        await go.wait()
        return Packed(n=ordered.n)

    async with mesh.running(slow):
        await mesh.publish(Ordered(n=0))
        await asyncio.wait_for(busy.wait(), 10)
        partition = TopicPartition("gone.ordered", 0)
        members[-1].pause([partition])
        await mesh.publish(*(Ordered(n=n) for n in range(1, 5)))
        bus.truncate(partition, 3)
        members[-1].resume([partition])
        await eventually(lambda: bool(alarms(caplog)), 10, what="the alarm")
        go.set()
        assert await mesh.eventually(Packed, count=3) == [Packed(n=0), Packed(n=3), Packed(n=4)]
    assert alarms(caplog) == [{"partition": 0, "expected_offset": 1, "first_offset": 3, "gone": "up to 2"}]
