"""Consumers that wake: called once they are given a partition, and when a time that they named has come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from antiphon.bus.consumer import Consumer, Lane
from antiphon.bus.delivery import current
from antiphon.bus.errors import CommitError, PermanentError
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.memory.member import MemoryMember, Point
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event, envelope_of
from antiphon.schemas.ids import caused_id
from antiphon.testing.clock import FakeClock
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.simulation import Run, simulate
from antiphon.testing.virtual import VirtualClock
from antiphon.testing.waiting import eventually

_DUE = "due"


class Wanted(Event, type="reminder.wanted"):
    name: str
    in_s: float


class Reminded(Event, type="reminder.due"):
    name: str


class Desk:
    """A consumer that reminds of what was wanted, when its time has come; it keeps that in its state."""

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self.looks: Counter[int] = Counter()
        """How often it looked, by partition."""
        self.trouble: list[BaseException] = []
        """Raised by the next looks that find something due."""
        self.gate: asyncio.Event | None = None
        """What handling an event waits for."""
        self.waiting = False

    def consumer(self) -> Consumer:
        return Consumer(
            name="desk",
            hears={"reminder.wanted": Wanted},
            emits=frozenset({Reminded}),
            handler=self.handle,
            lane=Lane.PARTITION,
            wakes=True,
        )

    async def handle(self, event: Event) -> Sequence[Event]:
        delivery = current.get()
        due = delivery.state.mapping(_DUE)
        now_us = self._clock_us()
        said: list[Event] = []
        match event:
            case Wanted(name=name, in_s=in_s):
                if self.gate is not None:
                    self.waiting = True
                    await self.gate.wait()
                due[envelope_of(event).id] = [now_us + round(in_s * 1_000_000), name]
            case _:
                self.looks[delivery.record.partition] += 1
                ripe = [id for id, (at_us, _) in due.items() if at_us <= now_us]
                if ripe and self.trouble:
                    raise self.trouble.pop()
                said = [_reminded(id, due.pop(id)[1], now_us) for id in ripe]
        if due:
            delivery.wake_at(min(at_us for at_us, _ in due.values()))
        return said


def _reminded(id: str, name: str, now_us: int) -> Event:
    return Reminded(name=name).sealed(
        Envelope(
            id=caused_id(id, "desk", 0),
            type="reminder.due",
            source="/agents/desk",
            time_us=now_us,
            correlation_id=id,
            parent_id=id,
        )
    )


class Office(MemoryMesh):
    """A mesh of two partitions with a clock, and the desks that work there."""

    def __init__(self, bus: MemoryBus | None = None) -> None:
        super().__init__(partitions=2, bus=bus)
        self.clock = FakeClock()
        self.desk = Desk(self.clock.now_us)

    @asynccontextmanager
    async def working(self, *, instance: str = "one") -> AsyncGenerator[None]:
        async with self.running(self.desk.consumer(), clock=self.clock, instance=instance):
            yield

    async def wants(self, *names: str, in_s: float) -> None:
        for name in names:
            await self.publish(Wanted(name=name, in_s=in_s), key=None)

    async def reminded(self) -> list[str]:
        return sorted(event.name for _, event in await self.events(Reminded))

    async def until_reminded(self, *names: str) -> None:
        async def there() -> bool:
            return await self.reminded() == sorted(names)

        await eventually(there, what=f"reminders of {names}")

    async def until_noted(self, *names: str) -> None:
        """Wait until what was wanted of *names* is committed state."""

        async def noted() -> bool:
            return len([entry for entry in await self.handled() if entry.outcome == "completed"]) >= len(names)

        await eventually(noted, what="what is wanted to be noted")

    async def until_looked(self, partition: int, times: int) -> None:
        await eventually(lambda: self.desk.looks[partition] >= times, what=f"{times} looks at {partition}")


async def test_every_partition_is_looked_at_when_it_is_given() -> None:
    """Once, although nothing came; a consumer that does not wake is not called."""
    office, calls = Office(), list[Event]()

    async def note(event: Event) -> Sequence[Event]:
        calls.append(event)
        return ()

    sleeper = Consumer(name="sleeper", hears={"reminder.wanted": Wanted}, handler=note, lane=Lane.PARTITION)
    async with office.running(office.desk.consumer(), sleeper, clock=office.clock):
        await office.until_looked(0, 1)
        await office.until_looked(1, 1)
    assert (office.desk.looks, calls) == ({0: 1, 1: 1}, [])


async def test_a_time_that_comes_while_it_runs() -> None:
    """Not before; what is said is said once, and leaves no activity."""
    office = Office()
    async with office.working():
        await office.wants("tea", "cake", in_s=60)
        await office.until_noted("tea", "cake")
        office.clock.advance(59)
        await office.wants("bread", in_s=60)
        await office.until_noted("tea", "cake", "bread")
        assert await office.reminded() == []
        office.clock.advance(2)
        await office.until_reminded("tea", "cake")
        office.clock.advance(60)
        await office.until_reminded("tea", "cake", "bread")
    assert {entry.event_type for entry in await office.handled()} == {"reminder.wanted"}


async def test_a_time_that_passes_while_nobody_is_there() -> None:
    """Whoever is given the partition finds it."""
    office = Office()
    async with office.working():
        await office.wants("tea", in_s=60)
        await office.until_noted("tea")
    office.clock.advance(3_600)
    assert await office.reminded() == []
    async with office.working(instance="two"):
        await office.until_reminded("tea")


async def test_what_was_there_is_handled_before() -> None:
    """An event that could be read when the time had come may change what is due: the look comes behind it."""
    office = Office()
    office.desk.gate = asyncio.Event()
    await office.prepare(office.desk.consumer())
    await office.wants(*map(str, range(8)), in_s=0)
    async with office.working():
        await eventually(lambda: office.desk.waiting, what="an event to be in hand")
        assert not office.desk.looks
        office.desk.gate.set()
        await office.until_reminded(*map(str, range(8)))
    assert office.desk.looks == {0: 1, 1: 1}


async def test_a_look_that_fails_is_made_again() -> None:
    """Later, by the clock, whatever it raised; events go on meanwhile, and nothing is set aside."""
    office = Office()
    office.desk.trouble = [ConnectionError("busy"), PermanentError("never")]
    async with office.working():
        await office.wants("tea", in_s=60)
        await office.until_noted("tea")
        office.clock.advance(61)
        await eventually(lambda: len(office.desk.trouble) == 1, what="a look to fail")
        await office.wants("cake", in_s=3_600)
        await office.until_noted("tea", "cake")
        office.clock.advance(5)
        await eventually(lambda: not office.desk.trouble, what="a look to fail again")
        office.clock.advance(5)
        await office.until_reminded("tea")
    assert await office.records("desk.dead") == []


class Faulty:
    """Does something once, at a member's point, when it has been asked to."""

    def __init__(self) -> None:
        self.at: Point | None = None
        self.do: Callable[[MemoryMember], None] = lambda member: None
        self.done = asyncio.Event()

    async def __call__(self, point: Point, member: MemoryMember) -> None:
        if point is self.at and not self.done.is_set() and member.membership.group == "desk":
            self.done.set()
            self.do(member)


