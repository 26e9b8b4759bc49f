"""F17 and F27, and bugs seen elsewhere: handlers that fail, workers that die, clocks that are set."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from antiphon import Agent, Context, Event, Mesh, PermanentError, RetryPolicy
from antiphon.bus.errors import AnswerTimeoutError, CommitError, MissingTopicsError
from antiphon.bus.memory import MemoryBus, MemoryMember, Point
from antiphon.bus.record import Outgoing
from antiphon.bus.settings import Settings
from antiphon.testing import FakeClock
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing.reading import read_workflow

QUICK = RetryPolicy(attempts=3, base_s=0.001, cap_s=0.002)


class Asked(Event, type="failure.asked"):
    n: int


class Done(Event, type="failure.done"):
    n: int


async def letters(mesh: MemoryMesh, name: str, count: int = 1) -> list[dict[str, str]]:
    """Wait for *count* dead letters; return what the headers of each say."""

    async def there() -> bool:
        return len(await mesh.records(f"{name}.dead")) >= count

    await eventually(there, what=f"{count} dead letters")
    return [
        {name.removeprefix("antiphon_dead_"): (value or b"").decode() for name, value in record.headers}
        for record in await mesh.records(f"{name}.dead")
    ]


async def test_f17_a_handler_that_always_raises() -> None:
    """So many attempts, then set aside; every other key is handled as if nothing were, and so is what comes behind it."""
    agent = Agent("flaky", retry=QUICK)

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        if asked.n % 50 == 0:
            raise ConnectionError(f"no line for {asked.n}")
        return Done(n=asked.n)

    mesh = MemoryMesh(2)
    async with mesh.running(agent):
        for n in range(200):
            await mesh.publish(Asked(n=n), key=f"k{n % 50}")
        done = await mesh.eventually(Done, count=196)
        said = await letters(mesh, "flaky", 4)
    assert sorted(event.n for event in done) == [n for n in range(200) if n % 50]
    assert {(letter["reason"], letter["attempts"], letter["error"]) for letter in said} == {
        ("exhausted", "3", "ConnectionError")
    }
    outcomes = [(entry.attempt, entry.outcome) for entry in await mesh.handled() if entry.error]
    assert sorted(outcomes) == sorted([(1, "retried"), (2, "retried"), (3, "dead_lettered")] * 4)


async def test_f17_what_a_policy_says() -> None:
    """`retry_on` alone is tried again; a time-out counts as an attempt, and as an outcome of its own."""
    agent = Agent("choosy", retry=RetryPolicy(attempts=2, base_s=0.001, retry_on=(TimeoutError,)), timeout=0.02)

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        if asked.n == 0:
            raise LookupError("never")
        await asyncio.Event().wait()
        return Done(n=asked.n)

    mesh = MemoryMesh(1)
    async with mesh.running(agent):
        await mesh.publish(Asked(n=0), Asked(n=1))
        said = await letters(mesh, "choosy", 2)
    assert {(letter["attempts"], letter["error"]) for letter in said} == {
        ("1", "LookupError"),
        ("2", "HandlerTimeoutError"),
    }
    outcomes = sorted((entry.attempt, entry.outcome) for entry in await mesh.handled())
    assert outcomes == [(1, "dead_lettered"), (1, "timed_out"), (2, "dead_lettered")]


def test_f17_waits_between_attempts() -> None:
    """They double up to the cap; with jitter each is anything below, so that what failed together does not come together."""
    exact = RetryPolicy(attempts=9, base_s=0.5, cap_s=3, jitter=False)
    chance = random.Random(1)
    assert [exact.delay_s(attempt, chance) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    jittery = [RetryPolicy(base_s=1, cap_s=8).delay_s(3, chance) for _ in range(1_000)]
    assert (min(jittery) < 0.1, max(jittery) > 3.9, max(jittery) <= 4.0) == (True, True, True)
    assert exact.delay_s(10_000, chance) == 3.0


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1.0}, {"cap_s": float("nan")}])
def test_f17_a_policy_that_makes_no_sense(wrong: dict[str, float]) -> None:
    """Is refused where it is written."""
    [(name, got)] = wrong.items()
    with pytest.raises(ValueError, match=rf"expected {name} of a RetryPolicy to be at least \d, got {got}"):
        RetryPolicy(**wrong)  # type: ignore[arg-type] # that is the point


async def test_f27_deadlines_hold_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline is a moment of the wall clock: past it nothing is started, before it everything is, whatever it was set to."""
    clock = FakeClock()
    monkeypatch.setattr("antiphon.bus.runner.now_us", clock.now_us)
    monkeypatch.setattr("antiphon.agents.context.time.time", lambda: clock.now_us() / 1e6)
    agent, left = Agent("hasty"), dict[int, float | None]()

    @agent.on(Asked)
    async def answer(asked: Asked, context: Context) -> Done:
        left[asked.n] = context.remaining()
        return Done(n=asked.n)

    deadline = datetime.fromtimestamp(clock.now_us() / 1e6, UTC) + timedelta(seconds=60)
    mesh, outcomes = MemoryMesh(1), list[str]()
    async with mesh.running(agent):
        for n, jump in enumerate((0, 61, -3_600, 3_540)):
            clock.advance(jump)
            await mesh.publisher.publish([Asked(n=n)], deadline=deadline)

            async def handled(count: int = n + 1) -> bool:
                return len(await mesh.handled()) == count

            await eventually(handled, what="the event to be handled")
    entries = await mesh.handled()
    outcomes = [entry.outcome for entry in entries]
    assert (outcomes, left) == (["completed", "expired", "completed", "completed"], {0: 60.0, 2: 3_599.0, 3: 59.0})
    assert {envelope.deadline_us for envelope, _ in await mesh.events(Done)} == {int(deadline.timestamp() * 1e6)}


