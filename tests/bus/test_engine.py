"""The engine on the bus in memory: what it promises while brokers behave, and when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from antiphon.bus.activity import Activity
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import current
from antiphon.bus.engine import Engine, EngineSettings
from antiphon.bus.errors import (
    BrokerUnreachableError,
    CommitError,
    MemberFailedError,
    MissingTopicsError,
    PartitionCountError,
    PermanentError,
)
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.memory.member import MemoryMember, Point
from antiphon.bus.middleware.lineage import lineage
from antiphon.bus.port import Membership, TopicSpec, Transaction
from antiphon.bus.record import Outgoing, TopicPartition
from antiphon.bus.retry import RetryPolicy
from antiphon.schemas.event import Event
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

QUICK = RetryPolicy(attempts=3, base_s=0.001, cap_s=0.002)


class Placed(Event, type="test.placed"):
    n: int = 0


class Done(Event, type="test.done"):
    n: int = 0


def consumer(function: Callable[[Any], Awaitable[Iterable[Event]]], name: str = "under-test", **more: Any) -> Consumer:
    """Make a consumer that hears `Placed` and may emit `Done`."""

    async def handler(event: Event) -> list[Event]:
        return [*await function(event)]

    hears = {"test.placed": Placed}
    return Consumer(name=name, hears=hears, emits=frozenset({Done}), handler=lineage(name)(handler), **more)


class World(MemoryMesh):
    """The mesh, with words of these tests' own."""

    async def place(self, *numbers: int, key: str | None = None) -> None:
        for n in numbers:
            await self.publish(Placed(n=n), key=key)

    async def numbers(self) -> list[int]:
        return sorted(event.n for _, event in await self.events(Done))

    async def until_done(self, *numbers: int) -> None:
        """Wait until exactly these `Done` events are committed."""

        async def there() -> bool:
            return await self.numbers() == sorted(numbers)

        await eventually(there, 10, what=f"Done {sorted(numbers)}")


@pytest.fixture
def world() -> World:
    """A cluster of four partitions."""
    return World(4)


@pytest.fixture
def narrow() -> World:
    """A cluster of one partition."""
    return World(1)


async def answer(event: Placed) -> list[Event]:
    return [Done(n=event.n)]


async def test_an_event_causes_another_in_its_workflow(world: World) -> None:
    """The answer carries the workflow's id, its cause, an id made from that, and one more hop."""
    async with world.running(consumer(answer)):
        await world.place(7)
        await world.until_done(7)

    [(cause, _)] = await world.events(Placed)
    [(effect, _)] = await world.events(Done)
    assert (effect.correlation_id, effect.parent_id, effect.source, effect.hops) == (
        cause.id,
        cause.id,
        "/agents/under-test",
        1,
    )


async def test_every_delivery_leaves_activity_on_the_workflows_partition(world: World) -> None:
    """Who handled what, how it went and what came of it, beside the effects."""
    async with world.running(consumer(answer, version="1.2")):
        await world.place(7)
        await world.until_done(7)

    [entry] = await world.handled()
    [(cause, _)] = await world.events(Placed)
    [(effect, _)] = await world.events(Done)
    assert (entry.event_id, entry.event_type, entry.topic, entry.attempt, entry.outcome) == (
        cause.id,
        "test.placed",
        "test.placed",
        1,
        "completed",
    )
    assert [(emitted.id, emitted.type) for emitted in entry.emitted] == [(effect.id, "test.done")]
    [activity] = await world.records("antiphon.activity")
    [done] = await world.records("test.done")
    assert activity.partition == done.partition


async def test_one_partition_keeps_many_handlers_going(narrow: World) -> None:
    """Concurrency does not depend on partitions: fifty handlers wait for one another on a single one."""
    together = asyncio.Barrier(50)

    async def meet(event: Placed) -> list[Event]:
        await together.wait()
        return [Done(n=event.n)]

    async with narrow.running(consumer(meet, concurrency=50)):
        await narrow.place(*range(50))
        await narrow.until_done(*range(50))


