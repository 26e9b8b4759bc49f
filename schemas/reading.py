"""From what fastavro read under a writer's schema to the data of the reader's class.

fastavro reads with the writer's schema alone; a plan, compiled once for each
pair of writer and class, does what Avro calls resolution: it drops what the
class does not know, renames by alias, promotes, and maps enums and unions. So
what cannot be resolved is known, with its field, before the first value is
read. Defaults are left to pydantic, which has them in Python's own form.

Names of records and enums need not match, except where a union has to choose.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias, cast
from uuid import UUID

from antiphon.schemas.errors import Incompatible, IncompatibleSchemaError
from antiphon.schemas.nodes import RECORDS, attribute, kind_of, parts_of
from antiphon.schemas.shape import (
    DURATION,
    NULL,
    Alternatives,
    Array,
    Choice,
    Field,
    Map,
    Record,
    Scalar,
    Shape,
    avro_key,
    bare,
)

Convert: TypeAlias = Callable[[Any], Any]

_PROMOTIONS = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a local time has no zone
_MICROSECOND = timedelta(microseconds=1)
_DAY_ZERO = _EPOCH.toordinal()
_DAY_US = 86_400_000_000


def reading_plan(record: Record, writer: Any, names: Mapping[str, Any], type: str) -> Convert | None:
    """Compile what turns values written under *writer* into data for *record*'s class; None where nothing is to be done.

    *names* holds the writer's named types. Raises `IncompatibleSchemaError`.
    """
    return Resolution(names, type).record(writer, record, "")


class Resolution:
    """One writer's schema against one class. `compatibility` asks the same questions and goes on after an answer of no."""

    def __init__(self, names: Mapping[str, Any], type: str, tried: dict[tuple[str, int], bool] | None = None) -> None:
        self.names, self.type = names, type
        self.tried: dict[tuple[str, int], bool] = {} if tried is None else tried
        self.plans: dict[tuple[str, int], Convert | None] = {}
        self.open: set[tuple[str, int]] = set()

    def refuse(
        self, path: str, problem: str, remedy: str, kind: Incompatible = Incompatible.TYPE_CHANGED
    ) -> IncompatibleSchemaError:
        return IncompatibleSchemaError(self.type, path, problem, remedy, kind=kind)

    def mismatch(self, writer: Any, reader: Shape, path: str) -> IncompatibleSchemaError:
        return self.refuse(
            path,
            f"it was written as {self.shown(writer)} and is read as {_shown(reader)}",
            "Keep the type, or one Avro promotes to; or give the new field another name and a default",
        )

    def shown(self, writer: Any) -> str:
        node = self.named(writer)
        kind = kind_of(node)
        if kind == "union":
            return " or ".join(self.shown(branch) for branch in parts_of(node))
        name = attribute(node, "name")
        return f"{kind} {name}" if name else str(attribute(node, "logicalType") or kind)

    def named(self, writer: Any) -> Any:
        return self.names.get(writer, writer) if isinstance(writer, str) else writer

    def plan(  # noqa: PLR0911 - one case for each kind of type
        self, writer: Any, reader: Shape, path: str, *, exact: bool = False
    ) -> Convert | None:
        """Compile one place. *exact*: give the class's own object, because a union is to tell by type."""
        writer, reader = self.named(writer), bare(reader)
        kind = kind_of(writer)
        if kind == "union":
            return self.written_union(parts_of(writer), reader, path)
        if isinstance(reader, Alternatives):
            branch = self.branch(writer, reader, path)
            return self.plan(writer, branch, path, exact=_is_ambiguous(reader))
        match reader:
            case Scalar():
                return self.scalar(kind, writer, reader, path)
            case Choice() if kind == "enum":
                return self.choice(writer, reader, path, exact=exact)
            case Array() if kind == "array":
                items = self.part(writer["items"], reader.items, f"{path}[]")
                return items and _each(items)
            case Map() if kind == "map":
                values = self.part(writer["values"], reader.values, f"{path}[]")
                return values and _each_value(values)
            case Record() if kind in RECORDS:
                plan = self.record(writer, reader, path)
                return _instance(reader, plan) if exact else plan
            case _:
                raise self.mismatch(writer, reader, path)

    # -- what is asked of each part

    def field(self, written: Mapping[str, Any], reader: Field, path: str) -> Convert | None:
        """Compile a field that both have."""
        return self.plan(written["type"], reader.shape, path)

    def part(self, written: Any, reader: Shape, path: str) -> Convert | None:
        """Compile what an array or a map is made of."""
        return self.plan(written, reader, path)

    def unreadable(self, error: IncompatibleSchemaError) -> None:
        """Take note of a branch or a symbol that is refused only once a value goes by it."""

    # -- records

    def record(self, writer: Any, reader: Record, path: str) -> Convert | None:
        key = writer["name"], id(reader)
        if key in self.plans:
            return self.plans[key]
        if key in self.open:
            # It holds itself: whether it needs a plan is not known yet, so it gets one.
            return lambda data: plan(data) if (plan := self.plans[key]) else data
        self.open.add(key)
        self.plans[key] = self.fields(writer, reader, path)
        return self.plans[key]

    def fields(self, writer: Any, reader: Record, path: str) -> Convert | None:
        written = {field["name"]: field for field in writer["fields"]}
        taken: list[tuple[str, str, Convert | None]] = []
        for field in reader.fields:
            place = f"{path}.{field.name}" if path else field.name
            name = next((name for name in (field.name, *field.aliases) if name in written), None)
            if name is None:
                self.needs_default(field, reader, place)
            else:
                taken.append((name, field.name, self.field(written.pop(name), field, place)))
        renamed = any(name != ours for name, ours, _ in taken)
        plans = [(ours, plan) for _, ours, plan in taken if plan is not None]
        if not written and not renamed:
            return _changed(plans) if plans else None
        return _chosen([(name, ours) for name, ours, _ in taken], plans)

    def needs_default(self, field: Field, reader: Record, place: str) -> None:
        if field.info.is_required():
            raise self.refuse(
                place,
                f"{reader.name} requires it, and the writer's schema has no such field",
                "Give it a default, or list its former name in Field(validation_alias=AliasChoices(...))",
                Incompatible.MISSING_DEFAULT,
            )

    # -- unions

    def written_union(self, writer: Sequence[Any], reader: Shape, path: str) -> Convert | None:
        by_name: dict[str, Convert | None] = {}
        by_type: dict[type, Convert | None] = {}
        for branch in writer:
            node = self.named(branch)
            try:
                plan = self.plan(node, reader, path)
            except IncompatibleSchemaError as error:
                if len(writer) == 1:
                    raise
                plan = _Refusal(error)
            name = attribute(node, "name")
            if name:
                by_name[name] = plan
            else:
                by_type.setdefault(_read_as(node), plan)
        refusals = [plan.error for plan in [*by_name.values(), *by_type.values()] if isinstance(plan, _Refusal)]
        if len(refusals) == len(by_name) + len(by_type):
            whole = self.mismatch(writer, reader, path)
            # What is wrong inside a branch tells more than that no branch fits.
            raise next((error for error in refusals if error.remedy != whole.remedy), whole)
        for refusal in refusals:
            self.unreadable(refusal)
        if not by_name and not any(by_type.values()):
            return None
        return _dispatch(by_name, by_type)

    def branch(self, writer: Any, reader: Alternatives, path: str) -> Shape:
        """Choose the reader's branch: the same type first, then by name or alias, then the only one that resolves."""
        branches = [bare(branch) for branch in reader.branches]
        for matches in (self.is_same, self.is_namesake):
            for branch in branches:
                if matches(writer, branch):
                    return branch
        resolvable = [branch for branch in branches if self.resolves(writer, branch, path)]
        promoted = [branch for branch in resolvable if isinstance(branch, Scalar)]
        if promoted:
            return promoted[0]
        if len(resolvable) == 1:
            return resolvable[0]
        if resolvable:
            names = " and ".join(_shown(branch) for branch in resolvable)
            remedy = f"Name it in the __avro_aliases__ of the one that {self.shown(writer)} is"
            problem = f"it was written as {self.shown(writer)}, which {names} could be"
            raise self.refuse(path, problem, remedy, Incompatible.AMBIGUOUS_BRANCH)
        raise self.mismatch(writer, reader, path)

    def is_same(self, writer: Any, branch: Shape) -> bool:
        return kind_of(writer) != "fixed" and kind_of(writer) == avro_key(branch)

    def is_namesake(self, writer: Any, branch: Shape) -> bool:
        full = str(attribute(writer, "name") or "")
        former = branch.aliases if isinstance(branch, Choice | Record) else ()
        return bool(full) and not {full, full.rpartition(".")[2]}.isdisjoint({avro_key(branch), *former})

    def resolves(self, writer: Any, branch: Shape, path: str) -> bool:
        key = str(attribute(writer, "name") or ""), id(branch)
        if key[0] and key in self.tried:
            return self.tried[key]
        # A record that holds itself meets itself here: it resolves if the rest of it does.
        self.tried[key] = True
        try:
            Resolution(self.names, self.type, self.tried).plan(writer, branch, path)
        except IncompatibleSchemaError:
            self.tried[key] = False
        return self.tried[key]

    # -- values without parts

    def choice(self, writer: Any, reader: Choice, path: str, *, exact: bool) -> Convert | None:
        symbols: dict[str, Any] = {}
        for symbol in writer["symbols"]:
            known = symbol if symbol in reader.values else reader.default
            if known is not None:
                symbols[symbol] = reader.values[known]
        if not symbols:
            raise self.mismatch(writer, reader, path)
        is_plain = all(getattr(value, "value", value) == symbol for symbol, value in symbols.items())
        if is_plain and not exact and len(symbols) == len(writer["symbols"]):
            return None

        def unknown(symbol: str) -> IncompatibleSchemaError:
            remedy = "Add it, or say in the Enum which member stands for others: __avro_default__ = ..."
            return self.refuse(path, f"{reader.name} has no symbol {symbol!r}", remedy, Incompatible.UNKNOWN_SYMBOL)

        for symbol in writer["symbols"]:
            if symbol not in symbols:
                self.unreadable(unknown(symbol))

        def convert(symbol: str) -> Any:
            try:
                return symbols[symbol]
            except KeyError:
                raise unknown(symbol) from None

        return convert

    def scalar(self, kind: str, writer: Any, reader: Scalar, path: str) -> Convert | None:
        logical: str | None = attribute(writer, "logicalType")
        if kind == "fixed":
            if reader.avro != "fixed" or writer["size"] != reader.attributes["size"]:
                raise self.mismatch(writer, reader, path)
        elif kind != reader.avro and reader.avro not in _PROMOTIONS.get(kind, ()):
            raise self.mismatch(writer, reader, path)
        if {kind, reader.avro} == {"string", "bytes"} and (logical or reader.logical):
            # Avro would promote it, and a price written as text would be read as a number of other digits.
            raise self.mismatch(writer, reader, path)
        read_as = _read_as(writer)
        if read_as is reader.python and _is_local(logical) == _is_local(reader.logical):
            return None
        if kind in ("int", "long") and reader.avro in ("float", "double"):
            return _after(_raw(read_as, logical), float)
        if kind == "string" and reader.avro == "bytes":
            return _after(_raw(read_as, logical), str.encode)
        if kind == "bytes" and reader.avro == "string":
            return bytes.decode
        return _after(_raw(read_as, logical), _logical(reader, logical))


