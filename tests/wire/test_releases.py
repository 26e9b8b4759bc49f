"""Records that earlier releases wrote, read by this state; and what this state writes, by the rules of earlier ones.

Agents are deployed one at a time: workers of two releases share topics, groups and state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import fastavro
import pytest
from keeping import Kept, files, kept, played, reading, records_of, rules, runs

from antiphon.bus.record import Record
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.compatibility import mismatches
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.store import AvroSchema, MemoryStore, type_of

each = pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
TOPICS = {
    "antiphon.activity",
    "antiphon.agents",
    "antiphon.schemas",
    "antiphon.saga.events",
    "antiphon.lock.events",
    "compensation.state",
    "counter.state",
    "moving.state",
    "clerk.state",
    "desk.answered",
    "desk.undo",
    "moving.told",
    "archive.dead",
    "archive.redrive",
}
"""One of every kind that the wire's page lists, beside the events' own."""


def schemas_of(records: list[Record]) -> dict[str, AvroSchema]:
    """Return the schemas that stand on the topic of schemas, by fingerprint in hex."""
    return {
        (record.key or b"").decode(): parsed
        for record in records
        if record.topic == "antiphon.schemas" and (parsed := _json(record))
    }


def _json(record: Record) -> Any:
    import orjson  # noqa: PLC0415 - beside its only use

    return orjson.loads(record.value or b"{}")


def knowing(records: list[Record]) -> Codec:
    found = Codec(MemoryStore())
    for schema in schemas_of(records).values():
        found.know(fingerprint(schema), schema)
    return found


@each
def test_every_kind_of_topic_was_kept(path: Path) -> None:
    """Whatever a mesh writes, some of it is here."""
    assert {*kept(path).topics()} >= TOPICS


@each
async def test_what_was_written_is_read_as_it_was(path: Path) -> None:
    """Each record says to this state what it said to the one that wrote it; what is new in a class has its default."""
    then = kept(path)
    codec, store = knowing([*then.records]), then.store()
    for record, said in zip(then.records, then.reads, strict=True):
        now = await reading(record, codec, store)
        assert _as_far_as(now, said) == said, f"{record.topic}[{record.partition}]@{record.offset}"


@each
def test_metadata_of_commits_means_what_it_meant(path: Path) -> None:
    """What was finished above the committed offset is not done again."""
    for committed, said in kept(path).metadata:
        assert [[*run] for run in runs(committed)] == said


@pytest.fixture(scope="module")
def today() -> list[Record]:
    """What this state writes."""

    async def written() -> list[Record]:
        return await records_of(await played())

    return asyncio.run(written())


def _as_far_as(now: object, then: object) -> object:
    """Return *now* without what was not known *then*."""
    whole: object = now
    if isinstance(now, dict) and isinstance(then, dict):
        known, found = cast("dict[str, object]", then), cast("dict[str, object]", now)
        return {name: _as_far_as(found[name], said) for name, said in known.items() if name in found}
    if isinstance(now, list) and isinstance(then, list):
        return _each_as_far_as(cast("list[object]", now), cast("list[object]", then))
    return whole


def _each_as_far_as(now: list[object], then: list[object]) -> list[object]:
    return [_as_far_as(*pair) for pair in zip(now, then, strict=False)] + now[len(then) :]


@each
async def test_what_is_written_now_is_read_by_the_schemas_of_then(path: Path, today: list[Record]) -> None:
    """By the schemas that were published then, with a library that is not ours; the rules of compatibility agree."""
    then = {type_of(schema): schema for schema in schemas_of([*kept(path).records]).values()}
    now = {fingerprint(schema): schema for schema in schemas_of(today).values()}
    read = 0
    for record in today:
        if record.value is None or record.value[:2] != b"\xc3\x01":
            continue
        writer = now[record.value[2:10]]
        reader = then.get(type_of(writer))
        if reader is not None:
            stream = BytesIO(record.value[10:])
            fastavro.schemaless_reader(stream, dict(writer), dict(reader))  # pyright: ignore[reportUnknownMemberType] - half typed
            assert stream.read() == b""
            read += 1
    assert read > 50
    assert {type: mismatches(writer, then[type]) for writer in now.values() if (type := type_of(writer)) in then} == {
        type: [] for type in then
    }


@each
async def test_headers_of_now_are_those_of_then(path: Path, today: list[Record]) -> None:
    """No name that was not there, but on dead letters: and each is read."""
    then = {name for record in kept(path).records for name, _ in record.headers}
    assert {name for record in today for name, _ in record.headers} <= then
    for record in today:
        if "ce_id" in dict(record.headers):
            from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)


@each
async def test_state_of_now_is_worked_with_by_the_code_of_then(path: Path, today: list[Record]) -> None:
    """What is taken whole has no name that the code of then would stumble over; elsewhere it passes over what it does not know."""
    then: Mapping[str, list[str]] = kept(path).rules["fields"]
    now: Mapping[str, list[str]] = rules()["fields"]
    written = [_json(record) for record in today if record.topic == "compensation.state" and record.value]
    workflows = [state["workflow"] for state in written if "workflow" in state]
    found: dict[str, list[Mapping[str, Any]]] = {
        "Failure": [one["failure"] for one in workflows if "failure" in one],
        **{of: [said for one in workflows for said in one.get(part, {}).values()] for part, of in _WHOLE.items()},
        "Request": [said for state in written for said in state.get("waiting", ())],
    }
    assert {of for of, some in found.items() if some} >= {"Failure", "Effect", "Want", "Request"}
    unknown = {of: {name for one in some for name in one} - {*then[of]} for of, some in found.items()}
    assert unknown == {of: set() for of in found}
    assert {of: {*then[of]} - {*now[of]} for of in then} == {of: set() for of in then}, "what was known is known"


_WHOLE = {"effects": "Effect", "wants": "Want"}


def test_what_is_kept_is_of_this_release_or_an_earlier_one() -> None:
    """The file is called as the version that wrote it."""
    found: list[Kept] = [kept(path) for path in files()]
    assert [one.version for one in found] == [path.stem for path in files()]


def test_the_mesh_says_nothing_that_is_not_kept() -> None:
    """A new event of the mesh's own comes with a record of it."""
    from keeping import classes  # noqa: PLC0415 - beside its only use

    types = {type_of(schema_of(one)) for one in classes().values()}
    kept_types = {
        (dict(record.headers).get("ce_type") or b"").decode() for path in files() for record in kept(path).records
    }
    assert {type for type in types if type.startswith("antiphon.")} - kept_types <= {"antiphon.saga.parked"}
