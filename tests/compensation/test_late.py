"""Restarts, repeats, crashes, and what comes when all seemed over, on the bus in memory."""

from __future__ import annotations

import asyncio

import pytest
from ordering import OrderPlaced, Shop

from antiphon import Agent, Context, Event, RetryPolicy
from antiphon.bus.activity import Activity, Emitted, Handled
from antiphon.bus.alarms import TimeCame
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Outcome
from antiphon.bus.undo import UndoRequested, undo_requested
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.workflow import Phase, undo_id
from antiphon.testing.clock import FakeClock
from antiphon.testing.delivery import MemoryServices, MemoryState, delivery_of, hand
from antiphon.testing.facts import Hears
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.simulation import Fault, Run, simulate
from antiphon.testing.waiting import eventually


async def test_s27_an_effect_of_a_workflow_that_has_ended() -> None:
    """An agent that nobody knew of handles what is long over: what it did is undone, and marked late."""
    shop, newcomer = Shop(agents=("stock", "card"), card="refuses"), Agent("newcomer")

    @newcomer.on(OrderPlaced)
    async def note(placed: OrderPlaced) -> NoteWritten:
        return NoteWritten(order=placed.order)

    @newcomer.undoes(NoteWritten)
    async def strike(note: NoteWritten) -> None:
        shop.log.append("-note")

    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.until(workflow, Phase.COMPENSATED)
        async with shop.running(newcomer):
            await eventually(lambda: "-note" in shop.log, what="the late effect to be undone")
    [(_, request)] = await shop.events(undo_requested("newcomer"))
    assert (request.late, request.reason, shop.log) == (True, "refused, said by card", ["stock", "-stock", "-note"])


class NoteWritten(Event):
    order: str


class Taken(Event):
    n: int


class Held(Event):
    n: int


class Full(Event, fails=True):
    n: int


def hotel() -> list[object]:
    """Two agents, of which the second refuses every other guest."""
    rooms, desk = (Agent(name, retry=RetryPolicy(base_s=0.05, attempts=4)) for name in ("rooms", "desk"))

    @rooms.on(Taken)
    async def hold(taken: Taken) -> list[Held]:
        return [Held(n=taken.n), Held(n=taken.n)]

    @rooms.undoes(Held)
    async def free(held: Held) -> None: ...

    @desk.on(Held)
    async def check(held: Held) -> Full | None:
        return Full(n=held.n) if held.n % 2 else None

    return [rooms, desk, coordinator()]


def undone_once(run: Run) -> None:
    """Each room of a guest who was refused is given back once, and no other."""
    failed = {one.correlation_id for one in run.handled("desk") for said in one.emitted if said.fails}
    expected = sorted(
        undo_id(said.id)
        for one in run.handled("rooms")
        for said in one.emitted
        if one.correlation_id in failed and said.undo
    )
    done = sorted(
        one.event_id
        for one in run.handled("rooms")
        if one.event_type == UndoRequested.__event__.type and one.outcome == Outcome.COMPLETED
    )
    assert done == expected, f"undone {len(done)}, expected {len(expected)}"


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param({Fault.CRASH, Fault.EXPIRE, Fault.JOIN, Fault.LEAVE, Fault.LOSE_ANSWER}, id="s31"),
        pytest.param({Fault.REFUSE_COMMIT}, id="s50"),
    ],
)
def test_s31_s50_killed_or_unable_to_write_anywhere(faults: set[Fault]) -> None:
    """Workers of agents and of the coordinator, at every point where something is written: no undo is lost, none takes
    effect twice in Kafka."""
    played = simulate(
        hotel(), [Taken(n=n) for n in range(6)], seeds=range(6), faults=faults, fold=False, check=undone_once
    )
    assert played.faults > 6


async def test_s46_two_start_one_workflow_at_once() -> None:
    """With one id it is one."""
    shop = Shop(agents=("stock", "card"), card="dies")
    async with shop.running(*shop.crew()):
        await asyncio.gather(*(shop.publisher.publish([OrderPlaced(order="A")], id="one") for _ in range(2)))
        await shop.until("one", Phase.COMPENSATED)
        await shop.quiet()
    assert await shop.asked() == [("stock", "stock.reserved")]


