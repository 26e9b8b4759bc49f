"""Records of every topic that a mesh has, as one release writes them: played in memory, kept in a file, and read again.

    python tests/wire/keeping.py        keep what this state writes, in golden/<version>.json

A file says from which version it is, holds the records as they stand, what that
version read in each, and the rules by which it reads: what it knows in headers and
in state. Later releases must read the records, and write by the rules.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import troupe
from troupe import (
    AGENTS,
    BookReturned,
    BookWanted,
    LoanFiled,
    MoveEnded,
    MoveWanted,
    StampCounted,
    VanReturned,
    archive,
    moving,
    packer,
)

from antiphon import Agent, Event, Saga
from antiphon.bus.activity import Activity
from antiphon.bus.claims import Claims, MemoryClaims
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.lock import LockFreed, LockWanted, lock_answered
from antiphon.bus.memory import MemoryBus
from antiphon.bus.names import Names
from antiphon.bus.offsets import Progress, decode
from antiphon.bus.pressure import Bounds
from antiphon.bus.record import Committed, Record
from antiphon.bus.redrive import count_of, note_in, origin_of
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.undo import undo_requested
from antiphon.bus.verdict import SagaFailed, saga_told
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.locks import Lock, Request
from antiphon.compensation.workflow import Effect, Failure, Node, Want, Workflow
from antiphon.replay.letters import settling
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import UnknownSchemaError
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

GOLDEN = Path(__file__).with_name("golden")
LIMIT = 3_000
"""Bytes from which on a value goes by reference."""
PARTITIONS = 2
PATIENCE_S = 60.0


def classes() -> dict[str, type[Event]]:
    """Return the classes of all events that the mesh says, by type."""
    own: list[type[Event]] = [Activity, AgentSeen, SagaIntervened, SagaParked, SagaFailed, LockWanted, LockFreed]
    own += [undo_requested("desk"), lock_answered("desk"), saga_told("moving")]
    users = [found for found in vars(troupe).values() if isinstance(found, type) and issubclass(found, Event)]
    return {found.__event__.type: found for found in (*own, *users) if found is not Event}


# Played.


def empty(claims: Claims | None = None) -> MemoryMesh:
    """Make a mesh whose schemas stand on a topic, as they do on Kafka."""
    bus, names = MemoryBus(partitions=PARTITIONS), Names()
    store = TopicStore(bus, names, partitions=PARTITIONS)
    return MemoryMesh(PARTITIONS, bus=bus, names=names, store=store, claims=claims)


async def played(claims: MemoryClaims | None = None) -> MemoryMesh:
    """Have the troupe play: loans and moves that end well, that are undone, set aside and redriven; and some that have not ended."""
    mesh = empty(Claims(claims or MemoryClaims(), limit=LIMIT))
    bounds = Bounds(activity_logs=1_000)
    crew: list[Agent | Saga] = [*AGENTS, moving]
    async with mesh.running(*crew, coordinator(), bounds=bounds, instance="first"):
        await mesh.publish(
            BookWanted(book="Emma", member="ann"), BookWanted(book="Ulysses", member="bob", pages="x" * 4_000)
        )
        await mesh.publish(BookWanted(book="torn", member="ann"), BookWanted(book="Dubliners", member="barred"))
        await mesh.publish(MoveWanted(to="Rome"), MoveWanted(to="nowhere"))
        await mesh.eventually(LoanFiled, count=2, timeout=PATIENCE_S)
        await mesh.eventually(BookReturned, count=1, timeout=PATIENCE_S)
        await mesh.eventually(MoveEnded, count=1, timeout=PATIENCE_S)
        await mesh.eventually(VanReturned, count=1, timeout=PATIENCE_S)
        await mesh.eventually(StampCounted, count=4, timeout=PATIENCE_S)
        await _letters(mesh, 1)
        async with settling(mesh.bus, mesh.names, archive.name) as settle:
            await settle.redrive([*settle.letters.values()], actor="ann")
        await _letters(mesh, 3)
    # What has not ended: a step that nobody answers, a book that another workflow holds.
    async with mesh.running(
        *[one for one in crew if one is not packer], coordinator(), bounds=bounds, instance="second"
    ):
        [waiting, *_] = await mesh.publisher.publish([MoveWanted(to="Oslo")])
        await mesh.publisher.publish([BookWanted(book="Emma", member="eve")], correlation_id=waiting.correlation_id)
        await mesh.publish(BookWanted(book="Emma", member="dan"))
        said = SagaIntervened(act=Act.EXTEND, actor="ann", reason="no hurry", until_us=4_000_000_000_000_000)
        await mesh.publisher.publish([said], correlation_id=waiting.correlation_id)
        await mesh.eventually(troupe.TakeBoxes, count=3, timeout=PATIENCE_S)
        await mesh.eventually(LoanFiled, count=3, timeout=PATIENCE_S)
        await mesh.eventually(StampCounted, count=6, timeout=PATIENCE_S)
        await mesh.eventually(LockWanted, count=6, timeout=PATIENCE_S)
    return mesh


async def _letters(mesh: MemoryMesh, count: int) -> None:
    async def there() -> bool:
        return len(await mesh.records("archive.dead")) >= count

    await eventually(there, PATIENCE_S, what=f"{count} records of dead letters")


async def records_of(mesh: MemoryMesh) -> list[Record]:
    """Return all that is committed on all topics."""
    return [record for topic in sorted(await mesh.bus.topics()) for record in await mesh.records(topic)]


def compacted(records: Sequence[Record]) -> list[Record]:
    """Leave of a compacted topic the last record of each key, as a broker does in time; the others stay whole."""
    last = {
        (record.topic, record.partition, record.key): record.offset
        for record in records
        if record.topic.endswith((".state", "antiphon.agents", "antiphon.schemas"))
    }
    return [
        record
        for record in records
        if last.get((record.topic, record.partition, record.key), record.offset) == record.offset
    ]


# Kept.


@dataclasses.dataclass(frozen=True)
class Kept:
    """What one release wrote."""

    version: str
    records: Sequence[Record]
    reads: Sequence[Any]
    """What it read in each."""
    claims: Mapping[str, bytes]
    """Large values, by digest."""
    metadata: Sequence[tuple[Committed, Sequence[Sequence[int]]]]
    """What it wrote beside offsets, and the runs of finished ones that it meant."""
    rules: Mapping[str, Any]

    def store(self) -> Claims:
        """Return a store that has its large values."""
        found = MemoryClaims()
        found.contents.update(self.claims)
        return Claims(found, limit=LIMIT)

    def topics(self) -> Counter[str]:
        """Return how many records stand on each topic."""
        return Counter(record.topic for record in self.records)


def kept(path: Path) -> Kept:
    """Read a file that was kept."""
    said = json.loads(path.read_text())
    return Kept(
        said["antiphon"],
        [_record(one) for one in said["records"]],
        [one["reads"] for one in said["records"]],
        {digest: _bytes(text) for digest, text in said["claims"].items()},
        [(Committed(one["offset"], one["metadata"]), one["runs"]) for one in said["metadata"]],
        said["rules"],
    )


def files() -> list[Path]:
    """Return what was kept, the oldest first."""
    return sorted(GOLDEN.glob("*.json"))


async def document(mesh: MemoryMesh, claims: MemoryClaims) -> dict[str, Any]:
    """Return what *mesh* has written, large values to *claims*, as it is kept."""
    codec = Codec(mesh.store)
    records = compacted(await records_of(mesh))
    return {
        "antiphon": version("antiphon"),
        "records": [
            {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp_ms": record.timestamp_ms,
                "key": _text(record.key),
                "headers": [[name, _text(value)] for name, value in record.headers],
                "value": _text(record.value),
                "reads": await reading(record, codec, mesh.claims),
            }
            for record in records
        ],
        "claims": {digest: _text(content) for digest, content in claims.contents.items()},
        "metadata": [*map(_metadata, ([1], [2, 3, 9], [*range(1, 400, 2)], [*range(1, 4_000)]))],
        "rules": rules(),
    }


def _metadata(finished: Sequence[int]) -> dict[str, Any]:
    progress = Progress.from_committed(Committed(1_000))
    for offset in range(1_000, 1_000 + finished[-1] + 1):
        progress.take(offset)
    for offset in finished:
        progress.finish(1_000 + offset)
    committed = progress.committed()
    return {"offset": committed.offset, "metadata": committed.metadata, "runs": [*map(list, runs(committed))]}


def runs(committed: Committed) -> list[tuple[int, int]]:
    """Return the finished offsets of a commit's metadata, as runs."""
    return decode(committed)


