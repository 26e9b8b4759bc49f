"""The explorer goes through every way that a saga can go, its time-outs among them, and finds what is wrong with one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pytest
from agency import VOYAGE
from touring import (
    FARE,
    PLANNED,
    PRICE,
    REFUSED,
    RENT,
    ReturnMoney,
    RoomTaken,
    SeatAsked,
    SeatTaken,
    TakeMoney,
    TakeSeat,
    Tour,
    TourPlanned,
    room,
    seat,
    tour,
)
from voyage import VoyagePlanned

from antiphon import Agent, Context, Event, RetryPolicy, Saga, Step
from antiphon.compensation import orchestrate, orchestrator
from antiphon.compensation.definition import Definition
from antiphon.compensation.instance import Answered, Command, Fact, Instance, Wake
from antiphon.testing.explorer import End, ExplorationError, Explored, Mishap, NotModelledError, explore

COSTS = (FARE, RENT, PRICE, 0)
ALL = frozenset(Mishap)
ASKS = Step("seat", action=seat, done=SeatTaken, working=SeatAsked, kind="compensatable", retry=RetryPolicy(attempts=1))


def explored(world: Tour, saga: Saga, planned: TourPlanned = PLANNED, **more: object) -> Explored:
    """Explore *saga* with the agents that it asks; nobody may have paid for what he does not get."""

    def paid_for_what_is_had(end: End) -> None:
        assert world.bank.balance == (sum(COSTS[: len(saga.steps)]) if end.state == "completed" else 0)

    agents = [saga, *world.agents[: len(saga.steps)]]
    return explore(agents, planned, invariant=paid_for_what_is_had, outside=[world.bank], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("saga", "most"),
    [
        pytest.param(tour(), 1, id="four steps"),
        pytest.param(tour(attempts=2), 1, id="asked twice"),
        pytest.param(tour(steps=2), 2, id="two mishaps"),
    ],
)
def test_s49_every_interleaving_of_a_saga(saga: Saga, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose turn it is, which deliveries crash, are repeated, given up or timed out, and which answers come too late."""
    world = Tour()
    done = explored(world, saga, most=most)
    with capsys.disabled():
        print(f"\n{done}")  # noqa: T201 - how much was gone through is part of the result
    assert (done.steps, done.exhaustive, done.most, done.interleavings > 1_000) == (len(saga.steps), True, most, True)


class SeatSpoiled(Event, fails=True):
    seat: str


def test_s49_every_interleaving_of_a_failure_below_a_step_that_is_done() -> None:
    """Another agent hears the answer, and says that it will not do: before or after the saga has heard it, and when it has ended."""
    world, inspector = Tour(), Agent("inspector")

    @inspector.on(SeatTaken)
    async def inspect(taken: SeatTaken) -> SeatSpoiled:
        return SeatSpoiled(seat=taken.seat)

    def nothing_is_left(end: End) -> None:
        assert (end.state, world.bank.balance) == ("compensated", 0)

    saga = tour(steps=2)
    done = explore(
        [saga, *world.agents[:2], inspector], PLANNED, invariant=nothing_is_left, outside=[world.bank], most=1
    )
    assert (done.exhaustive, done.interleavings > 1_000) == (True, True)


def test_s49_every_interleaving_of_a_failure_below_a_step_before_a_pivot() -> None:
    """What another agent gives up turns the saga back, or, when the pivot is done, waits for a person and is done then."""
    world, inspector = Tour(), Agent("inspector")

    @inspector.on(SeatTaken)
    async def inspect(taken: SeatTaken) -> None: ...

    def paid_for_what_is_had(end: End) -> None:
        assert world.bank.balance == (FARE + RENT if end.state == "completed" else 0)

    taking = Step("seat", action=seat, done=SeatTaken, kind="compensatable")
    pivot = Step("room", action=room, done=RoomTaken, kind="pivot")
    saga = Saga("tour", version="1", starts=TourPlanned, steps=[taking, pivot])
    done = explore([saga, *world.agents[:2], inspector], PLANNED, invariant=paid_for_what_is_had, outside=[world.bank])
    assert (done.exhaustive, done.interleavings > 1_000) == (True, True)


def test_s49_every_interleaving_of_an_undo_that_overtakes_its_action() -> None:
    """What the card is asked for is not done any more once it was asked to undo it, whichever of them is handled first."""
    world = Tour(refund=gives_back_what_is_noted, charge=takes_what_is_noted)

    def paid_for_what_is_had(end: End) -> None:
        assert world.bank.balance == (FARE + RENT + PRICE if end.state == "completed" else 0)

    def nothing_is_done_after_its_undo(end: End) -> None:
        assert "too late" not in world.bank.payments

    done = explore(
        [tour(steps=3), *world.agents[:3]],
        PLANNED,
        invariant=[paid_for_what_is_had, nothing_is_done_after_its_undo],
        outside=[world.bank],
        mishaps={Mishap.LATE},
        most=2,
    )
    assert (done.exhaustive, done.interleavings > 100) == (True, True)


def test_longer_sagas_are_drawn_from_seeds() -> None:
    """With any number of mishaps on a way."""
    drawn = explored(Tour(), tour(), steps=3, seeds=range(60))
    assert (drawn.steps, drawn.interleavings, drawn.exhaustive) == (4, 60, False)


class TripWanted(Event):
    to: str


class TourDone(Event):
    seat: str


def trip(wanted: TripWanted) -> TourPlanned:
    return TourPlanned(to=wanted.to)


def done(taken: SeatTaken) -> TourDone:
    return TourDone(seat=taken.seat)


