"""Orchestrated sagas through real engines: conducted by their consumer, undone by the coordinator."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

from agency import (
    CARD,
    HOTEL,
    TRAIN,
    VOYAGE,
    Agency,
    RefundCard,
    TripDone,
    TripWanted,
    VoyagePaid,
    paid,
    refund,
    voyage,
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
from antiphon.bus.alarms import TimeCame
from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaFailed, Told, saga_told
from antiphon.compensation.definition import Step
from antiphon.compensation.orchestrator import Saga, orchestrator
from antiphon.compensation.workflow import Phase
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import envelope_of
from antiphon.testing.clock import FakeClock
from antiphon.testing.delivery import MemoryState, delivery_of, hand
from antiphon.testing.waiting import eventually


def done(paid: VoyagePaid) -> TripDone:
    return TripDone(amount=paid.amount)


def train_after(wanted: TripWanted, paid: VoyagePaid | None) -> ReserveTrain:
    return ReserveTrain(to=wanted.to)


def charge(planned: VoyagePlanned, reserved: TrainReserved) -> ChargeCard:
    return ChargeCard(seat=reserved.seat, room=None)


_TWICE = RetryPolicy(attempts=2, base_s=0.05, cap_s=0.05)
VOYAGE_STEPS = [TRAIN, HOTEL, CARD]
NESTED = Step("voyage", action=voyage, done=VoyagePaid, kind="compensatable")


class Money:
    """Whose card is charged by one agent, and given its money back by another one: nothing holds the second one back."""

    def __init__(self) -> None:
        self.moved: list[int] = []
        self.gate = asyncio.Event()

    def card(self) -> Consumer:
        agent = Agent("card")

        @agent.on(ChargeCard)
        async def charge(asked: ChargeCard) -> CardCharged:
            await self.gate.wait()
            self.moved.append(-90)
            return CardCharged(amount=90)

        return agent.consumer()

    def bank(self, *, takes: bool) -> Consumer:
        """One agent for both: what comes first is handled first."""
        agent = Agent("bank")

        @agent.on(RefundCard)
        async def give_back(asked: RefundCard) -> None:
            self.moved.append(-sum(self.moved))

        if takes:

            @agent.on(ChargeCard)
            async def charge(asked: ChargeCard) -> CardCharged:
                self.moved.append(-90)
                return CardCharged(amount=90)

        return agent.consumer()

    def refunds(self) -> Consumer:
        agent = Agent("refunds")

        @agent.on(RefundCard)
        async def give_back(asked: RefundCard) -> None:
            self.moved.append(-sum(self.moved))

        return agent.consumer()


async def until(agency: Agency, phase: Phase, saga: str = "voyage") -> dict[str, Any]:
    """Wait until a saga's only run is in *phase*, and return what is kept of it."""
    found: dict[str, Any] = {}

    async def there() -> bool:
        for record in await agency.records(f"{saga}.state"):
            if record.value is not None and not (record.key or b"").startswith(b"antiphon:"):
                [run] = json.loads(record.value).values()
                found.update(run)
        return found.get("phase") == phase.value

    await eventually(there, what=f"{saga} to be {phase.value}")
    return found


def cancelled() -> SagaIntervened:
    return SagaIntervened(act=Act.CANCEL, actor="ann", reason="ill")


async def test_s03_a_saga_of_which_nothing_can_be_undone() -> None:
    """It hears all the same that it is over: the coordinator keeps what a saga may still fail."""

    def only(planned: VoyagePlanned) -> ChargeCard:
        return ChargeCard(seat="12A", room=None)

    step = Step("card", action=only, done=CardCharged, refused=CardRefused, kind="read_only")
    agency = Agency(Saga("voyage", version="1", starts=VoyagePlanned, steps=[step]), card="refuses")
    async with agency.running(*agency.crew("card")):
        await agency.plan()
        assert "card" in (await until(agency, Phase.COMPENSATED))["reason"]


async def test_s01_a_saga_is_done() -> None:
    """Each step is asked for when what it builds on is there; the end is published, and nothing undone."""
    agency = Agency()
    async with agency.running(*agency.crew()):
        await agency.plan()
        [paid] = await agency.eventually(VoyagePaid, count=1)
        await until(agency, Phase.COMPLETED)
        await agency.quiet()
        [(charged, _)] = await agency.events(ChargeCard)
        [(start, _)] = await agency.events(VoyagePlanned)
        answers = [*await agency.events(TrainReserved), *await agency.events(HotelReserved)]
    assert paid == VoyagePaid(amount=90)
    assert {charged.parent_id, *charged.causes} == {start.id, *(answer.id for answer, _ in answers)}
    assert (sorted(agency.log[:2]), agency.log[2:]) == (["hotel", "train"], ["card"])


