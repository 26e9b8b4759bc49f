"""The events that a delivery emitted, packed into one value of its row: there is one for nearly every delivery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import Any

FAILS, UNDO, TOLD = 1, 2, 4
"""What is marked on an emitted event."""
_EMITTED = Struct(">HIB")
"""In front of an emitted event's key: how long that is, the number of its type, and what is marked."""
MARKS, KEY, UUIDS = _EMITTED.size - 1, _EMITTED.size, _EMITTED.size + 16
"""Where marks and key are where one event was emitted whose id is a UUID, and how long that is."""


def packed(emitted: Sequence[Mapping[str, Any]], keys: Mapping[bytes, bytes], numbers: Mapping[bytes, int]) -> bytes:
    """Pack what an entry of activity, its text as bytes, says was emitted."""
    if len(emitted) == 1:
        return _packed(emitted[0], keys, numbers)
    return b"".join([_packed(one, keys, numbers) for one in emitted])


def _packed(one: Mapping[str, Any], keys: Mapping[bytes, bytes], numbers: Mapping[bytes, int]) -> bytes:
    key = keys[one["id"]]
    marks = FAILS if one.get("fails") else 0
    if one.get("undo") is not None:
        marks |= UNDO
    if one.get("told") is not None:
        marks |= TOLD
    return _EMITTED.pack(len(key), numbers[one["type"]], marks) + key


class Heads(dict[bytes, bytes]):
    """What stands in front of the key of an emitted event whose id is a UUID, by its type behind its length and whether it is a failure."""

    def __init__(self, numbers: Mapping[bytes, int]) -> None:
        super().__init__()
        self._numbers = numbers

    def __missing__(self, made: bytes) -> bytes:
        head = self[made] = _EMITTED.pack(UUIDS - KEY, self._numbers[made[1:-1]], FAILS if made[-1] else 0)
        return head

    def packed(self, key: bytes, made: bytes) -> bytes:
        """Pack the one event of that *key* which was *made*."""
        if len(key) != UUIDS - KEY:
            return _EMITTED.pack(len(key), self._numbers[made[1:-1]], FAILS if made[-1] else 0) + key
        return self[made] + key


def emitted_in(packed: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield key, type's number and marks of each event that a row of `deliveries` says was emitted."""
    at = 0
    while at < len(packed):
        length, type, marks = _EMITTED.unpack_from(packed, at)
        at += _EMITTED.size + length
        yield packed[at - length : at], type, marks
