"""What Avro makes of a class: its shape, derived from the annotations of its fields.

A shape knows both sides, the Avro type and the Python one. The schema is
written from it, and so are the plans by which `Codec` encodes and decodes.
Deriving one is also the check that refuses, when a class is defined, whatever
Avro cannot say.

| annotation | Avro |
|---|---|
| str, int, float, bool, bytes | string, long, double, boolean, bytes |
| Decimal | bytes, decimal; precision and scale are `max_digits` and `decimal_places`, else 38 and 9 |
| datetime (aware), date, time | long timestamp-micros, int date, long time-micros |
| timedelta | long "duration-micros"; who does not know it reads a long |
| UUID | string uuid |
| Enum | enum of the values where all are legal Avro names, else of the members' names |
| Literal | enum where all values are strings and legal Avro names, else their plain type |
| list, set, frozenset, tuple[X, ...] | array, with an attribute for all but the list |
| dict[str, X] | map |
| a model | record |
| X \\| Y | union, as written; the branch of a default comes first |
| Annotated[X, As(...)] | exactly the type asked for |

Besides annotations: `Field(validation_alias=...)` (or `alias=`) becomes the
field's Avro aliases. In the body of a model or an Enum, `__avro_aliases__`
lists its former names, and in an Enum `__avro_default__` names the member that
stands for symbols it does not know.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Any, Literal, TypeAlias, Union, cast
from uuid import UUID

import pydantic
from pydantic import AliasChoices, BaseModel, RootModel
from pydantic.fields import FieldInfo

from antiphon.schemas.errors import UnsupportedTypeError

LEGAL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DURATION = "duration-micros"
"""Ours alone: others read a long. Avro's own "duration" counts months and milliseconds, which a timedelta does not."""
BARE_DECIMAL = (38, 9)
"""Precision and scale of a Decimal that does not say how large it can be."""


class As:
    """Ask for one Avro type exactly, where another system reads what we write.

    >>> from typing import Annotated
    >>> Small = Annotated[int, As("int")]
    >>> Moment = Annotated[datetime, As("long", logicalType="timestamp-millis")]
    >>> Digest = Annotated[bytes, As("fixed", name="Digest", size=16)]

    What does not fit (a large int, a microsecond) is an `EncodeError`, never cut off.
    """

    __slots__ = ("_attributes", "avro")

    def __init__(self, avro: str, **attributes: str | int) -> None:
        self.avro = avro
        # A tuple, because the parts of a union must have a hash.
        self._attributes = tuple(sorted(attributes.items()))

    @property
    def attributes(self) -> dict[str, Any]:
        """What else the schema is to say."""
        return dict(self._attributes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, As) and (self.avro, self._attributes) == (other.avro, other._attributes)

    def __hash__(self) -> int:
        return hash((self.avro, self._attributes))

    def __repr__(self) -> str:
        return f"As({', '.join([repr(self.avro), *(f'{name}={value!r}' for name, value in self._attributes)])})"


@dataclasses.dataclass(slots=True, eq=False)
class Scalar:
    """One value without parts."""

    avro: str
    python: type
    logical: str | None = None
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    """What else its schema says: precision and scale, name and size."""


@dataclasses.dataclass(slots=True, eq=False)
class Choice:
    """One of a few symbols: an Enum, or a Literal."""

    name: str
    values: Mapping[str, Any]
    """Symbol to Python value; a Literal's are the same."""
    python: type | None
    """The Enum; None for a Literal."""
    doc: str | None = None
    aliases: Sequence[str] = ()
    default: str | None = None


@dataclasses.dataclass(slots=True, eq=False)
class Array:
    items: Shape
    python: type
    """list, set, frozenset or tuple."""


@dataclasses.dataclass(slots=True, eq=False)
class Map:
    values: Shape


@dataclasses.dataclass(slots=True, eq=False)
class Field:
    name: str
    shape: Shape
    info: FieldInfo
    aliases: Sequence[str]
    constraints: Mapping[str, Any]


