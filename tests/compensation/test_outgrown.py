"""A workflow of which there is more to note than fits into a record: it halts, and no other one with it."""

from __future__ import annotations

import orjson
import pytest
from test_coordinator import UNDO, Town, handled, refused, reserved

from antiphon import Agent, Event
from antiphon.bus.activity import Emitted, Handled
from antiphon.bus.claim import LIMIT
from antiphon.bus.claims import Claims
from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.undo import UndoRequested
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.kept import Kept, kept
from antiphon.compensation.outgrown import REASON_ROOM
from antiphon.compensation.reading import read_kept
from antiphon.compensation.workflow import Phase, undo_id
from antiphon.schemas.event import envelope_of
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually


class Grown(Event):
    ballast: str


def large(workflow: str, number: int, *, size: int = 400_000) -> Handled:
    """Tell of an event that takes about four thirds of *size* bytes to note, being in base64."""
    emitted = Emitted(id=f"{workflow}-{number}", type="reserved", undo=b"\x00" * size)
    return handled(workflow, f"{workflow}-{number - 1}", emitted, type="reserved")


def now(town: Town, workflow: str) -> Kept:
    return kept(town.state.values[workflow])


async def test_the_others_of_the_record_go_on() -> None:
    """What else the record tells of is noted, and undone; of the one that is too large nothing is said but that it waits."""
    town = Town()
    await town.hears(large("w1", 1), handled("w2", "r2", reserved("e2")))
    before = now(town, "w1").workflow

    asked, parked = await town.hears(
        large("w1", 2),
        handled("w1", "w1-2", refused("f1"), type="reserved"),
        handled("w2", "e2", refused("f2"), type="reserved"),
    )

    assert isinstance(asked, UndoRequested)
    assert (asked.event_id, now(town, "w2").workflow.phase) == ("e2", Phase.COMPENSATING)
    halted = now(town, "w1").workflow
    assert halted == before._replace(halted=halted.halted)
    assert halted.phase is Phase.PARKED
    assert parked == SagaParked(agent="compensation", event_id="w1", event_type="", problem=halted.halted)
    assert envelope_of(parked).correlation_id == "w1"
    assert halted.halted.startswith(f"expected at most {LIMIT} bytes to note of it, got 1067")


async def test_one_that_halted_stays_as_it_is() -> None:
    """Nothing is noted, nothing undone, and it is not forgotten, whatever is told of it and however long it takes."""
    town = Town(linger_s=60)
    await town.hears(large("w", 1))
    await town.hears(large("w", 2))
    before = now(town, "w").workflow
    said = await town.hears(handled("w", "w-1", refused("f"), type="reserved"))
    for _ in range(3):
        town.clock.advance(40 * 86_400)
        said += await town.looks()
    assert (said, now(town, "w").workflow) == ([], before)


async def test_what_is_undone_by_hand_is_forced() -> None:
    """An operator has it end: what it did is not asked for any more, and its state goes when its time is over."""
    town = Town(linger_s=60)
    await town.hears(large("w", 1))
    await town.hears(large("w", 2))
    said = await town.told(SagaIntervened(act=Act.FORCE, actor="ann", reason="by hand"), "w")
    after = now(town, "w").workflow
    assert (said, after.halted, after.phase) == ([], "", Phase.COMPLETED)
    town.clock.advance(200)
    await town.looks()
    assert town.state.values == {}


async def test_what_is_known_is_undone_once_an_operator_says_so() -> None:
    """Cancelled meanwhile, it is undone as far as is known of it when it goes on."""
    town = Town()
    await town.hears(large("w", 1))
    await town.hears(large("w", 2))
    assert await town.told(SagaIntervened(act=Act.CANCEL, actor="ann", reason="no"), "w") == []
    await town.told(SagaIntervened(act=Act.RETRY, actor="ann", reason="larger records"), "w")
    [asked] = await town.told(SagaIntervened(act=Act.FORCE, actor="ann", reason="nobody is at it"), "w")
    assert (envelope_of(asked).id, asked.__event__.type) == (undo_id("w-1"), UNDO)


@pytest.mark.parametrize(("room", "phase"), [(0, Phase.RUNNING), (1, Phase.RUNNING), (REASON_ROOM, Phase.PARKED)])
async def test_where_there_is_no_room_for_the_reason_it_stays(room: int, phase: Phase) -> None:
    """As after the limit was lowered: the rest of the record is noted all the same."""
    town = Town()
    await town.hears(large("w", 1))
    town.services.state_room = len("w") + len(orjson.dumps(town.state.values["w"])) + room
    said = await town.hears(large("w", 2), handled("x", "r", reserved("e")))
    assert [event.__event__.type for event in said] == ["antiphon.saga.parked"]
    assert (now(town, "w").workflow.phase, [*now(town, "x").workflow.effects]) == (phase, ["e"])


async def test_a_worker_says_how_much_room_there_is() -> None:
    """Where records are small a workflow of a few steps halts: nothing of its activity is set aside."""
    mesh, agent = MemoryMesh(partitions=1, claims=Claims(limit=5_000)), Agent("grower")

    @agent.on(Grown)
    async def grow(grown: Grown) -> Grown | None:
        return Grown(ballast=grown.ballast + "x") if len(grown.ballast) < 1_010 else None

    @agent.undoes(Grown)
    async def shrink(grown: Grown) -> None:
        pass

    async def halted() -> bool:
        found = await read_kept(mesh.bus, mesh.names, [0])
        return [one.phase for one in found.values()] == [Phase.PARKED]

    async with mesh.running(agent, coordinator()):
        await mesh.publish(Grown(ballast="x" * 1_000))
        await eventually(halted, what="the workflow to halt")
    assert (len(await mesh.events(SagaParked)), await mesh.records("compensation.dead")) == (1, [])
