"""The engine on the bus in memory: what is in hand when it is told to stop, or when partitions are taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from antiphon.bus.activity import Activity
from antiphon.bus.engine import Engine, EngineSettings
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.memory.member import MemoryMember, Point
from antiphon.schemas.event import Event
from antiphon.testing.waiting import eventually
from tests.bus.placing import Done, Placed, World, answer, consumer


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
