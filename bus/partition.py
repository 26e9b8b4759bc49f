"""Which partition a key belongs to: as Java's producer says, so that every client of the mesh agrees."""

from __future__ import annotations

import struct

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF


def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition of *key* in a topic of *partitions*: librdkafka's `murmur2`, Java's default.

    >>> partition_for(b"0199f2c1-0000-7000-8000-000000000000", 12)
    9
    """
    # Java's toPositive clears the sign rather than taking the absolute value.
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Return Austin Appleby's MurmurHash2 of *data*, 32 bits without sign, with the seed of Kafka's Java client."""
    length = len(data)
    whole = length & ~3
    hashed = _SEED ^ length
    for word in struct.unpack_from(f"<{whole >> 2}I", data):
        mixed = (word * _MIX) & _MASK
        mixed ^= mixed >> 24
        hashed = ((hashed * _MIX) & _MASK) ^ ((mixed * _MIX) & _MASK)
    if whole < length:
        hashed ^= int.from_bytes(data[whole:], "little")
        hashed = (hashed * _MIX) & _MASK
    hashed ^= hashed >> 13
    hashed = (hashed * _MIX) & _MASK
    return hashed ^ (hashed >> 15)
