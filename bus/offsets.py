"""How far one partition has been handled, when events finish in another order than they came.

The committed offset is the lowest unfinished one. What is finished above it is
written into the commit's metadata, so that a restart does not do it again.

The metadata is one character for the format, then base64 without padding of a
CRC-32 and a body. Both bodies count offsets from the committed one:

    r   lengths of runs, as LEB128 varints: not finished, finished, not finished, finished, ...
    b   a bitmap, lowest offset in the lowest bit: 1 is finished

The shorter one is written. The checksum covers the committed offset too, so
metadata that a tool has carried to another offset is known for what it is.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Self

from antiphon.bus.record import Committed

METADATA_LIMIT = 4_096
"""What a broker takes by default (`offset.metadata.max.bytes`)."""

AHEAD = 500
"""How many records may still be taken after `Progress.full` has become true: a batch."""

_GAPS = 4
# Offsets that pass for each record taken, at most, where every record was committed alone, and retried.
_MORE = 0x80  # a varint's byte that another one follows
_CHECKSUM = 4
_BODY_LIMIT = (METADATA_LIMIT - 1) * 3 // 4 - _CHECKSUM

Run = tuple[int, int]
"""Offsets that are finished: first, and one past the last."""


class Progress:
    """Which offsets of one partition are taken, and which of them are finished.

    Offsets are taken in rising order. They have gaps (transaction markers, what
    compaction removed), and an offset that did not come between two that did
    never will: so whatever lies below the highest finished offset and is not
    known as unfinished counts as finished, and a gap costs nothing. What lies
    below the committed offset is finished for good; a log that begins anew is
    another one, and needs a progress of its own.

    >>> progress = Progress.from_committed(None)
    >>> [progress.take(offset) for offset in (3, 4, 6)]
    [True, True, True]
    >>> progress.finish(6)
    >>> again = Progress.from_committed(progress.committed())
    >>> [again.take(offset) for offset in (3, 4, 6, 7)]
    [True, True, False, True]
    """

    def __init__(self, start: int, finished: Sequence[Run] = ()) -> None:
        # Rising, because offsets are taken so. Of all dictionaries only this
        # one finds its first key in constant time after deletions at the front.
        self._unfinished: OrderedDict[int, int] = OrderedDict()
        self.size = 0
        """Bytes of what is taken and not finished."""
        self._next = start  # one past the last taken
        self._highest_finished = -1  # of those taken
        self._inherited = [*reversed(finished)]  # the lowest one last, those passed are popped

    @classmethod
    def from_committed(cls, committed: Committed | None) -> Self:
        """Go on from what a group committed; None: from wherever the first taken offset is.

        Metadata that is not ours, or damaged, means that nothing is skipped: events are handled again, never lost.
        """
        if committed is None:
            return cls(0)
        return cls(committed.offset, decode(committed))

    def take(self, offset: int, size: int = 0) -> bool:
        """Note that the record at *offset* has come, of *size* bytes; False when it was finished, or taken, already."""
        if offset < self._next:
            # Below what was committed, too: a client has been seen to read a partition from its beginning.
            return False
        self._next = offset + 1
        while self._inherited and self._inherited[-1][1] <= offset:
            self._inherited.pop()
        if self._inherited and self._inherited[-1][0] <= offset:
            self._highest_finished = offset
            return False
        self._unfinished[offset] = size
        self.size += size
        return True

    def finish(self, offset: int) -> None:
        """Note that the taken *offset* is done with; `KeyError` for one that is not in hand."""
        self.size -= self._unfinished.pop(offset)
        self._highest_finished = max(self._highest_finished, offset)

    @property
    def next(self) -> int:
        """One past the last offset taken."""
        return self._next

    @property
    def unfinished(self) -> int:
        """How many offsets are taken and not finished."""
        return len(self._unfinished)

    def committed(self) -> Committed:
        """Return what to commit now: every finished offset is covered, no unfinished one is.

        The cost grows with the unfinished offsets below the highest finished
        one, not with those in hand. Metadata never outgrows `METADATA_LIMIT`:
        of a caller who took on regardless of `full`, the highest finished
        offsets are left out, and would be handled again after a restart.
        """
        offset = self._lowest()
        runs = [*self._runs(offset)]
        return Committed(offset, encode(offset, runs) if runs else "")

    @property
    def full(self) -> bool:
        """Whether no more should be taken until something finishes, because the metadata could outgrow its limit.

        It is about the worst order in which what is in hand could finish, with
        room for `AHEAD` more: a caller that asks once a batch is safe. Never
        true while nothing is in hand.
        """
        if not self._unfinished:
            return False
        end = max(self._next, self._inherited[0][1] if self._inherited else 0)
        span = end - self._lowest() + AHEAD * _GAPS
        runs = len(self._inherited) + len(self._unfinished) + AHEAD + 1
        return min((span + 7) // 8, _worst(2 * runs, span)) > _BODY_LIMIT

    def _lowest(self) -> int:
        return next(iter(self._unfinished), self._next)

    def _runs(self, offset: int) -> Iterator[Run]:
        """Yield what is finished at and above *offset*, the lowest unfinished one, as runs from low to high."""
        top = self._highest_finished + 1
        if top > offset:
            previous = offset
            for unfinished in self._unfinished:
                if unfinished >= top:
                    break
                if unfinished > previous + 1:
                    yield previous + 1, unfinished
                previous = unfinished
            if top > previous + 1:
                yield previous + 1, top
        for first, end in reversed(self._inherited):
            if end > self._next:
                yield max(first, self._next), end


def _worst(count: int, total: int) -> int:
    """Return how many bytes *count* varints that add up to *total* can take at most."""
    size, reach = count, total >> 7
    while reach:
        size += min(count, reach)
        reach >>= 7
    return size


def encode(offset: int, finished: Sequence[Run]) -> str:
    """Write *finished*, runs from low to high and above *offset*, as metadata of a commit at *offset*.

    What does not fit is left out from the top.
    """
    edges = [offset, *(edge for run in finished for edge in run)]
    lengths = bytearray()
    for low, high in pairwise(edges):
        _append_varint(lengths, high - low)
    span = edges[-1] - offset
    if min(len(lengths), (span + 7) // 8) > _BODY_LIMIT:
        return encode(offset, finished[: len(finished) * 3 // 4])
    if len(lengths) * 8 <= span:
        return _framed("r", offset, bytes(lengths))
    bits = 0
    for first, end in finished:
        bits |= ((1 << (end - first)) - 1) << (first - offset)
    return _framed("b", offset, bits.to_bytes((span + 7) // 8, "little"))


def decode(committed: Committed) -> list[Run]:
    """Return the runs of finished offsets that stand in a commit's metadata; none where it cannot be trusted."""
    try:
        kind, body = _unframed(committed)
        match kind:
            case "r":
                return _runs_of_lengths(committed.offset, body)
            case "b":
                return _runs_of_bitmap(committed.offset, body)
            case _:
                return []
    except ValueError:
        return []


