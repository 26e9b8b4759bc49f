"""Values of a schema that try its corners: every symbol, every branch, the extremes of every type, one place at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from antiphon.schemas.nodes import attribute, kind_of, parts_of

_LONG = 2**62
_EXTREMES: dict[tuple[str, str], list[Any]] = {
    ("null", ""): [None],
    ("boolean", ""): [True, False],
    ("int", ""): [1, 0, -1, 2**31 - 1, -(2**31)],
    ("long", ""): [1, 0, -1, 5, 11, _LONG, -_LONG],
    ("float", ""): [0.5, 0.0, -1.5, 9.75, 2.0**100, -(2.0**100)],
    ("double", ""): [0.5, 0.0, -1.5, 9.75, 1e300, -1e300],
    ("string", ""): ["a", "", "é" * 6, "x" * 40, *("y" * length for length in range(1, 13)), "7"],
    ("bytes", ""): [b"a", b"", b"\xff\xfe", b"x" * 40],
    ("long", "timestamp-micros"): [
        datetime(2026, 11, 22, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
    ("long", "timestamp-millis"): [datetime(2026, 11, 22, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)],
    ("int", "date"): [date(2026, 11, 22), date.min, date.max],
    ("long", "time-micros"): [time(12), time.min, time.max],
    ("long", "duration-micros"): [
        timedelta(1),
        timedelta(0),
        timedelta(days=-40_000),
        timedelta(days=40_000, microseconds=1),
    ],
    ("string", "uuid"): [UUID(int=7), UUID(int=2**128 - 1)],
}


def samples(node: Any, names: Mapping[str, Any], depth: int = 0) -> list[Any]:
    """Return values of *node*, the plainest first."""
    return [*_samples(names.get(node, node) if isinstance(node, str) else node, names, depth)]


def _samples(node: Any, names: Mapping[str, Any], depth: int) -> Iterator[Any]:
    match kind_of(node):
        case "union":
            branches = [samples(branch, names, depth) for branch in parts_of(node)]
            yield from (branch[0] for branch in branches)
            for branch in branches:
                yield from branch[1:]
        case "array":
            items = samples(node["items"], names, depth + 1)
            yield from ([items[0]], [], *([item] for item in items[1:]))
        case "map":
            values = samples(node["values"], names, depth + 1)
            yield from ({"k": values[0]}, {}, *({"k": value} for value in values[1:]))
        case "enum":
            yield from node["symbols"]
        case "record":
            yield from _records(node, names, depth)
        case kind:
            logical = str(attribute(node, "logicalType") or "")
            if logical == "decimal":
                most = Decimal((0, (9,) * node["precision"], -node.get("scale", 0)))
                yield from (Decimal(1).scaleb(-node.get("scale", 0)), most, -most, Decimal(0))
            else:
                yield from _EXTREMES[kind, logical]


def _records(node: Any, names: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    parts = {field["name"]: _allowed(field, samples(field["type"], names, depth + 1)) for field in node["fields"]}
    plain = {name: values[0] for name, values in parts.items()}
    yield plain
    for name, values in parts.items():
        yield from ({**plain, name: value} for value in values[1:])


_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
    "min_length": lambda value, bound: len(value) >= bound,
    "max_length": lambda value, bound: len(value) <= bound,
}


def _allowed(field: Any, values: list[Any]) -> list[Any]:
    """Leave those that a field's constraints let through: one that does not would spoil every sample of its record."""
    constraints: dict[str, Any] = attribute(attribute(field, "antiphon"), "constraints") or {}
    near = [near for bound in constraints.values() for near in _near(field["type"], bound)]
    found = [value for value in (*values, *near) if all(_HOLDS[word](value, constraints[word]) for word in constraints)]
    return found or values


def _near(type_: Any, bound: Any) -> list[Any]:
    if type_ == "string":
        return []
    return [bound + step * (1 if type_ in ("int", "long") else 1.0) for step in (-1, 0, 1)]
