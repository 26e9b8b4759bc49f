"""Steps of a saga that are undone by a command of their own."""

from __future__ import annotations

import asyncio
import dataclasses

from agency import TRAIN, VOYAGE, Agency, RefundCard, charge, charge_alone, refund, until
from voyage import CardCharged, ChargeCard, HotelReserved, TrainReserved, VoyagePlanned

from antiphon import Agent, Event, RetryPolicy
from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.undo import UndoRequested
from antiphon.compensation.definition import Step
from antiphon.compensation.orchestrator import Saga, orchestrator
from antiphon.compensation.workflow import Phase
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import envelope_of
from antiphon.testing.delivery import MemoryState, delivery_of, hand
from antiphon.testing.waiting import eventually


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
