"""From an event's Python values to what fastavro writes: one plan a class, compiled once.

A plan touches only what fastavro would not take as it stands. A model of plain
fields needs no plan at all: its `__dict__` is what is written.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

from antiphon.schemas.shape import (
    DURATION,
    NULL,
    Alternatives,
    Array,
    Choice,
    Map,
    Record,
    Scalar,
    Shape,
    avro_key,
    bare,
)

Convert: TypeAlias = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class MisfitError(ValueError):
    """A value that its Avro type cannot hold; whoever knows the field makes an `EncodeError` of it."""

    def __init__(self, expected: str, got: object, remedy: str) -> None:
        self.expected = expected
        self.got = repr(got)
        self.remedy = remedy
        super().__init__(expected)


def writing_plan(record: Record) -> Convert:
    """Compile what turns a model of *record*'s class into what fastavro writes."""
    return _Compiler().record(record)


class _Compiler:
    """Plans by record, so that a recursive one finds itself."""

    def __init__(self) -> None:
        self.records: dict[int, Convert] = {}

    def plan(self, shape: Shape) -> Convert | None:
        """Return None where fastavro takes the value as it stands."""
        shape = bare(shape)
        match shape:
            case Scalar():
                return _scalar(shape)
            case Choice():
                return _choice(shape)
            case Array():
                return self.array(shape)
            case Map():
                values = self.plan(shape.values)
                return values and _each_value(values)
            case Record():
                return self.record(shape)
            case Alternatives():
                return self.union(shape)

    def record(self, record: Record) -> Convert:
        known = self.records.get(id(record))
        if known is not None:
            return known

        def later(model: Any) -> Any:
            return self.records[id(record)](model)

        # A record that holds itself finds this while its plan is being made.
        self.records[id(record)] = later
        plans = [(field.name, plan) for field in record.fields if (plan := self.plan(field.shape)) is not None]
        self.records[id(record)] = made = _model(plans)
        return made

    def array(self, array: Array) -> Convert | None:
        items = self.plan(array.items)
        if array.python in (set, frozenset):
            return _each_sorted(items)
        return items and _each(items)

    def union(self, union: Alternatives) -> Convert | None:
        branches = [bare(branch) for branch in union.branches]
        plans = [self.plan(branch) for branch in branches]
        others = [branch for branch in branches if branch is not NULL]
        if len(others) == 1 and isinstance(others[0], Scalar) and not any(plans):
            # `X | None` with X as it stands: fastavro finds the branch by itself.
            return None
        return _union([(branch, avro_key(branch), plan) for branch, plan in zip(branches, plans, strict=True)])


def _model(plans: Sequence[tuple[str, Convert]]) -> Convert:
    if not plans:
        return operator.attrgetter("__dict__")

    def convert(model: Any) -> dict[str, Any]:
        datum = {**model.__dict__}
        for name, plan in plans:
            datum[name] = plan(datum[name])
        return datum

    return convert


def _each(items: Convert) -> Convert:
    return lambda values: [items(value) for value in values]


def _each_value(values: Convert) -> Convert:
    return lambda mapping: {key: values(value) for key, value in mapping.items()}


def _each_sorted(items: Convert | None) -> Convert:
    # A set's order differs from process to process; the bytes of an event must not.
    def convert(values: Any) -> list[Any]:
        data = [*values] if items is None else [items(value) for value in values]
        try:
            return sorted(data)
        except TypeError:
            return sorted(data, key=repr)

    return convert


def _union(branches: Sequence[tuple[Shape, str, Convert | None]]) -> Convert:
    """Name the branch for fastavro: it would try each of them, and take a tuple for a name."""
    by_type: dict[type, tuple[str, Convert | None]] = {}
    # A Literal's values are plain strings: their type does not tell.
    by_value = any(isinstance(shape, Choice) and shape.python is None for shape, _, _ in branches)

    def find(value: Any) -> tuple[str, Convert | None]:
        branch = branch_for([shape for shape, _, _ in branches], value)
        _, name, plan = branches[branch]
        if not by_value:
            by_type[type(value)] = name, plan
        return name, plan

    def convert(value: Any) -> Any:
        if value is None:
            return None
        name, plan = by_type.get(value.__class__) or find(value)
        return name, value if plan is None else plan(value)

    return convert


