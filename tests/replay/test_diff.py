"""What two recordings, or the reports of two replays, differ in."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.replay.bundle import read, schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.compare import EXACTLY, Rules
from antiphon.replay.diff import of_recordings, of_reports, read_report
from antiphon.replay.errors import NoReportError
from antiphon.replay.live import LiveReplay, again
from antiphon.replay.recording import Recording
from antiphon.replay.report import Report
from antiphon.schemas.codec import Codec
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.replay.claims import AGENTS, candidate, recorded
from tests.replay.claims import again as handle_again


async def bundled(mesh: MemoryMesh, recording: Recording, path: Path) -> tuple[Recording, Codec]:
    """Return a recording as it comes out of its bundle."""
    content = write(recording, await schemas_of(recording, mesh.store))
    await asyncio.to_thread(path.write_bytes, content)
    found, schemas = read(path)
    return found, Codec(schemas)


async def test_a_bundle_does_not_differ_from_itself(mesh: MemoryMesh, tmp_path: Path) -> None:
    """Not in one place."""
    one = await bundled(mesh, await recorded(mesh), tmp_path / "one.antiphon")
    found = await of_recordings(one, one, EXACTLY)

    assert (found.differs, found.by_order, len(found.report.compared)) == (False, False, 12)


async def test_what_one_bundle_lacks_is_told(mesh: MemoryMesh, tmp_path: Path) -> None:
    """On the side on which it is there."""
    whole = await recorded(mesh)
    part = dataclasses.replace(whole, handlings=whole.handlings[1:])
    one, other = [await bundled(mesh, some, tmp_path / "one.antiphon") for some in (whole, part)]
    there, back = await of_recordings(one, other, EXACTLY), await of_recordings(other, one, EXACTLY)

    only = [
        [one.pair for one in some] for some in (there.only_before, there.only_after, back.only_before, back.only_after)
    ]
    assert only == [[whole.handlings[0].pair], [], [], [whole.handlings[0].pair]]


async def test_what_was_replayed_live_is_compared_by_place(mesh: MemoryMesh, tmp_path: Path) -> None:
    """As its events are others; but for receipts and clocks all came as before."""
    before = await recorded(mesh)
    live = LiveReplay(mesh.bus, mesh.names)
    done = [one async for one in live.run(again(before, Choice(failed=True).of(before.handlings)))]

    async def of(workflow: str) -> Recording:
        return await recorded(mesh, Choice(workflows=frozenset({workflow})))

    old, new = done[0].replay_of, done[0].now.correlation_id
    async with mesh.running(*AGENTS):

        async def over() -> bool:
            return len((await of(new)).handlings) == 2

        await eventually(over, 30, what="it to be handled once more")
    [then, now] = [await bundled(mesh, await of(one), tmp_path / "one.antiphon") for one in (old, new)]
    found = await of_recordings(then, now, Rules(ignore=("at",)))

    assert (found.by_order, found.differs, len(found.report.compared)) == (True, False, 2)


async def test_reports_differ_in_what_is_new_and_what_is_gone(mesh: MemoryMesh, tmp_path: Path) -> None:
    """What both tell is counted."""
    documents: list[dict[str, Any]] = []
    for changed in ({"seen": -1}, {"claim": "other"}):
        compared = await handle_again(mesh, candidate(lambda paid, changed=changed: paid.model_copy(update=changed)))  # type: ignore[misc]
        path = tmp_path / f"{len(documents)}.json"
        path.write_bytes(orjson.dumps(Report(compared).document()))
        documents.append({**read_report(path)})
    there, same = of_reports(*documents), of_reports(documents[0], documents[0])

    assert [len(there[word]) for word in ("new", "gone")] == [2, 2]
    assert [one["fields"][0]["path"] for word in ("new", "gone") for one in there[word]] == ["claim"] * 2 + ["seen"] * 2
    assert same == {"new": [], "gone": [], "kept": 2}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"workflows": 1}', b"\xff" * 9])
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes) -> None:
    """With what to do."""
    (path := tmp_path / "report.json").write_bytes(content)

    with pytest.raises(NoReportError, match="antiphon replay run"):
        read_report(path)
