"""JSON that a person typed, to an event; and what is wrong with it, said so that the person can mend it."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from antiphon.schemas.errors import InvalidDataError
from antiphon.schemas.event import Event
from antiphon.schemas.problems import field_name, problem, shown
from antiphon.schemas.shape import Alternatives, Array, Choice, Map, Record, Scalar, Shape, bare, shape_of

E = TypeVar("E", bound=Event)


def event_from_json(event_class: type[E], text: str | bytes, *, besides: bool = False) -> E:
    """Make an event of a JSON object; what `to_json` wrote is read again (bytes are Base64, an enum may be its symbol).

    Raises `InvalidDataError`, which tells every problem: where JSON does not
    parse, the line and column; where a field does not fit, the field, what was
    expected and what came; where a field is not known, the nearest known one.
    With *besides* such a field is passed over: a newer release of the class may have written it.

    >>> class TicketOpened(Event):
    ...     ticket_id: str
    >>> event_from_json(TicketOpened, '{"ticket_id": "7"}')
    TicketOpened(ticket_id='7')
    """
    type = event_class.__event__.type
    shape = shape_of(event_class)
    data = _parsed(type, text, shape)
    if not isinstance(data, dict):
        raise InvalidDataError(type, [f"expected an object, got {shown(data)}"], f"Write it as {_example(shape)}")
    try:
        # Strict about nothing: JSON has no dates, ids or decimals, so text stands for them.
        return event_class.model_validate(
            _converted(shape, data, ()),
            strict=False,
            by_alias=True,
            by_name=True,
            extra="ignore" if besides else None,
        )
    except _NotBase64Error as error:
        problems = [f"field {field_name(error.place)!r}: expected bytes as Base64 text, got {shown(error.got)}"]
        raise InvalidDataError(type, problems, f"It looks like this: {_example(shape)}") from None
    except ValidationError as error:
        problems = [
            problem(found["loc"], found["type"], found["msg"], found["input"])
            + _near(shape, found["loc"], found["type"])
            for found in error.errors()
        ]
        raise InvalidDataError(type, problems, f"It looks like this: {_example(shape)}") from error


def _parsed(type: str, text: str | bytes, shape: Record) -> Any:
    try:
        text = text.decode() if isinstance(text, bytes) else text
        return json.loads(text)
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        line = error.doc.splitlines()[error.lineno - 1] if error.doc.strip() else ""
        start = max(0, error.colno - 30)
        # The line, and under it a mark where parsing stopped.
        problem = (
            f"line {error.lineno}, column {error.colno}: {error.msg}\n"
            f"    {line[start : error.colno + 30]}\n"
            f"    {' ' * (error.colno - 1 - start)}^"
        )
    except RecursionError:
        problem = "it nests too deep"
    except ValueError as error:
        problem = f"it has a number that is too long ({error})"
    raise InvalidDataError(type, [problem], f"Write it as {_example(shape)}")


def _near(shape: Record, place: tuple[int | str, ...], kind: str) -> str:
    if kind != "extra_forbidden":
        return ""
    names = _names_at(shape, place[:-1])
    near = difflib.get_close_matches(str(place[-1]), names, n=1)
    if near:
        return f"; did you mean {field_name((*place[:-1], near[0]))!r}?"
    return f"; there {'are' if len(names) > 1 else 'is'} {', '.join(names)}" if names else ""


def _names_at(shape: Shape, place: Sequence[int | str]) -> list[str]:
    """Return the names of the fields of the record at *place*; [] where a union makes that unclear."""
    for part in place:
        match bare(shape):
            case Record(fields=fields):
                shape = next((field.shape for field in fields if field.name == part), shape)
            case Array(items=inner) | Map(values=inner):
                shape = inner
            case _:
                pass
        shape = _only_branch(shape)
    record = bare(shape)
    return [field.name for field in record.fields] if isinstance(record, Record) else []


def _only_branch(shape: Shape) -> Shape:
    union = bare(shape)
    if isinstance(union, Alternatives):
        others = [branch for branch in union.branches if not (isinstance(branch, Scalar) and branch.avro == "null")]
        return others[0] if len(others) == 1 else shape
    return shape


class _NotBase64Error(Exception):
    def __init__(self, place: tuple[int | str, ...], got: str) -> None:
        self.place = place
        self.got = got
        super().__init__(got)


def _converted(shape: Shape, data: Any, place: tuple[int | str, ...]) -> Any:
    """Make of text what pydantic would take for something else: Base64 for bytes, symbols for enum values."""
    match _only_branch(bare(shape)):
        case Record(fields=fields) if isinstance(data, dict):
            known = {name: field.shape for field in fields for name in (field.name, *field.aliases)}
            members = cast("dict[str, Any]", data)
            return {
                name: _converted(known[name], part, (*place, name)) if name in known else part
                for name, part in members.items()
            }
        case Array(items=items) if isinstance(data, list):
            return [_converted(items, part, (*place, at)) for at, part in _numbered(cast("Any", data))]
        case Map(values=values) if isinstance(data, dict):
            members = cast("dict[str, Any]", data)
            return {name: _converted(values, part, (*place, name)) for name, part in members.items()}
        case Choice(python=python, values=values) if python is not None and isinstance(data, str):
            return values.get(data, data)
        case Scalar(python=python) if python is bytes and isinstance(data, str):
            try:
                return base64.b64decode(data, validate=True)
            except (binascii.Error, ValueError):
                raise _NotBase64Error(place, data) from None
        case _:
            return data


def _numbered(parts: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(parts)


def _example(shape: Record) -> str:
    """Write what an event of this shape looks like, as JSON with a word for each value."""
    required = [field for field in shape.fields if field.info.is_required()] or shape.fields
    return "{" + ", ".join(f'"{field.name}": {_word(field.shape)}' for field in required) + "}"


_WORDS: Mapping[str, str] = {
    "str": '"text"',
    "int": "1",
    "float": "1.5",
    "bool": "true",
    "bytes": '"Base64"',
    "Decimal": '"1.50"',
    "datetime": '"2026-11-22T10:00:00Z"',
    "date": '"2026-11-22"',
    "time": '"10:00:00"',
    "timedelta": "1.5",
    "UUID": '"0199f2c1-0000-7000-8000-000000000000"',
}


def _word(shape: Shape) -> str:
    match _only_branch(bare(shape)):
        case Scalar(python=python):
            return _WORDS.get(python.__name__, "null")
        case Choice(values=values):
            return f'"{next(iter(values))}"'
        case Array():
            return "[...]"
        case Alternatives(branches=branches):
            return _word(branches[0])
        case _:
            return "{...}"