@dataclasses.dataclass(slots=True, eq=False)
class Record:
    name: str
    python: type[BaseModel]
    doc: str | None
    aliases: Sequence[str]
    fields: list[Field] = dataclasses.field(default_factory=list[Field])


@dataclasses.dataclass(slots=True, eq=False)
class Alternatives:
    branches: Sequence[Shape]


@dataclasses.dataclass(slots=True, eq=False)
class Constrained:
    """A shape inside another one (a list's item, say) that has constraints of its own."""

    shape: Shape
    constraints: Mapping[str, Any]


Bare: TypeAlias = Scalar | Choice | Array | Map | Record | Alternatives
Shape: TypeAlias = Bare | Constrained

NULL = Scalar("null", type(None))

_SCALARS: dict[Any, Scalar] = {
    type(None): NULL,
    None: NULL,
    str: Scalar("string", str),
    int: Scalar("long", int),
    float: Scalar("double", float),
    bool: Scalar("boolean", bool),
    bytes: Scalar("bytes", bytes),
    datetime: Scalar("long", datetime, "timestamp-micros"),
    date: Scalar("int", date, "date"),
    time: Scalar("long", time, "time-micros"),
    timedelta: Scalar("long", timedelta, DURATION),
    UUID: Scalar("string", UUID, "uuid"),
}
# Names that pydantic gives to a plain type plus a check. At run time they are classes of their own.
_CHECKED: dict[Any, type] = {
    pydantic.AwareDatetime: datetime,
    pydantic.PastDatetime: datetime,
    pydantic.FutureDatetime: datetime,
    pydantic.PastDate: date,
    pydantic.FutureDate: date,
}
# What `As` may ask for, by Python type.
_ASKED: dict[type, frozenset[tuple[str, str | None]]] = {
    str: frozenset({("string", None)}),
    bool: frozenset({("boolean", None)}),
    int: frozenset({("int", None), ("long", None)}),
    float: frozenset({("float", None), ("double", None)}),
    bytes: frozenset({("bytes", None), ("fixed", None)}),
    Decimal: frozenset({("bytes", "decimal"), ("fixed", "decimal")}),
    datetime: frozenset(
        ("long", f"{local}timestamp-{unit}") for local in ("", "local-") for unit in ("millis", "micros")
    ),
    date: frozenset({("int", "date")}),
    time: frozenset({("int", "time-millis"), ("long", "time-micros")}),
    timedelta: frozenset({("long", DURATION)}),
    UUID: frozenset({("string", "uuid"), ("fixed", "uuid")}),
}
_CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
_FALLBACK = (
    "Use str, int, float, bool, bytes, Decimal, datetime, date, time, timedelta, UUID, an Enum, a Literal, "
    "list, set, tuple[X, ...] or dict[str, X] of these, or a pydantic model"
)


def shape_of(model: type[BaseModel]) -> Record:
    """Derive the shape of *model* and everything in it; raises `UnsupportedTypeError`.

    The class must be complete: no forward reference may be open.
    """
    derivation = _Derivation(model.__name__)
    record = derivation.record(model)
    derivation.check()
    return record


def records(record: Record) -> Iterator[Record]:
    """Yield *record* and every record under it, each once."""
    seen: set[int] = set()
    todo: list[Shape] = [record]
    while todo:
        match todo.pop():
            case Record() as found if id(found) not in seen:
                seen.add(id(found))
                yield found
                todo += [field.shape for field in found.fields]
            case Array(items=inner) | Map(values=inner) | Constrained(shape=inner):
                todo.append(inner)
            case Alternatives(branches=branches):
                todo += branches
            case _:
                pass


