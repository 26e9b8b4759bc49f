"""Sagas that cannot work are refused where they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from voyage import (
    CardCharged,
    ChargeCard,
    HotelReserved,
    ReleaseTrain,
    ReserveTrain,
    TicketsSent,
    TrainReserved,
    VoyageBooked,
    VoyagePlanned,
    booked,
    card,
    card_without_hotel,
    hotel,
    tickets,
    train,
)

from antiphon import Event
from antiphon.compensation.definition import Kind, Step
from antiphon.compensation.errors import SagaDefinitionError
from antiphon.compensation.orchestrator import Saga

TRAIN = Step("train", action=train, done=TrainReserved)
HOTEL = Step("hotel", action=hotel, done=HotelReserved)
CARD = Step("card", action=card, done=CardCharged)


class Keyed(Event, key="name"):
    name: str


def release(start: VoyagePlanned, reserved: TrainReserved | None) -> ReleaseTrain:
    return ReleaseTrain(to=start.to, seat=reserved.seat if reserved else None)


def unsafe_release(start: VoyagePlanned, reserved: TrainReserved) -> ReleaseTrain:
    return ReleaseTrain(to=start.to, seat=reserved.seat)


def again(planned: VoyagePlanned, reserved: TrainReserved) -> ReserveTrain:
    return ReserveTrain(to=planned.to + reserved.seat)


def ask_for_anything(planned: VoyagePlanned) -> Any:
    return planned


def in_sunshine(weather) -> bool:  # type: ignore[no-untyped-def]  # what is not annotated goes by its name
    return bool(weather)  # pyright: ignore[reportUnknownArgumentType] - as above


def fine(planned: VoyagePlanned) -> bool:
    return planned.to != "London"


async def slowly(planned: VoyagePlanned) -> ReserveTrain:
    return ReserveTrain(to=planned.to)


def saga(*steps: Step, **more: Any) -> Saga:
    return Saga("voyage", starts=VoyagePlanned, steps=steps, **more)


def test_what_a_step_builds_on_is_read_from_its_functions() -> None:
    """Parameters name the answers, so the order need not be said twice; `after` adds to it."""
    made = saga(TRAIN, HOTEL, CARD, Step("tickets", action=tickets, done=TicketsSent, after=["hotel"]), ends=booked)
    assert {name: plan.after for name, plan in made.steps.items()} == {
        "train": (),
        "hotel": (),
        "card": ("train", "hotel"),
        "tickets": ("hotel", "card"),
    }
    assert made.emits.issuperset([ChargeCard, VoyageBooked])
    assert made.hears == {VoyagePlanned, TrainReserved, HotelReserved, CardCharged, TicketsSent}


def test_a_step_with_an_undo_is_compensatable() -> None:
    """It need not say so; its command is what is undone."""
    made = saga(Step("train", action=train, done=TrainReserved, undo=release))
    assert made.steps["train"].kind is Kind.COMPENSATABLE
    assert made.asks == {"reserve.train": ReserveTrain}
    assert made.emits == {ReserveTrain, ReleaseTrain}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (saga, "expected steps, got none"),
        (lambda: saga(TRAIN, TRAIN), "expected one step 'train', got two"),
        (lambda: Saga("my saga", starts=VoyagePlanned, steps=[TRAIN]), "got 'my saga'"),
        (lambda: saga(Step("start", action=train, done=TrainReserved)), "expected one step 'start', got two"),
        (
            lambda: saga(TRAIN, Step("hotel", action=hotel, done=HotelReserved, after=["plane"])),
            "expected after= to name other steps, train; got 'plane'",
        ),
        (
            lambda: saga(
                Step("train", action=train, done=TrainReserved, after=["hotel"]),
                Step("hotel", action=hotel, done=HotelReserved, after=["train"]),
            ),
            "expected steps in an order, got a circle: ",
        ),
        (
            lambda: saga(TRAIN, CARD),
            "expected parameter 'room' to be the start event or a step's answer, got HotelReserved",
        ),
        (
            lambda: saga(TRAIN, Step("other", action=train, done=TrainReserved), HOTEL, CARD),
            "which several do: train, other. Call the parameter as the step",
        ),
        (lambda: saga(Step("train", action=train, done=())), "expected done= to name what says that it is done"),
        (lambda: saga(Step("train", action=train, done="train.reserved")), "to name event classes, got 't'"),  # type: ignore[arg-type]  # that is the point
        (lambda: saga(Step("train", action=train, done=Keyed)), "got keyed keyed by 'name'"),
        (lambda: saga(Step("train", action=train, done=VoyagePlanned)), "expected answers that do not start the saga"),
        (lambda: saga(Step("train", action=again, done=TrainReserved)), "To take it again, say repeat_while="),
        (
            lambda: saga(Step("train", action=ask_for_anything, done=TrainReserved)),
            "expected action to say by its return",
        ),
        (lambda: saga(Step("train", action=slowly, done=TrainReserved)), "expected a plain function"),  # type: ignore[arg-type]  # that is the point
        (
            lambda: saga(Step("train", action=train, done=TrainReserved, when=in_sunshine)),  # pyright: ignore[reportUnknownArgumentType] - as above
            "or to be called as what it gets, start or train",
        ),
        (lambda: saga(Step("train", action=train, done=TrainReserved, kind="maybe")), "got 'maybe'"),  # type: ignore[arg-type]  # that is the point
        (lambda: saga(Step("train", action=train, done=TrainReserved, timeout=0)), "more than 0 seconds, got 0"),
        (
            lambda: saga(Step("train", action=train, done=TrainReserved, kind="read_only", undo=release)),
            "expected no undo of a read_only step",
        ),
        (
            lambda: saga(Step("train", action=train, done=TrainReserved, undo=unsafe_release)),
            "expected its own answer as TrainReserved | None",
        ),
        (
            lambda: saga(
                Step("train", action=train, done=TrainReserved, kind="pivot"),
                Step("hotel", action=hotel, done=HotelReserved, kind="compensatable", after=["train"]),
            ),
            "expected no compensatable step after the pivot 'train'",
        ),
        (
            lambda: saga(
                Step("train", action=train, done=TrainReserved, kind="pivot"),
                Step("hotel", action=hotel, done=HotelReserved, kind="pivot"),
            ),
            "expected one pivot at most, got train, hotel",
        ),
        (
            lambda: saga(
                TRAIN,
                Step("hotel", action=hotel, done=HotelReserved, optional=True),
                Step("card", action=card_without_hotel, done=CardCharged),
                Step("tickets", action=tickets, done=TicketsSent, when=fine),
                ends=booked,
            ),
            "expected the answers of tickets as ... | None",
        ),
        (lambda: saga(TRAIN, previous=[saga(HOTEL)]), "expected previous= to name earlier versions of 'voyage'"),
    ],
)
def test_s51_a_saga_that_cannot_work_is_refused(make: Callable[[], Saga], problem: str) -> None:
    """Each with file and line, what was expected and what came."""
    with pytest.raises(SagaDefinitionError) as refused:
        make()
    assert problem in str(refused.value)
    assert refused.value.place.file == __file__
