"""Handling again what a mesh has handled: as it was, with nothing done anywhere, and every change shown."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

from antiphon import Agent, Event
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.record import Record
from antiphon.replay.bundle import read, redacted, schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.compare import Kind
from antiphon.replay.editing import editable, edited
from antiphon.replay.errors import BundleError
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.letters import settling
from antiphon.replay.recording import Recording
from antiphon.replay.report import Report, junit
from antiphon.schemas.codec import Codec
from antiphon.schemas.redaction import REDACT
from antiphon.schemas.store import MemoryStore
from antiphon.schemas.volatility import VOLATILE
from antiphon.testing.bundle import bundle
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.replay.claims import (
    AGENTS,
    ClaimClosed,
    ClaimFiled,
    ClaimPaid,
    again,
    candidate,
    everything,
    fired,
    payer,
    recorded,
    replayed,
    undone,
)


async def test_f28_what_did_not_change_shows_no_difference_and_does_nothing(mesh: MemoryMesh) -> None:
    """State, side effects, joins and the clock are as they were then; nothing is written, committed, fired or undone."""
    assert isinstance(mesh.bus, MemoryBus)
    before = await everything(mesh), mesh.bus.committed("payer"), [*fired]
    replayed.clear()
    compared = await again(mesh)

    assert [(one.differences, one.skipped, one.state_known) for one in compared] == [([], None, True)] * 12
    assert (await everything(mesh), mesh.bus.committed("payer"), fired, undone) == (*before, [])
    assert replayed == [True] * 3
    assert [one.raised for one in compared if one.raised is not None] == [("PermanentError", "500 is too much")]
    assert ["claims.py" in one.traceback for one in compared if one.raised is not None] == [True]


CHANGES: list[tuple[Callable[[ClaimPaid], Any], list[Kind]]] = [
    (lambda paid: paid.model_copy(update={"seen": -1}), [Kind.CHANGED] * 2),
    (lambda paid: None, [Kind.MISSING] * 2),
    (lambda paid: [paid, ClaimClosed(claim="more")], [Kind.ADDED] * 2),
    (lambda paid: ClaimClosed(claim="other"), [Kind.MISSING, Kind.ADDED] * 2),
    (lambda paid: 1 / 0, [Kind.OUTCOME] * 2),
]


@pytest.mark.parametrize(("change", "kinds"), CHANGES)
async def test_a_candidate_that_does_otherwise_is_shown(
    mesh: MemoryMesh, change: Callable[[ClaimPaid], Any], kinds: list[Kind]
) -> None:
    """Each change where it happens, and only that: the claim that was refused is refused as before."""
    compared = await again(mesh, candidate(change))

    assert [difference.kind for one in compared for difference in one.differences] == kinds


async def test_the_report_has_then_and_now_side_by_side(mesh: MemoryMesh) -> None:
    """As one document, and as JUnit's XML."""
    report = Report(await again(mesh, candidate(lambda paid: paid.model_copy(update={"seen": -1}))))
    document = report.document()

    assert (document["workflows"], document["same"], document["different"]) == (2, 1, 1)
    assert document["differences"][0]["fields"] == [{"path": "seen", "recorded": 1, "got": -1}]
    assert document["cost"] == {"recorded": {"USD": 0.5}, "got": {"USD": 0.5}}
    assert document["confidence"] == {"recorded": 0.5, "got": 0.5}
    assert 'tests="2" failures="1" skipped="0"' in junit(report)
    assert "changed claim.paid seen: 1 -&gt; -1" in junit(report)


async def test_what_is_gone_is_said_and_the_rest_is_run(mesh: MemoryMesh) -> None:
    """An event that its topic has let go of cannot be handled, one whose answer is gone not be compared."""
    found = await recorded(mesh)
    filed = next(one.entry.event_id for one in found.handlings if one.agent == "payer")
    events = {id: record for id, record in found.events.items() if id != filed}
    compared = await again(mesh, recording=dataclasses.replace(found, events=events))

    assert {one.skipped for one in compared} == {None, "its event is gone from its topic"}
    assert sum(one.skipped is None for one in compared) == 10


async def test_a_bundle_is_run_as_what_it_was_made_of(mesh: MemoryMesh, tmp_path: Path) -> None:
    """From one file, with no broker and no store of schemas."""
    found = await recorded(mesh)
    path = tmp_path / "claims.antiphon"
    path.write_bytes(write(found, await schemas_of(found, mesh.store)))
    recording, schemas = read(path)
    replay = HandlerReplay(recording, [agent.consumer() for agent in AGENTS], Codec(schemas))
    compared = [one async for one in replay.run(Choice().of(recording.handlings))]

    assert [(one.differences, one.skipped, one.state_known) for one in compared] == [([], None, True)] * 12


SPOILT: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda content: b"PK\x03\x04" + content, "another file"),
    (lambda content: content[:-20], "cut off"),
    (lambda content: content.replace(b'"antiphon_bundle":1', b'"antiphon_bundle":2'), "newer release"),
    (lambda content: content.replace(b'"length":', b'"length":9'), "cut off|at most"),
    (lambda content: content.replace(b'"length":', b'"length":-'), "at most"),
    (lambda content: content.replace(b'"sha256":"', b'"sha256":"0'), "edited or damaged"),
    (lambda content: content[:200] + b"x" * 40 + content[240:], "damaged"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT)