@dataclasses.dataclass(slots=True)
class _Derivation:
    """One walk over one event class. Named types are derived once, so recursion ends."""

    event: str
    model: str = ""
    field: str = ""
    records: dict[type[BaseModel], Record] = dataclasses.field(default_factory=dict[type[BaseModel], Record])
    choices: dict[type[Enum], Choice] = dataclasses.field(default_factory=dict[type[Enum], Choice])
    names: dict[str, object] = dataclasses.field(default_factory=dict[str, object])
    literals: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict[tuple[str, str], int])
    lists: list[tuple[str, str, Any, Shape]] = dataclasses.field(default_factory=list[tuple[str, str, Any, Shape]])
    """Every array: model, field, annotation, items."""

    def check(self) -> None:
        """Refuse what only shows once everything is derived: data of no bytes, and data without an end."""
        for model, field, annotation, items in self.lists:
            self.model, self.field = model, field
            if _is_weightless(items, ()):
                remedy = "Its items take no bytes, so a few bytes could claim any number of them: give them a field"
                raise self.refuse(annotation, remedy)
        for record in self.records.values():
            if self.is_endless(record, ()):
                raise self.refuse(
                    record.python, "It always holds another one of itself: make the field optional, or a list"
                )

    def is_endless(self, record: Record, path: tuple[Record, ...]) -> bool:
        if record in path:
            return record is path[0]
        for field in record.fields:
            self.model, self.field = record.name, field.name
            shape = bare(field.shape)
            if isinstance(shape, Record) and self.is_endless(shape, (*path, record)):
                return True
        return False

    def refuse(self, found: Any, remedy: str) -> UnsupportedTypeError:
        return UnsupportedTypeError(self.model or self.event, self.field, _shown(found), remedy)

    def claim(self, name: str, owner: object, shown: object) -> str:
        if self.names.setdefault(name, owner) != owner:
            remedy = f"{self.event} already holds another type named {name!r}, and Avro knows types by name: rename one"
            raise self.refuse(shown, remedy)
        return name

    def record(self, model: type[BaseModel]) -> Record:
        if model in self.records:
            return self.records[model]
        if issubclass(model, RootModel):
            raise self.refuse(model, "Use the type it wraps, or a model with one field")
        if model.model_config.get("extra") == "allow":
            raise self.refuse(model, 'Its extra fields would be lost: take extra="allow" away, or add a dict field')
        if not model.__pydantic_fields_complete__:
            model.model_rebuild()
        name = self.claim(_avro_name(model.__name__), model, model)
        record = Record(name, model, _doc(model), _former_names(model))
        self.records[model] = record
        outer = self.model, self.field
        for field, info in model.model_fields.items():
            self.model, self.field = model.__name__, field
            if info.exclude:
                if info.is_required():
                    raise self.refuse(
                        info.annotation, "exclude=True leaves it out, so readers need a default: give it one"
                    )
                continue
            if not LEGAL_NAME.fullmatch(field):
                raise self.refuse(f"the name {field!r}", "Avro names are made of A-Z, a-z, 0-9 and _: rename it")
            record.fields.append(
                Field(
                    field, self.shape(info.annotation, info.metadata), info, _aliases(info), _constraints(info.metadata)
                )
            )
        self.model, self.field = outer
        return record

    def shape(self, annotation: Any, metadata: Sequence[Any] = ()) -> Shape:
        annotation, found = _unwrapped(annotation)
        metadata = [*found, *metadata]
        asked = next((entry for entry in metadata if isinstance(entry, As)), None)
        if asked is not None:
            return self.asked(annotation, asked)
        if annotation is Decimal:
            return self.decimal(metadata)
        if annotation in _CHECKED:
            return _SCALARS[_CHECKED[annotation]]
        if annotation in _SCALARS:
            return _SCALARS[annotation]
        if inspect.isclass(annotation) and not typing.get_origin(annotation):
            return self.named(annotation)
        return self.generic(annotation)

    def named(self, annotation: type) -> Shape:
        if issubclass(annotation, Flag):
            raise self.refuse(annotation, "Use a set of an Enum")
        if issubclass(annotation, Enum):
            return self.enum(annotation)
        if issubclass(annotation, BaseModel):
            return self.record(annotation)
        if annotation in (list, set, frozenset, tuple, dict):
            raise self.refuse(annotation, f"Say what is in it, for example {_EXAMPLES[annotation]}")
        raise self.refuse(annotation, _remedy(annotation))

    def generic(self, annotation: Any) -> Shape:
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Literal:
            return self.literal(args)
        if origin in (Union, types.UnionType):
            return self.union(annotation, args)
        if origin in (list, set, frozenset):
            return Array(self.items(annotation, args[0]), origin)
        if origin is tuple:
            if args[1:] == (Ellipsis,):
                return Array(self.items(annotation, args[0]), tuple)
            raise self.refuse(annotation, "Use tuple[X, ...], or a model with a field for each place")
        if origin is dict:
            if _unwrapped(args[0])[0] is not str:
                raise self.refuse(
                    annotation, "Avro's maps have str keys: use dict[str, X], or a list of a model with both"
                )
            return Map(self.inner(args[1]))
        raise self.refuse(annotation, _remedy(origin or annotation))

    def inner(self, annotation: Any) -> Shape:
        shape = self.shape(annotation)
        constraints = _constraints(_unwrapped(annotation)[1])
        return Constrained(shape, constraints) if constraints else shape

    def items(self, annotation: Any, item: Any) -> Shape:
        shape = self.inner(item)
        self.lists.append((self.model, self.field, annotation, shape))
        return shape

    def union(self, annotation: Any, args: Sequence[Any]) -> Shape:
        branches: dict[str, Shape] = {}
        literals: list[Any] = []
        flat: list[tuple[Any, Shape | None]] = []
        for arg in _flattened(args):
            if typing.get_origin(arg) is Literal:
                literals += typing.get_args(arg)
                if not any(shape is None for _, shape in flat):
                    flat.append((arg, None))
            else:
                flat.append((arg, self.inner(arg)))
        for arg, derived in flat:
            for branch in _branches(derived or self.literal(literals)):
                key = avro_key(branch)
                if key in branches:
                    if branches[key] is branch and branch is NULL:
                        continue
                    remedy = (
                        f"Avro tells the branches of a union apart by their Avro type, and here two are {key}: "
                        f"put {_shown(arg)} in a model of its own"
                    )
                    raise self.refuse(annotation, remedy)
                branches[key] = branch
        return Alternatives([*branches.values()]) if len(branches) > 1 else next(iter(branches.values()))

    def enum(self, enum: type[Enum]) -> Choice:
        if enum in self.choices:
            return self.choices[enum]
        members = [*enum]
        if not members:
            raise self.refuse(enum, "An Avro enum has at least one symbol: give it a member")
        values = [member.value for member in members]
        legal = all(isinstance(value, str) and LEGAL_NAME.fullmatch(value) for value in values)
        symbols = {str(member.value) if legal else member.name: member for member in members}
        for symbol in symbols:
            if not LEGAL_NAME.fullmatch(symbol):
                remedy = f"Avro symbols are made of A-Z, a-z, 0-9 and _: rename the member {symbol!r}"
                raise self.refuse(enum, remedy)
        default = getattr(enum, "__avro_default__", None)
        stands_for = {**{member.name: symbol for symbol, member in symbols.items()}, **{s: s for s in symbols}}
        if default is not None and default not in stands_for:
            raise self.refuse(f"__avro_default__ = {default!r} in {enum.__name__}", f"Use one of {', '.join(symbols)}")
        name = self.claim(_avro_name(enum.__name__), enum, enum)
        doc, former = _doc(enum), _former_names(enum)
        choice = Choice(name, symbols, enum, doc, former, None if default is None else stands_for[default])
        self.choices[enum] = choice
        return choice

    def literal(self, values: Sequence[Any]) -> Shape:
        values = [*dict.fromkeys(values)]
        if all(isinstance(value, str) and not isinstance(value, Enum) for value in values):
            if all(LEGAL_NAME.fullmatch(value) for value in values):
                return Choice(self.literal_name(), {value: value for value in values}, None)
            return _SCALARS[str]
        kinds: list[type] = [*dict.fromkeys(value.__class__ for value in values)]
        for kind in kinds:
            if kind not in (str, int, bool, bytes, type(None)):
                raise self.refuse(f"Literal of {_shown(kind)}", "Use the Enum itself, or a Literal of strings")
        if len(kinds) == 1:
            return _SCALARS[kinds[0]]
        return Alternatives([_SCALARS[kind] for kind in kinds])

    def literal_name(self) -> str:
        count = self.literals[self.model, self.field] = self.literals.get((self.model, self.field), 0) + 1
        name = literal_name(self.model, self.field) + ("" if count == 1 else str(count))
        return self.claim(name, object(), f"Literal (an enum named {name})")

    def decimal(self, metadata: Sequence[Any]) -> Scalar:
        digits, places = _setting(metadata, "max_digits"), _setting(metadata, "decimal_places")
        scale = BARE_DECIMAL[1] if places is None else places
        if digits is None:
            digits = max(BARE_DECIMAL[0], scale)
        elif places is None:
            # All its digits may stand before the point, or (by the scale) after it.
            digits += scale
        return Scalar("bytes", Decimal, "decimal", {"precision": max(digits, 1), "scale": scale})

    def asked(self, annotation: Any, asked: As) -> Shape:
        schema = asked.attributes
        python = cast("type", _CHECKED.get(annotation, annotation))
        logical = schema.pop("logicalType", None)
        if (asked.avro, logical) not in _ASKED.get(python, frozenset()):
            can = sorted(f"{avro} {logical or ''}".strip() for avro, logical in _ASKED.get(python, ()))
            remedy = f"As() can ask for {', '.join(can)} here" if can else "Take As() away"
            raise self.refuse(f"{_shown(annotation)} as {asked!r}", remedy)
        if asked.avro == "fixed":
            self.fixed(annotation, schema)
        if logical == "decimal" and not isinstance(schema.get("precision"), int):
            raise self.refuse(f"{_shown(annotation)} as {asked!r}", "Give it a precision, and a scale")
        return Scalar(asked.avro, python, logical, schema)

    def fixed(self, annotation: Any, schema: Mapping[str, Any]) -> None:
        name, size = schema.get("name"), schema.get("size")
        if not (isinstance(name, str) and LEGAL_NAME.fullmatch(name) and isinstance(size, int) and size > 0):
            raise self.refuse(f"{_shown(annotation)} as fixed", "Give it a name and a size, 1 or more")
        self.claim(name, ("fixed", size), annotation)