async def test_s12_a_saga_is_undone_where_its_join_refuses() -> None:
    """What the branches did; the saga knows when that is over, and why."""
    agency = Agency(card="refuses")
    async with agency.running(*agency.crew()):
        workflow = await agency.plan()
        run = await until(agency, Phase.COMPENSATED)
        await agency.until(workflow, Phase.COMPENSATED)
    assert sorted(agency.log) == ["-hotel", "-train", "hotel", "train"]
    assert run["reason"] == "card.refused, answered to step 'card'"


async def test_s11_a_saga_waits_for_what_still_runs() -> None:
    """One branch refuses while the other is at work: what that brings is undone too."""
    agency = Agency(train="refuses", hotel="waits")
    async with agency.running(*agency.crew()):
        await agency.plan()
        await agency.logged("hotel waits")
        await until(agency, Phase.COMPENSATING)
        agency.gates["hotel"].set()
        await until(agency, Phase.COMPENSATED)
    assert agency.log == ["hotel waits", "hotel", "-hotel"]


async def test_s09_what_an_agent_cannot_handle_fails_its_step() -> None:
    """A dead letter below a command is the saga's to judge: it is told by the coordinator, with the reason."""
    agency = Agency(card="dies")
    async with agency.running(*agency.crew()):
        await agency.plan()
        run = await until(agency, Phase.COMPENSATED)
    assert sorted(agency.log) == ["-hotel", "-train", "hotel", "train"]
    assert run["reason"] == "card could not handle charge.card: PermanentError: card"


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


async def test_s42_each_round_of_a_loop_is_undone_by_a_command_with_its_payload() -> None:
    """Not with that of the last one."""
    rounds = iter((30, 20, 10))
    loop = Step("card", action=charge_alone, done=CardCharged, repeat_while=owing, undo=refund)
    agency, bank, refunded = (
        Agency(Saga("voyage", starts=VoyagePlanned, steps=[loop])),
        Agent("bank"),
        list[int | None](),
    )

    @bank.on(ChargeCard)
    async def take(asked: ChargeCard) -> CardCharged:
        amount = next(rounds)
        return CardCharged(amount=amount, left=amount - 10)

    @bank.on(RefundCard)
    async def give_back(asked: RefundCard) -> None:
        refunded.append(asked.amount)

    async with agency.running(*agency.crew("train"), bank):
        workflow = await agency.plan()
        await until(agency, Phase.COMPLETED)
        await agency.lose(workflow)
        await until(agency, Phase.COMPENSATED)
    assert refunded == [10, 20, 30]


def owing(charged: CardCharged) -> bool:
    return charged.left > 0


async def test_s42_a_step_is_undone_by_a_command_of_its_own() -> None:
    """In its place: before what it builds on, which waits until the command was handled."""
    agency = Agency()
    async with agency.running(*agency.crew()):
        workflow = await agency.plan()
        await until(agency, Phase.COMPLETED)
        agency.hold("-card")
        await agency.lose(workflow)
        await agency.logged_all("-card waits")
        assert not {"-hotel", "-train"} & {*agency.log}
        agency.gates["-card"].set()
        await until(agency, Phase.COMPENSATED)
    assert agency.log[2:5] == ["card", "-card waits", "-card"]
    assert sorted(agency.log[5:]) == ["-hotel", "-train"]


async def test_s20_an_undoing_command_that_cannot_be_handled_parks() -> None:
    """It is tried again when an operator says so, under the same id."""
    agency = Agency(un_card="dies")
    async with agency.running(*agency.crew()):
        workflow = await agency.plan()
        await until(agency, Phase.COMPLETED)
        await agency.lose(workflow)
        await until(agency, Phase.PARKED)
        assert not {"-hotel", "-train"} & {*agency.log}
        del agency.moods["-card"]
        await agency.says(SagaIntervened(act=Act.RETRY, actor="ann", reason="mended"), workflow)
        await until(agency, Phase.COMPENSATED)
    assert sorted(agency.log[3:]) == ["-card", "-hotel", "-train"]


