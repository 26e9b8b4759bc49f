"""What the in-memory bus does beyond the port: open transactions, crashes, zombies, and seeds."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.bus.errors import CommitError, MemberFailedError, TopicCreationRefusedError, UnknownTopicError
from antiphon.bus.memory import MemoryBus, MemoryMember, Point
from antiphon.bus.memory.groups import assign
from antiphon.bus.port import Assigned, Jumped, Lost, Membership, Records, Revoked, TopicSpec, Transaction
from antiphon.bus.record import Committed, Outgoing, TopicPartition
from antiphon.testing import FakeClock, eventually
from antiphon.testing.reading import Reading

ORDERS, SHIPPED = TopicPartition("orders", 0), TopicPartition("shipped", 0)


class Obstacle:
    """A fault at one point of every commit: holds it until `gone`, then raises *error*, if any."""

    def __init__(self, at: Point, error: Exception | None = None) -> None:
        self.at = at
        self.error = error
        self.met = asyncio.Event()
        self.gone = asyncio.Event()

    async def __call__(self, point: Point, member: MemoryMember) -> None:
        if point is self.at:
            self.met.set()
            await self.gone.wait()
            if self.error is not None:
                raise self.error


async def world(faults: Callable[[Point, MemoryMember], Awaitable[None]] | None = None) -> MemoryBus:
    """Return a bus with three orders to handle, and nothing shipped."""
    bus = MemoryBus() if faults is None else MemoryBus(faults=faults)
    await bus.create([TopicSpec("orders", 1), TopicSpec("shipped", 1)])
    await bus.publish([order(number) for number in range(3)])
    return bus


def order(number: int) -> Outgoing:
    return Outgoing("orders", None, b"%d" % number, [], 0)


def shipped(value: bytes = b"shipped") -> Outgoing:
    return Outgoing("shipped", None, value, [], 0)


def one(instance: str = "one", *, grace_s: float = 20.0, transaction_timeout_s: float = 8.0) -> Membership:
    return Membership(
        group="shipping",
        topics=("orders",),
        instance=instance,
        revoke_grace_s=grace_s,
        transaction_timeout_s=transaction_timeout_s,
    )


async def read(bus: MemoryBus, partition: TopicPartition = SHIPPED) -> list[bytes | None]:
    [(first, end)] = [ends for tp, ends in (await bus.bounds([partition.topic])).items() if tp == partition]
    return [record.value async for record in bus.read({partition: first}, {partition: end})]


async def test_readers_wait_at_an_open_transaction() -> None:
    """The last stable offset: what was published behind it is seen after it, in the order of the log."""
    obstacle = Obstacle(Point.WRITTEN)
    bus = await world(obstacle)
    async with Reading(await bus.join(one())) as reading:
        await reading.got(3)
        commit = asyncio.create_task(reading.member.commit(Transaction([shipped()], {ORDERS: Committed(3)})))
        await obstacle.met.wait()
        await bus.publish([shipped(b"behind")])
        before = (await bus.bounds(["shipped"]), await bus.bounds(["shipped"], committed=False), await read(bus))
        obstacle.gone.set()
        await commit
    assert before == ({SHIPPED: (0, 0)}, {SHIPPED: (0, 2)}, [])
    assert (await read(bus), await bus.bounds(["shipped"])) == ([b"shipped", b"behind"], {SHIPPED: (0, 3)})


async def test_crash_in_an_open_transaction() -> None:
    """As after kill -9: nothing of it is ever visible, and the next member starts where the last commit was."""
    obstacle = Obstacle(Point.WRITTEN)
    bus = await world(obstacle)
    async with Reading(await bus.join(one())) as crashes, Reading(await bus.join(one("two"))) as goes_on:
        await crashes.got(3)
        commit = asyncio.create_task(crashes.member.commit(Transaction([shipped()], {ORDERS: Committed(3)})))
        await obstacle.met.wait()
        assert isinstance(crashes.member, MemoryMember)
        bus.crash(crashes.member)
        await goes_on.got(3)
        obstacle.gone.set()
        with pytest.raises(CommitError):
            await commit
        await bus.publish([shipped(b"behind")])
        assert (await read(bus), goes_on.owned) == ([b"behind"], {ORDERS: None})


async def test_a_crash_is_noticed_in_its_own_time() -> None:
    """Until the session is over, nobody has the partition, and readers wait at the open transaction."""
    obstacle = Obstacle(Point.WRITTEN)
    bus = await world(obstacle)
    async with Reading(await bus.join(one())) as crashes, Reading(await bus.join(one("two"))) as goes_on:
        await crashes.got(3)
        commit = asyncio.create_task(crashes.member.commit(Transaction([shipped()], {ORDERS: Committed(3)})))
        await obstacle.met.wait()
        assert isinstance(crashes.member, MemoryMember)
        bus.crash(crashes.member, unnoticed_s=0.05)
        await bus.publish([shipped(b"behind")])
        before = (dict(goes_on.owned), await read(bus))
        await goes_on.got(3)
        commit.cancel()
        assert (before, await read(bus)) == (({}, []), [b"behind"])


async def test_a_transaction_that_takes_too_long_is_aborted() -> None:
    """A dead worker's transaction must not hold up readers for ever."""
    obstacle = Obstacle(Point.WRITTEN)
    bus = await world(obstacle)
    async with Reading(await bus.join(one(transaction_timeout_s=0.05))) as reading:
        await reading.got(3)
        commit = asyncio.create_task(reading.member.commit(Transaction([shipped()], {ORDERS: Committed(3)})))
        await obstacle.met.wait()
        await bus.publish([shipped(b"behind")])
        await eventually(lambda: read(bus), what="the reader to go on")
        obstacle.gone.set()
        with pytest.raises(CommitError) as caught:
            await commit
        assert (caught.value.reason, await read(bus), bus.committed("shipping")) == (
            "INVALID_PRODUCER_EPOCH",
            [b"behind"],
            {},
        )


