"""What one handling came to, as bytes: two that are alike are the same, and need not be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from antiphon.replay.compare import Difference, Raised, Result, Rules, Said, compare
from antiphon.replay.recording import Handling, Recording
from antiphon.schemas.codec import Codec, header_of, reference_of, to_json
from antiphon.schemas.errors import SchemaError
from antiphon.schemas.volatility import volatile_paths


class Came(NamedTuple):
    """The events that were emitted, framed Avro with their types, or the error."""

    said: list[tuple[str, bytes]]
    raised: Raised | None = None


def came_of(recording: Recording, handling: Handling) -> Came | None:
    """Return what is recorded of *handling*; None where a part of it is gone."""
    error = handling.entry.error
    if error is not None:
        return Came([], Raised(error.type, error.message))
    said = said_of(recording, handling)
    return None if said is None else Came(said)


def said_of(recording: Recording, handling: Handling) -> list[tuple[str, bytes]] | None:
    """Return the events that *handling* emitted; None where one of them is gone."""
    said: list[tuple[str, bytes]] = []
    for emitted in handling.entry.emitted:
        record = recording.events.get(emitted.id)
        if record is None:
            return None
        said.append((emitted.type, record.value or b""))
    return said


async def differences(
    codec: Codec, recorded: Came, got: Came, rules: Rules, *, codec_of_got: Codec | None = None
) -> list[Difference]:
    """Return what is not as it was; *codec_of_got* where what came was written elsewhere."""
    if got == recorded:
        return []
    codec_of_got = codec_of_got or codec
    if await _framed_otherwise(codec, recorded, codec_of_got, got):
        return []
    before, after = await _read(codec, recorded), await _read(codec_of_got, got)
    volatile = {pattern for said in recorded.said for pattern in _volatile(codec, *said)}
    volatile |= {pattern for said in got.said for pattern in _volatile(codec_of_got, *said)}
    if volatile:
        rules = dataclasses.replace(rules, ignore=(*rules.ignore, *sorted(volatile)))
    return compare(before, after, rules)


async def _framed_otherwise(codec: Codec, recorded: Came, codec_of_got: Codec, got: Came) -> bool:
    """Say whether nothing differs but how schemas are named: by a registry's ids on one side, for instance."""
    if recorded.raised is not None or got.raised is not None or len(recorded.said) != len(got.said):
        return False
    for (type, value), (type_of_got, other) in zip(recorded.said, got.said, strict=True):
        try:
            named, named_there = reference_of(value), reference_of(other)
            if type != type_of_got or value[len(header_of(named)) :] != other[len(header_of(named_there)) :]:
                return False
            await codec.learn(named)
            await codec_of_got.learn(named_there)
        except SchemaError:
            return False
        if codec.known(named) != codec_of_got.known(named_there):
            return False
    return True


def _volatile(codec: Codec, type: str, value: bytes) -> Iterator[str]:
    """Yield patterns of what is marked as volatile in the schema that *value* was written with, where that is known."""
    try:
        schema = codec.known(reference_of(value))
    except SchemaError:
        return
    for path in () if schema is None else volatile_paths(schema):
        yield f"{type}:{path}"
        yield f"{type}:{path}.*"


async def _read(codec: Codec, came: Came) -> Result:
    return Result([Said(type, await _shown(codec, value)) for type, value in came.said], came.raised)


async def json_of(codec: Codec, value: bytes) -> Any:
    """Return an event's data as JSON, without what is not to be shown. Raises `SchemaError`."""
    await codec.learn(reference_of(value))
    return to_json(codec.shown(value))


async def _shown(codec: Codec, value: bytes) -> Any:
    """Return an event's data as JSON; what is not to be shown is the same on both sides."""
    try:
        return await json_of(codec, value)
    except SchemaError as error:
        return f"(unreadable: {error})"
