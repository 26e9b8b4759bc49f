"""The Avro schema of an event class, and the names by which schemas are known."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from antiphon.schemas.canonical import canonical_form, fingerprint
from antiphon.schemas.defaults import default_of
from antiphon.schemas.event import Event
from antiphon.schemas.redaction import is_marked
from antiphon.schemas.shape import (
    Alternatives,
    Array,
    Choice,
    Constrained,
    Field,
    Map,
    Record,
    Scalar,
    Shape,
    bare,
    shape_of,
)
from antiphon.schemas.store import AvroSchema
from antiphon.schemas.volatility import Volatile

__all__ = ["canonical_form", "fingerprint", "schema_of"]


def schema_of(event_class: type[BaseModel]) -> AvroSchema:
    """Return the schema of *event_class*, as JSON.

    What Avro has no word for stands in the attribute `antiphon`, which other
    readers skip: on the event its type, topic, key and `fails`; on a field or a
    type its constraints, and which collection an array is; on a field that nothing shows `redact`, on one that
    no replay compares `volatile`, and on one whose default only the class has `optional`.

    >>> class TicketOpened(Event):
    ...     ticket_id: str
    >>> schema_of(TicketOpened)["fields"]
    [{'name': 'ticket_id', 'type': 'string'}]
    """
    schema = _Rendering().record(shape_of(event_class))
    if issubclass(event_class, Event):
        said = event_class.__event__
        schema["antiphon"] = {"type": said.type, "topic": said.topic, "key": said.key, "fails": said.fails}
    return schema


class _Rendering:
    """One walk over one shape; a named type is written out where it comes first."""

    def __init__(self) -> None:
        self.written: set[str] = set()

    def type(self, shape: Shape) -> Any:  # noqa: PLR0911 - one case for each kind of shape
        match shape:
            case Constrained():
                schema = self.type(shape.shape)
                if isinstance(bare(shape), Alternatives):
                    return schema
                return _noted({"type": schema} if isinstance(schema, str) else schema, constraints=shape.constraints)
            case Scalar():
                return self.scalar(shape)
            case Choice():
                return self.choice(shape)
            case Array():
                array = {"type": "array", "items": self.type(shape.items)}
                return array if shape.python is list else _noted(array, collection=shape.python.__name__)
            case Map():
                return {"type": "map", "values": self.type(shape.values)}
            case Record():
                return shape.name if shape.name in self.written else self.record(shape)
            case Alternatives():
                return [self.type(branch) for branch in shape.branches]

    def scalar(self, scalar: Scalar) -> Any:
        if scalar.avro == "fixed":
            name = scalar.attributes["name"]
            if name in self.written:
                return name
            self.written.add(name)
        if scalar.logical is None and not scalar.attributes:
            return scalar.avro
        logical = {} if scalar.logical is None else {"logicalType": scalar.logical}
        return {"type": scalar.avro, **logical, **scalar.attributes}

    def choice(self, choice: Choice) -> Any:
        if choice.name in self.written:
            return choice.name
        self.written.add(choice.name)
        schema: dict[str, Any] = {"type": "enum", "name": choice.name, "symbols": [*choice.values]}
        if choice.default is not None:
            schema["default"] = choice.default
        return _named(schema, choice)

    def record(self, record: Record) -> dict[str, Any]:
        self.written.add(record.name)
        schema: dict[str, Any] = {"type": "record", "name": record.name}
        schema = _named(schema, record)
        schema["fields"] = [self.field(record, field) for field in record.fields]
        return schema

    def field(self, record: Record, field: Field) -> dict[str, Any]:
        default, shape = default_of(record, field)
        schema: dict[str, Any] = {"name": field.name, "type": self.type(shape)}
        if default is not PydanticUndefined:
            schema["default"] = default
        elif not field.info.is_required():
            schema = _noted(schema, optional=True)
        if field.info.description:
            schema["doc"] = field.info.description
        if field.aliases:
            schema["aliases"] = [*field.aliases]
        if is_marked(field.info.annotation, field.info.metadata):
            schema = _noted(schema, redact=True)
        if is_marked(field.info.annotation, field.info.metadata, by=Volatile):
            schema = _noted(schema, volatile=True)
        return _noted(schema, constraints=field.constraints) if field.constraints else schema


def _named(schema: dict[str, Any], shape: Record | Choice) -> dict[str, Any]:
    if shape.doc:
        schema["doc"] = shape.doc
    if shape.aliases:
        schema["aliases"] = [*shape.aliases]
    return schema


def _noted(schema: dict[str, Any], **notes: Any) -> dict[str, Any]:
    return {**schema, "antiphon": {**schema.get("antiphon", {}), **notes}}
