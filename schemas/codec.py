"""Events to the bytes of a record and back.

A value is a header that names the writer's schema, and Avro. `encode` and
`decode` do not wait: what has to be fetched or published, `learn` and
`announce` have done before.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from io import BytesIO
from typing import Any, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError

from antiphon.schemas import binary
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.errors import (
    DecodeError,
    EncodeError,
    IncompatibleSchemaError,
    LimitError,
    UnknownSchemaError,
)
from antiphon.schemas.event import Event
from antiphon.schemas.limits import Guard, Limits, measure_schema
from antiphon.schemas.nodes import RECORDS, kind_of
from antiphon.schemas.problems import problems_of
from antiphon.schemas.reading import reading_plan
from antiphon.schemas.redaction import mask_of
from antiphon.schemas.shape import Record, records, shape_of
from antiphon.schemas.store import AvroSchema, Framing, Reference, SchemaStore, type_of
from antiphon.schemas.writing import misfit, writing_plan

E = TypeVar("E", bound=Event)

_SINGLE_OBJECT = 10
_CONFLUENT = 5
# Up to here, some 70 years, a number of seconds tells microseconds apart, however it is taken apart by whoever reads it.
_EXACT = timedelta(microseconds=2**51)


class Codec:
    """Encodes and decodes events; knows the schemas it has announced and learned."""

    def __init__(self, store: SchemaStore, *, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._store = store
        self._limits = limits
        self._writers: dict[type[Event], _Writer] = {}
        self._schemas: dict[Reference, _Written] = {}
        self._readers: dict[tuple[type[Event], bytes], _Reader] = {}

    async def announce(self, classes: Iterable[type[Event]], *, topic_of: Callable[[str], str] = str) -> None:
        """Publish the schemas of *classes*, so that `encode` takes their events. Doing it again does no harm.

        *topic_of* makes of a class's topic what the cluster calls it.
        Raises `RegistryError` where the store cannot be reached, or refuses.
        """
        for event_class in classes:
            if event_class in self._writers:
                continue
            schema = schema_of(event_class)
            reference = await self._store.publish(topic_of(event_class.__event__.topic), schema)
            written = self._schemas.get(reference)
            if written is None:
                written = self._schemas[reference] = _Written(schema, self._limits)
            self._writers[event_class] = _Writer(event_class, _Written(schema, self._limits), reference, self._limits)

    def encode(self, event: Event) -> bytes:
        """Write *event*'s data; raises `EncodeError`, which names the field that does not fit."""
        writer = self._writers.get(type(event))
        if writer is None:
            raise EncodeError(
                event.__event__.type,
                "",
                "a class that was announced",
                type(event).__name__,
                "Call announce with it first",
            )
        return writer.write(event)

    def reference(self, event_class: type[Event]) -> Reference:
        """Return what values of an announced class name its schema by."""
        return reference_of(self._writers[event_class].header)

    def framed(self, event_class: type[Event], data: bytes) -> bytes:
        """Put the header of an announced class before *data*, which is Avro of its schema already."""
        return self._writers[event_class].header + data

    def decode(self, event_class: type[E], value: bytes) -> E:
        """Read *value* as an *event_class*, whoever wrote it, by Avro's rules of resolution.

        Raises `UnknownSchemaError` where `learn` must come first,
        `IncompatibleSchemaError` where the writer's schema cannot be read as the
        class, `LimitError` and otherwise `DecodeError`.
        """
        header = value[:_CONFLUENT] if value[:1] == b"\0" else value[:_SINGLE_OBJECT]
        reader = self._readers.get((event_class, header))
        if reader is None:
            reader = self._readers[event_class, header] = self._reader(event_class, value)
        return cast("E", reader.read(value))

    async def learn(self, reference: Reference) -> None:
        """Fetch a writer's schema from the store, for `decode` and `read`.

        Raises `UnknownSchemaError` where nobody has it, `RegistryError` where
        nobody can say, and `DecodeError` where it is no schema, or too large.
        """
        if reference in self._schemas:
            return
        schema = await self._store.fetch(reference)
        if schema is None:
            raise UnknownSchemaError(reference, "the store has none of that name")
        self.know(reference, schema)

    def know(self, reference: Reference, schema: AvroSchema) -> None:
        """Take *schema*, which somebody kept, for the one that *reference* names. Raises as `learn` does where it is none."""
        measure_schema(schema, self._limits, type_of(schema))
        self._schemas[reference] = _Written(schema, self._limits)

    def known(self, reference: Reference) -> AvroSchema | None:
        """Return the schema that *reference* names, where it was learned."""
        written = self._schemas.get(reference)
        return None if written is None else written.schema

    def hides(self, reference: Reference) -> bool:
        """Say whether a schema that was learned marks something as not to be shown."""
        written = self._schemas.get(reference)
        return written is not None and written.mask is not None

    def read(self, value: bytes) -> tuple[AvroSchema, Any]:
        """Read *value* without a class: its schema, and the data as plain Python values."""
        reference = reference_of(value)
        written = self._schemas.get(reference)
        if written is None:
            raise UnknownSchemaError(reference)
        return written.schema, written.read(value, named=False)

    def read_raw(self, value: bytes) -> Any:
        """Return the data that `read` does, with text as its UTF-8 bytes: for whoever reads much of it, and looks at little."""
        written = self._schemas.get(reference_of(value))
        if written is None:
            raise UnknownSchemaError(reference_of(value))
        return written.read(value, named=False, raw=True)

    def shown(self, value: bytes) -> Any:
        """Read *value* without a class, as `read` does, with `MASK` in place of what is not to be shown."""
        reference = reference_of(value)
        written = self._schemas.get(reference)
        if written is None:
            raise UnknownSchemaError(reference)
        data = written.read(value, named=False)
        return data if written.mask is None else written.mask(data)

    def to_json(self, value: bytes) -> Any:
        """Read *value* without a class, as JSON's types. Raises as `read` does."""
        return to_json(self.read(value)[1])

    def _reader(self, event_class: type[Event], value: bytes) -> _Reader:
        type = event_class.__event__.type
        reference = reference_of(value, type)
        written = self._schemas.get(reference)
        if written is None and isinstance(reference, bytes):
            # Written by a class that looks the same: there is nothing to learn.
            own = schema_of(event_class)
            written = _Written(own, self._limits) if fingerprint(own) == reference else None
        if written is None:
            raise UnknownSchemaError(reference)
        return _Reader(event_class, written)