async def test_s14_an_optional_step_that_does_not_answer_is_undone_by_its_command() -> None:
    """Of the step alone, whose outcome nobody knows; the saga goes on without it."""
    unsure = Step(
        "card",
        action=charge,
        done=CardCharged,
        undo=refund,
        optional=True,
        timeout=0.2,
        retry=RetryPolicy(attempts=1),
    )
    agency = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, unsure]), card="waits")
    async with agency.running(*agency.crew("train", "card")):
        await agency.plan()
        await agency.logged_all("train", "card waits")
        await until(agency, Phase.COMPLETED)
        agency.gates["card"].set()
        await agency.logged_all("-card")
    assert "-train" not in agency.log


async def test_s15_an_undo_that_overtakes_its_action() -> None:
    """It finds nothing to undo. The action that comes after it is undone when it has come: no money is missing."""
    unsure = Step("card", action=charge, done=CardCharged, undo=refund, timeout=0.1, retry=RetryPolicy(attempts=1))
    agency, money = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, unsure])), Money()
    async with agency.running(*agency.crew("train"), money.card(), money.refunds()):
        workflow = await agency.plan()
        await agency.until(workflow, Phase.COMPENSATED)
        assert money.moved == [0]
        money.gate.set()
        await eventually(lambda: len(money.moved) > 2, what="the late action to be undone")
        await agency.settled(workflow)
        await agency.quiet()
    assert money.moved == [0, -90, 90]


async def test_s15_an_undo_leaves_a_tombstone_for_its_action() -> None:
    """The agent that is asked to give back what it has not taken yet does not take it any more: no money moves."""
    unsure = Step("card", action=charge, done=CardCharged, undo=refund, timeout=0.1, retry=RetryPolicy(attempts=2))
    agency, money = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, unsure])), Money()
    money.gate.set()
    async with agency.running(*agency.crew("train")):
        # Deployed without what takes money first, so that the undo is the first that comes.
        async with agency.running(money.bank(takes=False)):
            workflow = await agency.plan()
            await agency.until(workflow, Phase.COMPENSATED)
        async with agency.running(money.bank(takes=True)):
            await agency.settled(workflow)
            await agency.handled_twice_of("charge.card")
    passed_over = [one for one in await agency.handled() if one.event_type == "charge.card"]
    assert [(one.outcome, one.error and one.error.type) for one in passed_over] == [
        ("skipped", "UndoneBeforeError")
    ] * 2
    assert money.moved == [0]


async def test_s17_a_start_of_a_saga_on_a_workflow_that_has_ended() -> None:
    """It says that it failed and what to do, begins nothing, and nothing of what was done is undone for it."""
    agency = Agency()
    async with agency.running(*agency.crew()):
        workflow = await agency.plan()
        await until(agency, Phase.COMPLETED)
        await agency.publisher.publish([VoyagePlanned(to="A")], correlation_id=workflow)
        [failed] = await agency.eventually(SagaFailed, count=1)
        await agency.settled(workflow)
        run = await until(agency, Phase.COMPLETED)
    assert (sorted(agency.log), run["reason"]) == (["card", "hotel", "train"], "")
    assert failed.reason == (
        f"expected a start of saga 'voyage' in a workflow of its own, got one in {workflow}, where it is completed. "
        "Publish it without a correlation id"
    )


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


async def test_s24_a_command_that_undoes_has_no_deadline() -> None:
    """What is past its deadline is undone all the same; the commands of steps keep to it."""
    consumer, state = orchestrator(VOYAGE), MemoryState()
    root = Envelope.root("voyage.planned", source="/test")
    start = VoyagePlanned(to="A").sealed(dataclasses.replace(root, deadline_us=root.time_us + 1))
    asked = await hand(consumer, delivery_of(start, state=state))
    charged: list[Event] = []
    for command, answer in zip(asked, (TrainReserved(seat="1"), HotelReserved(room="7")), strict=True):
        above = envelope_of(command)
        sealed = dataclasses.replace(above, id=f"to {above.id}", type=answer.__event__.type, parent_id=above.id)
        charged = await hand(consumer, delivery_of(answer.sealed(sealed), state=state))
    [above] = [envelope_of(command) for command in charged]
    request = UndoRequested(agent="voyage", event_id=above.id, event_type=above.type, value=b"", reason="lost")
    [undoing] = await hand(consumer, delivery_of(request.sealed(dataclasses.replace(above, id="undo")), state=state))
    assert undoing == RefundCard(amount=None)
    assert (above.deadline_us, envelope_of(undoing).deadline_us) == (root.time_us + 1, None)


