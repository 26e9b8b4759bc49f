"""The states of a worker's partitions, against a dictionary: whatever happened, what is restored is what was committed."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon import Agent, Context, Event
from antiphon.bus.consumer import Consumer, Guarantee
from antiphon.bus.errors import CommitError, UnknownTopicError
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing, TopicPartition
from antiphon.bus.state import Memory, PartitionState
from antiphon.bus.state_file import StateFile, StateFileError
from antiphon.bus.states import OLDEST_S, States, StateSettings
from antiphon.testing.clock import FakeClock
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.virtual import run_virtually
from antiphon.testing.waiting import eventually

TOPIC = "stock.state"
MEMORY_DISK = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112 - none of it has to last
PARTITION = TopicPartition(TOPIC, 0)
KEYS = [f"k{n}" for n in range(6)]
FEW = KEYS[:3]
Step: TypeAlias = tuple[str, int, str, bytes | None]
"""What happens, to which instance, and what is committed there."""


class Instance:
    """One worker's name, and what runs under it: like an engine it drops what is not committed, and begins again."""

    def __init__(self, world: World, name: str, most: int) -> None:
        self._world = world
        self._name = name
        self._most = most
        self.states: States | None = None
        self.state: PartitionState | None = None

    async def own(self) -> None:
        """Be assigned the partition."""
        if self.states is None:
            consumer = Consumer(name="stock", hears={}, handler=nothing, guarantee=self._world.guarantee)
            kept = StateSettings(
                folder=self._world.folder, memory=Memory(self._most), clock_us=self._world.clock.now_us
            )
            self.states = States(self._world.bus, consumer, topic=TOPIC, instance=self._name, settings=kept)
        self.state = (await self.states.restore([0]))[0]
        self._world.owner = self

    async def change(self, key: str, value: bytes | None, *, commits: bool) -> None:
        assert self.state is not None
        assert self.states is not None
        await self.state.fetch([key])
        records = self.state.store({key: value}, workflow=True)
        if commits:
            await self._world.bus.publish(records)
            self.states.committed(records)
        else:
            self.states.drop([0])
            await self.own()

    async def tend(self, prove: Callable[[], Any]) -> None:
        """Save and make room; *prove* is what happens between the end's being read and the commit."""
        assert self.states is not None

        async def proven(number: int, records: list[Outgoing]) -> bool:
            await prove()
            if self._world.owner is not self:
                return False
            if records:
                await self._world.bus.publish(records)
                self.states_committed(records)
            return True

        await self.states.tend_once(proven, tuple)

    def states_committed(self, records: list[Outgoing]) -> None:
        assert self.states is not None
        self.states.committed(records)

    async def end(self) -> None:
        """End without a word: only what is on disk is left."""
        if self.states is not None:
            await self.states.close()
        self.states = self.state = None
        if self._world.owner is self:
            self._world.owner = None


class World:
    """A changelog, two instances that may own it, and what is committed."""

    def __init__(
        self, folder: Path | None, *, most: int = 64_000_000, guarantee: Guarantee = Guarantee.EXACTLY_ONCE
    ) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.guarantee = guarantee
        self.bus = MemoryBus(partitions=1, now_us=self.clock.now_us)
        self.owner: Instance | None = None
        self.instances = [Instance(self, "a", most), Instance(self, "b", most)]

    async def made(self) -> World:
        await self.bus.create([TopicSpec(TOPIC, 1, compact=True)])
        return self

    async def truth(self) -> dict[str, bytes]:
        """Return what the changelog says."""
        found: dict[str, bytes] = {}
        [(first, end)] = (await self.bus.bounds([TOPIC])).values()
        async for record in self.bus.read({PARTITION: first}, {PARTITION: end}):
            key = (record.key or b"").decode()
            found.pop(key, None)
            if record.value is not None:
                found[key] = record.value
        return found

    async def said(self) -> dict[str, bytes]:
        """Return what the owner says."""
        assert self.owner is not None
        state = self.owner.state
        assert state is not None
        await state.fetch(KEYS)
        return {key: value for key in KEYS if (value := state.value(key)) is not None}

    async def agrees(self) -> None:
        """See that the owner, if there is one, says what is committed."""
        if self.owner is not None:
            assert await self.said() == await self.truth()

    async def restored(self) -> int:
        """Have instance a end and come back; returns how many records it read of the changelog."""
        one = self.instances[0]
        await one.end()
        await one.own()
        assert one.states is not None
        assert await self.said() == await self.truth()
        return one.states.restored


async def nothing(event: Event) -> list[Event]:
    return []


async def quiet() -> None:
    """Nothing happens."""


