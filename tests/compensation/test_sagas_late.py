"""What fails below a step of a saga after that was answered."""

from __future__ import annotations

import asyncio
import dataclasses

from agency import (
    HOTEL,
    TRAIN,
    Agency,
    RefundCard,
    TripDone,
    VoyagePaid,
    charge,
    charge_alone,
    hotel_after,
    paid,
    refund,
    until,
)
from voyage import (
    CardCharged,
    CardRefused,
    ChargeCard,
    HotelReserved,
    ReserveHotel,
    ReserveTrain,
    TrainFull,
    TrainReserved,
    VoyagePlanned,
)

from antiphon import Agent, Event, PermanentError, RetryPolicy
from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import Told, saga_told
from antiphon.compensation.definition import Step
from antiphon.compensation.orchestrator import Saga, orchestrator
from antiphon.compensation.workflow import Phase
from antiphon.schemas.event import envelope_of
from antiphon.testing.delivery import MemoryState, delivery_of, hand
from antiphon.testing.waiting import eventually


class Guide:
    """Hears that there is a seat, and cannot go on; not before it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.mended = False
        self.came = 0

    def consumer(self) -> Consumer:
        agent = Agent("guide")

        @agent.on(TrainReserved)
        async def prepare(reserved: TrainReserved) -> None:
            self.came += 1
            await self.gate.wait()
            if not self.mended:
                message = "no guide"
                raise PermanentError(message)

        return agent.consumer()


async def test_s27_what_fails_below_a_step_of_a_saga_that_has_ended() -> None:
    """The saga had said that all is done: it is undone all the same, backwards, and has the reason."""
    agency, guide = Agency(), Guide()
    async with agency.running(*agency.crew(), guide.consumer()):
        workflow = await agency.plan()
        await until(agency, Phase.COMPLETED)
        guide.gate.set()
        run = await until(agency, Phase.COMPENSATED)
        await agency.until(workflow, Phase.COMPENSATED)
    assert run["reason"] == "guide could not handle train.reserved: PermanentError: no guide"
    assert (agency.log[3], sorted(agency.log[4:])) == ("-card", ["-hotel", "-train"])


async def test_s43_what_fails_below_a_step_after_the_pivot_parks() -> None:
    """Nothing is undone; a retry has the step's agent asked once more under the same id, and with its answer what failed."""
    pivot = Step("card", action=charge, done=CardCharged, kind="pivot")
    agency, guide = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, pivot])), Guide()
    async with agency.running(*agency.crew("train", "card"), guide.consumer()):
        workflow = await agency.plan()
        await until(agency, Phase.COMPLETED)
        guide.gate.set()
        [parked] = await agency.eventually(SagaParked, count=1)
        await until(agency, Phase.PARKED)
        guide.mended = True
        await agency.says(SagaIntervened(act=Act.RETRY, actor="ann", reason="found one"), workflow)
        await until(agency, Phase.COMPLETED)
        await eventually(lambda: guide.came > 1, what="the guide to be asked again")
        await agency.settled(workflow)
        asked = {envelope.id for envelope, _ in await agency.events(ReserveTrain)}
    assert (parked.problem, len(asked)) == ("guide could not handle train.reserved: PermanentError: no guide", 1)
    assert agency.log == ["train", "card", "train"]


async def test_s40_what_follows_an_optional_step_is_not_undone_with_it() -> None:
    """It was asked for on hearing the refusal, and stays; so does what follows from the saga's end."""
    optional = dataclasses.replace(HOTEL, optional=True)
    paying = Step("card", action=charge_without_room, done=CardCharged, undo=refund)
    last = Step("train", action=train_after_card, done=TrainReserved, optional=True, refused=TrainFull)
    saga = Saga("voyage", starts=VoyagePlanned, steps=[optional, paying, last], ends=paid)
    agency, diary = Agency(saga, hotel="refuses", train="refuses"), Agent("diary")

    @diary.on(VoyagePaid)
    async def write(paid: VoyagePaid) -> TripDone:
        return TripDone(amount=paid.amount)

    @diary.undoes(TripDone)
    async def strike(done: TripDone) -> None:
        agency.log.append("-diary")

    async with agency.running(*agency.crew(), diary):
        workflow = await agency.plan()
        await agency.eventually(TripDone, count=1)
        await until(agency, Phase.COMPLETED)
        await agency.settled(workflow)
    assert agency.log == ["card"]


def charge_without_room(planned: VoyagePlanned, room: HotelReserved | None) -> ChargeCard:
    return ChargeCard(seat="12A", room=room.room if room else None)


def train_after_card(planned: VoyagePlanned, charged: CardCharged) -> ReserveTrain:
    return ReserveTrain(to=planned.to)


_TWICE = RetryPolicy(attempts=2, base_s=0.05, cap_s=0.05)


async def test_s43_what_fails_after_the_pivot_goes_on_when_an_operator_says_so() -> None:
    """It is asked for again, then it parks, and nothing is undone; a retry has it done."""
    pivot = Step("card", action=charge, done=CardCharged, refused=CardRefused, kind="pivot")
    room = Step("hotel", action=hotel_after, done=HotelReserved, kind="retriable", retry=_TWICE)
    agency = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, pivot, room]), hotel="dies")
    async with agency.running(*agency.crew()):
        workflow = await agency.plan()
        [parked] = await agency.eventually(SagaParked, count=1)
        await until(agency, Phase.PARKED)
        asked = [envelope.id for envelope, _ in await agency.events(ReserveHotel)]
        assert (agency.log, len({*asked}), parked.event_id) == (["train", "card"], 2, asked[-1])
        del agency.moods["hotel"]
        await agency.says(SagaIntervened(act=Act.RETRY, actor="ann", reason="mended"), workflow)
        await until(agency, Phase.COMPLETED)
    assert agency.log == ["train", "card", "hotel"]


async def test_a_step_that_fails_further_down_is_undone_by_its_command() -> None:
    """It may have been carried out; of one that its own agent could not handle there is nothing to undo."""
    consumer = orchestrator(Saga("voyage", starts=VoyagePlanned, steps=[alone]))
    said: list[list[Event]] = []
    for failed in ("further down", None):
        state = MemoryState()
        [asked] = await hand(consumer, delivery_of(VoyagePlanned(to="A"), state=state))
        above = envelope_of(asked)
        told = saga_told("voyage")(
            saga="voyage", what=Told.FAILED, about=above.id, event_id=failed or above.id, reason="lost"
        )
        await hand(consumer, delivery_of(told.sealed(dataclasses.replace(above, id="told")), state=state))
        request = UndoRequested(agent="voyage", event_id=above.id, event_type=above.type, value=b"", reason="lost")
        sealed = request.sealed(dataclasses.replace(above, id="undo"))
        said.append(await hand(consumer, delivery_of(sealed, state=state)))
    assert said == [[RefundCard(amount=None)], []]


alone = Step("card", action=charge_alone, done=CardCharged, refused=CardRefused, undo=refund)
