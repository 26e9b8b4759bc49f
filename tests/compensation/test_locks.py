"""Entities that one workflow holds at a time: who waits, and what frees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from antiphon import Agent, Context, Event
from antiphon.agents.errors import SignatureError, UnknownAnswerError
from antiphon.bus.activity import Emitted
from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.lock import ANSWERED, WANTED, answer_id, lock_answered
from antiphon.bus.names import COORDINATOR
from antiphon.compensation.advance import advance
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.locks import Answer, Lock, Request, freed, wanted
from antiphon.compensation.reading import read_kept, read_locks
from antiphon.compensation.workflow import Fact, Free, Phase, Workflow
from antiphon.testing.delivery import delivery_of, hand
from antiphon.testing.explorer import explore
from antiphon.testing.facts import Hears, did
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing.reading import read_workflow


class SeatWanted(Event):
    seat: str | None
    by: str
    refused: bool = False


class SeatTaken(Event):
    seat: str
    by: str
    refused: bool


class SeatPaid(Event):
    by: str


class SeatRefused(Event, fails=True):
    by: str


class Theatre(MemoryMesh):
    """A theatre with few seats. Who pays waits for its gate; what happens to seats is listed."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def crew(self) -> list[Consumer]:
        return [self._seats().consumer(), self._purse().consumer(), coordinator()]

    async def wants(self, by: str, seat: str | None = "1A", *, refused: bool = False) -> str:
        """Want a seat; returns the workflow's id."""
        self.gates[by] = asyncio.Event()
        [published] = await self.publisher.publish([SeatWanted(seat=seat, by=by, refused=refused)])
        return published.correlation_id

    async def kept(self, workflow: str) -> Workflow:
        return (await read_kept(self.bus, self.names, range(self.partitions))).get(workflow, Workflow())

    async def until(self, workflow: str, phase: Phase) -> None:
        async def there() -> bool:
            return (await self.kept(workflow)).phase is phase

        await eventually(there, what=f"a workflow to be {phase.value}")

    async def until_waiting(self, *workflows: str) -> None:
        """Wait until these workflows, in this order, wait for the seat."""

        async def there() -> bool:
            lock = (await read_locks(self.bus, self.names, range(self.partitions))).get("seat/1A", Lock())
            return [one.workflow for one in lock.waiting] == [*workflows]

        await eventually(there, what="them to wait")

    async def free(self) -> None:
        """Wait until nobody holds anything."""

        async def nothing() -> bool:
            return not await read_locks(self.bus, self.names, range(self.partitions))

        await eventually(nothing, what="all to be free")

    async def logged(self, *lines: str) -> None:
        await eventually(lambda: len(self.log) >= len(lines), what=f"{lines}")
        assert self.log == [*lines]

    def _seats(self) -> Agent:
        seats = Agent("seats")

        @seats.on(SeatWanted, holds="seat")
        async def take(wanted: SeatWanted, context: Context) -> SeatTaken:
            context.state["by"] = wanted.by
            self.log.append(f"{wanted.by} has it")
            return SeatTaken(seat=wanted.seat or "any", by=wanted.by, refused=wanted.refused)

        @seats.undoes(SeatTaken)
        async def leave(taken: SeatTaken, context: Context) -> None:
            assert context.state.pop("by") == taken.by
            self.log.append(f"{taken.by} leaves it")

        return seats

    def _purse(self) -> Agent:
        purse = Agent("purse")

        @purse.on(SeatTaken)
        async def pay(taken: SeatTaken) -> SeatPaid | SeatRefused:
            await self.gates[taken.by].wait()
            return SeatRefused(by=taken.by) if taken.refused else SeatPaid(by=taken.by)

        return purse


async def test_s45_two_want_the_same_entity() -> None:
    """The second waits until the first has ended, the third until the second is undone; then it is free."""
    theatre = Theatre()
    async with theatre.running(*theatre.crew()):
        ann = await theatre.wants("ann")
        await theatre.logged("ann has it")
        bob = await theatre.wants("bob", refused=True)
        await theatre.until_waiting(bob)
        cid = await theatre.wants("cid")
        await theatre.until_waiting(bob, cid)
        for gate in ("cid", "bob"):
            theatre.gates[gate].set()
        assert theatre.log == ["ann has it"]
        assert (await theatre.kept(bob)).phase is Phase.RUNNING
        theatre.gates["ann"].set()
        await theatre.until(cid, Phase.COMPLETED)
        await theatre.free()
        phases = [(await theatre.kept(workflow)).phase for workflow in (ann, bob, cid)]
    assert theatre.log == ["ann has it", "bob has it", "bob leaves it", "cid has it"]
    assert phases == [Phase.COMPLETED, Phase.COMPENSATED, Phase.COMPLETED]


