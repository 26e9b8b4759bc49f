"""Event classes as Python source that a person would have written."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from antiphon.schemas.errors import UnsupportedSchemaError
from antiphon.schemas.event import Event, event_type
from antiphon.schemas.redaction import is_marked
from antiphon.schemas.shape import (
    BARE_DECIMAL,
    NULL,
    Alternatives,
    Array,
    Bare,
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

_WIDTH = 88
_CHOICES = "AliasChoices"
_MODULES: Mapping[str, str] = {
    "UTC": "datetime",
    "date": "datetime",
    "datetime": "datetime",
    "time": "datetime",
    "timedelta": "datetime",
    "Decimal": "decimal",
    "StrEnum": "enum",
    "Annotated": "typing",
    "Literal": "typing",
    "UUID": "uuid",
    "Event": "antiphon",
    "As": "antiphon.schemas.shape",
    "REDACT": "antiphon.schemas.redaction",
    "AliasChoices": "pydantic",
    "BaseModel": "pydantic",
    "ConfigDict": "pydantic",
    "Field": "pydantic",
}
_STDLIB = ("datetime", "decimal", "enum", "typing", "uuid")
# What Avro type each Python type has of itself; any other is asked for with As().
_NATURAL: Mapping[type, tuple[str, str | None]] = {
    str: ("string", None),
    int: ("long", None),
    float: ("double", None),
    bool: ("boolean", None),
    bytes: ("bytes", None),
    type(None): ("null", None),
    datetime: ("long", "timestamp-micros"),
    date: ("int", "date"),
    time: ("long", "time-micros"),
    timedelta: ("long", "duration-micros"),
    UUID: ("string", "uuid"),
}


def source_of(classes: Iterable[type[Event]]) -> str:
    """Write a module that defines *classes* and everything they are made of, what is used before who uses it."""
    writing = _Writing()
    for event_class in classes:
        writing.record(shape_of(event_class))
    return writing.module()


class _Writing:
    """One module. What is used is noted on the way, so that it is imported."""

    def __init__(self) -> None:
        self.blocks: dict[str, str] = {}
        self.used: set[str] = set()
        self.open: set[str] = set()

    def module(self) -> str:
        imports: dict[str, list[str]] = {}
        for name in sorted(self.used):
            imports.setdefault(_MODULES[name], []).append(name)
        # As isort's default: constants, then classes, then the rest.
        lines = {
            module: f"from {module} import {', '.join(sorted(names, key=lambda name: (not name.isupper(), name)))}"
            for module, names in imports.items()
        }
        groups = [
            "from __future__ import annotations",
            "\n".join(lines[module] for module in sorted(lines) if module in _STDLIB),
            "\n".join(lines[module] for module in sorted(lines) if module not in _STDLIB),
        ]
        head = '"""Events, generated from their Avro schemas by `antiphon schema generate`."""'
        return "\n\n".join([head, *filter(None, groups)]) + "\n\n\n" + "\n\n\n".join(self.blocks.values()) + "\n"

    def use(self, name: str) -> str:
        self.used.add(name)
        return name

    def define(self, name: str, block: str) -> None:
        if name in _MODULES:
            remedy = "Rename it in the schema: the generated module needs the name itself"
            raise UnsupportedSchemaError(name, "a name that the module does not import", repr(name), remedy)
        self.blocks[name] = block

    # -- classes

    def record(self, record: Record) -> None:
        if record.name in self.blocks or record.name in self.open:
            return
        self.open.add(record.name)
        body: list[str] = [_docstring(record.doc)] if record.doc else []
        if not issubclass(record.python, Event):
            body.append(f"model_config = {self.use('ConfigDict')}(frozen=True, validate_by_name=True)")
        if record.aliases:
            body.append(f"__avro_aliases__ = {_value_tuple(record.aliases)}")
        fields = "\n".join(self.field(field) for field in record.fields)
        line = self.class_line(record)
        parts = ["\n\n".join(body), fields] if body else [fields]
        text = "\n\n".join(filter(None, parts)) or "pass"
        self.open.discard(record.name)
        self.define(record.name, f"{line}\n{_indented(text)}")

    def class_line(self, record: Record) -> str:
        if not issubclass(record.python, Event):
            return f"class {record.name}({self.use('BaseModel')}):"
        said = record.python.__event__
        words = [self.use("Event")]
        if said.type != event_type(record.name):
            words.append(f"type={_quoted(said.type)}")
        if said.topic != said.type:
            words.append(f"topic={_quoted(said.topic)}")
        if said.key is not None:
            words.append(f"key={_quoted(said.key)}")
        if said.fails:
            words.append("fails=True")
        return _wrapped(f"class {record.name}(", words, "):", "")

    def enum(self, choice: Choice) -> None:
        if choice.name in self.blocks or choice.python is None:
            return
        body: list[str] = [_docstring(choice.doc)] if choice.doc else []
        settings: list[str] = []
        if choice.default is not None:
            settings.append(f"__avro_default__ = {_quoted(choice.default)}")
        if choice.aliases:
            settings.append(f"__avro_aliases__ = {_value_tuple(choice.aliases)}")
        if settings:
            body.append("\n".join(settings))
        body.append("\n".join(f"{member.name} = {_quoted(symbol)}" for symbol, member in choice.values.items()))
        text = "\n\n".join(body)
        self.define(choice.name, f"class {choice.name}({self.use('StrEnum')}):\n{_indented(text)}")

    def field(self, field: Field) -> str:
        annotation = self.annotation(_none_last(field))
        if is_marked(field.info.annotation, field.info.metadata):
            annotation = self.redacted(annotation, field)
        settings = [f"{name}={_number_or_text(value)}" for name, value in field.constraints.items()]
        if field.info.description is not None:
            settings.append(f"description={_quoted(field.info.description)}")
        if field.aliases:
            names = ", ".join(_quoted(alias) for alias in field.aliases)
            settings.append(
                f"validation_alias={names if len(field.aliases) == 1 else f'{self.use(_CHOICES)}({names})'}"
            )
        default = field.info.default
        has_default = default is not PydanticUndefined
        line = f"{field.name}: {annotation}" + (f" = {self.value(default)}" if has_default else "")
        if not settings and (not has_default or len(line) + 4 <= _WIDTH):
            return line
        if has_default:
            settings.insert(0, f"default={self.value(default)}")
        return _wrapped(f"{field.name}: {annotation} = {self.use('Field')}(", settings, ")", "    ")

    # -- annotations

    def redacted(self, annotation: str, field: Field) -> str:
        inner = annotation
        if annotation.startswith("Annotated[") and not isinstance(bare(field.shape), Alternatives):
            inner = annotation.removeprefix("Annotated[").removesuffix("]")
        return f"{self.use('Annotated')}[{inner}, {self.use('REDACT')}]"

    def annotation(self, shape: Shape) -> str:
        if isinstance(shape, Constrained):
            settings = ", ".join(f"{name}={_number_or_text(value)}" for name, value in shape.constraints.items())
            inner = self.annotation(shape.shape)
            return f"{self.use('Annotated')}[{inner}, {self.use('Field')}({settings})]"
        return self.bare_annotation(bare(shape))

    def bare_annotation(self, shape: Bare) -> str:  # noqa: PLR0911 - one case for each kind of shape
        match shape:
            case Scalar():
                return self.scalar(shape)
            case Choice(python=None, values=values):
                return f"{self.use('Literal')}[{', '.join(_quoted(value) for value in values)}]"
            case Choice():
                self.enum(shape)
                return shape.name
            case Array(python=python):
                more = ", ..." if python is tuple else ""
                return f"{python.__name__}[{self.annotation(shape.items)}{more}]"
            case Map():
                return f"dict[str, {self.annotation(shape.values)}]"
            case Record():
                self.record(shape)
                return shape.name
            case Alternatives():
                return " | ".join(self.annotation(branch) for branch in shape.branches)

    def scalar(self, scalar: Scalar) -> str:
        python = scalar.python
        if python is type(None):
            return "None"
        name = self.use(python.__name__) if python.__name__ in _MODULES else python.__name__
        if python is Decimal and scalar.avro == "bytes":
            digits, places = scalar.attributes["precision"], scalar.attributes.get("scale", 0)
            if (digits, places) == BARE_DECIMAL:
                return name
            field = f"{self.use('Field')}(max_digits={digits}, decimal_places={places})"
            return f"{self.use('Annotated')}[{name}, {field}]"
        if _NATURAL.get(python) == (scalar.avro, scalar.logical):
            return name
        attributes = (
            {**scalar.attributes} if scalar.logical is None else {**scalar.attributes, "logicalType": scalar.logical}
        )
        asked = [_quoted(scalar.avro), *(f"{name}={_number_or_text(value)}" for name, value in attributes.items())]
        return f"{self.use('Annotated')}[{name}, {self.use('As')}({', '.join(asked)})]"

    # -- values

    def value(self, value: Any) -> str:
        match value:
            case Enum():
                return f"{type(value).__name__}.{value.name}"
            case str():
                return _quoted(value)
            case BaseModel():
                given = [f"{name}={self.value(part)}" for name, part in value.__dict__.items()]
                return f"{type(value).__name__}({', '.join(given)})"
            case list() | tuple() | set() | frozenset():
                return self.collection(cast("list[Any]", value))
            case dict():
                pairs = (f"{self.value(key)}: {self.value(part)}" for key, part in _members(value))
                return f"{{{', '.join(pairs)}}}"
            case _:
                return self.scalar_value(value)

    def collection(self, value: Sequence[Any] | set[Any] | frozenset[Any]) -> str:
        parts = ", ".join(
            self.value(part) for part in (value if isinstance(value, list | tuple) else sorted(value, key=repr))
        )
        match value:
            case list():
                return f"[{parts}]"
            case tuple():
                return f"({parts},)" if len(value) == 1 else f"({parts})"
            case set():
                return f"{{{parts}}}" if value else "set()"
            case _:
                return f"frozenset({{{parts}}})" if value else "frozenset()"

    def scalar_value(self, value: Any) -> str:  # noqa: PLR0911 - one case for each type
        match value:
            case bytes():
                return _double_quotes(repr(value))
            case datetime():
                zone = f", tzinfo={self.use('UTC')}" if value.tzinfo is not None else ""
                clock = [value.hour, value.minute, value.second] if value.time() != time() else []
                numbers = _numbers([value.year, value.month, value.day, *clock], value.microsecond)
                return f"{self.use('datetime')}({numbers}{zone})"
            case date():
                return f"{self.use('date')}({value.year}, {value.month}, {value.day})"
            case time():
                return f"{self.use('time')}({_numbers((value.hour, value.minute, value.second), value.microsecond)})"
            case timedelta():
                return f"{self.use('timedelta')}(microseconds={value // timedelta(microseconds=1)})"
            case Decimal() | UUID():
                return f"{self.use(type(value).__name__)}({_quoted(str(value))})"
            case _:
                return repr(value)


def _members(value: Any) -> Iterable[tuple[Any, Any]]:
    members: Mapping[Any, Any] = value
    return members.items()


def _none_last(field: Field) -> Shape:
    """`X | None = None`, as people write it: the default's branch comes first in the schema by itself."""
    shape = bare(field.shape)
    if isinstance(shape, Alternatives) and field.info.default is None:
        return Alternatives([*(part for part in shape.branches if part is not NULL), NULL])
    return field.shape


