"""Sagas in sagas: undone with their parent, or alone."""

from __future__ import annotations

from agency import VOYAGE, Agency, TripWanted, VoyagePaid, last, until, voyage
from voyage import HotelReserved, ReserveTrain, TrainReserved

from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.compensation.definition import Step
from antiphon.compensation.orchestrator import Saga
from antiphon.compensation.workflow import Phase


def train_after(wanted: TripWanted, paid: VoyagePaid | None) -> ReserveTrain:
    return ReserveTrain(to=wanted.to)


NESTED = Step("voyage", action=voyage, done=VoyagePaid, kind="compensatable")


def cancelled() -> SagaIntervened:
    return SagaIntervened(act=Act.CANCEL, actor="ann", reason="ill")


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