async def test_s45_an_entity_outlives_who_kept_it() -> None:
    """All are stopped in the middle of it, while one holds and another waits, and started again."""
    theatre = Theatre()
    async with theatre.running(*theatre.crew(), grace_s=0):
        await theatre.wants("ann")
        await theatre.logged("ann has it")
        bob = await theatre.wants("bob")
        await theatre.until_waiting(bob)
    theatre.gates["ann"].set()
    theatre.gates["bob"].set()
    async with theatre.running(*theatre.crew()):
        await theatre.until(bob, Phase.COMPLETED)
        await theatre.free()
    assert theatre.log == ["ann has it", "bob has it"]


async def test_s45_who_waits_may_be_cancelled() -> None:
    """It waits no more, and never has it; who holds it goes on."""
    theatre = Theatre()
    async with theatre.running(*theatre.crew()):
        ann = await theatre.wants("ann")
        await theatre.logged("ann has it")
        bob = await theatre.wants("bob")
        await theatre.until_waiting(bob)
        await theatre.publisher.publish(
            [SagaIntervened(act=Act.CANCEL, actor="ann", reason="mine")], correlation_id=bob
        )
        await theatre.until(bob, Phase.COMPENSATED)
        await theatre.until_waiting()
        assert (await theatre.kept(ann)).phase is Phase.RUNNING
        theatre.gates["ann"].set()
        await theatre.until(ann, Phase.COMPLETED)
        await theatre.free()
    assert theatre.log == ["ann has it"]


async def test_who_names_nothing_holds_nothing() -> None:
    """Any seat will do, for two at once."""
    theatre = Theatre()
    async with theatre.running(*theatre.crew()):
        await theatre.wants("ann", None)
        await theatre.wants("bob", None)
        await eventually(lambda: sorted(theatre.log) == ["ann has it", "bob has it"], what="both to have one")
        assert await read_locks(theatre.bus, theatre.names, range(theatre.partitions)) == {}
        for gate in theatre.gates.values():
            gate.set()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"holds": "row"}, "expected holds= to name a field of SeatPaid, by; got 'row'."),
        (
            {"holds": "by", "join": True},
            "expected holds= for one event, got it for a join. Let an agent before the join hold it.",
        ),
    ],
)
def test_what_cannot_be_held_is_refused(options: dict[str, Any], problem: str) -> None:
    """Where the agent is defined."""

    async def one(paid: SeatPaid) -> None: ...
    async def two(paid: SeatPaid, refused: SeatRefused) -> None: ...

    agent = Agent("agent")
    with pytest.raises(SignatureError) as refused:
        agent.on(**options)(two if "join" in options else one)
    assert problem in str(refused.value)


async def test_an_answer_for_what_waits_for_nothing_is_refused() -> None:
    """The version that asked said holds= for it, and this one does not."""
    theatre = Theatre()
    [seats, *_] = theatre.crew()
    answer = lock_answered("seats")(entity="row/1", granted=True, event_id="e", event_type="row.wanted", value=b"")
    with pytest.raises(UnknownAnswerError, match=r"row.wanted.*holds something for seat.wanted.*redrive"):
        await hand(seats, delivery_of(answer))


# Who holds it, by hand.


def request(id: str, workflow: str = "") -> Request:
    return Request(id, workflow or id[0], "seats", 1, f"{id}-event", "t", None, "", 0, {})


def test_a_workflow_may_want_it_again() -> None:
    """It has it already; it is free when both are over, and a request that comes again changes nothing."""
    lock, first = wanted(Lock(), request("a1"))
    lock, waits = wanted(lock, request("b1"))
    lock, second = wanted(lock, request("a2"))
    assert (first, waits, second) == ([Answer(request("a1"), True)], [], [Answer(request("a2"), True)])
    assert [wanted(lock, request(id)) for id in ("a1", "b1")] == [(lock, []), (lock, [])]
    lock, none = freed(lock, ["a1"], 2)
    lock, granted = freed(lock, ["a2"], 3)
    assert (none, granted, lock) == ([], [Answer(request("b1"), True)], Lock("b", 3, ("b1",)))
    assert freed(lock, ["b1", "gone"], 4) == (Lock(), [])


def test_what_is_withdrawn_is_answered_where_it_waits() -> None:
    """What was granted before stays so, until it is freed: somebody may be at it."""
    lock, _ = wanted(Lock(), request("a1"))
    lock, _ = wanted(lock, request("b1"))
    assert freed(lock, ["a1"], 2, withdrawn=True) == (lock, [])
    assert freed(lock, ["b1"], 2, withdrawn=True) == (lock._replace(waiting=()), [Answer(request("b1"), False)])


