"""Whether what one schema writes can be read by another: every place where it cannot, and what to do.

The rules are the reader's own, those of `reading`, which stops at the first
place where a writer and a class do not fit; here every place is asked. Beyond
Avro's rules it asks what Avro does not know and a reader refuses all the same:
constraints, logical types, bytes that are to be text. What a class checks in
validators of its own no schema tells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from antiphon.schemas import binary
from antiphon.schemas.avro import schema_of
from antiphon.schemas.constraints import tighter
from antiphon.schemas.errors import Incompatible, IncompatibleSchemaError, SchemaError, UnsupportedSchemaError
from antiphon.schemas.event import Event
from antiphon.schemas.generate import class_from_schema
from antiphon.schemas.nodes import RECORDS, attribute, kind_of
from antiphon.schemas.reading import Convert, Resolution
from antiphon.schemas.shape import (
    BARE_DECIMAL,
    Alternatives,
    Constrained,
    Field,
    Record,
    Scalar,
    Shape,
    bare,
    shape_of,
)
from antiphon.schemas.store import AvroSchema, type_of

Reader: TypeAlias = type[Event] | AvroSchema
"""A class, or the schema of one that runs elsewhere."""

_TOPIC = "Keep the topic, or give the event another type; who hears it would have to be deployed first"
_KEY = "Keep the key, or give the event another type: order, joins and state go by it"


def schema_as_json(side: Reader) -> AvroSchema:
    """Return the schema of either."""
    return schema_of(side) if isinstance(side, type) else side


@dataclasses.dataclass(frozen=True, order=True)
class Mismatch:
    """One place where a writer and a reader do not fit."""

    path: str
    """The field, `lines[].count` for instance; empty: the event as a whole."""
    kind: Incompatible
    message: str
    remedy: str


def mismatches(writer: AvroSchema, reader: Reader) -> list[Mismatch]:
    """Return where values of *writer* cannot be read by *reader*, by path; none: all of them can.

    A reader whose schema no class can have (another system's) is taken by
    Avro's rules for what it has in common with one. Raises
    `UnsupportedSchemaError` where it has nothing, or *writer* is no schema.
    """
    try:
        event_class = reader if isinstance(reader, type) else class_from_schema(reader)
    except UnsupportedSchemaError:
        raise
    except SchemaError as error:
        # Too deep or too large, or a type that no topic can be called as.
        raise UnsupportedSchemaError(
            type_of(schema_as_json(reader))[:200],
            "a schema that a class can have",
            str(error)[:500],
            "Mend it, then try again",
        ) from error
    own_defaults = frozenset[tuple[str, str]]() if isinstance(reader, type) else _own_defaults(reader)
    type_ = event_class.__event__.type
    try:
        parsed, names = binary.parse(writer)
    except Exception as error:
        raise UnsupportedSchemaError(
            type_of(writer), "an Avro schema", str(error), "Mend it, then try again"
        ) from error
    if kind_of(parsed) not in RECORDS:
        got = kind_of(parsed)
        return [Mismatch("", Incompatible.TYPE_CHANGED, f"it is written as {got}, no record", "Write records")]
    survey = _Survey(names, type_, own_defaults)
    survey.look(parsed, shape_of(event_class))
    return sorted({*survey.found, *_moved(writer, event_class)})


def _moved(writer: AvroSchema, reader: type[Event]) -> list[Mismatch]:
    """Compare what the class lines say; a writer of another kind says nothing of it."""
    said: Any = attribute(writer, "antiphon")
    if not isinstance(said, Mapping) or "topic" not in said:
        return []
    said, ours = cast("Mapping[str, Any]", said), reader.__event__
    found: list[Mismatch] = []
    if said["topic"] != ours.topic:
        message = f"it is written to topic {said['topic']} and read from {ours.topic}"
        found.append(Mismatch("", Incompatible.TOPIC_MOVED, message, _TOPIC))
    if said.get("key") != ours.key:
        message = f"it is written under {_keyed(said.get('key'))} and read as if under {_keyed(ours.key)}"
        found.append(Mismatch("", Incompatible.KEY_CHANGED, message, _KEY))
    return found


def _keyed(field: object) -> str:
    return "the workflow's id" if field is None else f"its field {field!r}"


def _own_defaults(schema: AvroSchema) -> frozenset[tuple[str, str]]:
    """Return the fields, as record and name, that a class makes up by itself and Avro has no word for."""
    _, names = binary.parse(schema)
    return frozenset(
        (str(name).rpartition(".")[2], field["name"])
        for name, node in names.items()
        for field in attribute(node, "fields") or ()
        if attribute(attribute(field, "antiphon"), "optional") is True
    )


class _Survey(Resolution):
    """A resolution that goes on where it cannot, and remembers where that was."""

    def __init__(self, names: Mapping[str, Any], type: str, own_defaults: frozenset[tuple[str, str]]) -> None:
        super().__init__(names, type)
        self.found: list[Mismatch] = []
        self._own_defaults = own_defaults

    def look(self, writer: Any, reader: Record) -> None:
        try:
            self.record(writer, reader, "")
        except IncompatibleSchemaError as error:  # pragma: no cover - every part of a record is asked by itself
            self.note(error)

    def note(self, error: IncompatibleSchemaError) -> None:
        self.found.append(Mismatch(error.field, error.kind, error.problem, error.remedy))

    # -- going on

    def field(self, written: Mapping[str, Any], reader: Field, path: str) -> Convert | None:
        self._compare(_constraints_of(written), reader.constraints, reader.shape, path)
        try:
            return super().field(written, reader, path)
        except IncompatibleSchemaError as error:
            self.note(error)
            return None

    def part(self, written: Any, reader: Shape, path: str) -> Convert | None:
        if isinstance(reader, Constrained):
            self._compare(_constraints_of(written), reader.constraints, reader.shape, path)
        try:
            return super().part(written, reader, path)
        except IncompatibleSchemaError as error:
            self.note(error)
            return None

    def needs_default(self, field: Field, reader: Record, place: str) -> None:
        if (reader.name, field.name) in self._own_defaults:
            return
        try:
            super().needs_default(field, reader, place)
        except IncompatibleSchemaError as error:
            self.note(error)

    def unreadable(self, error: IncompatibleSchemaError) -> None:
        if error.kind is not Incompatible.TYPE_CHANGED:
            self.note(error)
            return
        self.found.append(Mismatch(error.field, Incompatible.UNREADABLE_BRANCH, error.problem, error.remedy))

    # -- what Avro does not know

    def scalar(self, kind: str, writer: Any, reader: Scalar, path: str) -> Convert | None:
        plan = super().scalar(kind, writer, reader, path)
        if (problem := _unsure(kind, writer, reader)) is not None:
            remedy = "Keep the type; or give the new field another name and a default"
            raise self.refuse(path, problem, remedy)
        if reader.logical == "decimal":
            self._compare_decimals(writer, reader, path)
        return plan

    def _compare_decimals(self, writer: Any, reader: Scalar, path: str) -> None:
        ours = reader.attributes["precision"], reader.attributes.get("scale", 0)
        theirs = attribute(writer, "precision") or 0, attribute(writer, "scale") or 0
        if ours == BARE_DECIMAL and reader.avro == "bytes":
            return  # the class refuses none
        if theirs[1] > ours[1] or theirs[0] - theirs[1] > ours[0] - ours[1]:
            problem = f"it is written with {_digits(*theirs)} and read with {_digits(*ours)}"
            self.found.append(Mismatch(path, Incompatible.TIGHTER_CONSTRAINT, problem, _LOOSEN))

    def _compare(self, written: Mapping[str, Any], read: Mapping[str, Any], shape: Shape, path: str) -> None:
        whole = isinstance(bare(shape), Scalar) and cast("Scalar", bare(shape)).python is int
        if isinstance(bare(shape), Alternatives) and not written and isinstance(shape, Constrained):
            return  # no schema tells the constraints of a union inside another type
        for problem in tighter(written, read, whole=whole):
            self.found.append(Mismatch(path, Incompatible.TIGHTER_CONSTRAINT, problem, _LOOSEN))


_LOOSEN = "Allow what was allowed before, and have the handler judge; or give the new field another name and a default"
_FAMILIES: Sequence[frozenset[str]] = (
    frozenset({"timestamp-millis", "timestamp-micros", "timestamp-nanos"}),
    frozenset({"local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos"}),
    frozenset({"time-millis", "time-micros"}),
)


def _unsure(kind: str, writer: Any, reader: Scalar) -> str | None:
    """Return why values of *writer* may be refused as *reader*, though Avro resolves the types."""
    written: str | None = attribute(writer, "logicalType")
    if kind == "bytes" and reader.avro == "string":
        return "it is written as bytes and read as text, which not all bytes are"
    if (
        reader.logical is None
        or reader.logical == written
        or any({reader.logical, written} <= one for one in _FAMILIES)
    ):
        return None
    if reader.python in (int, float, str, bytes) or (written is None and reader.logical == "duration-micros"):
        return None
    if written is not None:
        # Every value may be read, and as what it was not: a date as a moment soon after 1970.
        return f"it is written as {written} and read as {reader.logical}, which means something else"
    return f"it is written as {kind} and read as {reader.logical}, which not all of its values are"


def _digits(precision: int, scale: int) -> str:
    return f"{precision} digits, {scale} of them after the point"


def _constraints_of(node: Any) -> Mapping[str, Any]:
    return attribute(attribute(node, "antiphon"), "constraints") or {}
