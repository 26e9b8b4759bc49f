"""An event of a dead letter as JSON that a person may change, and back to bytes under the schema it was written with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import orjson

from antiphon.bus.claim import DATAREF
from antiphon.bus.claims import Claims
from antiphon.bus.names import Names
from antiphon.bus.record import Outgoing, Record
from antiphon.replay.errors import LetterEditError
from antiphon.schemas.codec import Codec, reference_of, to_json
from antiphon.schemas.errors import EncodeError, InvalidDataError, SchemaError
from antiphon.schemas.event import Event, key_of
from antiphon.schemas.generate import class_from_schema
from antiphon.schemas.input import event_from_json


@dataclasses.dataclass(frozen=True)
class Editable:
    """One event that may be edited: its data, and what takes it back."""

    record: Record
    event_class: type[Event]
    text: str
    """The data as it is, JSON."""


async def editable(record: Record, codec: Codec, claims: Claims) -> Editable:
    """Read the event in *record*. Raises `LetterEditError` where it cannot be read, so neither edited, and `RegistryError`."""
    try:
        value = await claims.value_of(record)
        await codec.learn(reference_of(value))
        schema, data = codec.read(value)
        event_class = class_from_schema(schema)
    except SchemaError as error:
        raise _refused(
            record, str(error).splitlines(), "Mend the class or the schema, and redrive it as it is"
        ) from error
    return Editable(record, event_class, orjson.dumps(to_json(data), option=orjson.OPT_INDENT_2).decode() + "\n")


async def edited(found: Editable, text: str, names: Names, codec: Codec, claims: Claims) -> Outgoing:
    """Return what *text*, the changed data, is on the wire: value and headers, the ids as they were.

    Raises `LetterEditError`, which tells every field that does not fit.
    """
    record, event_class = found.record, found.event_class
    try:
        event = event_from_json(event_class, text)
        await codec.announce({event_class}, topic_of=names.topic)
        value = codec.encode(event)
    except InvalidDataError as error:
        raise _refused(record, error.problems, error.remedy) from error
    except EncodeError as error:
        raise _refused(record, str(error).splitlines(), "Edit it again") from error
    key = key_of(event)
    if key is not None and key.encode() != record.key:
        expected = (record.key or b"").decode(errors="replace")
        problem = f"field {event_class.__event__.key!r}: expected {expected!r}, the key it stands under, got {key!r}"
        raise _refused(record, [problem], "Its order and its state go by the key. Publish another event instead")
    headers = [(name, said) for name, said in record.headers if name != DATAREF]
    outgoing = Outgoing(record.topic, record.key, value, headers)
    if len(value) + len(record.key or b"") > claims.limit:
        outgoing = claims.outgoing(event_class.__event__.type, outgoing)
        await claims.keep([value])
    return outgoing


def _refused(record: Record, problems: Sequence[str], remedy: str) -> LetterEditError:
    return LetterEditError(f"{record.topic}[{record.partition}]@{record.offset}", problems, remedy)
