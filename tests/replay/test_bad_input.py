"""What a replay is given and cannot use: each is said, the rest is run, and nothing of it is run as code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import Agent, Event
from antiphon.bus.record import Record
from antiphon.replay.bundle import MOST, VERSION, read, schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.compare import Kind
from antiphon.replay.errors import BundleError
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.letters import read_letters, settling
from antiphon.replay.recording import StatesBefore, unknown_states
from antiphon.replay.report import Report, lines
from antiphon.schemas.codec import Codec
from antiphon.testing.mesh import MemoryMesh
from tests.replay.claims import AGENTS, ClaimPaid, again, payer, recorded


async def content(mesh: MemoryMesh) -> bytes:
    found = await recorded(mesh)
    return write(found, await schemas_of(found, mesh.store))


def sealed(document: object) -> bytes:
    """Return a bundle whose hash and length fit whatever is in it."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = {"antiphon_bundle": VERSION, "length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(head).encode() + b"\n" + zlib.compress(body)


def _changed(change: Callable[[Any], object]) -> Callable[[Any], Any]:
    def changed(document: Any) -> Any:
        change(document)
        return document

    return changed


HOSTILE: dict[str, Callable[[Any], Any]] = {
    "nested too deep": lambda _: b"[" * 200_000 + b"]" * 200_000,
    "no object": lambda _: [1],
    "a number for a list": _changed(lambda found: found.update(handlings=1)),
    "an entry of other fields": _changed(lambda found: found["handlings"][0].update(entry={"code": "import os"})),
    "a handling without an agent": _changed(lambda found: found["handlings"][0].pop("agent")),
    "no base64": _changed(lambda found: [one.update(value="**") for one in found["events"].values()]),
    "an offset of text": _changed(lambda found: [one.update(offset="../..") for one in found["events"].values()]),
    "headers that are none": _changed(lambda found: [one.update(headers=[1]) for one in found["events"].values()]),
    "a change of two parts": _changed(lambda found: found["changes"].update(payer=[["a", "b"]])),
    "a schema without a name": _changed(lambda found: found.update(schemas=[["zz", {}]])),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_bundle_that_means_harm_is_refused(mesh: MemoryMesh, tmp_path: Path, name: str) -> None:
    """Its hash fits, as whoever made it has seen to that: what is in it is looked at all the same."""
    document = json.loads(zlib.decompress((await content(mesh)).partition(b"\n")[2]))
    path = tmp_path / "hostile.antiphon"
    path.write_bytes(sealed(HOSTILE[name](document)))

    with pytest.raises(BundleError, match="expected a recording"):
        read(path)


def test_a_bundle_is_read_within_limits(tmp_path: Path) -> None:
    """A file that is too large is not read to its end; one that unpacks to more than it says is not unpacked."""
    large, bomb = tmp_path / "large.antiphon", tmp_path / "bomb.antiphon"
    with large.open("wb") as file:
        file.truncate(MOST + 100)
    head = {"antiphon_bundle": VERSION, "length": 10, "sha256": "0"}
    bomb.write_bytes(json.dumps(head).encode() + b"\n" + zlib.compress(b"0" * 50_000_000))

    with pytest.raises(BundleError, match="at most"):
        read(large)
    with pytest.raises(BundleError, match="11 or more"):
        read(bomb)


async def test_a_schema_that_means_harm_fails_its_handlings_alone(mesh: MemoryMesh, tmp_path: Path) -> None:
    """One that is too deep to be weighed: what was written with it cannot be read, all else is run."""
    document = json.loads(zlib.decompress((await content(mesh)).partition(b"\n")[2]))
    deep: Any = "long"
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    for one in document["schemas"]:
        if one[1]["name"] == "ClaimPaid":
            one[1] = {"type": "record", "name": "ClaimPaid", "fields": [{"name": "claim", "type": deep}]}
    path = tmp_path / "deep.antiphon"
    path.write_bytes(sealed(document))
    recording, schemas = read(path)
    replay = HandlerReplay(recording, [agent.consumer() for agent in AGENTS], Codec(schemas))
    compared = [one async for one in replay.run(Choice().of(recording.handlings))]

    assert len(compared) == 12
    assert {one.handling.entry.event_type for one in compared if one.raised and not one.handling.entry.error} <= {
        "claim.paid"
    }


async def test_state_that_is_gone_is_said_with_when_it_is_there_again(mesh: MemoryMesh) -> None:
    """Of which it is not known, and from when on it is known of all."""
    found = await recorded(mesh)
    own = [one for one in found.handlings if one.agent == "payer"]
    compacted = dataclasses.replace(found, changes={**found.changes, "payer": found.changes["payer"][-1:]})
    states = StatesBefore(compacted.handlings, compacted.changes)
    report = Report(await again(mesh, payer.consumer(), recording=compacted))

    assert unknown_states(own, StatesBefore(found.handlings, found.changes)) == (0, None)
    assert unknown_states(own, states) == (1, own[2].entry.started_us)
    assert (report.document()["state_unknown"], report.differs) == (1, False)


async def test_a_candidate_that_reads_other_fields_says_which(mesh: MemoryMesh) -> None:
    """It hears the type, and cannot read what was written: each handling says so, with the field."""

    class Filed(Event, type="claim.filed"):
        claim: str
        currency: str

    other = Agent("payer")

    @other.on(Filed)
    async def pay(filed: Filed) -> ClaimPaid:
        raise AssertionError(filed)

    compared = await again(mesh, other.consumer())
    told = [line for one in compared for line in lines(one)]

    assert sorted(one.differences[0].kind for one in compared) == [Kind.ERROR] + [Kind.OUTCOME] * 2
    assert all("IncompatibleSchemaError" in line and "currency" in line for line in told), told


async def test_a_letter_is_redriven_though_its_schema_is_gone(mesh: MemoryMesh) -> None:
    """The bytes go back as they came: whether they can be read is for the agent to find out."""
    [letter] = await read_letters(mesh.bus, mesh.names, ["payer"])
    nobody_knows = dataclasses.replace(letter.record, value=b"\xc3\x01" + b"\0" * 8 + b"what was said")
    async with settling(mesh.bus, mesh.names, "payer") as settle:
        await settle.redrive([dataclasses.replace(letter, record=nobody_knows)], actor="ada")
    [back] = await mesh.records("payer.redrive")

    assert (back.value, await read_letters(mesh.bus, mesh.names, ["payer"])) == (nobody_knows.value, [])
    assert isinstance(back, Record)


async def test_what_is_gone_is_named_and_the_rest_is_run(mesh: MemoryMesh) -> None:
    """Which event, by whom it was handled; and that it is no proof of anything."""
    found = await recorded(mesh)
    lost = found.handlings[0].entry.event_id
    part = dataclasses.replace(found, events={id: one for id, one in found.events.items() if id != lost})
    report = Report(await again(mesh, recording=part))
    told = [line for one in report.compared for line in lines(one)]

    assert [(one.agent, one.entry.event_id) for one in part.gone()] == [
        (one.agent, lost) for one in found.handlings if one.entry.event_id == lost
    ]
    assert all(line.endswith(f"claim.filed {lost}: not run, its event is gone from its topic") for line in told)
    assert (len(told), report.differs, report.document()["handlings"]) == (2, True, 10)