def literal_name(model: str, field: str) -> str:
    """Name the enum that stands for a Literal.

    >>> literal_name("TicketTriaged", "queue_name")
    'TicketTriagedQueueName'
    """
    return _avro_name(model) + "".join(part[:1].upper() + part[1:] for part in field.split("_"))


def avro_key(shape: Shape) -> str:
    """Return what tells *shape* from the other branches of a union: its Avro type, or its name."""
    match shape:
        case Constrained():
            return avro_key(shape.shape)
        case Scalar():
            return shape.attributes["name"] if shape.avro == "fixed" else shape.avro
        case Choice() | Record():
            return shape.name
        case Array():
            return "array"
        case Map():
            return "map"
        case Alternatives():
            return "union"


def bare(shape: Shape) -> Bare:
    """Return *shape* without constraints of its own."""
    while isinstance(shape, Constrained):
        shape = shape.shape
    return shape


def _branches(shape: Shape) -> Sequence[Shape]:
    union = bare(shape)
    return union.branches if isinstance(union, Alternatives) else [shape]


def _is_weightless(shape: Shape, path: tuple[Shape, ...]) -> bool:
    shape = bare(shape)
    if isinstance(shape, Record):
        return shape in path or all(_is_weightless(field.shape, (*path, shape)) for field in shape.fields)
    return shape is NULL


