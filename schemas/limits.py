"""What reading one value may cost, decided before it is read.

Most values need no look at all: every item of a collection takes at least a
byte, so a short value cannot hold many, and a schema that does not hold itself
nests only as deep as it is written. What remains is scanned once, without
keeping anything, before fastavro gets it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from antiphon.schemas.errors import DecodeError, LimitError
from antiphon.schemas.nodes import NAMED, RECORDS, attribute, kind_of, parts_of

_PRIMITIVE_WIDTH = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
_EXACT_WIDTH = {"boolean": 1, "float": 4, "double": 8}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one value, and one schema from outside, may be."""

    size: int = 8 * 1024 * 1024
    """Bytes of one value."""
    depth: int = 64
    """Records, lists and maps inside one another."""
    items: int = 1_000_000
    """Items of all its collections together."""
    schema_size: int = 512 * 1024
    """Characters of one schema."""
    schema_names: int = 1_000
    """Records, enums and fixed types in one schema."""


def measure_schema(schema: Any, limits: Limits, type: str) -> None:
    """Refuse a schema that would cost too much to parse. No recursion: it comes from outside."""
    names, size = 0, 0
    todo: list[tuple[Any, int]] = [(schema, 0)]
    # One type inside another is up to three steps in JSON: fields, field, type.
    deepest = 4 * limits.depth
    while todo:
        node, depth = todo.pop()
        if depth > deepest:
            raise LimitError(type, "levels of nesting in the schema's JSON", deepest, "more")
        size += len(node) if isinstance(node, str) else 2
        if isinstance(node, Mapping):
            members = cast("Mapping[str, Any]", node)
            names += isinstance(members.get("type"), str) and members["type"] in NAMED
            size += sum(len(str(key)) for key in members)
            todo += [(part, depth + 1) for part in members.values()]
        elif isinstance(node, list):
            todo += _under(cast("Any", node), depth + 1)
        if size > limits.schema_size:
            raise LimitError(type, "characters in the schema", limits.schema_size, "more")
        if names > limits.schema_names:
            raise LimitError(type, "named types in the schema", limits.schema_names, "more")


def _under(parts: Iterable[Any], depth: int) -> Iterable[tuple[Any, int]]:
    return ((part, depth) for part in parts)


Scan: TypeAlias = Callable[["_Walk", int, int], int]
"""Skips one value: where the walk is, the position, how deep; returns the next position."""