def _framed(kind: str, offset: int, body: bytes) -> str:
    return kind + base64.b64encode(_checksum(offset, body) + body).rstrip(b"=").decode()


def _unframed(committed: Committed) -> tuple[str, bytes]:
    text = committed.metadata[1:]
    raw = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    body = raw[_CHECKSUM:]
    if raw[:_CHECKSUM] != _checksum(committed.offset, body):
        return "", b""
    return committed.metadata[0], body


def _checksum(offset: int, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(b"%d" % offset)).to_bytes(_CHECKSUM, "little")


def _append_varint(to: bytearray, number: int) -> None:
    while number >= _MORE:
        to.append(number & 0x7F | _MORE)
        number >>= 7
    to.append(number)


def _runs_of_lengths(offset: int, body: bytes) -> list[Run]:
    edges = list[int]()
    position, number, shift = offset, 0, 0
    for byte in body:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < _MORE:
            position += number
            edges.append(position)
            number = shift = 0
    return [*zip(edges[::2], edges[1::2], strict=True)]


def _runs_of_bitmap(offset: int, body: bytes) -> list[Run]:
    bits = bin(int.from_bytes(body, "little"))[:1:-1]
    runs, end = list[Run](), 0
    while (first := bits.find("1", end)) >= 0:
        end = bits.find("0", first)
        if end < 0:
            end = len(bits)
        runs.append((offset + first, offset + end))
    return runs
