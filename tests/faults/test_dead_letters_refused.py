"""F18: the dead-letter topic cannot be written. Its partition stands still and says so; nothing is skipped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from antiphon import Agent, Event, PermanentError
from antiphon.agents.worker import Worker
from antiphon.bus.consumer import Guarantee
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.partition import partition_for
from antiphon.bus.port import TopicSpec
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka


class Judged(Event, type="refused.judged"):
    n: int
    bad: bool = False


class Passed(Event, type="refused.passed"):
    n: int


def judge(guarantee: Guarantee = Guarantee.EXACTLY_ONCE) -> Agent:
    agent = Agent("judge", guarantee=guarantee)

    @agent.on(Judged)
    async def decide(judged: Judged) -> Passed:
        if judged.bad:
            raise PermanentError("bad")
        return Passed(n=judged.n)

    return agent


KEYS = [next(f"k{n}" for n in range(100) if partition_for(f"k{n}".encode(), 2) == partition) for partition in (0, 1)]
"""One on each of two partitions."""


class Court(MemoryMesh):
    """Two partitions on Kafka, and what an operator does to the dead-letter topic."""

    def __init__(self, bootstrap: str, namespace: str) -> None:
        super().__init__(2, bus=KafkaBus(KafkaConfig(bootstrap_servers=bootstrap)), names=Names(namespace))
        self._admin: Any = AdminClient({"bootstrap.servers": bootstrap})
        self.dead = self.names.dead("judge")

    async def take_at_most(self, size: int) -> None:
        """Let the dead-letter topic refuse what is larger than *size*."""
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self.dead, incremental_configs=[entry])
        for future in self._admin.incremental_alter_configs([resource]).values():
            await asyncio.to_thread(future.result)

    async def delete(self) -> None:
        for future in self._admin.delete_topics([self.dead]).values():
            await asyncio.to_thread(future.result)

    async def judged(self, partition: int, *numbers: int, bad: int | None = None) -> None:
        for n in numbers:
            await self.publish(Judged(n=n, bad=n == bad), key=KEYS[partition])

    async def passed(self) -> list[int]:
        return sorted(event.n for _, event in await self.events(Passed))

    async def until_passed(self, *numbers: int) -> None:
        async def there() -> bool:
            return await self.passed() == sorted(numbers)

        await eventually(there, 60, what=f"exactly {numbers} to pass, got {await self.passed()}")


@pytest.fixture
async def court(kafka: str, namespace: str) -> AsyncIterator[Court]:
    court = Court(kafka, namespace)
    yield court
    await court.bus.close()


def standing_still(worker: Worker) -> int:
    return sum(status.stopped for status in worker.statuses())


def said(caplog: pytest.LogCaptureFixture, level: int) -> set[str]:
    return {record.message for record in caplog.records if record.levelno == level}


REFUSED = "the dead-letter topic refuses records; partitions stand still until it takes them"


async def test_f18_letters_that_are_refused(court: Court, caplog: pytest.LogCaptureFixture) -> None:
    """The other partition goes on; nothing behind the letter passes before it; it recovers by itself."""
    agent = judge()
    await court.prepare(agent)
    await court.take_at_most(100)
    async with court.running(agent) as worker:
        await court.judged(0, 0, 1, bad=0)
        await eventually(lambda: standing_still(worker) == 1, 60, what="the partition to stand still")
        await court.judged(1, 10, 11)
        # What was in one transaction with the letter may have been committed before it; what comes later may not.
        await court.judged(0, 2)
        await eventually(lambda: _count(court, 10, 11), 60, what="the other partition's events")
        assert 2 not in await court.passed()
        assert REFUSED in said(caplog, logging.ERROR)
        await court.take_at_most(1_000_000)
        await court.until_passed(1, 2, 10, 11)
        assert standing_still(worker) == 0
    [letter] = await court.records("judge.dead")
    assert (letter.key, dict(letter.headers)["antiphon_dead_reason"]) == (KEYS[0].encode(), b"permanent")
    assert "the dead-letter topic takes records again; going on" in said(caplog, logging.WARNING)


async def test_f18_a_topic_that_is_gone(court: Court) -> None:
    """Deleted under a running worker, and made anew: its letters come, once."""
    agent = judge()
    async with court.running(agent) as worker:
        await court.judged(1, 10)
        await court.until_passed(10)
        await court.delete()
        await court.judged(0, 0, 1, bad=0)
        await eventually(lambda: standing_still(worker) == 1, 60, what="the partition to stand still")
        await court.bus.create([TopicSpec(court.dead, 2)])
        await court.until_passed(1, 10)
    assert len(await court.records("judge.dead")) == 1


async def test_f18_at_least_once(court: Court) -> None:
    """Stands still likewise; of its letters there may be several, of its events none is lost."""
    agent = judge(Guarantee.AT_LEAST_ONCE)
    await court.prepare(agent)
    await court.take_at_most(100)
    async with court.running(agent) as worker:
        await court.judged(0, 0, 1, bad=0)
        await eventually(lambda: standing_still(worker) == 1, 60, what="the partition to stand still")
        await court.take_at_most(1_000_000)
        await eventually(lambda: court.records("judge.dead"), 60, what="the letter")
        await eventually(lambda: _count(court, 1), 60, what="what stands behind it")
    assert {letter.key for letter in await court.records("judge.dead")} == {KEYS[0].encode()}


async def _count(court: Court, *numbers: int) -> bool:
    return {*numbers} <= {*await court.passed()}