@pytest.mark.parametrize("at", [Point.COMMIT, Point.WRITTEN, Point.COMMITTED])
async def test_killed_between_a_time_and_its_commit(at: Point) -> None:
    """Wherever it dies, its successor says what is due, and it is said once."""
    faulty = Faulty()
    office = Office(MemoryBus(partitions=2, faults=faulty))
    bus = office.bus
    assert isinstance(bus, MemoryBus)
    worker = office.worker(office.desk.consumer(), clock=office.clock)
    task = asyncio.create_task(worker.run())
    await worker.ready.wait()
    await office.wants("tea", in_s=60)
    await office.until_noted("tea")
    faulty.do = bus.crash
    faulty.at = at
    office.clock.advance(61)
    await asyncio.wait_for(faulty.done.wait(), 30)
    task.cancel()
    await asyncio.wait([task])
    async with office.working(instance="two"):
        await office.until_reminded("tea")
        await office.until_looked(0, 2)
        await office.until_looked(1, 2)
    assert await office.reminded() == ["tea"]


async def test_a_refused_commit_is_begun_again() -> None:
    """All is forgotten and looked at anew."""
    faulty = Faulty()
    office = Office(MemoryBus(partitions=2, faults=faulty))

    def refuse(_: MemoryMember) -> None:
        raise CommitError("TIMED_OUT")

    async with office.working():
        await office.wants("tea", in_s=60)
        await office.until_noted("tea")
        faulty.do, faulty.at = refuse, Point.COMMIT
        office.clock.advance(61)
        await office.until_reminded("tea")
        assert faulty.done.is_set()


async def test_a_partition_that_is_given_away_rings_elsewhere() -> None:
    """The former owner is not called for it any more; the new one says what is due."""
    office = Office()
    other = Desk(office.clock.now_us)
    async with office.working():
        await office.wants(*map(str, range(8)), in_s=60)
        await office.until_noted(*map(str, range(8)))
        async with office.running(other.consumer(), clock=office.clock, instance="two"):
            await eventually(lambda: other.looks, what="the other one to be given a partition")
            [given] = other.looks
            before = office.desk.looks[given]
            office.clock.advance(61)
            await office.until_reminded(*map(str, range(8)))
            assert office.desk.looks[given] == before


async def test_a_stop_waits_for_no_time() -> None:
    """Times to come are whoever's who is next."""
    office = Office()
    async with office.working():
        await office.wants("tea", in_s=3_600)
        await office.until_noted("tea")
    assert await office.reminded() == []


def test_it_needs_the_partition_to_itself() -> None:
    """A look is at the state of the whole partition; nobody else may be at it meanwhile."""
    with pytest.raises(ValueError, match=r"expected lane=Lane.PARTITION of 'desk', as it wakes; got Lane.KEY"):
        Consumer(name="desk", hears={}, handler=Desk(lambda: 0).handle, wakes=True)


async def test_only_who_wakes_may_name_a_time() -> None:
    """Nobody would be called."""
    office = Office()

    async def note(_: Event) -> Sequence[Event]:
        current.get().wake_at(0)
        return ()

    careless = Consumer(name="careless", hears={"reminder.wanted": Wanted}, handler=note)
    async with office.running(careless):
        await office.wants("tea", in_s=0)

        async def told() -> str:
            return next((entry.error.message for entry in await office.handled() if entry.error), "")

        assert await eventually(told) == "expected a consumer with wakes=True to name a time, got 'careless' without"


def test_under_faults() -> None:
    """Whatever happens to workers, each is reminded of once, and not before its time."""
    clock = VirtualClock()
    wanted = [Wanted(name=str(number), in_s=number % 5) for number in range(10)]

    def each_once(run: Run) -> None:
        assert sorted(event.name for event in run.events(Reminded)) == sorted(event.name for event in wanted)

    done = simulate([Desk(clock.now_us).consumer()], wanted, seeds=range(60), check=each_once, clock=clock)
    assert done.schedules == 60