async def test_no_more_run_at_once_than_allowed(narrow: World) -> None:
    """`concurrency` is a limit: a model behind an agent may only bear so many calls."""
    running: set[int] = set()
    most: list[int] = []
    three = asyncio.Barrier(3)

    async def count(event: Placed) -> list[Event]:
        running.add(event.n)
        most.append(len(running))
        await three.wait()
        running.remove(event.n)
        return [Done(n=event.n)]

    async with narrow.running(consumer(count, concurrency=3)):
        await narrow.place(*range(30))
        await narrow.until_done(*range(30))
    assert max(most) == 3


async def test_events_of_one_key_are_handled_in_order(world: World) -> None:
    """The second of a key waits for the first, however long that takes."""
    order: list[int] = []

    async def note(event: Placed) -> list[Event]:
        await asyncio.sleep(0.01 if event.n == 0 else 0)
        order.append(event.n)
        return [Done(n=event.n)]

    async with world.running(consumer(note)):
        await world.place(*range(5), key="same")
        await world.until_done(*range(5))
    assert order == [0, 1, 2, 3, 4]


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


async def test_a_retry_holds_up_its_own_key_alone(narrow: World) -> None:
    """While one event waits for its next attempt, others of its partition go through."""
    others = asyncio.Event()
    attempts: list[int] = []

    async def flaky(event: Placed) -> list[Event]:
        if event.n == 0:
            attempts.append(current.get().attempt)
            if len(attempts) == 1:
                raise ConnectionError
            await others.wait()
        elif event.n == 3:
            others.set()
        return [Done(n=event.n)]

    async with narrow.running(consumer(flaky, retry=QUICK)):
        await narrow.place(*range(4))
        await narrow.until_done(0, 1, 2, 3)

    outcomes = [(entry.attempt, entry.outcome) for entry in await narrow.handled() if entry.attempt > 1 or entry.error]
    assert (attempts, outcomes) == ([1, 2], [(1, "retried"), (2, "completed")])


@pytest.mark.parametrize(
    ("error", "reason", "attempts"),
    [(PermanentError("no such order"), "permanent", "1"), (ConnectionError("model is busy"), "exhausted", "3")],
)
async def test_what_cannot_be_handled_is_set_aside_untouched(
    narrow: World, error: Exception, reason: str, attempts: str
) -> None:
    """Key, value and headers as they came, the reason beside them; the next event is handled."""

    async def fails(event: Placed) -> list[Event]:
        if event.n == 0:
            raise error
        return [Done(n=event.n)]

    async with narrow.running(consumer(fails, retry=QUICK)):
        await narrow.place(0, 1)
        await narrow.until_done(1)

        async def set_aside() -> bool:
            return bool(await narrow.records("under-test.dead"))

        await eventually(set_aside)

    [letter] = await narrow.records("under-test.dead")
    original = (await narrow.records("test.placed"))[0]
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (original.key, original.value)
    assert letter.headers[: len(original.headers)] == original.headers
    assert (headers["antiphon_dead_reason"], headers["antiphon_dead_attempts"]) == (reason.encode(), attempts.encode())
    assert headers["antiphon_dead_message"] == str(error).encode()
    assert [entry.outcome for entry in await narrow.handled() if entry.error][-1] == "dead_lettered"


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], b"hello"),
        ([("ce_id", b"1"), ("ce_source", b"/x"), ("ce_type", b"test.placed")], b"not avro"),
        ([("ce_id", b"2"), ("ce_source", b"/x"), ("ce_type", b"test.placed")], None),
        ([("ce_id", b"3"), ("ce_source", b"/x"), ("ce_type", b"test.placed")], b"\xc3\x01" + bytes(8)),
        ([("ce_id", b"4"), ("ce_source", b"/x"), ("ce_type", b"test.placed"), ("ce_time", b"noon")], b""),
    ],
)
async def test_poison_is_set_aside_and_the_partition_moves_on(
    narrow: World, headers: list[tuple[str, bytes | None]], value: bytes | None
) -> None:
    """No headers, no Avro, no value, an unknown schema, a broken time: none stops what comes behind it."""
    answering = consumer(answer)
    await narrow.prepare(answering)
    await narrow.bus.publish([Outgoing("test.placed", b"k", value, headers)])
    async with narrow.running(answering):
        await narrow.place(1)
        await narrow.until_done(1)
    [letter] = await narrow.records("under-test.dead")
    assert (letter.key, letter.value, letter.headers[: len(headers)]) == (b"k", value, headers)
    assert dict(letter.headers)["antiphon_dead_reason"] == b"undecodable"


