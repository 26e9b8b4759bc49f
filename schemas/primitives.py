"""Avro's primitive types as bytes, for the few records that are written by hand.

fastavro writes any schema, and takes for a record of twenty fields as long as
for three events. What is written once for every delivery is put together from
these instead. The encoding is Avro 1.12's, "Binary Encoding".
"""

from __future__ import annotations

import struct
from functools import lru_cache

NULL = b"\0"
"""The first branch of a union that may be null."""
SOME = b"\2"
"""Its second branch; the value follows."""
END = b"\0"
"""Behind the last block of an array."""

_double = struct.Struct("<d").pack
_ONE, _TWO = 1 << 7, 1 << 14


# What most lengths, counts and codes are, and the halves of everything larger: looked up, as a call costs more than its work.
_SHORT = [bytes((number << 1,)) for number in range(64)]
_LOW = [bytes((rest & 0x7F | 0x80, rest >> 7 | 0x80)) for rest in range(1 << 14)]


def long(number: int) -> bytes:
    """Write an int or a long of up to 64 bits: zigzag, then seven bits a byte, the lowest first.

    >>> long(36), long(-1), long(1_763_805_600_000_123).hex()
    (b'H', b'\\x01', 'f6a1ede3ff8aa206')
    """
    if 0 <= number < 64:  # noqa: PLR2004 - as many as stand in `_SHORT`
        return _SHORT[number]
    rest = number << 1 if number >= 0 else ~(number << 1)
    # Times of one second, and offsets of one partition, have their upper part in common.
    return _LOW[rest & 0x3FFF] + _upper(rest >> 14) if rest >= _TWO else _varint(rest)


def _varint(rest: int) -> bytes:
    if rest < _ONE:
        return bytes((rest,))
    if rest < _TWO:
        return bytes((rest & 0x7F | 0x80, rest >> 7))
    return _LOW[rest & 0x3FFF] + _varint(rest >> 14)


@lru_cache(maxsize=1_024)
def _upper(rest: int) -> bytes:
    return _varint(rest)


def blob(content: bytes) -> bytes:
    """Write bytes: their number, then they."""
    return long(len(content)) + content


def text(content: str) -> bytes:
    """Write a string: the number of its bytes in UTF-8, then they."""
    encoded = content.encode()
    length = len(encoded)
    return (_SHORT[length] if length < 64 else long(length)) + encoded  # noqa: PLR2004 - as in `long`


def double(number: float) -> bytes:
    """Write a double: eight bytes, IEEE 754, the lowest first."""
    return _double(number)


def array(items: list[bytes]) -> bytes:
    """Write an array of written items: one block, and the end.

    >>> array([text("a"), text("b")]), array([])
    (b'\\x04\\x02a\\x02b\\x00', b'\\x00')
    """
    return b"".join((long(len(items)), *items, END)) if items else END
