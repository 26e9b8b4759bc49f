"""The engine on the bus in memory: what it keeps from one event to the next, and from one worker to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from antiphon.bus.delivery import current
from antiphon.bus.engine import Engine, EngineSettings
from antiphon.bus.errors import BrokerUnreachableError
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.record import TopicPartition
from antiphon.schemas.event import Event
from tests.bus.placing import QUICK, Done, Placed, World, answer, consumer


async def test_state_commits_with_the_delivery_and_outlives_the_worker(world: World) -> None:
    """A running total over three workers, each gone before the next comes."""

    async def total(event: Placed) -> list[Event]:
        delivery = current.get()
        mapping = delivery.state.mapping(delivery.state_key)
        mapping["sum"] = mapping.get("sum", 0) + event.n
        return [Done(n=mapping["sum"])]

    expected: list[int] = []
    for n in (1, 2, 3):
        async with world.running(consumer(total)):
            await world.place(n, key="account-1")
            expected.append(sum(range(n + 1)))
            await world.until_done(*expected)
    assert [record.value for record in await world.records("under-test.state")] == [
        b'{"sum":1}',
        b'{"sum":3}',
        b'{"sum":6}',
    ]


async def test_a_remembered_effect_survives_a_crash_before_the_delivery_ends(narrow: World) -> None:
    """The mail that was sent is known to be sent, though the handler never came to its end."""
    seen: list[dict[str, object]] = []
    stuck = asyncio.Event()

    async def mails(event: Placed) -> list[Event]:
        delivery = current.get()
        remembered = delivery.services.remembered(delivery)
        seen.append(dict(remembered))
        if not remembered:
            await delivery.services.remember(delivery, "mail", "sent")
            stuck.set()
            await asyncio.Event().wait()
        return [Done(n=event.n)]

    async with narrow.running(consumer(mails), grace_s=0.01):
        await narrow.place(1)
        await asyncio.wait_for(stuck.wait(), 10)
    async with narrow.running(consumer(mails)):
        await narrow.until_done(1)
    # Once the delivery is over, what it remembered is over as well.
    assert (seen, (await narrow.records("under-test.state"))[-1].value) == ([{}, {"mail": "sent"}], None)


class Elusive(MemoryBus):
    """A broker that does not answer some questions about where topics end."""

    def __init__(self, failures: int) -> None:
        super().__init__(partitions=1)
        self.failures = failures

    async def bounds(self, topics: Iterable[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        if not committed and self.failures:
            self.failures -= 1
            raise BrokerUnreachableError("127.0.0.1:9092", "connection reset", tried_s=0.0)
        return await super().bounds(topics, committed=committed)


async def test_a_broker_that_does_not_answer_while_state_is_restored() -> None:
    """It is asked again: a connection that is cut at that moment must not end the worker."""
    world = World(1, bus=Elusive(failures=2))
    async with world.running(consumer(answer)):
        await world.place(1)
        await world.until_done(1)


async def test_a_broker_that_never_answers_while_state_is_restored() -> None:
    """The worker ends, and says who did not answer."""
    world = World(1, bus=Elusive(failures=1_000))
    await world.prepare(consumer(answer))
    settings = EngineSettings(instance="one", partitions=1, commits=QUICK)
    engine = Engine(world.bus, consumer(answer), names=world.names, codec=world.codec, settings=settings)
    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:9092"):
        await engine.run()