async def play(steps: list[Step], folder: Path, most: int) -> None:  # noqa: C901, PLR0912 - a case each
    """Do *steps*; whenever somebody has been assigned the partition, what is restored is what is committed."""
    world = await World(folder, most=most).made()
    await world.instances[0].own()
    for what, who, key, value in steps:
        instance = world.instances[who]
        if world.owner is None:
            await instance.own()
        assert world.owner is not None
        match what:
            case "commit" | "abort":
                await world.owner.change(key, value, commits=what == "commit")
            case "tend":
                await world.owner.tend(quiet)
            case "go on as a zombie":
                former = world.owner
                other = world.instances[1 - world.instances.index(former)]
                await other.own()
                await other.change(key, value, commits=True)
                await former.tend(quiet)
            case "take over":
                if instance is world.owner and instance.states is not None:
                    instance.states.drop([0])
                await instance.own()
            case "be taken over while tending":
                former = world.owner
                other = world.instances[1 - world.instances.index(former)]

                async def taking(other: Instance = other, key: str = key, value: bytes | None = value) -> None:
                    if world.owner is not other:
                        await other.own()
                        await other.change(key, value, commits=True)

                await former.tend(taking)
            case "crash":
                await instance.end()
            case "stop":
                await world.owner.tend(quiet)
                await world.owner.end()
            case "truncate":
                for one in world.instances:
                    await one.end()
                [(_, end)] = (await world.bus.bounds([TOPIC])).values()
                world.bus.truncate(PARTITION, end - end // 3)
            case _:
                continue
        await world.agrees()
    await world.restored()
    for instance in world.instances:
        await instance.end()


STEPS = st.tuples(
    st.sampled_from(
        [
            *["commit"] * 3,
            "abort",
            *["tend"] * 2,
            "go on as a zombie",
            "take over",
            "be taken over while tending",
            "crash",
            "stop",
            "truncate",
        ]
    ),
    st.integers(0, 1),
    st.sampled_from(FEW),
    st.none() | st.integers(0, 9).map(lambda n: b'{"n":%d}' % n),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=25), st.sampled_from([600, 64_000_000]))
def test_what_is_restored_is_what_is_committed(steps: list[Step], most: int) -> None:
    """After any commits, aborts, crashes, takeovers and zombies, with all in memory or nearly all on disk alone."""
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as folder:
        run_virtually(play(steps, Path(folder), most))


async def kept(tmp_path: Path, **more: Any) -> World:
    """Make a world in which instance a has committed five values, and copied them."""
    world = await World(tmp_path, **more).made()
    one = world.instances[0]
    await one.own()
    for key in KEYS[:5]:
        await one.change(key, b"{}", commits=True)
    await one.tend(quiet)
    return world


async def test_a_topic_that_is_not_there_is_no_empty_state() -> None:
    """To go on as if it were would be to lose what is on it."""
    world = World(None)
    with pytest.raises(UnknownTopicError, match=r"stock\.state"):
        await world.instances[0].own()
    await world.instances[0].end()


async def test_a_restart_reads_what_was_written_since(tmp_path: Path) -> None:
    """And nothing else."""
    world = await kept(tmp_path)
    owner = world.owner
    assert owner is not None
    assert await world.restored() == 0
    await world.instances[0].change("k1", b'{"n":1}', commits=True)
    assert await world.restored() == 1
    await world.instances[0].end()


async def test_another_instance_reads_all(tmp_path: Path) -> None:
    """A copy is found under its own name alone."""
    world = await kept(tmp_path)
    other = world.instances[1]
    await other.own()
    assert other.states is not None
    assert other.states.restored == 5
    for instance in world.instances:
        await instance.end()


async def test_without_transactions_all_is_read(tmp_path: Path) -> None:
    """A zombie that nobody fences may have written below what was the end."""
    world = await kept(tmp_path, guarantee=Guarantee.AT_LEAST_ONCE)
    assert (await world.restored(), os.listdir(tmp_path)) == (5, [])  # noqa: PTH208 - no method of a path in async code
    await world.instances[0].end()


async def made_anew(world: World) -> None:
    world.bus = MemoryBus(partitions=1, now_us=world.clock.now_us)
    await world.made()
    await world.bus.publish([Outgoing(TOPIC, b"k%d" % n, b'{"new":1}', [], 0) for n in range(5)])


async def truncated(world: World) -> None:
    world.bus.truncate(PARTITION, 2)
    await world.bus.publish([Outgoing(TOPIC, b"k0", b'{"n":1}', [], 0), Outgoing(TOPIC, b"k1", b'{"n":1}', [], 0)])