def _numbers(first: Sequence[int], micros: int) -> str:
    return ", ".join(str(number) for number in (*first, *([micros] if micros else [])))


def _number_or_text(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """Write a string as the formatter would: in double quotes, unless that costs escapes."""
    return _double_quotes(repr(str(text)))


def _double_quotes(literal: str) -> str:
    prefix = "b" if literal.startswith("b") else ""
    inner = literal[len(prefix) + 1 : -1]
    if literal[-1] == '"' or '"' in inner:
        return literal
    return f'{prefix}"{inner}"'


def _value_tuple(values: Sequence[str]) -> str:
    return f"({', '.join(_quoted(value) for value in values)}{',' if len(values) == 1 else ''})"


def _docstring(doc: str) -> str:
    doc = inspect.cleandoc(doc)
    is_plain = all(character.isprintable() or character == "\n" for character in doc)
    if (
        not is_plain
        or "\\" in doc
        or '"""' in doc
        or doc.endswith('"')
        or any(line != line.rstrip() for line in doc.split("\n"))
    ):
        return f"__doc__ = {_quoted(doc)}"
    return f'"""{doc}\n"""' if "\n" in doc else f'"""{doc}"""'


def _wrapped(start: str, parts: Sequence[str], end: str, indent: str) -> str:
    """Write a call on one line, or where that is too long, with a line for each part."""
    line = f"{start}{', '.join(parts)}{end}"
    if len(indent) + len(line) <= _WIDTH:
        return line
    inner = "".join(f"    {part},\n" for part in parts)
    return f"{start}\n{inner}{end}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))
