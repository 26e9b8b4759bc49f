"""What a saga makes of a failure below a step that is done, or of an optional one that others follow."""

from __future__ import annotations

import pytest
from voyage import (
    CardCharged,
    CardRefused,
    HotelReserved,
    Run,
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

from antiphon import RetryPolicy
from antiphon.bus.intervention import Act
from antiphon.compensation.definition import Step
from antiphon.compensation.instance import Failed
from antiphon.compensation.orchestrate import command_id, undoing
from antiphon.compensation.orchestrator import Saga

SEAT, ROOM, PAID, SENT = (
    TrainReserved(seat="12A"),
    HotelReserved(room="7"),
    CardCharged(amount=90),
    TicketsSent(number="N1"),
)
TRAIN = Step("train", action=train, done=TrainReserved, kind="compensatable")
HOTEL = Step("hotel", action=hotel, done=HotelReserved, kind="compensatable")
CARD = Step("card", action=card, done=CardCharged, refused=CardRefused, kind="compensatable")
PIVOT = Step("card", action=card, done=CardCharged, refused=CardRefused, kind="pivot")
TICKETS = Step("tickets", action=tickets, done=TicketsSent, kind="retriable", retry=RetryPolicy(attempts=3, base_s=1))


def run(*steps: Step) -> Run:
    """Return a run that waits for its card."""
    found = Run(Saga("voyage", starts=VoyagePlanned, ends=booked, steps=[TRAIN, HOTEL, *steps]))
    found.answer("hotel", ROOM)
    found.answer("train", SEAT)
    return found


def test_before_the_pivot_the_saga_is_undone() -> None:
    """Whatever was done, and whether or not the answer was heard before: that is chance. Told once more, it is no news."""
    going = run(CARD, TICKETS)
    assert going.dead("train", event="lost") == ["undo all: it broke"]
    assert (going.state, going.dead("train", event="lost"), going.answer("card", PAID)) == ("compensating", [], [])


def test_s27_a_saga_that_has_ended_is_undone() -> None:
    """Where it has no point of no return: its end has been published, and what follows from that is undone too."""
    going = run(CARD, TICKETS)
    going.answer("card", PAID)
    assert going.answer("tickets", SENT) == [repr(VoyageBooked(number="N1"))]
    assert going.dead("hotel", event="lost") == ["undo all: it broke"]
    assert going.state == "compensating"


@pytest.mark.parametrize(
    ("answer", "said"), [(PAID, "park train: it broke"), (CardRefused(why="poor"), "undo all: it broke")]
)
def test_while_the_pivot_runs_it_is_waited_for(answer: CardCharged | CardRefused, said: str) -> None:
    """Whether there is a way back is known when it has answered."""
    going = run(PIVOT, TICKETS)
    assert going.dead("train", event="lost") == []
    assert said in going.answer("card", answer)


def test_after_the_pivot_it_parks() -> None:
    """Nothing is undone, nor done twice by itself. A retry asks for it under its id, so that what failed comes again."""
    going = run(PIVOT, TICKETS)
    going.answer("card", PAID)
    asked = {step: [*ids] for step, ids in going.asked.items()}
    assert going.dead("train", event="lost") == ["park train: it broke"]
    assert (going.state, going.stages["train"], going.stages["card"]) == ("parked", "parked", "done")
    assert (going.decided(Act.RETRY), going.state) == (["again train"], "running")
    assert going.answer("train", SEAT, id="answer-2") == [], "the answer that is known"
    assert going.dead("train", event="lost") == ["park train: it broke"]
    assert (going.decided(Act.SKIP), going.state, going.stages["train"]) == ([], "running", "done")
    assert going.now is not None
    assert (going.now.steps["train"].problem, going.asked) == ("skipped by ann: she knows", asked)
    assert going.answer("tickets", SENT) == [repr(VoyageBooked(number="N1"))]


def test_the_pivot_itself_parks() -> None:
    """It was done: the saga does not turn back for what failed below it."""
    going = run(PIVOT, TICKETS)
    going.answer("card", PAID)
    assert going.dead("card", event="lost") == ["park card: it broke"]
    assert going.answer("tickets", SENT) == []
    assert (going.decided(Act.SKIP), going.state) == ([repr(VoyageBooked(number="N1"))], "completed")


def test_s27_a_saga_that_has_ended_after_its_pivot_parks() -> None:
    """It is completed again when a person has decided, and does not publish its end a second time."""
    going = run(PIVOT, TICKETS)
    going.answer("card", PAID)
    going.answer("tickets", SENT)
    assert (going.dead("hotel", event="lost"), going.state) == (["park hotel: it broke"], "parked")
    assert (going.decided(Act.RETRY), going.state) == (["again hotel"], "completed")


def test_an_optional_step_is_left() -> None:
    """As long as nothing has been begun that has its answer; then the saga is undone with it."""
    optional = Step("hotel", action=hotel, done=HotelReserved, optional=True)
    paying = Step("card", action=card_without_hotel, done=CardCharged, kind="compensatable")
    alone, built_on = (Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, optional, paying])) for _ in range(2))
    alone.answer("hotel", ROOM)
    assert alone.dead("hotel", event="lost") == ["undo hotel: it broke"]
    assert alone.answer("train", SEAT) == ["card"]
    assert (alone.stages["hotel"], alone.now and "hotel" in alone.now.known()) == ("skipped", False)
    built_on.answer("hotel", ROOM)
    built_on.answer("train", SEAT)
    assert built_on.dead("hotel", event="lost") == ["undo all: it broke"]


def owing(charged: CardCharged) -> bool:
    return charged.left > 0


def back(charged: CardCharged | None) -> CardRefused:
    return CardRefused(why="nobody knows" if charged is None else f"{charged.amount} back")


def test_s42_each_round_is_judged_and_undone_by_itself() -> None:
    """What fails below an earlier one fails the step that is at the next; each is undone with its own answer, or without any."""
    loop = Step("card", action=card, done=CardCharged, repeat_while=owing, undo=back)
    going = run(loop, TICKETS)
    going.answer("card", CardCharged(amount=1, left=2))
    going.answer("card", CardCharged(amount=2, left=1))
    first, second, third = going.asked["card"]
    assert going.tell(Failed(first, "lost", "it broke")) == ["undo all: it broke"]
    assert going.now is not None
    undone = [undoing(going.saga, going.now, "card", command) for command in (first, second, third)]
    assert undone == [CardRefused(why="1 back"), CardRefused(why="2 back"), CardRefused(why="nobody knows")]
    assert third == command_id(going.saga, "start", "card", 2)


def test_what_was_refused_and_asked_for_again_fails_once() -> None:
    """A second failure below the first command is no news to the one that is out."""
    trying = Step(
        "tickets", action=tickets, done=TicketsSent, kind="retriable", retry=RetryPolicy(attempts=3, base_s=1)
    )
    going = run(PIVOT, trying)
    going.answer("card", PAID)
    assert going.dead("tickets", event="lost") == ["wake 1 s"]
    assert going.due("tickets") == ["tickets"]
    assert going.tell(Failed(going.asked["tickets"][0], "lost too", "it broke")) == []
    assert going.stages["tickets"] == "running"