async def test_an_answer_that_is_lost() -> None:
    """The commit went through and nobody knows: after the restart the group says so, and nothing is done twice."""
    obstacle = Obstacle(Point.COMMITTED, CommitError("TIMED_OUT"))
    obstacle.gone.set()
    bus = await world(obstacle)
    async with Reading(await bus.join(one())) as reading:
        await reading.got(3)
        with pytest.raises(CommitError):
            await reading.member.commit(Transaction([shipped()], {ORDERS: Committed(2)}))
        await reading.member.restart()
        await reading.got(4)
        assert (reading.offsets, reading.owned, await read(bus)) == (
            {ORDERS: [0, 1, 2, 2]},
            {ORDERS: Committed(2)},
            [b"shipped"],
        )


@pytest.mark.parametrize("point", [Point.COMMIT, Point.WRITTEN])
@pytest.mark.parametrize("offsets", [{}, {ORDERS: Committed(3)}])
async def test_a_commit_that_was_under_way_at_a_restart(point: Point, offsets: dict[TopicPartition, Committed]) -> None:
    """Is void: what was taken after the restart is done on top of what was committed before it."""
    obstacle = Obstacle(point)
    bus = await world(obstacle)
    async with Reading(await bus.join(one())) as reading:
        await reading.got(3)
        commit = asyncio.create_task(reading.member.commit(Transaction([shipped()], offsets)))
        await obstacle.met.wait()
        await reading.member.restart()
        await reading.got(6)
        obstacle.gone.set()
        with pytest.raises(CommitError):
            await commit
        assert (await read(bus), bus.committed("shipping")) == ([], {})


