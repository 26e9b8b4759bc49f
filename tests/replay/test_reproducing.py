"""A hundred failures put into the examples: a replay of each workflow's bundle fails as the mesh did."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from antiphon.bus.consumer import Consumer
from antiphon.replay.bundle import read, schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.compared import Compared
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.reading import read_recording
from antiphon.replay.report import lines
from antiphon.schemas.codec import Codec
from antiphon.schemas.ids import root_id
from antiphon.testing.mesh import MemoryMesh
from tests.cli.test_hundred_failures import EXAMPLES, UNDOING, Injected, consumers, hundred, played, sabotaged

# An agent that is not there has handled nothing that could be handled again.
KINDS = ("exception", "wrong output", "time-out", "poison", "slow", "unsure")
_FRAME = re.compile(r'File "[^"\n]+", line \d+, in \w+')


async def handled_again(mesh: MemoryMesh, id: str, crew: list[Consumer], path: Path) -> list[Compared]:
    """Do what `antiphon trace ID --bundle F` and `antiphon replay run F` do."""
    choice = Choice(workflows=frozenset({id}))
    recording = await read_recording(mesh.bus, mesh.names, mesh.codec, choice)
    content = write(recording, await schemas_of(recording, mesh.store))
    await asyncio.to_thread(path.write_bytes, content)
    taken, schemas = read(path)
    replay = HandlerReplay(taken, crew, Codec(schemas))
    return [one async for one in replay.run(Choice().of(taken.handlings))]


def is_reproduced(failure: Injected, compared: list[Compared]) -> bool:
    """Say whether the agent that failed has failed again, in the same way, and all else is as it was."""
    own = [one for one in compared if one.handling.agent == failure.agent]
    if not own or any(one.differences or one.skipped for one in compared):
        return False
    match failure.kind:
        case "exception" | "time-out" | "poison":
            return any(same_place(one) for one in own)
        case "slow":
            return any(one.duration_us > 1_000_000 for one in own)
        case "unsure":
            return any(one.confidence == 0.125 == one.handling.entry.confidence for one in own)
        case "wrong output" | "refused":
            # All that was said is the same, nonsense and refusals too.
            return any(one.handling.entry.emitted for one in own)
        case _:
            return False


def same_place(one: Compared) -> bool:
    """Say whether it raised what was raised then, at the same line of the same file."""
    error = one.handling.entry.error
    if error is None or one.raised != (error.type, error.message):
        return False
    then, now = (_FRAME.findall(text) for text in (error.traceback, one.traceback))
    # What could not be read, and what was cancelled, failed outside of the agent's own code.
    return then[-1:] == now[-1:] or error.type in ("UnknownSchemaError", "HandlerTimeoutError")


async def again(example: str, failures: list[Injected], folder: Path) -> dict[Injected, list[Compared]]:
    ids = {root_id(): failure for failure in failures}
    mesh, index = await played(example, ids, None)
    index.close()
    crew = [dataclasses.replace(sabotaged(one, ids), undoes={}) for one in consumers(EXAMPLES[example])]
    # Side by side: what was slow is slow again.
    found = await asyncio.gather(*(handled_again(mesh, id, crew, folder / f"{id}.antiphon") for id in ids))
    return dict(zip(failures, found, strict=True))


@pytest.mark.usefixtures("examples_put_back")
async def test_failures_are_reproduced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At least 95 of them: the same exception at the same line, or the same wrong output.

    Not the four parked ones, whatever the machine does: what failed there is an undo, and no replay fires one.
    """
    failures = hundred(KINDS)
    played_again = await asyncio.gather(
        *(again(name, [one for one in failures if one.example == name], tmp_path) for name in EXAMPLES)
    )
    seen = {failure: compared for one in played_again for failure, compared in one.items()}
    lost = {failure: compared for failure, compared in seen.items() if not is_reproduced(failure, compared)}
    kinds = Counter(failure.kind for failure in lost)
    told = [f"{len(seen) - len(lost)} of {len(seen)} failures are reproduced by a replay of their workflow's bundle"]
    told[0] += f"; not: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items())) or 'none'}"
    told += [f"{one}: {[line for found in compared for line in lines(found)]}" for one, compared in lost.items()]
    with capsys.disabled():
        sys.stdout.write(f"\n{told[0]}\n")
    assert len(seen) == 100
    assert kinds["parked"] == len(UNDOING)
    assert len(seen) - len(lost) >= 95, "\n".join(told)
