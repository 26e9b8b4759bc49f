"""A bundle: one file that holds a recording and the schemas it takes to read it. No broker, no code.

The first line is JSON: `{"antiphon_bundle": 1, "length": N, "sha256": "..."}`, of
the JSON document that follows, packed with zlib. Whatever the file says, it is
read within limits, and nothing in it is ever run.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import orjson

from antiphon.bus.activity import Handled
from antiphon.bus.record import Record
from antiphon.replay.errors import BundleError
from antiphon.replay.recording import Change, Handling, Recording
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas import binary
from antiphon.schemas.codec import Codec, header_of, reference_of
from antiphon.schemas.errors import SchemaError
from antiphon.schemas.store import AvroSchema, Reference, SchemaStore

VERSION = 1
SUFFIX = ".antiphon"
MOST = 512 * 1024 * 1024
"""Bytes of a bundle's document, unpacked."""
_LONGEST_LINE = 4_096


async def schemas_of(recording: Recording, store: SchemaStore) -> dict[Reference, AvroSchema]:
    """Return the schemas that the recording's events were written with, as far as *store* has them."""
    found: dict[Reference, AvroSchema] = {}
    for record in recording.events.values():
        try:
            reference = reference_of(record.value or b"")
        except SchemaError:
            continue
        if reference not in found and (schema := await store.fetch(reference)) is not None:
            found[reference] = schema
    return found


def redacted(recording: Recording, schemas: Mapping[Reference, AvroSchema]) -> Recording:
    """Return *recording* with `MASK` in place of what events' schemas mark; an event that cannot be read, or hold it, is left out.

    State, and what side effects returned, carry no marks and stay as they are.
    """
    codec = Codec(KeptSchemas(schemas))
    for reference, schema in schemas.items():
        codec.know(reference, schema)
    events: dict[str, Record] = {}
    for id, record in recording.events.items():
        value = _masked(codec, record.value or b"")
        if value is not None:
            events[id] = dataclasses.replace(record, value=value, size=0)
    return dataclasses.replace(recording, events=events)


def _masked(codec: Codec, value: bytes) -> bytes | None:
    """Return *value* with its marked fields masked; None where that cannot be done: what may be in it nobody shall see."""
    try:
        reference = reference_of(value)
        schema, stream = codec.read(value)[0], BytesIO()
        if not codec.hides(reference):
            return value
        stream.write(header_of(reference))
        binary.write(stream, binary.parse(schema)[0], codec.shown(value))
    except (SchemaError, TypeError, ValueError, AttributeError):
        return None
    return stream.getvalue()


def write(recording: Recording, schemas: Mapping[Reference, AvroSchema]) -> bytes:
    """Return the bundle's bytes; the same recording makes the same ones."""
    document = {
        "handlings": [
            {"agent": one.agent, "version": one.version, "entry": _entry(one.entry)} for one in recording.handlings
        ],
        "events": {id: _record(record) for id, record in recording.events.items()},
        "changes": {
            agent: [[change.key, change.by, _text(change.value)] for change in of]
            for agent, of in recording.changes.items()
        },
        "schemas": [
            [reference if isinstance(reference, int) else reference.hex(), schema]
            for reference, schema in schemas.items()
        ],
    }
    body = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    head = {"antiphon_bundle": VERSION, "length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return orjson.dumps(head) + b"\n" + zlib.compress(body, 6)


def read(path: str | Path) -> tuple[Recording, KeptSchemas]:
    """Read a bundle. Raises `BundleError` for what is none, is damaged, was edited, is too large or of a newer release."""
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise BundleError(name, "a bundle", error.strerror or "nothing") from None
    if len(content) > MOST:
        raise BundleError(name, f"at most {MOST:,} bytes", "more")
    body = _body(name, content)
    try:
        return _recording(orjson.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BundleError(name, "a recording", f"{type(error).__name__}: {error}") from None


def _body(name: str, content: bytes) -> bytes:
    line, _, packed = content[:_LONGEST_LINE].partition(b"\n")
    try:
        head: Any = orjson.loads(line)
        version, length, digest = head["antiphon_bundle"], int(head["length"]), str(head["sha256"])
    except (ValueError, KeyError, TypeError, OverflowError):
        raise BundleError(name, "a bundle", "another file") from None
    if version != VERSION:
        raise BundleError(name, f"a bundle of version {VERSION}", f"one of version {version}, of a newer release")
    if not 0 <= length <= MOST:
        raise BundleError(name, f"at most {MOST:,} bytes", f"{length:,}")
    packed = content[len(line) + 1 :]
    unpack = zlib.decompressobj()
    try:
        # One more than it says it has: what is larger is not unpacked to find out by how much.
        body = unpack.decompress(packed, length + 1)
    except zlib.error as error:
        raise BundleError(name, "a whole bundle", f"damaged bytes ({error})") from None
    if len(body) != length or not unpack.eof:
        got = f"{len(body):,} or more" if len(body) > length else f"{len(body):,}: it is cut off"
        raise BundleError(name, f"{length:,} bytes", got)
    if hashlib.sha256(body).hexdigest() != digest:
        raise BundleError(name, f"content of hash {digest[:12]}", "another one: it was edited or damaged")
    return body


def _recording(document: Mapping[str, Any]) -> tuple[Recording, KeptSchemas]:
    recording = Recording(
        handlings=[
            Handling(agent=str(one["agent"]), version=str(one["version"]), entry=_handled(one["entry"]))
            for one in document["handlings"]
        ],
        events={id: _as_record(said) for id, said in document["events"].items()},
        changes={
            agent: [Change(key, by, _bytes(value)) for key, by, value in of]
            for agent, of in document["changes"].items()
        },
    )
    schemas: dict[Reference, AvroSchema] = {
        reference if isinstance(reference, int) else bytes.fromhex(reference): _schema(schema)
        for reference, schema in document["schemas"]
    }
    return recording, KeptSchemas(schemas)


def _entry(entry: Handled) -> dict[str, Any]:
    said = entry.model_dump(exclude={"effects", "emitted"})
    said["effects"] = {name: _text(result) for name, result in entry.effects.items()}
    # The values for undoing are left out: a replay undoes nothing.
    said["emitted"] = [{"id": one.id, "type": one.type, "fails": one.fails} for one in entry.emitted]
    return said


def _handled(said: Mapping[str, Any]) -> Handled:
    return Handled.model_validate(
        {**said, "effects": {name: _bytes(result) for name, result in said["effects"].items()}}
    )


def _record(record: Record) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
        "timestamp_ms": record.timestamp_ms,
    }


def _as_record(said: Mapping[str, Any]) -> Record:
    return Record(
        str(said["topic"]),
        int(said["partition"]),
        int(said["offset"]),
        _bytes(said["key"]),
        _bytes(said["value"]),
        [(str(name), _bytes(value)) for name, value in said["headers"]],
        int(said["timestamp_ms"]),
    )


def _schema(said: object) -> AvroSchema:
    if not isinstance(said, dict):
        message = f"expected a schema as an object, got {type(said).__name__}"
        raise TypeError(message)
    return cast("AvroSchema", said)


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
