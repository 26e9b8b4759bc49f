"""Handlers that publish by themselves: in production they may, and nothing of it leaves a replay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from antiphon import Agent, Context, Event, Mesh
from antiphon.bus.errors import PublishedInReplayError
from antiphon.bus.port import TopicSpec
from antiphon.bus.publisher import Publisher
from antiphon.bus.settings import Settings
from antiphon.replay.choice import Choice
from antiphon.replay.compared import Compared
from antiphon.replay.effects import Effects
from antiphon.replay.live import LiveReplay
from antiphon.replay.live import again as once_more
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.replay.claims import again, everything, in_sandbox, recorded


class RoomBooked(Event):
    room: str


class GuestTold(Event):
    room: str


class DoorOpened(Event):
    room: str


doorman = Agent("doorman")


@doorman.on(GuestTold)
async def open_door(told: GuestTold) -> DoorOpened:
    """Answer who asks."""
    return DoorOpened(room=told.room)


BOOKED = RoomBooked(room="7")
TOLD = GuestTold(room="7")
Mode: TypeAlias = Callable[..., Awaitable[list[Compared]]]
Way: TypeAlias = Callable[[MemoryMesh, Mesh], Awaitable[object]]


async def opening(mesh: MemoryMesh, opened: Mesh) -> None:
    async with Mesh(mesh.bus, settings=Settings(partitions=1), store=mesh.store) as own:
        await own.publish(TOLD)


async def publishing(mesh: MemoryMesh, opened: Mesh) -> None:
    await opened.publish(TOLD)


async def asking(mesh: MemoryMesh, opened: Mesh) -> None:
    await opened.request(TOLD, until=DoorOpened)


async def with_a_publisher(mesh: MemoryMesh, opened: Mesh) -> None:
    await Publisher(mesh.bus, mesh.codec, mesh.names).publish([TOLD])


async def in_a_task(mesh: MemoryMesh, opened: Mesh) -> None:
    await asyncio.create_task(publishing(mesh, opened))


async def from_a_thread(mesh: MemoryMesh, opened: Mesh) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(opened.publish(TOLD), loop).result())


WAYS: list[Way] = [opening, publishing, asking, with_a_publisher, in_a_task, from_a_thread]
MODES: list[Mode] = [again, in_sandbox]


async def empty() -> MemoryMesh:
    """Return a mesh that has the topics of what is published."""
    mesh = MemoryMesh(partitions=1)
    await mesh.bus.create([TopicSpec("guest.told", 1), TopicSpec("door.opened", 1)])
    return mesh


async def handled(mesh: MemoryMesh, teller: Agent, *events: Event, count: int) -> None:
    """Publish *events* and have agents run until so many deliveries are over."""

    async def over() -> bool:
        return len(await mesh.handled()) == count

    async with mesh.running(teller, doorman):
        await mesh.publish(*events)
        await eventually(over, 30, what="all to be handled")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
async def test_a_handler_that_publishes_by_itself_is_refused_in_a_replay(way: Way, mode: Mode) -> None:
    """Whichever way it takes: nothing is written, no topic is made, and the report says what would have been."""
    mesh, teller = await empty(), Agent("teller")
    async with Mesh(mesh.bus, settings=Settings(partitions=1), store=mesh.store) as opened:

        @teller.on(RoomBooked)
        async def tell(heard: RoomBooked) -> None:
            await way(mesh, opened)

        await handled(mesh, teller, BOOKED, count=2)
        before = await everything(mesh)
        [one] = await mode(mesh, teller.consumer())

        assert len(await mesh.records("guest.told")) == 1
        assert await everything(mesh) == before
    assert one.raised is not None
    assert one.raised.type == PublishedInReplayError.__name__
    assert one.raised.message == str(
        PublishedInReplayError("teller", "a Mesh that it opens" if way is opening else "guest.told")
    )


@pytest.mark.parametrize("mode", MODES)
async def test_what_it_publishes_once_is_known_to_a_replay(mode: Mode) -> None:
    """As any other side effect: it is not done again, and where all of them are, it is refused all the same."""
    mesh, teller = await empty(), Agent("teller")

    @teller.on(RoomBooked)
    async def tell(heard: RoomBooked, context: Context) -> None:
        await context.once("tell", lambda: said(mesh))

    await handled(mesh, teller, BOOKED, count=2)
    before = await everything(mesh)
    [recorded_one] = await mode(mesh, teller.consumer())
    [live_one] = await mode(mesh, teller.consumer(), effects=Effects.LIVE)

    assert (recorded_one.differences, recorded_one.raised) == ([], None)
    assert live_one.raised is not None
    assert live_one.raised.type == PublishedInReplayError.__name__
    assert await everything(mesh) == before


async def said(mesh: MemoryMesh) -> str:
    [published] = await mesh.publisher.publish([TOLD])
    return published.id


async def test_events_that_are_published_for_real_are_handled_for_real() -> None:
    """The mode `live` is no replay to its handlers: what they publish, they publish."""
    mesh, teller = await empty(), Agent("teller")

    @teller.on(RoomBooked)
    async def tell(heard: RoomBooked) -> None:
        await said(mesh)

    await handled(mesh, teller, BOOKED, count=2)
    found = await recorded(mesh)
    replay = LiveReplay(mesh.bus, mesh.names)
    done = [one async for one in replay.run(once_more(found, Choice(agents=frozenset({"teller"})).of(found.handlings)))]
    await handled(mesh, teller, count=4)

    assert len(done) == 1
    assert len(await mesh.records("guest.told")) == 2


async def test_whoever_runs_a_replay_may_publish_between_its_handlings() -> None:
    """It is the handler that may not: what it was called with is no longer current when it has returned."""
    mesh, teller = await empty(), Agent("teller")

    @teller.on(RoomBooked)
    async def tell(heard: RoomBooked) -> None: ...

    await handled(mesh, teller, BOOKED, count=1)
    await again(mesh, teller.consumer())
    await mesh.publish(TOLD)

    assert len(await mesh.records("guest.told")) == 1
