"""Event classes from Avro schemas: at run time, for types known by their schema alone, or as Python source.

A class made from our own schema has that schema's canonical form again. Of a
foreign one the namespaces are dropped (readers need no names), and what Python
or pydantic cannot say is refused with `UnsupportedSchemaError`.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, ForwardRef, Literal, Union, cast
from uuid import UUID

import pydantic
from pydantic import AliasChoices, BaseModel, ConfigDict

from antiphon.schemas import binary
from antiphon.schemas.errors import SchemaError, UnsupportedSchemaError
from antiphon.schemas.event import Event
from antiphon.schemas.limits import Limits, measure_schema
from antiphon.schemas.nodes import RECORDS, attribute, kind_of, parts_of
from antiphon.schemas.redaction import REDACT, is_redacted
from antiphon.schemas.shape import BARE_DECIMAL, DURATION, LEGAL_NAME, As, literal_name
from antiphon.schemas.source import source_of
from antiphon.schemas.store import AvroSchema, type_of

_PLAIN: dict[str, Any] = {
    "null": None,
    "boolean": bool,
    "long": int,
    "double": float,
    "bytes": bytes,
    "string": str,
    "int": Annotated[int, As("int")],
    "float": Annotated[float, As("float")],
}
_LOGICAL: dict[tuple[str, str], Any] = {
    ("long", "timestamp-micros"): datetime,
    ("int", "date"): date,
    ("long", "time-micros"): time,
    ("long", DURATION): timedelta,
    ("string", "uuid"): UUID,
    **{
        (avro, logical): Annotated[python, As(avro, logicalType=logical)]
        for avro, logical, python in (
            ("long", "timestamp-millis", datetime),
            ("long", "local-timestamp-millis", datetime),
            ("long", "local-timestamp-micros", datetime),
            ("int", "time-millis", time),
        )
    },
}
_COLLECTIONS: dict[str, Any] = {"set": set, "frozenset": frozenset}
_CONSTRAINTS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("gt", "ge", "lt", "le", "multiple_of"), (int, float)),
    **dict.fromkeys(("min_length", "max_length"), (int,)),
    "pattern": (str,),
}
_RENAME = "Rename it in the schema, and list the old name among its aliases"


class Part(BaseModel):
    """Base of the models inside a generated event: they do not change either."""

    model_config = ConfigDict(frozen=True, validate_by_name=True)


def class_from_schema(schema: AvroSchema) -> type[Event]:
    """Make an event class of *schema*. Nothing of it is executed, so it may come from outside.

    >>> made = class_from_schema({"type": "record", "name": "TicketOpened", "fields": [{"name": "id", "type": "string"}]})
    >>> made(id="7"), made.__event__.type
    (TicketOpened(id='7'), 'ticket.opened')
    """
    return _Classes().event(schema)


def source_from_schemas(schemas: Iterable[AvroSchema]) -> str:
    """Write a Python module with an event class for each of *schemas*, in their order.

    A record or enum that stands in several of them is written once; two of one
    name that differ are refused.
    """
    classes = _Classes()
    return source_of([classes.event(schema) for schema in schemas])


class _Classes:
    """The classes of one module: named types are made once."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, Any]] = {}
        """Name to its definition, as JSON, and its class."""
        self.names: dict[str, Any] = {}
        self.open: list[str] = []
        self.type = ""

    def event(self, schema: AvroSchema) -> type[Event]:
        self.type = type_of(schema)
        measure_schema(schema, Limits(), self.type)
        try:
            parsed, self.names = binary.parse(schema)
        except Exception as error:
            raise UnsupportedSchemaError(self.type, "an Avro schema", str(error), "Mend it, then try again") from error
        if kind_of(parsed) not in RECORDS:
            raise UnsupportedSchemaError(self.type, "a record", kind_of(parsed), "Wrap it in a record with one field")
        try:
            made = self.record(parsed, Event)
            made.model_rebuild(_types_namespace={name: found for name, (_, found) in self.made.items()})
            return cast("type[Event]", made)
        except SchemaError:
            raise
        except Exception as error:
            remedy = "Mend its defaults and constraints, then try again"
            raise UnsupportedSchemaError(self.type, "a schema that a class can have", str(error), remedy) from error

    def record(self, node: Mapping[str, Any], base: type[BaseModel]) -> type[BaseModel]:
        name = self.claim(node)
        known = self.known(name, node)
        if known is not None:
            return cast("type[BaseModel]", known)
        self.open.append(name)
        fields = {field["name"]: self.field(name, field, base) for field in node["fields"]}
        self.open.remove(name)
        made: type[BaseModel] = pydantic.create_model(
            name,
            __base__=base,
            __doc__=node.get("doc"),
            __cls_kwargs__=_class_line(node) if base is Event else None,
            **cast("Any", fields),
        )
        if node.get("aliases"):
            type.__setattr__(made, "__avro_aliases__", tuple(node["aliases"]))
        self.made[name] = _definition(node), made
        return made

    def field(self, record: str, field: Mapping[str, Any], base: type[BaseModel]) -> tuple[Any, Any]:
        name = field["name"]
        place = f"{record}.{name}"
        if not LEGAL_NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("_") or hasattr(base, name):
            raise UnsupportedSchemaError(place, "a name that a pydantic field can have", repr(name), _RENAME)
        annotation = self.annotation(field["type"], record, name)
        if is_redacted(field):
            annotation = Annotated[annotation, REDACT]
        settings: dict[str, Any] = {**_constraints(field)}
        if "doc" in field:
            settings["description"] = field["doc"]
        aliases = [alias for alias in field.get("aliases", ()) if LEGAL_NAME.fullmatch(alias)]
        if aliases:
            settings["validation_alias"] = aliases[0] if len(aliases) == 1 else AliasChoices(*aliases)
        if "default" in field:
            settings["default"] = self.default(field["type"], field["default"], place)
        return annotation, pydantic.Field(**settings)

    def annotation(self, node: Any, record: str, field: str) -> Any:  # noqa: PLR0911 - one case for each kind of type
        kind = kind_of(node)
        if kind in self.names:
            return self.reference(kind, record, field)
        if kind == "union":
            branches = [self.annotation(branch, record, field) for branch in parts_of(node)]
            if not branches:
                raise UnsupportedSchemaError(f"{record}.{field}", "a union of types", "an empty one", "Say its types")
            return Union[tuple(branches)]  # noqa: UP007 - a list of branches can only be said this way
        if kind in RECORDS:
            return self.record(node, Part)
        if kind == "array":
            return _array(self.annotation(node["items"], record, field), node)
        if kind == "map":
            return dict[str, self.annotation(node["values"], record, field)]  # type: ignore[misc]  # made at run time
        if kind == "enum":
            return self.enum(node, record, field)
        found = self.scalar(node, kind, f"{record}.{field}")
        constraints = _constraints(node)
        return Annotated[found, pydantic.Field(**constraints)] if constraints else found

    def reference(self, name: str, record: str, field: str) -> Any:
        short = _short(name)
        if short in self.open:
            # The class is being made. pydantic finds it by its name later.
            return ForwardRef(short)
        return self.annotation(self.names[name], record, field)

    def scalar(self, node: Any, kind: str, place: str) -> Any:
        logical = str(attribute(node, "logicalType") or "")
        if logical == "decimal" and kind in ("bytes", "fixed"):
            return self.decimal(node, kind, place)
        if kind == "fixed":
            name, size = self.claim(node), node["size"]
            self.made.setdefault(name, (_definition(node), bytes))
            if logical == "uuid" and size == 16:  # noqa: PLR2004 - bytes of a UUID
                return Annotated[UUID, As("fixed", name=name, size=size, logicalType="uuid")]
            return Annotated[bytes, As("fixed", name=name, size=size)]
        # A logical type that nobody knows is, by Avro's rules, the type under it.
        return _LOGICAL.get((kind, logical), _PLAIN.get(kind))

    def decimal(self, node: Mapping[str, Any], kind: str, place: str) -> Any:
        precision, scale = node.get("precision"), node.get("scale", 0)
        if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision:
            got = f"precision {precision} and scale {scale}"
            raise UnsupportedSchemaError(
                place, "a decimal's precision and scale", got, "Give it both, scale the smaller"
            )
        if kind == "fixed":
            asked = As(
                "fixed",
                name=self.claim(node),
                size=node["size"],
                logicalType="decimal",
                precision=precision,
                scale=scale,
            )
            return Annotated[Decimal, asked]
        if (precision, scale) == BARE_DECIMAL:
            return Decimal
        return Annotated[Decimal, pydantic.Field(max_digits=precision, decimal_places=scale)]

    def enum(self, node: Mapping[str, Any], record: str, field: str) -> Any:
        name = self.claim(node)
        symbols: list[str] = node["symbols"]
        is_bare = not any(node.get(word) for word in ("doc", "aliases", "default"))
        if is_bare and name == literal_name(record, field) and not self.is_shared(node["name"]):
            return Literal[tuple(symbols)]
        known = self.known(name, node)
        if known is not None:
            return known
        members = [*zip(_member_names(symbols), symbols, strict=True)]
        made: type[Enum] = cast("Any", StrEnum)(name, members)
        made.__doc__ = node.get("doc")
        if node.get("default"):
            type.__setattr__(made, "__avro_default__", node["default"])
        if node.get("aliases"):
            type.__setattr__(made, "__avro_aliases__", tuple(node["aliases"]))
        self.made[name] = _definition(node), made
        return made

    def is_shared(self, name: str) -> bool:
        """Say whether a second place refers to the named type."""
        todo: list[Any] = [parts_of(node) for node in self.names.values() if kind_of(node) in RECORDS]
        while todo:
            node = todo.pop()
            if node == name:
                return True
            if not isinstance(node, str) and attribute(node, "name") is None:
                todo += parts_of(node)
        return False

    def claim(self, node: Mapping[str, Any]) -> str:
        name = _short(node["name"])
        if keyword.iskeyword(name):
            raise UnsupportedSchemaError(node["name"], "a name that a class can have", repr(name), _RENAME)
        for other in self.names:
            if other != node["name"] and _short(other) == name:
                got = f"{other} and {node['name']}"
                raise UnsupportedSchemaError(self.type, "names that differ without their namespaces", got, "Rename one")
        return name

    def known(self, name: str, node: Mapping[str, Any]) -> Any:
        """Return the class made for the same definition before, perhaps in another schema; None where there is none."""
        if name not in self.made:
            return None
        definition, made = self.made[name]
        if definition != _definition(node):
            got = f"another definition of {name}"
            raise UnsupportedSchemaError(self.type, "one definition for each name", got, "Rename one of them")
        return made

    def default(self, node: Any, value: Any, place: str) -> Any:
        """Read a default as Avro writes it, into the class's own value."""
        node = self.names.get(kind_of(node), node)
        match kind_of(node):
            case "union":
                return self.default(parts_of(node)[0], value, place)
            case "array":
                items = [self.default(node["items"], item, place) for item in value]
                return {"set": set, "frozenset": frozenset, "tuple": tuple}.get(_collection(node), list)(items)
            case "map":
                return {key: self.default(node["values"], item, place) for key, item in value.items()}
            case "record" | "error":
                return self.record_default(node, value, place)
            case "enum":
                known = self.made.get(_short(node["name"]))
                return cast("type[Enum]", known[1])(value) if known else value
            case kind:
                return _scalar_default(node, kind, value)

    def record_default(self, node: Mapping[str, Any], value: Mapping[str, Any], place: str) -> Any:
        known = self.made.get(_short(node["name"]))
        if known is None:
            got = f"one of {_short(node['name'])} itself"
            raise UnsupportedSchemaError(place, "a default that can be made before its class", got, "Make it null")
        given = {field["name"]: self.default(field["type"], value[field["name"]], place) for field in node["fields"]}
        return known[1].model_validate(given, by_name=True, by_alias=False)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _definition(node: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in node.items() if not key.startswith("__")}, sort_keys=True)