class BrokenError(Exception):
    """Bytes that are not what the schema says, found while skipping. *path* is filled on the way out."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.path: list[str] = []
        super().__init__(problem)


@dataclasses.dataclass(slots=True)
class _Walk:
    type: str
    value: bytes
    limits: Limits
    items: int = 0

    def count(self, items: int) -> None:
        self.items += items
        if self.items > self.limits.items:
            raise LimitError(self.type, "items in its collections", self.limits.items, f"at least {self.items}")

    def deeper(self, depth: int) -> int:
        if depth >= self.limits.depth:
            raise LimitError(self.type, "levels of nesting", self.limits.depth, "more")
        return depth + 1

    def long(self, position: int) -> tuple[int, int]:
        number = shift = 0
        while True:
            if position >= len(self.value):
                raise BrokenError(f"the value ends early, after {len(self.value)} bytes")
            byte = self.value[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says more bytes follow
                return (number >> 1) ^ -(number & 1), position
            shift += 7
            if shift > 63:  # noqa: PLR2004 - bits of a long
                raise BrokenError(f"a number longer than 64 bits at byte {position}")

    def skip(self, position: int, width: int) -> int:
        if width < 0:
            raise BrokenError(f"a length of {width} at byte {position}")
        if position + width > len(self.value):
            raise BrokenError(f"the value ends early: {width} bytes expected, {len(self.value) - position} left")
        return position + width


class Guard:
    """What is known of a writer's schema before any of its values: when to scan, and how.

    Raises `LimitError` for a schema under which a few bytes could claim any
    amount of memory, or any depth of the stack.
    """

    def __init__(self, schema: Any, names: Mapping[str, Any], limits: Limits, type: str) -> None:
        self._schema, self._names, self._limits, self._type = schema, names, limits, type
        self._widths: dict[str, int] = {}
        self._empties: dict[str, int] = {}
        self._depths: dict[str, float] = {}
        self._scans: dict[str, Scan] = {}
        self._narrowest, self._heaviest = 1 << 62, 1
        self._check_collections(schema)
        for node in names.values():
            self._check_collections(node)
        depth = self._depth(schema, ())
        if depth > limits.depth and depth != float("inf"):
            raise LimitError(type, "levels of nesting in the schema", limits.depth, str(int(depth)))
        self.scan_above = 0 if depth == float("inf") else limits.items // self._heaviest * self._narrowest
        """Values of up to this many bytes are within the limits whatever they say."""

    def scan(self, value: bytes, start: int) -> None:
        """Walk *value* from *start* without keeping anything; raises `LimitError`, or `DecodeError` with the field."""
        walk = _Walk(self._type, value, self._limits)
        try:
            end = self._compiled(self._schema)(walk, start, 0)
        except BrokenError as error:
            field = f"field {'.'.join(error.path)!r}: " if error.path else ""
            raise DecodeError(self._type, [field + error.problem]) from None
        if end != len(value):
            raise DecodeError(self._type, [f"{len(value) - end} bytes are left over behind the value"])

    def _check_collections(self, node: Any) -> None:
        """Refuse collections of nothing; note what the cheapest item costs. Named types are visited by the caller."""
        self._width(node, ())
        if self._empty(node) > self._limits.items:
            raise LimitError(self._type, "empty values in one value of the schema", self._limits.items, "more")
        self._heaviest = max(self._heaviest, 1 + self._empty(node))
        kind = kind_of(node)
        for part in parts_of(node):
            if kind in ("array", "map"):
                width = self._width(part, ()) + (kind == "map")
                if width == 0:
                    raise LimitError(
                        self._type, "items of no bytes in a list", 0, "a list of null or of an empty record"
                    )
                self._narrowest = min(self._narrowest, width)
            if not isinstance(part, str):
                self._check_collections(part)

    def _width(self, node: Any, path: tuple[str, ...]) -> int:
        """Return the fewest bytes a value of *node* takes."""
        node = self._named(node)
        kind = kind_of(node)
        if kind in _PRIMITIVE_WIDTH:
            return _PRIMITIVE_WIDTH[kind]
        if kind == "fixed":
            return int(node["size"])
        if kind not in RECORDS:
            return 1
        name = node["name"]
        if name in path:
            raise DecodeError(self._type, [f"record {name} always holds another one of itself"])
        if name not in self._widths:
            self._widths[name] = sum(self._width(part, (*path, name)) for part in parts_of(node))
        return self._widths[name]

    def _empty(self, node: Any) -> int:
        """Return how many values of *node* can come of no bytes at all: nulls and records of nothing."""
        node = self._named(node)
        kind = kind_of(node)
        if kind == "null":
            return 1
        if kind == "union":
            return max((self._empty(branch) for branch in parts_of(node)), default=0)
        if kind not in RECORDS:
            return 0
        name = node["name"]
        if name not in self._empties:
            self._empties[name] = 0  # Reached again through a union, which takes a byte and counts for itself.
            fields = sum(self._empty(part) for part in parts_of(node))
            self._empties[name] = fields + (self._width(node, ()) == 0)
        return self._empties[name]

    def _depth(self, node: Any, path: tuple[str, ...]) -> float:
        """Return how deep values of *node* nest; infinity where it holds itself."""
        node = self._named(node)
        name = attribute(node, "name") or ""
        if name and name in path:
            return float("inf")
        if name in self._depths:
            return self._depths[name]
        inner = (*path, name) if name else path
        depth = max((self._depth(part, inner) for part in parts_of(node)), default=0)
        if kind_of(node) in (*RECORDS, "array", "map"):
            depth += 1
        if name:
            self._depths[name] = depth
        return depth

    def _named(self, node: Any) -> Any:
        return self._names.get(node, node) if isinstance(node, str) else node

    def _compiled(self, node: Any) -> Scan:  # noqa: PLR0911 - one case for each kind of type
        node = self._named(node)
        kind = kind_of(node)
        match kind:
            case "union":
                return _union([(self._compiled(branch), self._empty(branch)) for branch in parts_of(node)])
            case "null":
                return _exactly(0)
            case "boolean" | "float" | "double":
                return _exactly(_EXACT_WIDTH[kind])
            case "int" | "long":
                return _number
            case "bytes" | "string":
                return _text
            case "enum":
                return _enum(len(node["symbols"]))
            case "fixed":
                return _exactly(int(node["size"]))
            case "array":
                items = node["items"]
                return _array(self._compiled(items), 1 + self._empty(items), _EXACT_WIDTH.get(kind_of(items)))
            case "map":
                return _map(self._compiled(node["values"]), 1 + self._empty(node["values"]))
            case _:
                return self._record(node)

    def _record(self, node: Any) -> Scan:
        name = node["name"]
        if name in self._scans:
            return self._scans[name]

        def later(walk: _Walk, position: int, depth: int) -> int:
            return self._scans[name](walk, position, depth)

        # A record that holds itself finds this while it is being compiled.
        self._scans[name] = later
        fields = [(field["name"], self._compiled(field["type"])) for field in node["fields"]]

        def scan(walk: _Walk, position: int, depth: int) -> int:
            depth = walk.deeper(depth)
            for field, part in fields:
                try:
                    position = part(walk, position, depth)
                except BrokenError as error:
                    error.path.insert(0, field)
                    raise
            return position

        self._scans[name] = scan
        return scan


def _exactly(width: int) -> Scan:
    return lambda walk, position, _depth: walk.skip(position, width)


def _number(walk: _Walk, position: int, _depth: int) -> int:
    return walk.long(position)[1]


def _text(walk: _Walk, position: int, _depth: int) -> int:
    length, position = walk.long(position)
    return walk.skip(position, length)


def _enum(symbols: int) -> Scan:
    def scan(walk: _Walk, position: int, _depth: int) -> int:
        symbol, position = walk.long(position)
        if not 0 <= symbol < symbols:
            raise BrokenError(f"symbol {symbol} of an enum that has {symbols}")
        return position

    return scan


def _union(branches: list[tuple[Scan, int]]) -> Scan:
    def scan(walk: _Walk, position: int, depth: int) -> int:
        branch, position = walk.long(position)
        if not 0 <= branch < len(branches):
            raise BrokenError(f"branch {branch} of a union that has {len(branches)}")
        part, empties = branches[branch]
        if empties > 1:
            walk.count(empties)
        return part(walk, position, depth)

    return scan


def _array(item: Scan, weight: int, width: int | None) -> Scan:
    def scan(walk: _Walk, position: int, depth: int) -> int:
        depth = walk.deeper(depth)
        while True:
            count, position = _block(walk, position)
            if count == 0:
                return position
            walk.count(count * weight)
            if width is not None:
                position = walk.skip(position, count * width)
                continue
            for _ in range(count):
                position = item(walk, position, depth)

    return scan


def _map(value: Scan, weight: int) -> Scan:
    def scan(walk: _Walk, position: int, depth: int) -> int:
        depth = walk.deeper(depth)
        while True:
            count, position = _block(walk, position)
            if count == 0:
                return position
            walk.count(count * weight)
            for _ in range(count):
                position = value(walk, _text(walk, position, depth), depth)

    return scan


def _block(walk: _Walk, position: int) -> tuple[int, int]:
    count, position = walk.long(position)
    if count < 0:
        # Then the block's length in bytes follows, for readers that want to jump.
        _, position = walk.long(position)
    return abs(count), position