def _flattened(args: Sequence[Any]) -> Iterator[Any]:
    for arg in args:
        bare_arg, metadata = _unwrapped(arg)
        if not metadata and typing.get_origin(bare_arg) in (Union, types.UnionType):
            yield from _flattened(typing.get_args(bare_arg))
        else:
            yield arg if metadata else bare_arg


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """Take off Annotated, NewType and `type X = ...`; return what is under them, and the metadata."""
    metadata: list[Any] = []
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *found = typing.get_args(annotation)
            metadata = [*_flat_metadata(found), *metadata]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation, metadata


def _flat_metadata(found: Sequence[Any]) -> Iterator[Any]:
    for entry in found:
        if isinstance(entry, FieldInfo):
            yield from entry.metadata
        else:
            yield entry


def _setting(metadata: Sequence[Any], name: str) -> int | None:
    for entry in reversed(metadata):
        value = getattr(entry, name, None)
        if isinstance(value, int):
            return value
    return None


def _constraints(metadata: Sequence[Any]) -> dict[str, Any]:
    """Return those constraints that JSON can say; pydantic holds the others all the same."""
    found: dict[str, Any] = {}
    for entry in _flat_metadata(metadata):
        for name in _CONSTRAINTS:
            value = getattr(entry, name, None)
            if value is not None and not callable(value) and isinstance(value, int | float | str):
                found[name] = value
    return found


