"""The engine on the bus in memory: what is committed with what, and what a commit that fails costs."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.bus.activity import Activity
from antiphon.bus.delivery import current
from antiphon.bus.engine import Engine, EngineSettings
from antiphon.bus.errors import CommitError, MemberFailedError
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.memory.member import MemoryMember
from antiphon.bus.port import Membership, Transaction
from antiphon.bus.record import TopicPartition
from antiphon.schemas.event import Event
from antiphon.testing.waiting import eventually
from tests.bus.placing import QUICK, Done, Placed, World, answer, consumer


async def test_what_finished_out_of_order_is_not_done_again(narrow: World) -> None:
    """A worker dies with the first event in hand and the later ones committed: only the first is redone."""
    handled: list[int] = []
    stuck = asyncio.Event()

    async def first_hangs(event: Placed) -> list[Event]:
        handled.append(event.n)
        if event.n == 0 and not stuck.is_set():
            stuck.set()
            await asyncio.Event().wait()
        return [Done(n=event.n)]

    async with narrow.running(consumer(first_hangs), grace_s=0.01):
        await narrow.place(*range(5))
        await narrow.until_done(1, 2, 3, 4)
    async with narrow.running(consumer(first_hangs)):
        await narrow.until_done(0, 1, 2, 3, 4)
    assert sorted(handled) == [0, 0, 1, 2, 3, 4]


class FailingCommits(MemoryBus):
    """A broker on which some commits fail, after or before they took effect."""

    def __init__(self, *, lose_answer: bool, failures: int = 2) -> None:
        super().__init__(partitions=1)
        self.lose_answer = lose_answer
        self.failures = failures

    async def join(self, membership: Membership) -> MemoryMember:
        member = await super().join(membership)
        commit = member.commit

        async def failing(transaction: object) -> None:
            if self.failures and getattr(transaction, "offsets", None):
                self.failures -= 1
                if self.lose_answer:
                    await commit(transaction)  # type: ignore[arg-type]  # passed through
                raise CommitError("REQUEST_TIMED_OUT")
            await commit(transaction)  # type: ignore[arg-type]  # passed through

        member.commit = failing  # type: ignore[method-assign]  # a fault, not a feature
        return member


@pytest.mark.parametrize("lose_answer", [False, True])
async def test_a_commit_that_fails_is_begun_again_from_what_is_committed(lose_answer: bool) -> None:
    """Whether the transaction took effect or not, each event is answered once, and state counts it once."""
    world = World(1, bus=FailingCommits(lose_answer=lose_answer))

    async def counted(event: Placed) -> list[Event]:
        delivery = current.get()
        mapping = delivery.state.mapping("all")
        mapping["count"] = mapping.get("count", 0) + 1
        return [Done(n=event.n)]

    async with world.running(consumer(counted)):
        await world.place(*range(10))
        await world.until_done(*range(10))
    assert (await world.records("under-test.state"))[-1].value == b'{"count":10}'


async def test_commits_that_never_succeed_end_the_worker() -> None:
    """It does not spin: it waits longer each time, and then leaves the rest to whoever starts it again."""
    world = World(1, bus=FailingCommits(lose_answer=False, failures=1_000))
    under_test = consumer(answer)
    await world.prepare(under_test)
    await world.place(1)
    await world.codec.announce([Placed, Done, Activity])
    engine = Engine(
        world.bus,
        under_test,
        names=world.names,
        codec=world.codec,
        settings=EngineSettings(instance="one", partitions=1, commits=QUICK),
    )
    with pytest.raises(MemberFailedError, match="3 transactions in a row failed, the last one with REQUEST_TIMED_OUT"):
        await engine.run()


async def test_a_last_transaction_that_fails_is_no_clean_stop() -> None:
    """What it was to make visible is handed out again, and whoever stopped the worker is told so."""
    world, hold = World(1, bus=FailingCommits(lose_answer=False, failures=1)), asyncio.Event()

    async def wait(placed: Placed) -> list[Event]:
        await hold.wait()
        return await answer(placed)

    await world.prepare(consumer(answer))
    await world.codec.announce([Placed, Done, Activity])
    settings = EngineSettings(instance="one", partitions=1)
    engine = Engine(world.bus, consumer(wait), names=world.names, codec=world.codec, settings=settings)
    run = asyncio.create_task(engine.run())
    await engine.ready.wait()
    await world.place(1, 2)
    await eventually(lambda: engine.status().in_flight == 2, what="both to be in hand")
    engine.drain()
    hold.set()

    assert (await run, engine.handed_back) == (2, 2)
    async with world.running(consumer(answer)):
        await world.until_done(1, 2)


class Overheard(MemoryBus):
    """A broker that keeps what its members commit."""

    def __init__(self) -> None:
        super().__init__(partitions=1)
        self.transactions: list[Transaction] = []

    async def join(self, membership: Membership) -> MemoryMember:
        member = await super().join(membership)
        commit = member.commit

        async def heard(transaction: Transaction) -> None:
            self.transactions.append(transaction)
            await commit(transaction)

        member.commit = heard  # type: ignore[method-assign]  # listens
        return member


async def test_state_is_written_by_the_owner_of_its_partition_alone() -> None:
    """What a side effect returned goes with its partition's offset: that is what a zombie's commit is refused by."""
    bus = Overheard()
    world = World(1, bus=bus)

    async def remembers(event: Placed) -> list[Event]:
        delivery = current.get()
        await delivery.services.remember(delivery, "mail", "sent")
        return [Done(n=event.n)]

    async with world.running(consumer(remembers)):
        await world.place(1)
        await world.until_done(1)

    writing = [one for one in bus.transactions if any(record.topic == "under-test.state" for record in one.records)]
    of = TopicPartition("test.placed", 0)
    assert [one.offsets[of].offset for one in writing] == [0, 1]


async def test_what_is_said_of_a_failed_attempt_is_said_by_the_owner_alone() -> None:
    """A transaction that holds nothing but attempts to be made again is fenced as well."""
    bus = Overheard()
    world = World(1, bus=bus)

    async def fails_once(event: Placed) -> list[Event]:
        if current.get().attempt == 1:
            raise ValueError
        return [Done(n=event.n)]

    async with world.running(consumer(fails_once, retry=QUICK)):
        await world.place(1)
        await world.until_done(1)

    of = TopicPartition("test.placed", 0)
    assert [one.offsets[of].offset for one in bus.transactions] == [0, 1]
