"""The machine of a saga: what it asks for next, and what it does where a step fails."""

from __future__ import annotations

from voyage import (
    CardCharged,
    CardRefused,
    ChargeCard,
    HotelFull,
    HotelReserved,
    ReleaseTrain,
    Run,
    TicketsSent,
    TrainAsked,
    TrainFull,
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
from antiphon.compensation.instance import Fail, Said, Started, Verdict
from antiphon.compensation.orchestrator import Saga

SEAT, ROOM, PAID, SENT = (
    TrainReserved(seat="12A"),
    HotelReserved(room="7"),
    CardCharged(amount=90),
    TicketsSent(number="N1"),
)
TRAIN = Step("train", action=train, done=TrainReserved, refused=TrainFull, working=TrainAsked, kind="compensatable")
HOTEL = Step("hotel", action=hotel, done=HotelReserved, refused=HotelFull, kind="compensatable")
CARD = Step("card", action=card, done=CardCharged, refused=CardRefused, kind="pivot")
TICKETS = Step(
    "tickets", action=tickets, done=TicketsSent, kind="retriable", retry=RetryPolicy(attempts=3, base_s=1, cap_s=60)
)
VOYAGE = Saga("voyage", starts=VoyagePlanned, ends=booked, steps=[TRAIN, HOTEL, CARD, TICKETS])


def test_s10_a_saga_joins_its_branches() -> None:
    """What builds on nothing runs in parallel; what builds on both waits for both, and is asked for once."""
    run = Run(VOYAGE)
    told = [
        run.opening,
        run.answer("hotel", ROOM),
        run.answer("train", SEAT),
        run.answer("card", PAID),
        run.answer("tickets", SENT),
    ]
    assert told == [["train", "hotel"], [], ["card"], ["tickets"], [repr(VoyageBooked(number="N1"))]]
    assert run.state == "completed"
    assert run.parents("card") == ("answer-2", "answer-1")


def test_s02_a_step_of_a_saga_refuses() -> None:
    """Then all that follows from the start is undone, and the reason kept; the order is the coordinator's."""
    run = Run(VOYAGE)
    run.answer("train", SEAT)
    run.answer("hotel", ROOM)
    assert run.answer("card", CardRefused(why="poor")) == ["undo all: card.refused, answered to step 'card'"]
    assert run.state == "compensating"
    run.judged(Verdict.UNDONE)
    assert (run.state, run.now and run.now.reason) == ("compensated", "card.refused, answered to step 'card'")


def test_s05_a_step_is_skipped_where_its_condition_does_not_hold() -> None:
    """What needs its answer is skipped with it; what can do without gets None."""
    hotel_ = Step("hotel", action=hotel, done=HotelReserved, when=abroad)
    needing = Step("tickets", action=room_alone, done=TicketsSent)
    paying = Step("card", action=card_without_hotel, done=CardCharged)
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, hotel_, needing, paying]), to="home")
    assert run.opening == ["train"]
    assert run.answer("train", SEAT) == ["card"]
    run.answer("card", PAID)
    assert (run.state, run.stages) == (
        "completed",
        {"train": "done", "hotel": "skipped", "tickets": "skipped", "card": "done"},
    )


def abroad(planned: VoyagePlanned) -> bool:
    return planned.to != "home"


def room_alone(planned: VoyagePlanned, room: HotelReserved) -> ChargeCard:
    return ChargeCard(seat=planned.to, room=room.room)


def test_s07_a_step_says_that_it_is_still_at_it() -> None:
    """It goes on running, and its time-out begins again."""
    slow = Step("train", action=train, done=TrainReserved, working=TrainAsked, timeout=5)
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[slow]))
    assert run.opening == ["train", "wake 5 s"]
    first = run.commands[-1]
    assert run.answer("train", TrainAsked()) == ["wake 5 s"]
    assert run.commands[-1] != first, "the time that was asked for first would still count"
    run.answer("train", SEAT)
    assert run.state == "completed"


def test_s14_an_outcome_that_is_unknown() -> None:
    """The same command is published again; then the saga is undone, and the coordinator told not to wait for it."""
    slow = Step(
        "hotel", action=hotel, done=HotelReserved, timeout=5, retry=RetryPolicy(attempts=2), kind="compensatable"
    )
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, slow]))
    run.answer("train", SEAT)
    assert run.due("hotel") == ["again hotel", "wake 5 s"]
    assert run.due("hotel") == ["undo all: no answer to step 'hotel' within 5 s, 2 times"]
    [fail] = [command for command in run.commands if isinstance(command, Fail)]
    assert fail.unknown == (run.asked["hotel"][0],)


def test_s18_an_answer_that_comes_twice_moves_a_saga_once() -> None:
    """Also one of a loop, whose step is running again when it comes."""
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, HOTEL, LOOP]))
    run.answer("hotel", ROOM)
    assert [run.answer("train", SEAT, id="a"), run.answer("train", SEAT, id="a")] == [["card"], []]
    part = CardCharged(amount=1, left=2)
    assert run.answer("card", part, id="b") == ["card"]
    assert run.answer("card", part, id="b", made=0) == []
    assert run.below(part, parent=run.asked["card"][0]) == [], "a second answer to what was answered"
    assert run.stages["card"] == "running"


def owing(charged: CardCharged) -> bool:
    return charged.left > 0


LOOP = Step(
    "card",
    action=card,
    done=CardCharged,
    repeat_while=owing,
    kind="compensatable",
    refused=CardRefused,
)


def test_s19_answers_that_come_out_of_order() -> None:
    """An answer below another counts for the step that waits for its type; one to nothing that was asked changes nothing."""
    run = Run(VOYAGE)
    assert run.answer("hotel", ROOM) == []
    assert run.below(PAID) == []
    assert run.below(SEAT) == ["card"]
    assert run.below(SENT) == []
    assert run.below(PAID) == ["tickets"]