def reference_of(value: bytes, type: str = "a value") -> Reference:
    """Return what *value*'s header names its schema by; raises `DecodeError` where there is no header."""
    if value[:2] == Framing.SINGLE_OBJECT.value and len(value) >= _SINGLE_OBJECT:
        return value[2:_SINGLE_OBJECT]
    if value[:1] == Framing.CONFLUENT.value and len(value) >= _CONFLUENT:
        return int.from_bytes(value[1:_CONFLUENT], "big")
    raise DecodeError(
        type,
        [f"expected Avro behind a header (c3 01 and a fingerprint, or 00 and an id), got {_first_bytes(value)}"],
        "Write it with Avro's single-object encoding, or a registry's serializer; see docs/reference/wire.md",
    )


def reference_name(reference: Reference) -> str:
    """Write a reference for people."""
    return f"id {reference}" if isinstance(reference, int) else f"fingerprint {reference.hex()}"


def header_of(reference: Reference) -> bytes:
    """Return the header that names *reference*."""
    if isinstance(reference, bytes):
        return Framing.SINGLE_OBJECT.value + reference
    return struct.pack(">bI", 0, reference)


def _first_bytes(value: bytes) -> str:
    if not value:
        return "an empty value"
    hint = " (JSON text?)" if value.lstrip()[:1] in (b"{", b"[") else ""
    return f"{len(value)} bytes that begin with {value[:4].hex(' ')}{hint}"


class _Written:
    """A writer's schema, parsed and weighed once."""

    def __init__(self, schema: AvroSchema, limits: Limits) -> None:
        self.schema, self.limits = schema, limits
        self.type = type = type_of(schema)
        try:
            self.parsed, self.names = binary.parse(schema)
            self.guard = Guard(self.parsed, self.names, limits, type)
            self.mask = mask_of(self.parsed, self.names)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(
                type, [f"expected an Avro schema, got one that does not parse: {error}"], "Publish a legal one"
            ) from error

    @cached_property
    def untexted(self) -> Any:
        return binary.parse(binary.untexted(self.schema))[0]

    def read(self, value: bytes, *, named: bool, raw: bool = False, type: str | None = None) -> Any:
        """Read the data behind the header. *named*: values of a union's named branches as (name, value); *raw*: text as bytes."""
        if len(value) > self.limits.size:
            raise LimitError(type or self.type, "bytes in a value", self.limits.size, str(len(value)))
        start = _CONFLUENT if value[0] == 0 else _SINGLE_OBJECT
        if len(value) > self.guard.scan_above:
            self.guard.scan(value, start)
        stream = BytesIO(value)
        stream.seek(start)
        try:
            data = binary.read(stream, self.untexted if raw else self.parsed, None, return_named_type=named)
        except Exception as error:
            # The scan knows the field; fastavro does not.
            self.guard.scan(value, start)
            problem = f"expected the bytes of its schema, got some that do not read ({_named(error)})"
            raise DecodeError(type or self.type, [problem]) from error
        if stream.tell() != len(value):
            left = len(value) - stream.tell()
            raise DecodeError(type or self.type, [f"{left} bytes are left over behind the value"])
        return data


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _Reader:
    """One writer's schema, read as one class."""

    def __init__(self, event_class: type[Event], written: _Written) -> None:
        self._type = event_class.__event__.type
        self._written = written
        shape = shape_of(event_class)
        if kind_of(written.parsed) not in RECORDS:
            raise IncompatibleSchemaError(self._type, "", "it was not written as a record", "Write records")
        try:
            self._plan = reading_plan(shape, written.parsed, written.names, self._type)
        except IncompatibleSchemaError:
            raise
        except Exception as error:
            problem = f"expected an Avro schema to read it by, got one that is none ({_named(error)})"
            raise DecodeError(self._type, [problem], "Publish a legal one") from error
        self._validate = event_class.__pydantic_validator__.validate_python
        self._flags: dict[str, Any] = _validation_flags(shape)

    def read(self, value: bytes) -> Any:
        data = self._written.read(value, named=True, type=self._type)
        try:
            if self._plan is not None:
                data = self._plan(data)
            return self._validate(data, **self._flags) if self._flags else self._validate(data)
        except ValidationError as error:
            raise DecodeError(self._type, problems_of(error)) from error
        except IncompatibleSchemaError:
            raise
        except Exception as error:
            problem = f"expected data of {self._type}, got some that does not convert ({_named(error)})"
            raise DecodeError(self._type, [problem]) from error