# What a workflow holds, fact by fact.


def asks(event: str, id: str, entity: str) -> Fact:
    """The agent that heard *event* asks by *id* to hold *entity*."""
    fact = did(event)
    emitted = [Emitted(id=id, type=WANTED, told=b"value")]
    return fact._replace(delivery=fact.delivery.model_copy(update={"emitted": emitted}), wanted={id: entity})


def gets(id: str, *emitted: str) -> Fact:
    """The agent handles the answer to *id*."""
    fact = did(answer_id(id), *emitted)
    return fact._replace(delivery=fact.delivery.model_copy(update={"event_type": ANSWERED}))


class Holding(Hears):
    """The coordinator hears what is wanted, two agents hear answers, and x goes to a slow one."""

    def hearers(self, type: str, topic: str | None) -> list[str]:
        return {WANTED: [COORDINATOR], ANSWERED: ["agent", "other"], "x": ["slow"]}.get(
            type, super().hearers(type, topic)
        )


MESH = Holding()


def test_what_a_workflow_holds_is_freed_when_it_has_ended() -> None:
    """Not before; what came of the event that waited follows from the event that it had waited with."""
    kept = Workflow()
    said: list[list[Any]] = []
    for fact in (did("root", "x"), asks("a", "w", "seat/1A"), gets("w", "b+"), did("x", by="slow")):
        kept, commands = advance(kept, fact, MESH)
        said.append(commands)
        if len(said) == 3:
            assert kept.events["b+"].parents == (answer_id("w"),)
            assert kept.events[answer_id("w")].parents == ("w",)
    assert said == [[], [], [], [Free("seat/1A", ("w",), withdrawn=False)]]
    assert (kept.ended, kept.wants) == (True, {})


def test_what_fails_waits_for_nothing_more() -> None:
    """It is withdrawn once, and what is to be undone waits for the answer: it may have been granted just before."""
    kept = Workflow()
    said: list[list[Any]] = []
    for fact in (did("root", "a+", "x"), asks("a+", "w", "seat/1A"), did("x", "failed!", by="slow"), did("failed!")):
        kept, commands = advance(kept, fact, MESH)
        said.append(commands)
    assert said == [[], [], [Free("seat/1A", ("w",), withdrawn=True)], []]
    kept, commands = advance(kept, gets("w"), MESH)
    assert [type(command).__name__ for command in commands] == ["Undo"]


# As users and operators see it.


@pytest.mark.parametrize("refused", [False, True])
def test_every_way_with_what_is_held(*, refused: bool) -> None:
    """Nothing is undone that nobody did, whatever crashes, is repeated or given up on the way to the answer."""
    seats, purse = Agent("seats"), Agent("purse")

    @seats.on(SeatWanted, holds="seat")
    async def take(wanted: SeatWanted) -> SeatTaken:
        return SeatTaken(seat=wanted.seat or "any", by=wanted.by, refused=wanted.refused)

    @seats.undoes(SeatTaken)
    async def leave(taken: SeatTaken) -> None: ...

    @purse.on(SeatTaken)
    async def pay(taken: SeatTaken) -> SeatPaid | SeatRefused:
        return SeatRefused(by=taken.by) if taken.refused else SeatPaid(by=taken.by)

    explored = explore([seats, purse], SeatWanted(seat="1A", by="ann", refused=refused))
    assert (explored.exhaustive, explored.positions > 20) == (True, True)


async def test_what_is_held_is_seen_in_the_trace() -> None:
    """Who waits is running, and the coordinator owes the answer; when all has ended nothing is owed."""
    theatre = Theatre()
    async with theatre.running(*theatre.crew()):
        ann = await theatre.wants("ann")
        await theatre.logged("ann has it")
        bob = await theatre.wants("bob")
        await theatre.until_waiting(bob)
        waits = await read_workflow(theatre.bus, theatre.names, theatre.codec, bob)
        for gate in theatre.gates.values():
            gate.set()
        await theatre.until(bob, Phase.COMPLETED)
        await theatre.free()
        ends = [await read_workflow(theatre.bus, theatre.names, theatre.codec, id) for id in (ann, bob)]
    assert waits is not None
    types = {event.id: event.envelope.type for event in waits.events}
    assert (waits.state.value, [(pair.agent, types[pair.event_id]) for pair in waits.outstanding]) == (
        "running",
        [(COORDINATOR, WANTED)],
    )
    assert [(end.state.value, end.outstanding, end.warnings) for end in ends if end is not None] == [
        ("completed", (), ()),
        ("completed", (), ()),
    ]