def test_s42_a_loop_asks_as_often_as_it_holds() -> None:
    """Each round is a command of its own, which follows from the answer before; so each can be undone."""
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, HOTEL, LOOP]))
    run.answer("hotel", ROOM)
    run.answer("train", SEAT)
    assert run.answer("card", CardCharged(amount=1, left=1)) == ["card"]
    assert run.parents("card") == ("answer-3",)
    assert run.answer("card", CardCharged(amount=1)) == []
    assert (run.state, len(set(run.asked["card"]))) == ("completed", 2)


def test_s40_a_saga_goes_on_without_what_is_optional() -> None:
    """What the optional step did is undone as a unit, and what builds on it gets None."""
    hotel_ = Step("hotel", action=hotel, done=HotelReserved, refused=HotelFull, optional=True)
    paying = Step("card", action=card_without_hotel, done=CardCharged)
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, hotel_, paying]))
    assert run.dead("hotel", why="sub-saga failed") == ["undo hotel: sub-saga failed"]
    assert run.answer("train", SEAT) == ["card"]
    run.answer("card", PAID)
    assert run.state == "completed"


def test_s43_after_the_pivot_it_goes_forward_only() -> None:
    """What fails then is asked for again, with growing waits and new ids, then parked; an operator has it go on."""
    run = Run(VOYAGE)
    run.answer("train", SEAT)
    run.answer("hotel", ROOM)
    run.answer("card", PAID)
    assert run.dead("tickets", event="f1") == ["wake 1 s"]
    assert run.dead("tickets", event="f1") == [], "one failure is told by the coordinator and by the answer itself"
    assert run.due("tickets") == ["tickets"]
    assert run.dead("tickets", event="f2") == ["wake 2 s"]
    run.due("tickets")
    assert run.dead("tickets", event="f3") == ["park tickets: it broke"]
    assert (run.state, len({*run.asked["tickets"]})) == ("parked", 3)
    assert run.decided(Act.CANCEL) == []
    assert run.decided(Act.RETRY) == ["tickets"]
    assert run.state == "running"
    run.answer("tickets", SENT)
    assert run.state == "completed"


def test_s43_a_pivot_that_nobody_knows_of_parks() -> None:
    """It may have been done, so nothing is undone; an answer that comes late has the saga go on."""
    unsure = Step("card", action=card, done=CardCharged, kind="pivot", timeout=1, retry=RetryPolicy(attempts=1))
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, HOTEL, unsure]))
    run.answer("train", SEAT)
    run.answer("hotel", ROOM)
    assert run.due("card") == ["park card: no answer to step 'card' within 1 s, 1 times"]
    assert run.state == "parked"
    assert run.decided(Act.RETRY) == ["again card", "wake 1 s"]
    run.due("card")
    assert run.answer("card", PAID) == []
    assert run.state == "completed"


def test_s43_what_fails_beside_the_pivot_waits_for_it() -> None:
    """Whether there is a way back is known when the pivot has been answered."""
    beside = Step("tickets", action=tickets_at_once, done=TicketsSent, retry=RetryPolicy(attempts=1))
    pivot = Step("card", action=card_at_once, done=CardCharged, refused=CardRefused, kind="pivot")
    back, forward = (Run(Saga("voyage", starts=VoyagePlanned, steps=[beside, pivot])) for _ in range(2))
    assert (back.dead("tickets"), forward.dead("tickets")) == ([], [])
    assert back.answer("card", CardRefused(why="poor")) == ["undo all: it broke"]
    assert forward.answer("card", PAID) == ["park tickets: it broke"]


def tickets_at_once(planned: VoyagePlanned) -> ReleaseTrain:
    return ReleaseTrain(to=planned.to, seat=None)


def card_at_once(planned: VoyagePlanned) -> ChargeCard:
    return ChargeCard(seat=planned.to, room=None)


def test_s44_a_step_that_does_not_say_its_kind() -> None:
    """The coordinator is told of it: where nobody can undo it, a person must decide."""
    silent = Step("train", action=train, done=TrainReserved)
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[silent, HOTEL]))
    run.answer("train", SEAT)
    run.dead("hotel")
    [fail] = [command for command in run.commands if isinstance(command, Fail)]
    assert fail.undeclared == (run.asked["train"][0],)


def test_s36_s37_a_saga_is_cancelled_once() -> None:
    """Nothing more is asked for, whatever is answered; a second word changes nothing."""
    run = Run(VOYAGE)
    assert run.decided(Act.CANCEL) == ["undo all: cancelled by ann: she knows"]
    assert run.decided(Act.CANCEL) == []
    assert run.answer("train", SEAT) + run.answer("hotel", ROOM) == []
    run.judged(Verdict.PARKED)
    assert run.state == "parked"
    run.judged(Verdict.UNDONE)
    assert run.state == "compensated"


def test_s41_a_saga_is_stopped_from_outside() -> None:
    """Its parent is undone, or the workflow failed elsewhere: it asks for nothing more, and leaves undoing to others."""
    run = Run(VOYAGE)
    assert run.judged(Verdict.STOPPED) == []
    assert run.answer("train", SEAT) + run.answer("hotel", ROOM) + run.dead("train") == []
    assert run.state == "compensating"


def test_s17_a_start_that_comes_twice_begins_one_run() -> None:
    """Also when the run has ended."""
    run = Run(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN]))
    start = Started(Said("start", VoyagePlanned(to="Rome")))
    assert run.tell(start) == []
    run.answer("train", SEAT)
    assert run.tell(start) == []
    assert run.state == "completed"