def _is_ambiguous(union: Alternatives) -> bool:
    return sum(bare(branch) is not NULL for branch in union.branches) > 1


def _shown(shape: Shape) -> str:
    match bare(shape):
        case Alternatives(branches=branches):
            return " or ".join(_shown(branch) for branch in branches)
        case Scalar() as scalar:
            return scalar.logical or scalar.avro
        case Choice(name=name):
            return f"enum {name}"
        case Record(name=name):
            return f"record {name}"
        case other:
            return avro_key(other)


# -- what fastavro makes of a written value

_LOGICAL_TYPES: dict[tuple[str, str], type] = {
    ("long", "timestamp-millis"): datetime,
    ("long", "timestamp-micros"): datetime,
    ("long", "local-timestamp-millis"): datetime,
    ("long", "local-timestamp-micros"): datetime,
    ("int", "date"): date,
    ("int", "time-millis"): time,
    ("long", "time-micros"): time,
    ("bytes", "decimal"): Decimal,
    ("fixed", "decimal"): Decimal,
    ("string", "uuid"): UUID,
    ("long", DURATION): timedelta,
}
_PYTHON_TYPES: dict[str, type] = {
    "null": type(None),
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "bytes": bytes,
    "string": str,
    "fixed": bytes,
    "enum": str,
    "array": list,
    "map": dict,
    "record": dict,
    "error": dict,
}


