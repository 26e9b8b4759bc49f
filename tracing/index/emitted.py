"""The events that a delivery emitted, packed into one value of its row: there is one for nearly every delivery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Any

FAILS, UNDO, TOLD = 1, 2, 4
"""What is marked on an emitted event."""
_EMITTED = Struct(">HIB")
"""In front of an emitted event's key: how long that is, the number of its type, and what is marked."""
MARKS, KEY, UUIDS = _EMITTED.size - 1, _EMITTED.size, _EMITTED.size + 16
"""Where marks and key are where one event was emitted whose id is a UUID, and how long that is."""


def packed(emitted: Iterable[Mapping[str, Any]], keys: Mapping[bytes, bytes], numbers: Mapping[bytes, int]) -> bytes:
    """Pack what an entry of activity, its text as bytes, says was emitted."""
    return b"".join(
        [
            _EMITTED.pack(
                len(key := keys[one["id"]]),
                numbers[one["type"]],
                (FAILS if one.get("fails") else 0)
                | (0 if one.get("undo") is None else UNDO)
                | (0 if one.get("told") is None else TOLD),
            )
            + key
            for one in emitted
        ]
    )


def emitted_in(packed: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield key, type's number and marks of each event that a row of `deliveries` says was emitted."""
    at = 0
    while at < len(packed):
        length, type, marks = _EMITTED.unpack_from(packed, at)
        at += _EMITTED.size + length
        yield packed[at - length : at], type, marks