async def test_another_type_on_a_shared_topic_is_passed_over(narrow: World) -> None:
    """Several types may share a topic; an agent handles its own and loses nothing by the rest."""

    class Other(Event, type="test.other", topic="test.placed"):
        pass

    async with narrow.running(consumer(answer)):
        await narrow.publish(Other(), Placed(n=1))
        await narrow.until_done(1)
    assert ([entry.event_type for entry in await narrow.handled()], await narrow.records("under-test.dead")) == (
        ["test.placed"],
        [],
    )


async def test_an_event_past_its_deadline_is_not_started(narrow: World) -> None:
    """It is said in the activity, and nothing is dead-lettered."""
    called: list[int] = []

    async def note(event: Placed) -> list[Event]:
        called.append(event.n)
        return [Done(n=event.n)]

    async with narrow.running(consumer(note)):
        await narrow.publisher.publish([Placed(n=0)], deadline=datetime(2020, 1, 1, tzinfo=UTC))
        await narrow.place(1)
        await narrow.until_done(1)
    assert (called, [entry.outcome for entry in await narrow.handled()]) == ([1], ["expired", "completed"])


async def test_a_handler_past_its_timeout_is_cancelled_and_tried_again(narrow: World) -> None:
    """The attempt is said to have timed out, which is not the same as having failed."""
    tries = 0

    async def hangs_once(event: Placed) -> list[Event]:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.Event().wait()
        return [Done(n=event.n)]

    async with narrow.running(consumer(hangs_once, retry=QUICK, timeout_s=0.02)):
        await narrow.place(1)
        await narrow.until_done(1)
    assert [entry.outcome for entry in await narrow.handled()] == ["timed_out", "completed"]


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


async def test_a_clean_stop_finishes_what_runs_and_starts_nothing_more(narrow: World) -> None:
    """What was in hand is committed; what waited in its lane is left for the next worker."""
    started, go = asyncio.Event(), asyncio.Event()

    async def slow(event: Placed) -> list[Event]:
        started.set()
        await go.wait()
        return [Done(n=event.n)]

    worker = narrow.worker(consumer(slow))
    run = asyncio.create_task(worker.run())
    await worker.ready.wait()
    await narrow.place(1, 2, key="same")
    await asyncio.wait_for(started.wait(), 10)
    worker.stop()
    go.set()

    assert (await run, await narrow.numbers()) == (0, [1])
    async with narrow.running(consumer(answer)):
        await narrow.until_done(1, 2)


async def test_past_the_grace_period_work_is_given_up_and_handed_out_again(narrow: World) -> None:
    """Cancelled, not committed, counted; the next worker does it."""
    started = asyncio.Event()

    async def hangs(event: Placed) -> list[Event]:
        started.set()
        await asyncio.Event().wait()
        return [Done(n=event.n)]

    worker = narrow.worker(consumer(hangs), grace_s=0.01)
    run = asyncio.create_task(worker.run())
    await worker.ready.wait()
    await narrow.place(1)
    await asyncio.wait_for(started.wait(), 10)
    worker.stop()

    assert (await run, await narrow.numbers()) == (1, [])
    async with narrow.running(consumer(answer)):
        await narrow.until_done(1)


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


