"""Spoils bytes, text, JSON and headers: what a bad disk, a bad client or a bad person makes of them. Drawn from a seed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from antiphon.bus.record import Record

Headers: TypeAlias = list[tuple[str, bytes | None]]

_MOST_BYTES = 200_000
# Zigzag varints of lengths, counts and branches that lie: minus one, 2^31, 2^62, the least long, and one of too many bytes.
_VARINTS = [
    b"\x01",
    b"\x80\x80\x80\x80\x10",
    b"\xff" * 8 + b"\x7f",
    b"\xff" * 9 + b"\x01",
    b"\xff" * 12 + b"\x01",
    b"\x00",
]
_TEXTS = [
    b"",
    b"\xff\xfe\x00",
    b"\xed\xa0\x80",
    b"-1",
    b"0",
    b"1e308",
    b"nan",
    b"Infinity",
    b"9" * 25,
    b"9" * 5_000,
    b"-" + b"9" * 30,
    "٣٤٥".encode(),
    "²".encode(),
    b" 7 ",
    b"1_000",
    b"0001-01-01T00:00:00.000000+23:59",
    b"0001-01-01T00:00:00.000000Z",
    b"9999-12-31T23:59:59.999999-23:59",
    b"9999-12-31T23:59:59.999999Z",
    b"2026-11-29T10:00:00.12345678901234567890Z",
    b"2026-11-29",
    b"2026-11-29T25:61:61Z",
    b"1.5 USD",
    b"1e999999999 USD",
    b"-0.000000000001 USD",
    b"orders[0]@" + b"9" * 25,
    b"orders[0]@" + b"9" * 5_000,
    b"orders[99999999999999999999]@1",
    b"[]@",
    b"claim:sha256:" + b"0" * 64 + b"?length=999999999999999",
    b"claim:sha256:../../etc/passwd?length=1",
    b",,,,",
    b"\x1b[31m<script>alert(1)</script>",
    b"{" * 3_000,
    b"a" * 100_000,
]
_NAMES = [
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_time",
    "ce_correlationid",
    "ce_causationid",
    "ce_causes",
    "ce_hops",
    "ce_deadline",
    "ce_budget",
    "ce_tenant",
    "ce_replayof",
    "ce_dataref",
    "traceparent",
    "antiphon_redriven",
    "antiphon_redriven_from",
    "antiphon_redriven_edited",
    "antiphon_keyed_by",
    "antiphon_changed_by",
    "antiphon_dead_settled",
    "antiphon_dead_settled_at",
    "antiphon_dead_topic",
    "antiphon_dead_partition",
    "antiphon_dead_offset",
    "antiphon_dead_attempts",
    "antiphon_dead_time",
    "antiphon_dead_left_out",
]
_TIMES_MS = [-1, 0, -(2**63), 2**63 - 1, 253_402_300_800_000, 1]
_NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**30, 1e308, -0.0, 0.5]


_PLAIN: list[Any] = [[], {}, True, False, ""]


def _endless() -> Any:
    """Return JSON nested deeper than any reader need go."""
    value: Any = 0
    for _ in range(300):
        value = [value]
    return value


class Mutator:
    """Mutations, drawn from *draw*; *donors* are what is spliced in."""

    def __init__(self, draw: random.Random, donors: Sequence[bytes]) -> None:
        self.draw = draw
        self._donors = donors
        self._ways: list[Callable[[bytes], bytes]] = [
            self._flipped,
            self._flipped,
            self._overwritten,
            self._without,
            self._repeated,
            self._cut,
            self._spliced,
            self._inserted,
            self._lying,
            self._lying,
            self._nested,
            self._said,
        ]

    def times(self) -> int:
        """Return how often to spoil one thing: mostly once, as then the rest is read."""
        return self.draw.choice((1, 1, 1, 2, 3, 8))

    # Bytes.

    def content(self, value: bytes) -> bytes:
        for _ in range(self.times()):
            value = self.draw.choice(self._ways)(value)
        return value[:_MOST_BYTES]

    def _at(self, value: bytes) -> int:
        return self.draw.randrange(len(value) + 1)

    def _flipped(self, value: bytes) -> bytes:
        if not value:
            return value
        at = self.draw.randrange(len(value))
        return value[:at] + bytes((value[at] ^ 1 << self.draw.randrange(8),)) + value[at + 1 :]

    def _overwritten(self, value: bytes) -> bytes:
        at, some = self._at(value), self.draw.randbytes(self.draw.choice((1, 1, 2, 4, 8)))
        return value[:at] + some + value[at + len(some) :]

    def _without(self, value: bytes) -> bytes:
        at = self._at(value)
        return value[:at] + value[at + self.draw.choice((1, 1, 2, 10, 100)) :]

    def _repeated(self, value: bytes) -> bytes:
        at = self._at(value)
        some = value[at : at + self.draw.choice((1, 4, 30, 300))]
        return value[:at] + some * self.draw.choice((2, 2, 3, 50)) + value[at:]

    def _cut(self, value: bytes) -> bytes:
        return value[: self._at(value)]

    def _spliced(self, value: bytes) -> bytes:
        other = self.draw.choice(self._donors)
        return value[: self._at(value)] + other[self._at(other) :]

    def _inserted(self, value: bytes) -> bytes:
        at = self._at(value)
        return value[:at] + self.draw.randbytes(self.draw.choice((1, 2, 16))) + value[at:]

    def _lying(self, value: bytes) -> bytes:
        at, number = self._at(value), self.draw.choice(_VARINTS)
        return value[:at] + number + value[at + self.draw.choice((0, 1)) :]

    def _nested(self, value: bytes) -> bytes:
        at = self._at(value)
        return value[:at] + self.draw.choice((b"\x02", b"[", b'{"a":', b"\x00")) * 3_000 + value[at:]

    def _said(self, value: bytes) -> bytes:
        at = self._at(value)
        return value[:at] + self.draw.choice(_TEXTS) + value[at:]

    # What stands around them.

    def text(self, value: bytes | None) -> bytes | None:
        """Spoil a header's value."""
        match self.draw.randrange(4):
            case 0:
                return None
            case 1:
                return self.content(value or b"")
            case _:
                return self.draw.choice(_TEXTS)

    def headers(self, headers: Sequence[tuple[str, bytes | None]]) -> Headers:
        found: Headers = [*headers]
        for _ in range(self.times()):
            at = self.draw.randrange(len(found)) if found else 0
            match self.draw.randrange(7) if found else 6:
                case 0:
                    del found[at]
                case 1:
                    found.insert(at, found[self.draw.randrange(len(found))])
                case 2 | 3 | 4:
                    found[at] = (found[at][0], self.text(found[at][1]))
                case 5:
                    found[at] = (self.draw.choice(_NAMES), found[at][1])
                case _:
                    found.append((self.draw.choice(_NAMES), self.text(b"1")))
        return found

    def record(self, record: Record) -> Record:
        """Spoil one part of a record, or several."""
        for _ in range(self.draw.choice((1, 1, 1, 2, 4))):
            match self.draw.randrange(8):
                case 0:
                    record = dataclasses.replace(record, key=self.text(record.key), size=0)
                case 1:
                    record = dataclasses.replace(record, timestamp_ms=self.draw.choice(_TIMES_MS), appended=True)
                case 2 | 3 | 4:
                    record = dataclasses.replace(record, headers=self.headers(record.headers), size=0)
                case _:
                    value = None if self.draw.random() < 0.02 else self.content(record.value or b"")
                    record = dataclasses.replace(record, value=value, size=0)
        return record

    # JSON.

    def json(self, document: Any) -> Any:
        """Spoil a JSON document somewhere, leaving it JSON; *document* stays as it is."""
        for _ in range(self.times()):
            document = self._spoilt(document, depth=0)
        return document

    def _spoilt(self, node: Any, *, depth: int) -> Any:
        # Ever more likely the deeper: any part may be hit, the whole too.
        if not isinstance(node, dict | list) or not node or self.draw.random() < 0.1 + depth / 50:
            return self._another(node)
        if isinstance(node, list):
            items: list[Any] = [*node]
            at = self.draw.randrange(len(items))
            match self.draw.randrange(8):
                case 0:
                    del items[at]
                case 1:
                    items.append(items[at])
                case _:
                    items[at] = self._spoilt(items[at], depth=depth + 1)
            return items
        members = cast("dict[str, Any]", {**node})
        name = self.draw.choice([*members])
        match self.draw.randrange(10):
            case 0:
                del members[name]
            case 1:
                other = self.draw.choice(("", "x", name + "x", self.draw.choice([*members])))
                members[other] = members.pop(name)
            case 2:
                members[self.draw.choice(("x", "type", "name", "status", "items"))] = members[name]
            case _:
                members[name] = self._spoilt(members[name], depth=depth + 1)
        return members

    def _another(self, node: Any) -> Any:
        """Return something else in the place of *node*."""
        others: list[Any] = [
            None,
            self.draw.choice(_NUMBERS),
            self.draw.choice(_TEXTS).decode(errors="replace"),
            [node],
            {"x": node},
            self.draw.choice(_PLAIN),
            str(node),
        ]
        if self.draw.random() < 0.1:
            others = [_endless()]
        elif isinstance(node, str):
            others.append(self.content(node.encode("utf-8", "surrogatepass")).decode(errors="replace"))
        elif isinstance(node, int):
            others.append(node + self.draw.choice((-1, 1, 2**40, -(2**40))))
        return self.draw.choice(others)