async def test_s48_a_topic_that_is_read_again_fires_nothing() -> None:
    """The coordinator is given all its activity once more."""
    shop = Shop(parcel="refuses")
    async with shop.running(*shop.crew()):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    asked = await shop.asked()
    async with shop.running(*shop.crew()):
        await shop.repeat_activity()
        await shop.quiet()
    assert (len(asked), await shop.asked()) == (3, asked)


async def test_s52_ten_thousand_sagas_leave_nothing() -> None:
    """Half of them failed and were undone, in records as large as they come. When their time is over, nothing is kept."""
    state, clock = MemoryState(), FakeClock()
    consumer = coordinator(clock_us=clock.now_us, mesh=Hears(held=["desk"]), linger_s=60)

    async def hears(agent: str, *deliveries: Handled) -> int:
        activity = Activity(agent=agent, version="1", instance="i", deliveries=[*deliveries])
        return len(await hand(consumer, delivery_of(activity, state=state)))

    asked = 0
    for hundred in range(100):
        sagas = [f"{hundred}-{n}" for n in range(100)]
        await hears(
            "rooms", *(told(saga, "taken", Emitted(id=f"{saga}/held", type="held", undo=b"value")) for saga in sagas)
        )
        full = Emitted(id="full", type="full", fails=True)
        asked += await hears(
            "desk", *(told(saga, "held", *([full] if n % 2 else []), id=f"{saga}/held") for n, saga in enumerate(sagas))
        )
        await hears(
            "rooms", *(told(saga, UndoRequested.__event__.type, id=undo_id(f"{saga}/held")) for saga in sagas[1::2])
        )
    kept = len(state.values)
    for _ in range(3):
        clock.advance(70)
        await looks(consumer, state, clock)
    assert (asked, kept > 10_000, state.values) == (5_000, True, {})


async def looks(consumer: Consumer, state: MemoryState, clock: FakeClock) -> None:
    """Have the coordinator look at what is due, as often as it wants to at once: not all at one look."""
    again = True
    while again:
        services = MemoryServices()
        await hand(consumer, delivery_of(TimeCame(), state=state, services=services))
        again = any(at_us <= clock.now_us() for at_us in services.woken_at_us)


def told(saga: str, type: str, *emitted: Emitted, id: str | None = None) -> Handled:
    return Handled(
        event_id=id or saga,
        event_type=type,
        correlation_id=saga,
        topic=type,
        partition=0,
        offset=0,
        attempt=1,
        outcome="completed",
        started_us=0,
        duration_us=0,
        queue_us=0,
        emitted=[*emitted],
    )


class SeatTaken(Event, key="flight"):
    flight: str


class SeatHeld(Event, key="flight"):
    flight: str


class SeatRefused(Event, fails=True):
    flight: str


async def test_an_undo_meets_the_state_of_its_key() -> None:
    """Events keyed by a field of theirs: three workflows share one flight's state, and only one gives its seat back."""
    seats, check = Agent("seats"), Agent("check")
    free: list[int] = []

    @seats.on(SeatTaken)
    async def hold(taken: SeatTaken, context: Context) -> SeatHeld:
        context.state["held"] = context.state.get("held", 0) + 1
        free.append(context.state["held"])
        return SeatHeld(flight=taken.flight)

    @seats.undoes(SeatHeld)
    async def give_back(held: SeatHeld, context: Context) -> None:
        context.state["held"] -= 1
        free.append(context.state["held"])

    @check.on(SeatHeld)
    async def overbooked(held: SeatHeld, context: Context) -> SeatRefused | None:
        context.state["seen"] = context.state.get("seen", 0) + 1
        return SeatRefused(flight=held.flight) if context.state["seen"] == 3 else None

    mesh = MemoryMesh()
    async with mesh.running(seats.consumer(), check.consumer(), coordinator()):
        await mesh.publish(*(SeatTaken(flight="LH 1") for _ in range(3)))
        await eventually(lambda: len(free) == 4)

    assert free == [1, 2, 3, 2]
