"""Sagas whose definition changes while runs of them go on."""

from __future__ import annotations

import dataclasses

from agency import CARD, HOTEL, TRAIN, VOYAGE, Agency, VoyagePaid, until
from voyage import ChargeCard, ReserveTrain, VoyagePlanned

from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.compensation.orchestrator import Saga
from antiphon.compensation.workflow import Phase

VOYAGE_STEPS = [TRAIN, HOTEL, CARD]


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