async def damaged(world: World) -> None:
    assert world.folder is not None
    await world.instances[0].end()
    [file] = world.folder.glob("*.sqlite")
    file.write_bytes(b"\x55" * 20_000)


@pytest.mark.parametrize(
    ("happened", "said"),
    [(made_anew, "made anew"), (truncated, "truncated"), (damaged, "not a database")],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_copy_that_cannot_be_used_is_dropped_with_one_warning(
    happened: Callable[[World], Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """State is restored from the changelog, and the next restart has a copy again."""
    world = await kept(tmp_path)
    await world.instances[0].end()
    await happened(world)
    assert await world.restored() == 5
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (said in vars(warning)["reason"], "nothing needs to be done" in warning.message) == (True, True)
    await world.instances[0].tend(quiet)
    assert await world.restored() == 0
    await world.instances[0].end()


async def test_a_copy_of_yesterday_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By then the changelog may have lost the deletion of what the copy still has; where nothing was added it is good."""
    world = await kept(tmp_path)
    world.clock.advance(OLDEST_S + 1)
    assert (await world.restored(), caplog.records) == (0, [])
    await world.bus.publish([Outgoing(TOPIC, b"k0", b'{"n":1}', [], 0)])
    assert await world.restored() == 6
    assert "deletions may be gone" in vars(caplog.records[0])["reason"]
    await world.instances[0].end()


async def test_a_disk_that_fails_costs_the_copy_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """State goes on in memory; one warning says what to do."""
    world = await kept(tmp_path)

    def full(self: StateFile, entries: object, checkpoint: object = None) -> None:
        raise StateFileError(self.path, "database or disk is full")

    monkeypatch.setattr(StateFile, "write", full)
    assert world.owner is not None
    await world.owner.change("k1", b'{"n":1}', commits=True)
    await world.owner.tend(quiet)
    assert await world.said() == await world.truth()
    assert world.owner.states is not None
    with pytest.raises(CommitError, match="disk is full"):
        world.owner.states.check()
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Give the disk room" in vars(warning)["reason"]
    assert await world.restored() == 6
    await world.instances[0].end()


async def test_what_is_cut_short_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped while it writes has the rest written with its last checkpoint."""
    world = await kept(tmp_path)
    one = world.instances[0]
    await one.change("k1", b'{"n":1}', commits=True)
    write, begun, going_on = StateFile.write, threading.Event(), threading.Event()

    def slow(self: StateFile, *arguments: Any) -> None:
        begun.set()
        assert going_on.wait(30)
        raise StateFileError(self.path, "it was cut short")

    monkeypatch.setattr(StateFile, "write", slow)
    tending = asyncio.create_task(one.tend(quiet))
    await asyncio.to_thread(begun.wait, 30)
    tending.cancel()
    await asyncio.wait([tending])
    monkeypatch.setattr(StateFile, "write", write)
    going_on.set()
    await one.tend(quiet)
    assert await world.restored() == 0
    await one.end()


# In a worker.


class Asked(Event):
    n: int


class Counted(Event):
    n: int
    times: int


class Paid(Event, key="account"):
    account: str


class Left(Event):
    n: int


class Right(Event):
    n: int


class Met(Event):
    n: int


def counting(name: str = "counting", **more: Any) -> Agent:
    agent = Agent(name, **more)

    @agent.on(Asked)
    async def count(asked: Asked, context: Context) -> Counted:
        context.state["times"] = context.state.get("times", 0) + 1
        context.state["padding"] = "x" * 400
        return Counted(n=asked.n, times=context.state["times"])

    @agent.on(Paid)
    async def pay(paid: Paid, context: Context) -> None:
        context.state["paid"] = True

    return agent


async def living(mesh: MemoryMesh, topic: str) -> dict[str, bytes]:
    """Return what is kept, by key, as the changelog has it."""
    found: dict[str, bytes] = {}
    for record in await mesh.records(topic):
        key = (record.key or b"").decode()
        found.pop(key, None)
        if record.value is not None:
            found[key] = record.value
    return found


def kept_by(clock: FakeClock, **more: Any) -> StateSettings:
    return StateSettings(every_s=0.02, clock_us=clock.now_us, **more)


@pytest.mark.parametrize("folder", [False, True])
async def test_many_workflows_through_a_join_leave_a_bounded_number_of_keys(folder: bool, tmp_path: Path) -> None:
    """State is flat: a workflow's expires, however many there are, also while others go on."""
    clock = FakeClock()
    meeting = Agent("meeting", state_expires=timedelta(hours=1))

    @meeting.on(Left, Right, join=True)
    async def meet(left: Left, right: Right) -> Met:
        return Met(n=left.n + right.n)

    mesh = MemoryMesh(partitions=2, bus=MemoryBus(partitions=2, now_us=clock.now_us))
    most: list[int] = []
    state = kept_by(clock, folder=tmp_path if folder else None)
    async with mesh.running(meeting, state=state, instance="a"):
        for round in range(1, 7):
            for n in range(50):
                workflow = f"{round}-{n}"
                await mesh.publisher.publish([Left(n=n)], correlation_id=workflow)
                await mesh.publisher.publish([Right(n=n)], correlation_id=workflow)
            await mesh.eventually(Met, count=50 * round)
            most.append(len(await living(mesh, "meeting.state")))
            clock.advance(3_601)
            await eventually(lambda: _none(mesh, "meeting.state"), what="what is old to be gone")
    assert most == [50] * 6


async def _none(mesh: MemoryMesh, topic: str) -> bool:
    return not await living(mesh, topic)


async def test_state_expires_after_a_restart_too_and_that_of_a_key_field_never(tmp_path: Path) -> None:
    """When it last changed stands in the changelog, and whose key it is."""
    clock = FakeClock()
    mesh = MemoryMesh(partitions=2, bus=MemoryBus(partitions=2, now_us=clock.now_us))
    async with mesh.running(counting(state_expires=timedelta(hours=1)), state=kept_by(clock)):
        await mesh.publish(Asked(n=1), Paid(account="ada"))
        await mesh.eventually(Counted, count=1)
        await eventually(lambda: _kept(mesh, 2), what="both to be kept")
    clock.advance(1_800)
    async with mesh.running(counting(state_expires=timedelta(hours=1)), state=kept_by(clock)):
        clock.advance(1_801)
        await eventually(lambda: _kept(mesh, 1), what="the workflow's to be gone")
    assert [*await living(mesh, "counting.state")] == ["ada"]


async def _kept(mesh: MemoryMesh, count: int) -> bool:
    return len(await living(mesh, "counting.state")) == count


@pytest.mark.parametrize("folder", [False, True])
async def test_what_has_no_room_in_memory_is_on_disk(folder: bool, tmp_path: Path) -> None:
    """A hundred keys in the room of ten: each is counted on where it was, and memory stays bounded."""
    clock, memory = FakeClock(), Memory(most=8_000)
    mesh = MemoryMesh(partitions=2)
    state = kept_by(clock, memory=memory, folder=tmp_path if folder else None)
    async with mesh.running(counting(), state=state, instance="a") as worker:
        counted: list[Counted] = []
        for round in range(1, 4):
            for n in range(100):
                await mesh.publisher.publish([Asked(n=n)], correlation_id=f"w{n}")
            counted = await mesh.eventually(Counted, count=100 * round)
            await eventually(lambda: memory.used < memory.most, what="memory to be given back")
            assert worker.statuses()[0].state_bytes == memory.used
    assert sorted((one.n, one.times) for one in counted) == sorted((n, t) for n in range(100) for t in (1, 2, 3))


async def test_memory_is_given_back_with_the_partitions() -> None:
    """What is lost is kept by somebody else."""
    clock, memory = FakeClock(), Memory()
    mesh = MemoryMesh(partitions=2)
    async with mesh.running(counting(), state=kept_by(clock, memory=memory)):
        await mesh.publish(Asked(n=1))
        await mesh.eventually(Counted, count=1)
        assert memory.used > 400
    assert memory.used == 0


async def test_a_disk_that_fails_while_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker begins again from Kafka, and does without: nothing is lost or done twice, and one warning says it."""
    clock, memory = FakeClock(), Memory(most=8_000)
    mesh = MemoryMesh(partitions=1)

    def unreadable(self: StateFile, key: str) -> bytes | None:
        raise StateFileError(self.path, "disk I/O error")

    async with mesh.running(counting(), state=kept_by(clock, memory=memory)):
        for n in range(100):
            await mesh.publisher.publish([Asked(n=n)], correlation_id=f"w{n}")
        await mesh.eventually(Counted, count=100)
        await eventually(lambda: memory.used < memory.most, what="memory to be given back")
        monkeypatch.setattr(StateFile, "read", unreadable)
        for n in range(100):
            await mesh.publisher.publish([Asked(n=n)], correlation_id=f"w{n}")
        counted = await mesh.eventually(Counted, count=200)
    assert sorted((one.n, one.times) for one in counted) == sorted((n, t) for n in range(100) for t in (1, 2))
    warnings = [record for record in caplog.records if record.message == "state is not copied to disk any more"]
    assert [vars(record)["reason"].count("nothing is lost") for record in warnings] == [1]
