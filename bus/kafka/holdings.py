"""What a member's polling thread knows of each partition it was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from antiphon.bus.record import Record, TopicPartition


@dataclasses.dataclass(eq=False)
class Holdings:
    """Partitions, and how far each is. A partition that was taken away keeps nothing here but what is committed."""

    assigned: set[TopicPartition] = dataclasses.field(default_factory=set[TopicPartition])
    fresh: set[TopicPartition] = dataclasses.field(default_factory=set[TopicPartition])
    """Assigned, and the taker has not been told yet."""
    flowing: set[TopicPartition] = dataclasses.field(default_factory=set[TopicPartition])
    """Being fetched."""
    waning: set[TopicPartition] = dataclasses.field(default_factory=set[TopicPartition])
    """Of those, what the taker does not want now: fetched until enough is set aside."""
    at: dict[TopicPartition, int] = dataclasses.field(default_factory=dict[TopicPartition, int])
    """What comes next of each partition that the taker knows."""
    begun_at: dict[TopicPartition, int] = dataclasses.field(default_factory=dict[TopicPartition, int])
    """Where each began when it was assigned."""
    committed: dict[TopicPartition, int] = dataclasses.field(default_factory=dict[TopicPartition, int])
    """The last offset that this member knows to be committed, of any partition it ever had."""
    ended: dict[TopicPartition, int] = dataclasses.field(default_factory=dict[TopicPartition, int])
    """Where each was found to have no more, if it was."""

    def came(self, records: Sequence[Record]) -> tuple[Sequence[Record], set[TopicPartition]]:
        """Note how far *records* lead; return those that are to be taken, and which partitions must be sought again.

        Left out is whatever comes of a partition that is not flowing: what the
        client had in hand when that was taken away or given anew. It is sought before
        it flows, so nothing is lost by that; taken, it would be ahead of what comes
        first. And what comes from below what is next: the client has gone back.
        """
        first, last = _offsets(reversed(records)), _offsets(records)
        astray: set[TopicPartition] = set()
        if not (
            self.flowing >= last.keys()
            and all(self.at[TopicPartition(*one)] <= first[one] <= last[one] for one in last)
        ):
            records, astray = self._in_place(records)
            last = _offsets(records)
        self.at.update((TopicPartition(*one), offset + 1) for one, offset in last.items())
        return records, astray

    def _in_place(self, records: Iterable[Record]) -> tuple[list[Record], set[TopicPartition]]:
        kept: list[Record] = []
        astray: set[TopicPartition] = set()
        due = {one: self.at[one] for one in self.flowing}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            if partition not in due:
                continue
            if record.offset < due[partition]:
                astray.add(partition)
            else:
                astray.discard(partition)
                due[partition] = record.offset + 1
                kept.append(record)
        return kept, astray

    def last(self, partition: TopicPartition, end: int) -> int | None:
        """Return one past the last record of a *partition* that ends at *end*, as far as that is known; None: not owned.

        What a transaction ends with takes an offset, so the end of the log is no
        measure of whether there is anything left: being told that there is nothing more is.
        """
        at = self.at.get(partition)
        return at if at is None or self.ended.get(partition, -1) >= end else end

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Let go of what was taken away."""
        gone = {*partitions}
        for known in (self.assigned, self.fresh, self.flowing, self.waning):
            known.difference_update(gone)
        for partition in gone:
            self.at.pop(partition, None)
            self.ended.pop(partition, None)


def _offsets(records: Iterable[Record]) -> dict[tuple[str, int], int]:
    """Return for each partition the offset that comes last."""
    return {(record.topic, record.partition): record.offset for record in records}