def _validation_flags(shape: Record) -> dict[str, Any]:
    """Data comes by field name, and was typed by Avro; flags are dear, so only where a class needs them."""
    found = [*records(shape)]
    is_plain = not any(
        field.info.validation_alias is not None or field.info.alias is not None
        for record in found
        for field in record.fields
    )
    is_lax = not any(record.python.model_config.get("strict") or _has_strict_field(record) for record in found)
    return {} if is_plain and is_lax else {"strict": False, "by_alias": False, "by_name": True}


def _has_strict_field(record: Record) -> bool:
    return any(getattr(entry, "strict", None) for field in record.fields for entry in field.info.metadata)


class _Writer:
    """One class, written under its own schema."""

    def __init__(self, event_class: type[Event], written: _Written, reference: Reference, limits: Limits) -> None:
        self._type = event_class.__event__.type
        self._written, self._limits = written, limits
        self._shape = shape_of(event_class)
        self._plan = writing_plan(self._shape)
        self.header = header_of(reference)

    def write(self, event: Event) -> bytes:
        stream = BytesIO()
        stream.write(self.header)
        try:
            binary.write(stream, self._written.parsed, self._plan(event))
        except Exception as error:
            raise self._refusal(event, error) from error
        value = stream.getvalue()
        if len(value) > self._limits.size or len(value) > self._written.guard.scan_above:
            self._check(value)
        return value

    def _check(self, value: bytes) -> None:
        """What readers would refuse is not written."""
        try:
            if len(value) > self._limits.size:
                raise LimitError(self._type, "bytes in a value", self._limits.size, str(len(value)))
            self._written.guard.scan(value, len(self.header))
        except LimitError as error:
            expected = f"at most {error.limit} {error.what}"
            raise EncodeError(
                self._type, "", expected, "more", "Send less in one event, or a reference to it"
            ) from None

    def _refusal(self, event: Event, error: Exception) -> EncodeError:
        found = None if isinstance(error, RecursionError) else misfit(self._shape, event, "")
        if found is None:
            got = "data nested too deep" if isinstance(error, RecursionError) else _named(error)
            return EncodeError(self._type, "", "data that its schema can hold", got, "Send less deep data")
        field, wrong = found
        return EncodeError(self._type, field, wrong.expected, wrong.got, wrong.remedy)


def to_json(value: Any) -> Any:  # noqa: PLR0911 - one case for each kind of value
    """Return *value* (an event, or data that `Codec.read` gave) as JSON's types.

    Numbers that JSON cannot hold exactly, times and ids become text; bytes Base64.

    >>> to_json({"at": date(2026, 11, 22), "raw": b"ok", "cost": Decimal("1.50")})
    {'at': '2026-11-22', 'raw': 'b2s=', 'cost': '1.50'}
    """
    match value:
        case None | bool() | int() | str() if not isinstance(value, Enum):
            return value
        case float():
            return value if abs(value) < float("inf") else str(value)
        case BaseModel():
            return {name: to_json(part) for name, part in value.__dict__.items()}
        case Mapping():
            return _mapping_to_json(cast("Any", value))
        case list() | tuple() | set() | frozenset():
            return [to_json(part) for part in cast("Iterable[Any]", value)]
        case Enum():
            return to_json(value.value)
        case _:
            return _scalar_to_json(value)


def _mapping_to_json(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): to_json(part) for name, part in value.items()}


def _duration_to_json(value: timedelta) -> float | str:
    if abs(value) <= _EXACT:
        return value.total_seconds()
    # A number of seconds has no room for its microseconds: as ISO 8601 writes it.
    sign, whole = ("-", -value) if value < timedelta() else ("", value)
    return f"{sign}P{whole.days}DT{whole.seconds}.{whole.microseconds:06}S"


def _scalar_to_json(value: Any) -> Any:
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case datetime() | date() | time():
            return value.isoformat().replace("+00:00", "Z")
        case timedelta():
            return _duration_to_json(value)
        case Decimal() | UUID():
            return str(value)
        case _:
            return value
