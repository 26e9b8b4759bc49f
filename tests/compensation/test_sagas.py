"""Orchestrated sagas through real engines: conducted by their consumer, undone by the coordinator."""

from __future__ import annotations

import dataclasses

from agency import HOTEL, TRAIN, Agency, VoyagePaid, charge, hotel_after, until
from voyage import CardCharged, CardRefused, ChargeCard, HotelReserved, ReserveHotel, TrainReserved, VoyagePlanned

from antiphon import RetryPolicy
from antiphon.bus.alarms import TimeCame
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.verdict import SagaFailed
from antiphon.compensation.definition import Step
from antiphon.compensation.orchestrator import Saga, orchestrator
from antiphon.compensation.workflow import Phase
from antiphon.schemas.event import envelope_of
from antiphon.testing.clock import FakeClock
from antiphon.testing.delivery import MemoryState, delivery_of, hand


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