@pytest.mark.parametrize("exactly_once", [True, False])
async def test_a_zombie(exactly_once: bool) -> None:
    """Taken for dead while it lives: what it commits is refused, what it lost is said, and it comes back."""
    bus = await world()
    member = await bus.join(Membership(group="shipping", topics=("orders",), instance="one", exactly_once=exactly_once))
    first = await member.take()
    bus.expire(member)
    with pytest.raises(CommitError) as caught:
        await member.commit(Transaction([], {ORDERS: Committed(3)}))
    assert caught.value.reason == "UNKNOWN_MEMBER_ID"
    assert [first, await member.take(), await member.take()] == [
        Assigned({ORDERS: None}),
        Lost(frozenset({ORDERS})),
        Assigned({ORDERS: None}),
    ]


@pytest.mark.parametrize("point", [Point.COMMIT, Point.WRITTEN])
async def test_a_partition_that_was_lost_and_given_again(point: Point) -> None:
    """A commit for work of the former grant is refused, though the partition is the member's once more."""
    obstacle = Obstacle(point)
    bus = await world(obstacle)
    async with Reading(await bus.join(one())) as reading:
        await reading.got(3)
        commit = asyncio.create_task(reading.member.commit(Transaction([shipped()], {ORDERS: Committed(3)})))
        await obstacle.met.wait()
        assert isinstance(reading.member, MemoryMember)
        bus.expire(reading.member)
        await reading.got(6)
        obstacle.gone.set()
        with pytest.raises(CommitError) as caught:
            await commit
        assert (caught.value.reason, await read(bus)) == ("ILLEGAL_GENERATION", [])


async def test_a_member_whose_name_was_taken() -> None:
    """It cannot go on, and says why."""
    bus = await world()
    former = await bus.join(one())
    await bus.join(one())
    with pytest.raises(MemberFailedError, match="another member joined as 'one'"):
        await former.take()
    with pytest.raises(MemberFailedError):
        await former.restart()


async def test_a_closed_member() -> None:
    """Closing wakes whoever waits, and may be done twice."""
    bus = await world()
    member = await bus.join(one())
    await member.take()
    waiting = asyncio.create_task(member.take())
    await asyncio.wait([waiting], timeout=0)
    await member.close()
    await member.close()
    with pytest.raises(MemberFailedError):
        await waiting


async def test_releasing_late_or_twice() -> None:
    """Only what is still the member's is given up by it."""
    bus = await world()
    former = await bus.join(one("b", grace_s=0.01))
    await former.take()
    async with Reading(await bus.join(one("a"))) as latter:
        revoked = await former.take()
        assert isinstance(revoked, Revoked)
        assert await former.take() == Lost(frozenset({ORDERS}))
        await latter.owns([ORDERS])
        revoked.release()
        revoked.release()
        await latter.member.commit(Transaction([], {ORDERS: Committed(1)}))
    assert bus.committed("shipping") == {ORDERS: Committed(1)}


async def test_a_batch_is_bounded() -> None:
    """What is not taken stays in the log."""
    bus = await world()
    await bus.publish([order(number) for number in range(3, 1_200)])
    member = await bus.join(one())
    await member.take()
    member.resume([ORDERS])
    sizes: list[int] = []
    while sum(sizes) < 1_200:
        taken = await member.take()
        assert isinstance(taken, Records)
        sizes.append(len(taken.records))
    assert sizes == [500, 500, 200]


async def test_retention() -> None:
    """A group and a reader that come too late start at what is left."""
    bus = await world()
    bus.truncate(ORDERS, 2)
    async with Reading(await bus.join(one())) as reading:
        await reading.got(1)
        assert (reading.offsets, await bus.bounds(["orders"]), await read(bus, ORDERS)) == (
            {ORDERS: [2]},
            {ORDERS: (2, 3)},
            [b"2"],
        )