def rules() -> dict[str, Any]:
    """Return what this state knows, and so may read, in state that it keeps by name."""
    said = {one.__name__: [*one._fields] for one in (Workflow, Failure, Node, Effect, Want, Lock, Request)}
    return {"fields": said}


# Read.


async def reading(record: Record, codec: Codec, claims: Claims) -> Any:
    """Return what is read in *record*, as JSON: whatever its topic holds."""
    topic = record.topic
    if record.value is None:
        return None
    if topic.endswith(".state"):
        return {"key": (record.key or b"").decode(), "state": json.loads(record.value)}
    if topic == "antiphon.schemas":
        return {"key": (record.key or b"").decode(), "schema": json.loads(record.value)}
    if (note := note_in(record)) is not None:
        return {"note": dataclasses.asdict(note)}
    envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
    value = await claims.value_of(record)
    event_class = classes()[envelope.type]
    try:
        event = codec.decode(event_class, value)
    except UnknownSchemaError as error:
        await codec.learn(error.reference)
        event = codec.decode(event_class, value)
    origin = origin_of(record)
    found = {
        "envelope": dataclasses.asdict(envelope),
        "data": to_json(event),
        "redriven": count_of(record),
        "origin": None if origin is None else [*origin],
    }
    return orjson.loads(orjson.dumps(found))


def _record(said: Mapping[str, Any]) -> Record:
    return Record(
        said["topic"],
        said["partition"],
        said["offset"],
        None if said["key"] is None else _bytes(said["key"]),
        None if said["value"] is None else _bytes(said["value"]),
        [(name, None if value is None else _bytes(value)) for name, value in said["headers"]],
        said["timestamp_ms"],
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _traceback(error: BaseException) -> str:
    return f'Traceback (most recent call last):\n  File "troupe.py", line 1, in file\n{type(error).__name__}: {error}\n'


async def main() -> None:
    """Keep what this state writes."""
    claims = MemoryClaims()
    # Where a machine has its files is no part of what is kept.
    with (
        patch.multiple("antiphon.bus.dead_letter", traceback_of=_traceback),
        patch.multiple("antiphon.bus.outbox", traceback_of=_traceback),
    ):
        said = await document(await played(claims), claims)
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / f"{said['antiphon']}.json"
    # A record a line: what has changed is seen.
    lines = ",\n".join(json.dumps(record) for record in said.pop("records"))
    head = json.dumps(said, indent=1).removesuffix("\n}")
    path.write_text(f'{head},\n "records": [\n{lines}\n]}}\n')
    print(f"{path}: {Counter(record['topic'] for record in json.loads(path.read_text())['records'])}")  # noqa: T201 - it is a script


if __name__ == "__main__":
    asyncio.run(main())