async def test_a_bundle_that_is_not_as_it_was_written_is_refused(
    mesh: MemoryMesh, tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    """Cut off, newer, edited, or lying about its size: with what was expected and what came."""
    found = await recorded(mesh)
    path = tmp_path / "claims.antiphon"
    path.write_bytes(spoil(write(found, await schemas_of(found, mesh.store))))

    with pytest.raises(BundleError, match=said):
        read(path)


class Patient(Event):
    name: Annotated[str, REDACT]
    room: int


class Pin(Event):
    pin: Annotated[int, REDACT]


async def test_a_bundle_does_not_hold_what_is_not_to_be_shown() -> None:
    """A marked text is masked; an event whose marked field can hold no mask is left out."""
    store = MemoryStore()
    codec = Codec(store)
    await codec.announce([Patient, Pin])
    values = {"a": codec.encode(Patient(name="Ada", room=7)), "b": codec.encode(Pin(pin=1234))}
    records = {id: Record("t", 0, 0, None, value, [], 0) for id, value in values.items()}
    recording = Recording(handlings=[], events=records, changes={})
    found = redacted(recording, await schemas_of(recording, store))

    assert {id: codec.decode(Patient, record.value or b"") for id, record in found.events.items()} == {
        "a": Patient(name="***", room=7)
    }


async def test_an_event_that_was_edited_is_handled_as_each_agent_handled_it() -> None:
    """The one that had set it aside heard other data than everybody else."""
    mesh = MemoryMesh(partitions=2)
    async with mesh.running(*AGENTS):
        await mesh.publish(ClaimFiled(claim="dear", amount=500))
        await eventually(lambda: mesh.records("payer.dead"), 30, what="the letter")
        async with settling(mesh.bus, mesh.names, "payer") as settle:
            [letter] = settle.letters.values()
            found = await editable(letter.record, mesh.codec, mesh.claims)
            change = await edited(found, found.text.replace("500", "5"), mesh.names, mesh.codec, mesh.claims)
            await settle.redrive([letter], actor="ada", edited={letter.place: change})
        await mesh.eventually(ClaimClosed, count=1)
        await eventually(lambda: handled_by(mesh, 6), 30, what="all to be handled")
    compared = await again(mesh)

    assert [(one.differences, one.skipped) for one in compared] == [([], None)] * 5
    assert [one.raised for one in compared] == [None] * 5


async def handled_by(mesh: MemoryMesh, count: int) -> bool:
    return len(await mesh.handled()) == count


def spoilt_claim(tmp_path: Path) -> Path:
    """Write the bundle of a mesh, with a loop of its own."""

    async def write_it() -> bytes:
        found = MemoryMesh(partitions=2)
        async with found.running(*AGENTS):
            await found.publish(ClaimFiled(claim="dear", amount=500))
            await eventually(lambda: found.records("payer.dead"), 30, what="the letter")
        recording = await recorded(found)
        return write(recording, await schemas_of(recording, found.store))

    path = tmp_path / "dear.antiphon"
    path.write_bytes(asyncio.run(write_it()))
    return path


def test_a_bundle_is_a_regression_test_in_one_line(tmp_path: Path) -> None:
    """As it was it passes; that what failed is mended is asked for; an agent that is not in it is no test."""
    path, mended = spoilt_claim(tmp_path), Agent("payer")

    @mended.on(ClaimFiled)
    async def refuse(filed: ClaimFiled) -> ClaimClosed:
        return ClaimClosed(claim=filed.claim)

    bundle(path, payer)
    bundle(path, mended, mended=True)
    with pytest.raises(AssertionError, match="still raises PermanentError: 500 is too much"):
        bundle(path, payer, mended=True)
    with pytest.raises(AssertionError, match="outcome: PermanentError"):
        bundle(path, mended)
    with pytest.raises(AssertionError, match="nothing in it was handled by closer"):
        bundle(path, closer_of_nothing)


closer_of_nothing = Agent("closer")


@closer_of_nothing.on(ClaimClosed)
async def nothing(closed: ClaimClosed) -> None: ...


class Stamped(Event):
    claim: str
    at: Annotated[float, VOLATILE]
    inner: dict[str, Annotated[float, VOLATILE]] = {}


async def test_what_its_class_marks_as_volatile_is_not_compared() -> None:
    """And everything else of the event is."""
    mesh, clock, stamper = MemoryMesh(partitions=1), itertools.count(), Agent("stamper")

    @stamper.on(ClaimFiled)
    async def stamp(filed: ClaimFiled) -> Stamped:
        return Stamped(claim=filed.claim, at=next(clock), inner={"a": next(clock)})

    async with mesh.running(stamper):
        await mesh.publish(ClaimFiled(claim="c", amount=1))
        await mesh.eventually(Stamped, count=1)
    same = await again(mesh, stamper.consumer())
    other = Agent("stamper")

    @other.on(ClaimFiled)
    async def stamp_otherwise(filed: ClaimFiled) -> Stamped:
        return Stamped(claim="other", at=next(clock))

    changed = await again(mesh, other.consumer())

    assert [one.differences for one in same] == [[]]
    assert [field.path for one in changed for found in one.differences for field in found.fields] == ["claim"]
