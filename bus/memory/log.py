"""One partition: its records, and what of them readers may see.

As on Kafka, the records of an open transaction stand in the log among others;
readers see nothing at or above the first of them (the last stable offset)
until it has ended. Its end takes an offset of its own, so offsets have gaps.
"""

from __future__ import annotations

import asyncio

from antiphon.bus.record import Outgoing, Record


class PartitionLog:
    """The records of one partition."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.first = 0
        """The lowest offset that is still there."""
        self.watchers: dict[asyncio.Event, None] = {}
        """Set whenever readers may see more than before, in the order in which they came: a set's would be another each run."""
        # By offset, from `first` on; None is where nobody may read anything: a
        # transaction's end, or a record of one that was aborted.
        self._entries: list[Record | None] = []
        self._open: dict[int, list[int]] = {}  # transaction to its offsets

    @property
    def stable(self) -> int:
        """One past the last offset that readers may see."""
        return min((offsets[0] for offsets in self._open.values()), default=self.next)

    @property
    def next(self) -> int:
        return self.first + len(self._entries)

    def append(self, outgoing: Outgoing, timestamp_ms: int, *, transaction: int | None = None) -> int:
        """Write a record and return its offset; readers see it at once, or when *transaction* has ended."""
        offset = self.next
        record = Record(
            self.topic, self.partition, offset, outgoing.key, outgoing.value, [*outgoing.headers], timestamp_ms
        )
        self._entries.append(record)
        if transaction is None:
            self._notify()
        else:
            self._open.setdefault(transaction, []).append(offset)
        return offset

    def end(self, transaction: int, *, commit: bool) -> None:
        """Make what *transaction* wrote here visible, or void."""
        offsets = self._open.pop(transaction)
        if not commit:
            for offset in offsets:
                if offset >= self.first:
                    self._entries[offset - self.first] = None
        self._entries.append(None)
        self._notify()

    def read(self, position: int, limit: int) -> tuple[list[Record], int]:
        """Return up to *limit* visible records from *position* on, and the position behind them."""
        position = max(position, self.first)
        found: list[Record] = []
        stable = self.stable
        while position < stable and len(found) < limit:
            entry = self._entries[position - self.first]
            if entry is not None:
                found.append(entry)
            position += 1
        return found, position

    def count(self, position: int) -> int:
        """Return how many records may be read from *position* on."""
        first = max(position - self.first, 0)
        return sum(entry is not None for entry in self._entries[first : self.stable - self.first])

    def offset_at(self, timestamp_ms: int) -> int:
        """Return the offset of the first visible record that is not older than *timestamp_ms*, or the stable end."""
        stable = self.stable
        for entry in self._entries[: stable - self.first]:
            if entry is not None and entry.timestamp_ms >= timestamp_ms:
                return entry.offset
        return stable

    def truncate(self, before: int) -> None:
        """Forget what stands below *before*, as retention would; never what readers may not see yet."""
        before = min(before, self.stable)
        if before > self.first:
            del self._entries[: before - self.first]
            self.first = before

    def _notify(self) -> None:
        for watcher in self.watchers:
            watcher.set()