async def test_a_second_worker_takes_its_share_and_nothing_is_repeated(world: World) -> None:
    """Partitions move while events flow; every event is answered once."""
    async with world.running(consumer(answer)):
        await world.place(*range(40))
        async with world.running(consumer(answer)):
            await world.place(*range(40, 80))
            await world.until_done(*range(80))


async def test_what_is_taken_away_during_a_stop_costs_nothing_else() -> None:
    """Workers are stopped one after the other: the rest that a stopping one finishes is committed, and nobody does it again."""
    world, hold, again = World(2), asyncio.Event(), list[int]()
    await world.prepare(consumer(answer))
    await world.codec.announce([Placed, Done, Activity])

    async def wait(placed: Placed) -> list[Event]:
        await hold.wait()
        return await answer(placed)

    async def answer_again(placed: Placed) -> list[Event]:
        again.append(placed.n)
        return await answer(placed)

    def engine(instance: str, function: Callable[[Any], Awaitable[Iterable[Event]]]) -> Engine:
        settings = EngineSettings(instance=instance, partitions=2, revoke_grace_s=0.1)
        return Engine(world.bus, consumer(function), names=world.names, codec=world.codec, settings=settings)

    first, second = engine("one", wait), engine("two", answer_again)
    leaving = asyncio.create_task(first.run())
    await first.ready.wait()
    await world.place(*range(20))
    await eventually(lambda: first.status().in_flight == 20, what="all to be in hand")
    first.drain()
    staying = asyncio.create_task(second.run())
    await eventually(lambda: second.status().partitions == 2, what="one partition of each topic to be taken away")
    hold.set()
    assert await leaving == 0
    await world.until_done(*range(20))
    second.drain()
    await staying
    assert 0 < len(again) == first.handed_back < 20


async def test_what_is_given_up_while_its_commit_is_under_way_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """All is handled, nothing committed: the log says how much, and not that there was nothing."""
    gone, handled = asyncio.Event(), list[int]()

    async def note(placed: Placed) -> list[Event]:
        handled.append(placed.n)
        return await answer(placed)

    async def held(point: Point, _: MemoryMember) -> None:
        if point is Point.COMMIT:
            await gone.wait()

    world = World(2, bus=MemoryBus(partitions=2, faults=held))
    await world.prepare(consumer(answer))
    await world.codec.announce([Placed, Done, Activity])

    def engine(instance: str) -> Engine:
        settings = EngineSettings(instance=instance, partitions=2, revoke_grace_s=0.1)
        return Engine(world.bus, consumer(note), names=world.names, codec=world.codec, settings=settings)

    def given_up() -> list[tuple[int, int]]:
        said = [record for record in caplog.records if record.message.startswith("partitions are given up with work")]
        return [(vars(record)["events"], vars(record)["uncommitted"]) for record in said]

    first, second = engine("one"), engine("two")
    running = [asyncio.create_task(first.run())]
    await first.ready.wait()
    await world.place(*range(20))
    await eventually(lambda: len(handled) == 20 and not first.status().in_flight, what="all to be handled")
    running.append(asyncio.create_task(second.run()))
    await eventually(given_up, what="the commit to be waited for in vain")
    gone.set()
    await world.until_done(*range(20))
    for one, task in zip((first, second), running, strict=True):
        one.drain()
        await task
    assert given_up()[0] == (0, 20)


async def test_a_topic_of_another_width_is_refused_at_start(world: World) -> None:
    """Inputs that are not co-partitioned would never meet."""
    await world.bus.create([TopicSpec("test.placed", 7)])
    with pytest.raises(PartitionCountError, match=r"expected topic 'test\.placed' to have 4 partitions"):
        await world.worker(consumer(answer)).run()


async def test_where_topics_may_not_be_created_the_error_names_them(world: World) -> None:
    """Whoever runs the cluster can be sent the message as it is."""
    with pytest.raises(MissingTopicsError, match=r"test\.placed.*antiphon topics apply"):
        await world.worker(consumer(answer), create_topics=False).run()