async def test_s39_a_saga_in_a_saga_is_undone_with_its_parent() -> None:
    """As a unit, in its place: after what followed from it."""
    parent = Saga(
        "trip", starts=TripWanted, steps=[NESTED, Step("last", action=last, done=HotelReserved, kind="compensatable")]
    )
    agency = Agency(VOYAGE, parent)
    async with agency.running(*agency.crew()):
        workflow = await agency.plan(TripWanted(to="A"))
        await until(agency, Phase.COMPLETED, "trip")
        await agency.lose(workflow)
        await until(agency, Phase.COMPENSATED, "trip")
        await until(agency, Phase.COMPENSATED)
    assert agency.log[4:6] == ["-hotel", "-card"], "the parent's last step, then what the nested one did"
    assert sorted(agency.log[6:]) == ["-hotel", "-train"]


def last(wanted: TripWanted, paid: VoyagePaid) -> ReserveHotel:
    return ReserveHotel(to=wanted.to)


async def test_s40_a_saga_in_a_saga_fails_alone() -> None:
    """What it did is undone; its parent, to whom it was optional, goes on."""
    optional = Step("voyage", action=voyage, done=VoyagePaid, optional=True)
    parent = Saga("trip", starts=TripWanted, steps=[optional, Step("train", action=train_after, done=TrainReserved)])
    agency = Agency(VOYAGE, parent, card="refuses")
    async with agency.running(*agency.crew()):
        workflow = await agency.plan(TripWanted(to="A"))
        await until(agency, Phase.COMPLETED, "trip")
        await until(agency, Phase.COMPENSATED)
        await agency.quiet()
        saga = await agency.kept(workflow)
    assert (agency.log.count("train"), agency.log.count("-train")) == (2, 1), "the parent's own train stays"
    assert saga.failure is None


async def test_s41_a_parent_is_undone_while_a_saga_in_it_runs() -> None:
    """The nested one is stopped, and what it had done is undone."""
    parent = Saga("trip", starts=TripWanted, steps=[NESTED])
    agency = Agency(VOYAGE, parent, card="waits")
    async with agency.running(*agency.crew()):
        workflow = await agency.plan(TripWanted(to="A"))
        await agency.logged_all("card waits")
        await agency.says(cancelled(), workflow)
        await until(agency, Phase.COMPENSATING)
        agency.gates["card"].set()
        await until(agency, Phase.COMPENSATED)
        await until(agency, Phase.COMPENSATED, "trip")
    assert sorted(agency.log) == sorted(["card waits", "train", "hotel", "card", "-card", "-hotel", "-train"])


async def test_a_workflow_ends_though_other_sagas_are_there() -> None:
    """None of them hears what this one is told, and all hear an operator; for neither is anybody waited."""
    agency = Agency(VOYAGE, Saga("trip", starts=TripWanted, steps=[NESTED]), card="dies")
    async with agency.running(*agency.crew()):
        workflow = await agency.plan()
        await until(agency, Phase.COMPENSATED)
        await agency.says(cancelled(), workflow)
        await agency.eventually(SagaIntervened, count=1)
        await agency.settled(workflow)
        await agency.until(workflow, Phase.COMPENSATED)


async def test_s44_a_step_without_a_kind_parks_its_saga() -> None:
    """Nobody can undo it, and nobody said that there is nothing to undo: a person decides, then the rest is undone."""
    silent = Step("card", action=charge, done=CardCharged)
    after = Step("hotel", action=hotel_after, done=HotelReserved, kind="compensatable")
    agency = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, silent, after]), hotel="dies")
    async with agency.running(*agency.crew()):
        workflow = await agency.plan()
        await until(agency, Phase.PARKED)
        assert agency.log == ["train", "card"]
        await agency.says(SagaIntervened(act=Act.SKIP, actor="ann", reason="refunded by hand"), workflow)
        await until(agency, Phase.COMPENSATED)
    assert agency.log == ["train", "card", "-train"]


def hotel_after(planned: VoyagePlanned, charged: CardCharged) -> ReserveHotel:
    return ReserveHotel(to=planned.to)


async def test_s14_a_step_that_does_not_answer_in_time() -> None:
    """Its command is published again under the same id; then the saga is undone without waiting for it, and what comes late is too."""
    slow = Step(
        "hotel",
        action=HOTEL.action,
        done=HotelReserved,
        kind="compensatable",
        timeout=0.2,
        retry=RetryPolicy(attempts=2),
    )
    agency = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN, slow]), hotel="waits")
    async with agency.running(*agency.crew()):
        await agency.plan()
        await agency.logged_all("train", "hotel waits", "-train")
        await until(agency, Phase.COMPENSATED)
        asked = [envelope.id for envelope, _ in await agency.events(ReserveHotel)]
        agency.gates["hotel"].set()
        await agency.logged_all("-hotel")
    assert (len(asked), len({*asked})) == (2, 1)


