"""Ids that say where an event belongs: roots are made by the clock, caused ones from their cause."""

from __future__ import annotations

import hashlib
import os
import time

# The two upper bits of a digit become 10, which is RFC 9562's variant.
_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}


def root_id() -> str:
    """Make the id of an event nothing caused: a UUIDv7 (RFC 9562, section 5.7), so ids sort by time.

    >>> root_id()[14]
    '7'
    """
    ms = (time.time_ns() // 1_000_000) & 0xFFFF_FFFF_FFFF
    tail = os.urandom(10).hex()
    return _canonical(f"{ms:012x}", "7", tail)


def caused_id(parent_id: str, agent: str, ordinal: int) -> str:
    """Make the id of the *ordinal*-th event that *agent* emits on hearing *parent_id*: a UUIDv8 (RFC 9562, 5.8).

    The same cause gives the same id, so an event that is emitted again after a
    crash, or in a replay, is known again. The time bits are the parent's, where
    the parent's id is a UUID, so a workflow's ids lie together.

    >>> caused_id("0199f2c1-0000-7000-8000-000000000000", "triage", 0)
    '0199f2c1-0000-8f07-a5e0-8e8fda58e838'
    """
    digest = hashlib.blake2b(f"{parent_id}\0{agent}\0{ordinal}".encode(), digest_size=16).hexdigest()
    # 36: the length of a UUID as text.
    stamp = parent_id[:8] + parent_id[9:13] if len(parent_id) == 36 and parent_id[8] == "-" else digest[20:32]  # noqa: PLR2004
    return _canonical(stamp, "8", digest)


def _canonical(stamp: str, version: str, tail: str) -> str:
    # Hex is sliced rather than computed: `uuid.UUID` costs three times as much on the hot path.
    return f"{stamp[:8]}-{stamp[8:12]}-{version}{tail[:3]}-{_VARIANT[tail[3]]}{tail[4:7]}-{tail[7:19]}"