async def test_f27_durations_are_not_the_wall_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set back or forward by an hour while handlers run makes none take an hour, or less than nothing."""
    clock = FakeClock()
    monkeypatch.setattr("antiphon.bus.runner.now_us", clock.now_us)
    agent, jumps = Agent("timed", timeout=30), itertools.cycle((-3_600, 3_600))

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        clock.advance(next(jumps))
        return Done(n=asked.n)

    mesh = MemoryMesh(1)
    async with mesh.running(agent):
        await mesh.publish(*(Asked(n=n) for n in range(4)))
        await mesh.eventually(Done, count=4)
    assert [entry.outcome for entry in await mesh.handled()] == ["completed"] * 4
    assert all(0 <= entry.duration_us < 60_000_000 for entry in await mesh.handled())


async def test_f23_one_id_published_twice() -> None:
    """One workflow: what comes of the second has the ids of what came of the first, and a trace shows it once."""
    agent = Agent("twice")

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        return Done(n=asked.n)

    mesh = MemoryMesh(1)
    async with mesh.running(agent):
        for _ in range(2):
            await mesh.publisher.publish([Asked(n=1)], id="order-1")
        await mesh.eventually(Done, count=2)
    first, second = [envelope for envelope, _ in await mesh.events(Done)]
    assert (first.id, first.correlation_id) == (second.id, second.correlation_id) == (first.id, "order-1")
    workflow = await read_workflow(mesh.bus, mesh.names, mesh.codec, "order-1")
    assert workflow is not None
    document = workflow.document()
    assert (document["state"], len(document["events"])) == ("completed", 2)


# Seen in other systems.


async def test_an_event_is_not_marked_before_its_handler_ran() -> None:
    """A worker that dies in the middle of a handler leaves the event to the next one, with all it had not committed."""
    members: list[MemoryMember] = []

    async def meet(_point: Point, member: MemoryMember) -> None:
        members.append(member)

    bus = MemoryBus(partitions=1, faults=meet)
    mesh, agent, begun = MemoryMesh(1, bus=bus), Agent("marker"), asyncio.Event()

    @agent.on(Asked)
    async def answer(asked: Asked, context: Context) -> Done:
        context.state["seen"] = context.state.get("seen", 0) + 1
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return Done(n=context.state["seen"])

    dying = asyncio.create_task(mesh.worker(agent, grace_s=0.0).run())
    await mesh.prepare(agent)
    await mesh.publish(Asked(n=1))
    await asyncio.wait_for(begun.wait(), 30)
    bus.crash(members[-1])
    await asyncio.wait([dying])
    assert dying.exception() is not None
    async with mesh.running(agent):
        assert await mesh.eventually(Done, count=1) == [Done(n=1)]


async def test_the_next_good_commit_skips_nothing_undecodable() -> None:
    """The letter is in the transaction that moves the offset: where that fails, it is written by the one that does not."""
    refused: list[Point] = []

    async def refuse_once(point: Point, _member: MemoryMember) -> None:
        if point is Point.WRITTEN and not refused:
            refused.append(point)
            raise CommitError("REFUSED")

    mesh, agent = MemoryMesh(1, bus=MemoryBus(partitions=1, faults=refuse_once)), Agent("eater")

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        return Done(n=asked.n)

    await mesh.prepare(agent)
    await mesh.publish(Asked(n=0))
    await mesh.bus.publish([Outgoing("failure.asked", b"k", b"no event", [])])
    await mesh.publish(Asked(n=2))
    async with mesh.running(agent):
        await mesh.eventually(Done, count=2)
        await letters(mesh, "eater")
    assert refused == [Point.WRITTEN]
    assert [(record.value, record.key) for record in await mesh.records("eater.dead")] == [(b"no event", b"k")]
    assert [event.n for _, event in await mesh.events(Done)] == [0, 2]


async def test_starting_without_topics_does_not_hang() -> None:
    """Where they may not be created, the error names them and what creates them."""
    agent = Agent("early")

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        return Done(n=asked.n)

    with pytest.raises(
        MissingTopicsError, match=r"failure\.asked.* do not exist .*'antiphon topics apply' creates them"
    ):
        await asyncio.wait_for(MemoryMesh(1).worker(agent, create_topics=False).run(), 30)


async def test_a_failed_agent_is_no_success_with_an_empty_result() -> None:
    """Its workflow has failed, whoever asks; who waits for an answer gets an error, and no event was emitted."""
    agent = Agent("failing")

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        raise PermanentError("no")

    mesh = MemoryMesh(4)
    async with mesh.running(agent), Mesh(mesh.bus, settings=Settings(partitions=4), store=mesh.store) as application:
        with pytest.raises(AnswerTimeoutError) as told:
            await application.request(Asked(n=1), until=Done, timeout=0.5)
        await letters(mesh, "failing")
    workflow = await read_workflow(mesh.bus, mesh.names, mesh.codec, told.value.correlation_id)
    assert workflow is not None
    assert (workflow.document()["state"], await mesh.events(Done)) == ("failed", [])


async def test_an_oversized_result_is_not_tried_for_ever() -> None:
    """One attempt, then set aside with what to do; the next event is handled."""

    class Large(Event, type="failure.large"):
        text: str

    agent = Agent("verbose")

    @agent.on(Asked)
    async def answer(asked: Asked) -> Large | Done:
        return Done(n=1) if asked.n else Large(text="x" * 3_000_000)

    mesh = MemoryMesh(1)
    async with mesh.running(agent):
        await mesh.publish(Asked(n=0), Asked(n=1))
        await mesh.eventually(Done, count=1)
        [said] = await letters(mesh, "verbose")
    assert (said["reason"], said["attempts"], said["error"]) == ("permanent", "1", "TooLargeError")