async def test_s09_a_saga_whose_first_step_cannot_be_handled() -> None:
    """It hears that it is over, though it had done nothing by which the coordinator would know it."""
    agency = Agency(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN]), train="dies")
    async with agency.running(*agency.crew("train")):
        await agency.plan()
        assert "could not handle reserve.train" in (await until(agency, Phase.COMPENSATED))["reason"]


async def test_s26_a_first_step_that_is_done_when_its_saga_is_over() -> None:
    """Nobody had waited for it; it is undone when it comes."""
    slow = dataclasses.replace(TRAIN, timeout=0.2, retry=RetryPolicy(attempts=1))
    agency = Agency(Saga("voyage", starts=VoyagePlanned, steps=[slow]), train="waits")
    async with agency.running(*agency.crew("train")):
        await agency.plan()
        await agency.logged_all("train waits")
        await until(agency, Phase.COMPENSATED)
        agency.gates["train"].set()
        await agency.logged_all("-train")
    assert agency.log == ["train waits", "train", "-train"]


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


def charge_alone(planned: VoyagePlanned) -> ChargeCard:
    return ChargeCard(seat="12A", room=None)


alone = Step("card", action=charge_alone, done=CardCharged, refused=CardRefused, undo=refund)


async def test_s47_a_run_goes_on_under_the_version_it_began_with() -> None:
    """Where that is not deployed it parks, and what comes for it is held until it is."""
    newer = Saga("voyage", version="2", starts=VoyagePlanned, steps=VOYAGE_STEPS)
    both = Saga("voyage", version="2", starts=VoyagePlanned, steps=VOYAGE_STEPS, previous=[VOYAGE])
    agency = Agency()
    async with agency.running(*agency.crew("train", "hotel")):
        workflow = await agency.plan()
        await agency.eventually(ChargeCard, count=1)
    agency.sagas = (newer,)
    async with agency.running(*agency.crew()):
        [parked] = await agency.eventually(SagaParked, count=1)
        await until(agency, Phase.PARKED)
    assert "it began under version 1, which is not deployed" in parked.problem
    agency.sagas = (both,)
    async with agency.running(*agency.crew()):
        await agency.says(SagaIntervened(act=Act.RETRY, actor="ann", reason="deployed"), workflow)
        await agency.eventually(VoyagePaid, count=1)
        await until(agency, Phase.COMPLETED)


async def test_s47_a_definition_that_was_changed_under_its_version() -> None:
    """What began with a step that is no more parks, with what to do, and goes on when that is done."""
    other = Saga("voyage", version="1", starts=VoyagePlanned, steps=[dataclasses.replace(TRAIN, name="rails")])
    agency = Agency(Saga("voyage", version="1", starts=VoyagePlanned, steps=[TRAIN]))
    async with agency.running(*agency.crew("hotel")):
        workflow = await agency.plan()
        await agency.eventually(ReserveTrain, count=1)
    agency.sagas = (other,)
    async with agency.running(*agency.crew("train")):
        [parked] = await agency.eventually(SagaParked, count=1)
    assert parked.problem == (
        "it began under another version 1, with step 'train', which this one has not: "
        "give this one a version= of its own, and that one as previous=[...]"
    )
    agency.sagas = (Saga("voyage", version="1", starts=VoyagePlanned, steps=[TRAIN]),)
    async with agency.running(*agency.crew("train")):
        await agency.says(SagaIntervened(act=Act.RETRY, actor="ann", reason="deployed"), workflow)
        await until(agency, Phase.COMPLETED)


async def test_s52_a_run_that_ended_is_forgotten() -> None:
    """A day later nothing of it is left in the state; until then a start that comes again begins nothing."""
    clock, state = FakeClock(), MemoryState()
    consumer = orchestrator(Saga("voyage", starts=VoyagePlanned, steps=[TRAIN]), clock_us=clock.now_us)
    start = delivery_of(VoyagePlanned(to="A"), state=state)
    [asked] = await hand(consumer, start)
    answer = TrainReserved(seat="1").sealed(
        dataclasses.replace(envelope_of(asked), id="answer", type="train.reserved", parent_id=envelope_of(asked).id)
    )
    assert await hand(consumer, delivery_of(answer, state=state)) == []
    assert await hand(consumer, start) == []
    clock.advance(2 * 86_400)
    assert await hand(consumer, delivery_of(TimeCame(), state=state)) == []
    assert state.values == {}
