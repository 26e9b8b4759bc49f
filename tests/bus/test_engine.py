"""The engine on the bus in memory: what becomes of an event that is heard."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from antiphon.agents.worker import Worker
from antiphon.bus.delivery import current
from antiphon.bus.errors import PermanentError
from antiphon.bus.record import Outgoing
from antiphon.schemas.codec import Codec
from antiphon.schemas.event import Event
from antiphon.testing.waiting import eventually
from tests.bus.placing import QUICK, Done, Placed, World, answer, consumer


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


async def test_handlers_that_wait_for_nothing_leave_others_their_turn(narrow: World) -> None:
    """A commit, or a heartbeat, waits for a few events, and not for a few of each runner's."""
    handled, waiting = 0, 0
    opened = asyncio.Event()
    in_one_turn: list[int] = []

    async def count(event: Placed) -> list[Event]:
        nonlocal handled, waiting
        waiting += 1
        if not opened.is_set():
            await opened.wait()
        handled += 1
        return [Done(n=event.n)]

    async def take_turns() -> None:
        before = 0
        while True:
            before, since = handled, handled - before
            in_one_turn.append(since)
            await asyncio.sleep(0)

    async with narrow.running(consumer(count, concurrency=50)) as worker:
        await narrow.place(*range(1_000))
        await eventually(lambda: waiting == 50 and worker.statuses()[0].lanes == 1_000, what="all to be in hand")
        turns = asyncio.create_task(take_turns())
        opened.set()
        await narrow.until_done(*range(1_000))
        turns.cancel()
    assert sum(in_one_turn) == 1_000
    # Those that waited, what is left of one turn's, and the next one's.
    assert max(in_one_turn) <= 50 + 2 * 64


async def test_taking_much_in_leaves_handlers_that_wait_their_turn(narrow: World) -> None:
    """A partition that is resumed brings thousands of events; whoever comes back meanwhile is not kept waiting for them."""
    opened = asyncio.Event()
    in_one_turn: list[int] = []

    async def wait(event: Placed) -> list[Event]:
        await opened.wait()
        return [Done(n=event.n)]

    async def take_turns(worker: Worker) -> None:
        before = worker.statuses()[0].lanes
        while True:
            await asyncio.sleep(0)
            before, since = worker.statuses()[0].lanes, worker.statuses()[0].lanes - before
            in_one_turn.append(since)

    async with narrow.running(consumer(wait, concurrency=500)) as worker:
        await narrow.place(0)
        await eventually(lambda: worker.statuses()[0].in_flight == 1, what="a handler to wait")
        turns = asyncio.create_task(take_turns(worker))
        await narrow.publisher.publish([Placed(n=n) for n in range(1, 1_000)])
        await eventually(lambda: worker.statuses()[0].lanes == 1_000, what="all to be in hand")
        turns.cancel()
        opened.set()
        await narrow.until_done(*range(1_000))
    assert 0 < max(in_one_turn) <= 128


async def test_a_fault_that_is_no_handlers_ends_the_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event would stay in hand, and hold up its partition, without a word; the next worker takes it up."""
    decode = Codec.decode

    def broken(codec: Codec, event_class: type[Any], value: bytes) -> Event:
        return decode(codec, event_class, value) if event_class is not Placed else 1 // 0  # type: ignore[return-value]

    worker = world.worker(consumer(answer))
    with monkeypatch.context() as patched:
        patched.setattr(Codec, "decode", broken)
        running = asyncio.create_task(worker.run())
        await worker.ready.wait()
        await world.place(7)
        async with asyncio.timeout(10):
            with pytest.raises(ZeroDivisionError):
                await running
    async with world.running(consumer(answer)):
        await world.until_done(7)


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