async def test_what_needs_a_topic_says_which() -> None:
    """Waiting for a topic that may never come would be a start-up that hangs."""
    bus = await world()
    with pytest.raises(UnknownTopicError, match="did you mean orders"):
        await bus.join(Membership(group="g", topics=("ordrs",), instance="one"))
    member = await bus.join(one())
    with pytest.raises(UnknownTopicError, match="did you mean shipped"):
        await member.commit(Transaction([Outgoing("shippd", None, b"", [])], {}))
    with pytest.raises(UnknownTopicError):
        await anext(bus.read({TopicPartition("ordrs", 0): 0}))
    with pytest.raises(ValueError, match="expected a partition from 0 to 0 of topic 'orders', got 4"):
        await bus.publish([Outgoing("orders", None, b"", [], 4)])


async def test_topics_of_the_default_size_and_of_none() -> None:
    """The spec may leave the number to the bus; it may not ask for none."""
    bus = MemoryBus(partitions=6)
    await bus.create([TopicSpec("orders", -1)])
    with pytest.raises(TopicCreationRefusedError, match="at least one partition"):
        await bus.create([TopicSpec("payments", 0)])
    assert await bus.topics() == {"orders": 6}


async def test_records_are_stamped_by_the_given_clock() -> None:
    """So that a test may let a deadline pass."""
    clock = FakeClock()
    bus = MemoryBus(now_us=clock.now_us)
    await bus.create([TopicSpec("orders", 1)])
    await bus.publish([order(0)])
    clock.advance(60)
    await bus.publish([order(1)])
    stamps = [record.timestamp_ms async for record in bus.read({ORDERS: 0}, {ORDERS: 2})]
    assert (stamps[1] - stamps[0], await bus.offsets_at([ORDERS], stamps[0] + 1)) == (60_000, {ORDERS: 1})


async def trace(seed: int | None) -> list[tuple[str, int, int]]:
    """Return in what order two members took what was published meanwhile."""
    bus, seen = MemoryBus(seed=seed), list[tuple[str, int, int]]()
    await bus.create([TopicSpec("orders", 4)])
    members = [await bus.join(one(instance)) for instance in ("one", "two")]

    async def take(member: MemoryMember) -> None:
        while True:
            match await member.take():
                case Assigned(partitions):
                    member.resume([*partitions])
                case Revoked(_, release):
                    release()
                case Lost() | Jumped():
                    pass
                case Records(records):
                    seen.extend((member.instance, record.partition, record.offset) for record in records)

    tasks = [asyncio.create_task(take(member)) for member in members]
    for number in range(30):
        await bus.publish([Outgoing("orders", b"%d" % number, b"", []), Outgoing("orders", None, b"", [])])
    await eventually(lambda: len(seen) == 60, what="60 records to come")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


async def test_a_seed_gives_the_same_run_again() -> None:
    """A failure that a simulation finds can be looked at, again and again."""
    runs = [await trace(seed) for seed in (None, None, 1, 1, 2, 2)]
    assert runs[::2] == runs[1::2]
    assert len({tuple(run) for run in runs}) == 3


@given(
    sizes=st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), min_size=1),
    subscriptions=st.dictionaries(
        st.sampled_from(["one", "two", "three", "four"]), st.sets(st.sampled_from("abc"), min_size=1), min_size=1
    ),
)
def test_every_partition_has_one_owner(sizes: dict[str, int], subscriptions: dict[str, set[str]]) -> None:
    """Whoever subscribes to what; and no member has two more of a topic than another."""
    sizes = {topic: size for topic, size in sizes.items() if any(topic in topics for topics in subscriptions.values())}
    shares = assign(sizes, subscriptions)
    given_out = sorted(partition for share in shares.values() for partition in share)
    assert given_out == sorted(TopicPartition(topic, number) for topic, size in sizes.items() for number in range(size))
    for topic in sizes:
        counts = [
            sum(partition.topic == topic for partition in share)
            for instance, share in shares.items()
            if topic in subscriptions[instance]
        ]
        assert max(counts) - min(counts) <= 1