def branch_for(branches: Sequence[Shape], value: Any) -> int:
    """Return the place of the branch that *value* goes by; an exact type before a base class."""
    shapes = [bare(branch) for branch in branches]
    for place, shape in enumerate(shapes):
        if _is_exactly(shape, value):
            return place
    for place, shape in enumerate(shapes):
        if _is(shape, value):
            return place
    names = " or ".join(avro_key(shape) for shape in shapes)
    raise MisfitError(names, value, "Give it a value of one of its types")


def _is_exactly(shape: Shape, value: Any) -> bool:
    if isinstance(shape, Choice) and shape.python is None:
        return isinstance(value, str) and value in shape.values
    if isinstance(shape, Map):
        return type(value) is dict
    return not isinstance(shape, Alternatives) and type(value) is getattr(shape, "python", None)


def _is(shape: Shape, value: Any) -> bool:
    if isinstance(shape, Choice):
        return _symbols(shape).get(_hashable(value)) is not None
    if isinstance(shape, Map):
        return isinstance(value, Mapping)
    if isinstance(shape, Scalar) and shape.python is float:
        return isinstance(value, int | float)
    python = getattr(shape, "python", None)
    return python is not None and isinstance(value, python)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | Enum | bytes | float) else None


def _choice(choice: Choice) -> Convert | None:
    if choice.python is None or (issubclass(choice.python, str) and [*choice.values] == [*choice.values.values()]):
        return None
    symbols = _symbols(choice)

    def convert(value: Any) -> str:
        try:
            return symbols[value]
        except (KeyError, TypeError):
            raise MisfitError(f"one of {', '.join(choice.values)}", value, f"Use a member of {choice.name}") from None

    return convert


def _symbols(choice: Choice) -> dict[Any, str]:
    # By value too, for models with use_enum_values=True.
    by_value = {
        value.value: symbol
        for symbol, value in choice.values.items()
        if isinstance(value, Enum) and isinstance(value.value, str | int | float | bytes)
    }
    return {**by_value, **{value: symbol for symbol, value in choice.values.items()}}


def _scalar(scalar: Scalar) -> Convert | None:
    match scalar.logical:
        case "timestamp-micros" | "timestamp-millis":
            return _timestamp if scalar.logical == "timestamp-micros" else _timestamp_millis
        case "local-timestamp-micros" | "local-timestamp-millis":
            return _local_timestamp(1 if scalar.logical == "local-timestamp-micros" else 1_000)
        case "time-micros" | "time-millis":
            return _time(1 if scalar.logical == "time-micros" else 1_000)
        case logical if logical == DURATION:
            return _duration
        case "decimal":
            return _decimal(
                scalar.attributes["precision"], scalar.attributes.get("scale", 0), scalar.attributes.get("size")
            )
        case _:
            return _plain(scalar)


def _plain(scalar: Scalar) -> Convert | None:
    if scalar.avro == "int" and scalar.python is int:
        return _int
    if scalar.avro == "float":
        return _float
    if scalar.avro == "fixed":
        return _uuid_bytes if scalar.python is UUID else _fixed(scalar.attributes["size"])
    return None


def _timestamp(value: datetime) -> int:
    if value.tzinfo is None:
        raise MisfitError(
            "a datetime that says its zone",
            value,
            "Give it one, for example datetime.now(UTC), or AwareDatetime as type",
        )
    return (value - _EPOCH) // _MICROSECOND


def _timestamp_millis(value: datetime) -> int:
    return _thousandth(_timestamp(value), value)