def _read_as(writer: Any) -> type:
    """Return the Python type fastavro gives for *writer*."""
    kind = kind_of(writer)
    return _LOGICAL_TYPES.get((kind, attribute(writer, "logicalType") or ""), _PYTHON_TYPES[kind])


def _is_local(logical: str | None) -> bool:
    return logical is not None and logical.startswith("local-")


def _raw(read_as: type, logical: str | None) -> Convert | None:
    """Return what takes a logical value back to the number or text that was written."""
    if read_as is datetime:
        epoch = _LOCAL_EPOCH if _is_local(logical) else _EPOCH
        unit = _MICROSECOND * (1_000 if logical is not None and logical.endswith("millis") else 1)
        return lambda moment: (moment - epoch) // unit
    if read_as is date:
        return lambda day: day.toordinal() - _DAY_ZERO
    if read_as is time:
        unit_us = 1_000 if logical == "time-millis" else 1
        return lambda clock: (
            (((clock.hour * 60 + clock.minute) * 60 + clock.second) * 1_000_000 + clock.microsecond) // unit_us
        )
    if read_as is timedelta:
        return lambda duration: duration // _MICROSECOND
    if read_as is Decimal:
        return _decimal_bytes
    return str if read_as is UUID else None


def _decimal_bytes(value: Decimal) -> bytes:
    sign, digits, _ = value.as_tuple()
    unscaled = int(Decimal((sign, digits, 0)))
    return unscaled.to_bytes((unscaled.bit_length() + 8) // 8, "big", signed=True)


def _logical(  # noqa: PLR0911 - one case for each logical type
    reader: Scalar, written: str | None
) -> Convert | None:
    """Return what makes the reader's Python value of a number or text as it was written."""
    match reader.logical:
        case "timestamp-micros" if written == "timestamp-nanos":
            return lambda nanos: _EPOCH + timedelta(microseconds=nanos // 1_000)
        case "timestamp-micros" | "timestamp-millis":
            unit = timedelta(microseconds=1 if reader.logical == "timestamp-micros" else 1_000)
            return lambda count: _EPOCH + count * unit
        case "local-timestamp-micros" | "local-timestamp-millis":
            unit = timedelta(microseconds=1 if reader.logical == "local-timestamp-micros" else 1_000)
            return lambda count: _LOCAL_EPOCH + count * unit
        case "date":
            return lambda days: date.fromordinal(days + _DAY_ZERO)
        case "time-micros":
            return _time
        case "time-millis":
            return lambda millis: _time(millis * 1_000)
        case logical if logical == DURATION:
            return lambda micros: timedelta(microseconds=micros)
        case "decimal":
            scale = reader.attributes.get("scale", 0)
            return lambda raw: Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-scale)
        case "uuid":
            return (lambda raw: UUID(bytes=raw)) if reader.avro == "fixed" else UUID
        case _:
            return None


def _time(micros: int) -> time:
    if not 0 <= micros < _DAY_US:
        message = f"expected microseconds within a day, got {micros}"
        raise ValueError(message)
    seconds, micros = divmod(micros, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    return time(minutes // 60, minutes % 60, seconds, micros)


# -- the plans


class _Refusal:
    """A branch of the writer's union that the class cannot read; raised only when a value goes by it."""

    def __init__(self, error: IncompatibleSchemaError) -> None:
        self.error = error

    def __call__(self, _value: Any) -> Any:
        error = self.error
        raise IncompatibleSchemaError(error.type, error.field, error.problem, error.remedy, kind=error.kind)


def _after(first: Convert | None, then: Convert | None) -> Convert | None:
    if first is None or then is None:
        return first or then
    return lambda value: then(first(value))


def _each(items: Convert) -> Convert:
    return lambda values: [items(value) for value in values]


def _each_value(values: Convert) -> Convert:
    return lambda mapping: {key: values(value) for key, value in mapping.items()}


def _changed(plans: Sequence[tuple[str, Convert]]) -> Convert:
    def convert(data: dict[str, Any]) -> dict[str, Any]:
        for name, plan in plans:
            data[name] = plan(data[name])
        return data

    return convert


def _chosen(names: Sequence[tuple[str, str]], plans: Sequence[tuple[str, Convert]]) -> Convert:
    change = _changed(plans) if plans else None

    def convert(data: dict[str, Any]) -> dict[str, Any]:
        chosen = {ours: data[name] for name, ours in names}
        return change(chosen) if change else chosen

    return convert


def _dispatch(by_name: Mapping[str, Convert | None], by_type: Mapping[type, Convert | None]) -> Convert:
    def convert(value: Any) -> Any:
        # fastavro gives the value of a named branch as (name, value).
        if type(value) is tuple:
            name, value = cast("tuple[str, Any]", value)
            plan = by_name[name]
        else:
            plan = by_type.get(value.__class__)
        return value if plan is None else plan(value)

    return convert


def _instance(record: Record, plan: Convert | None) -> Convert:
    validate = operator.attrgetter("__pydantic_validator__.validate_python")

    def convert(data: dict[str, Any]) -> Any:
        made = data if plan is None else plan(data)
        return validate(record.python)(made, strict=False, by_alias=False, by_name=True)

    return convert