def _class_line(node: Mapping[str, Any]) -> dict[str, Any]:
    said: Mapping[str, Any] = node.get("antiphon") or {}
    return {word: said[word] for word in ("type", "topic", "key", "fails") if said.get(word)}


def _constraints(node: Any) -> dict[str, Any]:
    found: Any = attribute(attribute(node, "antiphon"), "constraints") or {}
    return {
        name: found[name]
        for name, types in _CONSTRAINTS.items()
        if isinstance(found.get(name), types) and not isinstance(found[name], bool)
    }


def _collection(node: Any) -> str:
    return str(attribute(attribute(node, "antiphon"), "collection") or "list")


def _array(items: Any, node: Any) -> Any:
    collection = _collection(node)
    if collection == "tuple":
        return tuple[items, ...]
    return _COLLECTIONS.get(collection, list)[items]


def _member_names(symbols: Sequence[str]) -> list[str]:
    """Name an Enum's members after its symbols: in capitals, where that keeps them apart.

    >>> _member_names(["red", "green"]), _member_names(["a", "A"]), _member_names(["_x"])
    (['RED', 'GREEN'], ['s_a', 's_A'], ['S_X'])
    """
    names = [symbol.upper() for symbol in symbols]
    names = [f"S{name}" if name.startswith("_") else name for name in names]
    return names if len({*names}) == len(names) else [f"s_{symbol}" for symbol in symbols]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _scalar_default(node: Any, kind: str, value: Any) -> Any:  # noqa: PLR0911 - one case for each type
    logical = str(attribute(node, "logicalType") or "")
    if kind in ("bytes", "fixed"):
        raw = str(value).encode("latin-1")
        if logical == "decimal":
            return Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-node.get("scale", 0))
        return UUID(bytes=raw) if kind == "fixed" and logical == "uuid" else raw
    if kind in ("float", "double"):
        return float(value)
    unit = 1_000 if logical.endswith("-millis") else 1
    match logical:
        case "date":
            return date.fromordinal(value + _EPOCH.toordinal())
        case "time-millis" | "time-micros":
            return (_EPOCH + timedelta(microseconds=value * unit)).time()
        case "timestamp-millis" | "timestamp-micros":
            return _EPOCH + timedelta(microseconds=value * unit)
        case "local-timestamp-millis" | "local-timestamp-micros":
            return (_EPOCH + timedelta(microseconds=value * unit)).replace(tzinfo=None)
        case "uuid":
            return UUID(value)
        case found if found == DURATION:
            return timedelta(microseconds=value)
        case _:
            return value
