"""A claim: what stands on the wire for a value that is too large for it."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from antiphon.bus.errors import ClaimChangedError, UnknownReferenceError
from antiphon.bus.record import Record, size_of

DATAREF = "ce_dataref"
"""CloudEvents' `dataref` extension: where the data is, of an event that does not carry it."""
SCHEME = b"claim:"
LIMIT = 900_000
"""Bytes of key and value above which there is one: clients take records of 1,000,000 by default, and headers need room too."""

_REFERENCE = re.compile(r"claim:sha256:([0-9a-f]{64})\?length=([0-9]{1,15})")


class Claim(NamedTuple):
    """Names content by its SHA-256 (hex) and its length in bytes: whoever has the one can check the other.

    >>> str(Claim.of(b"ok"))
    'claim:sha256:2689367b205c16ce32ed4200942b8b8b1e262dfc70d9bc9fbc77c49699a4f1df?length=2'
    """

    digest: str
    length: int

    @classmethod
    def of(cls, content: bytes) -> Claim:
        return cls(hashlib.sha256(content).hexdigest(), len(content))

    @classmethod
    def parse(cls, reference: bytes) -> Claim:
        """Read a reference; raises `UnknownReferenceError` where it is not one of ours."""
        text = reference.decode(errors="replace")
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise UnknownReferenceError(text)
        return cls(found[1], int(found[2]))

    def check(self, content: bytes) -> None:
        """Raise `ClaimChangedError` unless *content* is what was claimed."""
        if (found := Claim.of(content)) != self:
            raise ClaimChangedError(str(self), str(found))

    def __str__(self) -> str:
        return f"claim:sha256:{self.digest}?length={self.length}"

    def __bytes__(self) -> bytes:
        return str(self).encode()


def reference_in(record: Record) -> bytes | None:
    """Return the reference that stands for *record*'s value, None where the value stands for itself.

    Of an event that has both, as CloudEvents allows, the value counts.
    """
    if record.value:
        return None
    found: bytes | None = None
    for name, value in record.headers:
        if name == DATAREF:
            found = value
    return found


def in_full(record: Record) -> int:
    """Return how many bytes *record* takes in memory while it is handled, its value fetched."""
    size = record.size or size_of(record)
    if not record.value and (reference := reference_in(record)) is not None:
        found = _REFERENCE.fullmatch(reference.decode(errors="replace"))
        size += int(found[2]) if found is not None else 0
    return size


def standing(record: Record) -> bytes:
    """Return *record*'s value, or the reference that stands for it: what to keep of it, to be decoded later."""
    return record.value or reference_in(record) or b""