def _aliases(info: FieldInfo) -> list[str]:
    alias = info.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [choice for choice in choices if isinstance(choice, str) and LEGAL_NAME.fullmatch(choice)]


def _former_names(owner: type) -> list[str]:
    return [*vars(owner).get("__avro_aliases__", ())]


def _doc(owner: type) -> str | None:
    doc = vars(owner).get("__doc__")
    return inspect.cleandoc(doc) if doc else None


def _avro_name(name: str) -> str:
    # A parametrised generic is called "Page[Order]".
    return re.sub(r"\W+", "_", name).strip("_")


def _shown(found: Any) -> str:
    if isinstance(found, str):
        return found
    if inspect.isclass(found) and not typing.get_origin(found):
        return found.__name__
    return re.sub(r"\b(?:[a-z_]\w*\.)+", "", str(found))


_EXAMPLES: dict[Any, str] = {
    list: "list[str]",
    set: "set[str]",
    frozenset: "frozenset[str]",
    tuple: "tuple[str, ...]",
    dict: "dict[str, str]",
}
_URL = "Use str, with a validator where it must be checked"
_PRIVATE = "Everybody on the topic can read an event: leave secrets out, or send a reference"
# By name, because importing the types only to compare with them would cost every start of every agent.
_REMEDIES = {
    "Any": "Name the type; or send JSON text in a str",
    "object": "Name the type; or send JSON text in a str",
    "complex": "Use two float fields, or a model with both",
    "Callable": "An event is data: send what the function needs",
    "Sequence": "Use list[X] or tuple[X, ...]",
    "Iterable": "Use list[X] or tuple[X, ...]",
    "Mapping": "Use dict[str, X]",
    "bytearray": "Use bytes",
    "NaiveDatetime": (
        'Use datetime, which carries its zone; or for a local time Annotated[datetime, As("long", '
        'logicalType="local-timestamp-micros")]'
    ),
    "SecretStr": _PRIVATE,
    "SecretBytes": _PRIVATE,
    "EmailStr": _URL,
    "AnyUrl": _URL,
    "HttpUrl": _URL,
    "Path": "Use str",
}


def _remedy(annotation: Any) -> str:
    return _REMEDIES.get(getattr(annotation, "__name__", ""), _FALLBACK)
