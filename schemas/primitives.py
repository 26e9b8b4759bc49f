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
# Looked up, as a call costs more than its work: all varints of one or two bytes, and the first two of longer ones.
_TWO = 1 << 14
_SHORT = _TWO >> 1
_LAST = [bytes((bits,)) for bits in range(1 << 7)]
_GOES_ON = [bytes((bits | 0x80,)) for bits in range(1 << 7)]
_VARINTS = _LAST + [first + second for second in _LAST[1:] for first in _GOES_ON]
_FIRST_TWO = [first + second for second in _GOES_ON for first in _GOES_ON]


def long(number: int) -> bytes:
    """Write an int or a long of up to 64 bits: zigzag, then seven bits a byte, the lowest first.

    >>> long(36), long(-1), long(1_763_805_600_000_123).hex()
    (b'H', b'\\x01', 'f6a1ede3ff8aa206')
    """
    rest = number << 1 if number >= 0 else ~(number << 1)
    if rest < _TWO:
        return _VARINTS[rest]
    upper = rest >> 14
    # Times of one second have their upper part in common.
    return _FIRST_TWO[rest & 0x3FFF] + (_VARINTS[upper] if upper < _TWO else _varint(upper))


@lru_cache(maxsize=1_024)
def _varint(rest: int) -> bytes:
    return _VARINTS[rest] if rest < _TWO else _FIRST_TWO[rest & 0x3FFF] + _varint(rest >> 14)


def blob(content: bytes) -> bytes:
    """Write bytes: their number, then they."""
    return long(len(content)) + content


def text(content: str) -> bytes:
    """Write a string: the number of its bytes in UTF-8, then they."""
    encoded = content.encode()
    return _VARINTS[len(encoded) << 1] + encoded if len(encoded) < _SHORT else long(len(encoded)) + encoded


def double(number: float) -> bytes:
    """Write a double: eight bytes, IEEE 754, the lowest first."""
    return _double(number)


def array(items: list[bytes]) -> bytes:
    """Write an array of written items: one block, and the end.

    >>> array([text("a"), text("b")]), array([])
    (b'\\x04\\x02a\\x02b\\x00', b'\\x00')
    """
    return long(len(items)) + b"".join(items) + END if items else END