def _local_timestamp(unit: int) -> Convert:
    def convert(value: datetime) -> int:
        if value.tzinfo is not None:
            raise MisfitError(
                "a local datetime, without a zone", value, "Take the zone away with .replace(tzinfo=None)"
            )
        micros = (value.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
        return micros if unit == 1 else _thousandth(micros, value)

    return convert


def _time(unit: int) -> Convert:
    def convert(value: time) -> int:
        if value.tzinfo is not None:
            raise MisfitError(
                "a time without a zone, which Avro's cannot have", value, "Use a datetime, or drop the zone"
            )
        micros = ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
        return micros if unit == 1 else _thousandth(micros, value)

    return convert


def _thousandth(micros: int, value: object) -> int:
    millis, rest = divmod(micros, 1_000)
    if rest:
        raise MisfitError("whole milliseconds", value, "Round it, or let the field have microseconds")
    return millis


def _duration(value: timedelta) -> int:
    return value // _MICROSECOND


def _decimal(precision: int, scale: int, size: int | None) -> Convert:
    expected = f"at most {precision} digits, {scale} of them after the point"
    remedy = "Round it, or give the field the max_digits and decimal_places it needs"

    def convert(value: Decimal) -> bytes:
        sign, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):
            raise MisfitError("a finite number", value, "Avro has no decimal NaN or infinity: use None or a float")
        shift = exponent + scale
        # Checked by counting, before a number of 10^6 digits is made of Decimal("1E+1000000").
        if any(digits) and (len(digits) + shift > precision + _leading_zeros(digits) or -shift >= len(digits)):
            raise MisfitError(expected, value, remedy)
        unscaled: int = int(Decimal((0, digits, 0)))
        if unscaled == 0:
            shift = 0
        if shift < 0:
            unscaled, rest = divmod(unscaled, 10**-shift)
            if rest:
                raise MisfitError(expected, value, remedy)
        else:
            unscaled *= 10**shift
        if sign:
            unscaled = -unscaled
        return unscaled.to_bytes(size or (unscaled.bit_length() + 8) // 8, "big", signed=True)

    return convert


def _leading_zeros(digits: tuple[int, ...]) -> int:
    return next(place for place, digit in enumerate(digits) if digit)


def _int(value: int) -> int:
    if not -(2**31) <= value < 2**31:
        raise MisfitError("an int of 32 bits", value, 'Use a plain int, which is 64 bits, or As("long")')
    return value


def _float(value: float) -> float:
    try:
        struct.pack("<f", value)
    except OverflowError:
        raise MisfitError("a float of 32 bits", value, 'Use a plain float, which is 64 bits, or As("double")') from None
    return value


def _fixed(size: int) -> Convert:
    def convert(value: bytes) -> bytes:
        if len(value) != size:
            raise MisfitError(f"{size} bytes", value, f"Pad it, or cut it, to {size}")
        return value

    return convert


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


def misfit(shape: Shape, value: Any, path: str) -> tuple[str, MisfitError] | None:
    """Find the first value under *value* that its Avro type cannot hold. Slow: only asked once writing has failed."""
    shape = bare(shape)
    if isinstance(shape, Scalar | Choice):
        wrong = leaf_misfit(shape, value)
        return None if wrong is None else (path, wrong)
    try:
        parts = _parts(shape, value, path)
    except MisfitError as error:
        return path, error
    return next((found for part in parts if (found := misfit(*part)) is not None), None)


def _parts(shape: Array | Map | Record | Alternatives, value: Any, path: str) -> list[tuple[Shape, Any, str]]:
    match shape:
        case Record():
            return [(field.shape, getattr(value, field.name), _under(path, field.name)) for field in shape.fields]
        case Array():
            return [(shape.items, item, f"{path}[{place}]") for place, item in enumerate(value)]
        case Map():
            return [(shape.values, item, f"{path}[{key!r}]") for key, item in value.items()]
        case Alternatives():
            return [(shape.branches[branch_for(shape.branches, value)], value, path)]


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def leaf_misfit(shape: Scalar | Choice, value: Any) -> MisfitError | None:
    plan = leaf_plan(shape)
    try:
        if plan is not None:
            value = plan(value)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return MisfitError("an int of 64 bits", value, "Send it as a Decimal, a str or bytes")
        if isinstance(value, str):
            value.encode()
    except MisfitError as error:
        return error
    except UnicodeEncodeError:
        return MisfitError(
            "text that UTF-8 can say", value, "Take lone surrogates out, for example with errors='replace'"
        )
    except Exception:
        wanted = shape.python.__name__ if shape.python is not None else f"one of {', '.join(shape.values)}"
        return MisfitError(wanted, value, "Make events by their constructor, which checks")
    python = shape.python if isinstance(shape, Scalar) and plan is None else None
    if python is not None and not isinstance(value, (int, float) if python is float else python):
        return MisfitError(python.__name__, value, "Make events by their constructor, which checks")
    return None


def leaf_plan(shape: Scalar | Choice) -> Convert | None:
    """Return what turns one value without parts into what fastavro writes; None where it takes it as it stands."""
    return _scalar(shape) if isinstance(shape, Scalar) else _choice(shape)