def test_a_saga_in_a_saga() -> None:
    """The inner one's time-out, and all that both are told."""
    world, asks = Tour(), dataclasses.replace(ASKS, working=(), timeout=5.0)
    inner = Saga("inner", starts=TourPlanned, steps=[asks], ends=done)
    outer = Saga("outer", starts=TripWanted, steps=[Step("tour", action=trip, done=TourDone, kind="compensatable")])

    def paid_for_what_is_had(end: End) -> None:
        assert world.bank.balance == (FARE if end.state == "completed" else 0)

    explored = explore(
        [outer, inner, world.agents[0]], TripWanted(to="Rome"), outside=[world.bank], invariant=paid_for_what_is_had
    )
    assert (explored.steps, explored.exhaustive, explored.interleavings > 1_000) == (1, True, True)


def takes_what_is_noted(world: Tour, asked: TakeMoney, context: Context) -> None:
    """By its state alone, whatever the command's id."""
    if "unwanted" in world.bank.payments:
        world.bank.pay("too late", 0)
    if not context.state.get("taken"):
        world.bank.pay(f"taken {len(world.bank.payments)}", PRICE)


def gives_back_what_is_noted(world: Tour, asked: ReturnMoney, context: Context) -> None:
    world.bank.pay("unwanted", 0)
    if taken := context.state.get("taken", 0):
        world.bank.pay(f"back {len(world.bank.payments)}", -taken)
        context.state["taken"] = 0


# Planted bugs.


def gives_back_the_fare_each_time(world: Tour, taken: SeatTaken, context: Context) -> None:
    """Neither `once` nor an idempotency key."""
    world.bank.pay(f"back {len(world.bank.payments)}", -FARE)


def gives_back_too_little(world: Tour, taken: SeatTaken, context: Context) -> None:
    """One case is forgotten: that of a window seat."""
    world.bank.pay(context.id, 0 if taken.seat.endswith("A") else -FARE)


def takes_the_price_each_time(world: Tour, asked: TakeMoney, context: Context) -> None:
    """The saga's second command, after its time-out, has the same id as the first; nobody looks at it."""
    world.bank.pay(f"price {len(world.bank.payments)}", PRICE)


def gives_back_what_it_is_told(world: Tour, asked: ReturnMoney, context: Context) -> None:
    """The money may have been taken after the saga gave up waiting: then it is not known, and given back all the same."""
    world.bank.pay(context.id, -(asked.amount or 0))


@pytest.mark.parametrize(
    ("world", "planned", "saga", "mishaps", "told"),
    [
        pytest.param(
            Tour(unseat=gives_back_the_fare_each_time),
            REFUSED,
            tour(steps=3),
            ALL,
            "train handles undo seat.taken, and its worker crashes before the commit",
            id="an undo that is not idempotent",
        ),
        pytest.param(
            Tour(unseat=gives_back_too_little),
            REFUSED,
            tour(steps=3),
            ALL,
            "train handles undo seat.taken",
            id="an undo that forgets one case",
        ),
        pytest.param(
            Tour(charge=takes_the_price_each_time),
            PLANNED,
            tour(steps=3, attempts=2),
            {Mishap.LATE},
            "card handles take.money again: money.taken",
            id="a time-out that asks again while the answer is on its way",
        ),
        pytest.param(
            Tour(refund=gives_back_what_it_is_told),
            PLANNED,
            tour(steps=3),
            {Mishap.LATE},
            "a time comes that tour has named, while an answer is on its way",
            id="a time-out that gives up while the answer is on its way",
        ),
    ],
)
def test_a_saga_with_a_bug_is_found(
    world: Tour, planned: TourPlanned, saga: Saga, mishaps: Collection[Mishap], told: str
) -> None:
    """By a way with no more than one mishap, told as a tree; and found again by its replay alone, in the same words."""
    with pytest.raises(ExplorationError) as caught:
        explored(world, saga, planned, mishaps=mishaps)
    with pytest.raises(ExplorationError) as again:
        explored(world, saga, planned, mishaps=mishaps, replay=caught.value.replay)
    lines = str(caught.value).splitlines()
    assert caught.value.problem.startswith("paid_for_what_is_had does not hold")
    assert any(line.endswith(told) for line in lines), str(caught.value)
    assert any("└─" in line for line in lines)
    assert str(again.value) == str(caught.value)


def test_a_coordinator_that_forgets_a_timer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that names no new time when an agent says that it is still at it: its saga waits for ever."""
    slow, asks = Agent("slow"), dataclasses.replace(ASKS, timeout=5.0)

    @slow.on(TakeSeat)
    async def take(asked: TakeSeat) -> SeatAsked:
        return SeatAsked()

    def forgetful(saga: Definition, now: Instance | None, fact: Fact) -> tuple[Instance, list[Command]]:
        after, commands = orchestrate.advance(saga, now, fact)
        is_forgotten = isinstance(fact, Answered) and isinstance(fact.said.event, SeatAsked)
        return after, [one for one in commands if not (is_forgotten and isinstance(one, Wake))]

    saga = Saga("tour", starts=TourPlanned, steps=[asks])
    assert explore([saga, slow], PLANNED).exhaustive
    monkeypatch.setattr(orchestrator, "advance", forgetful)
    with pytest.raises(ExplorationError, match=r"it does not end: tour is running \(seat is running\)"):
        explore([saga, slow], PLANNED)


def test_what_goes_by_a_clock_of_its_own_is_refused() -> None:
    """With what to give instead."""
    with pytest.raises(NotModelledError, match=r"got 'voyage', a consumer .* Give a Saga itself"):
        explore([VOYAGE.consumer()], VoyagePlanned(to="A"))


def test_a_command_that_nobody_hears_is_found() -> None:
    """The saga would wait for ever."""
    with pytest.raises(
        ExplorationError, match=r"it does not end: voyage is running \(train is running, hotel is running\)"
    ):
        explore([VOYAGE], VoyagePlanned(to="A"))
