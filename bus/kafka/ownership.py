"""Which partitions are a member's: as its polling thread knows it, and as whoever takes from it has been told.

The two differ for a moment at every rebalance, and in that moment lies a
duplicate: a partition is taken away and given back, the group's metadata is
fresh again, and a transaction is committed whose work began before. The broker
would accept it, and the records would be handled a second time. So each time a
partition is given it begins a new term, and work is committed only in the term
its records were taken in: the one that the taker knew of when it handed the
work over, since a thread that is to commit it may come to it late.

And a partition is not given back while a transaction is under way that holds
work of it: its next owner may ask what is committed before that one's offsets
arrive, and Kafka 4.3 has been seen to take them all the same. For the same
reason one whose outcome nobody knows is under way until its producer is fenced:
until then it may still be decided either way. Nor is any other that shares its
state: what is under way may still change that.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from antiphon.bus.errors import CommitError
from antiphon.bus.record import TopicPartition

GroupMetadata: TypeAlias = Any
"""The client's opaque word for member, generation and group."""
Work: TypeAlias = Mapping[TopicPartition, int]
"""The partitions that a transaction holds work of, each with the term in which it was taken."""


@dataclasses.dataclass(frozen=True)
class Ticket:
    """Leave to commit, good for as long as the broker honours the metadata."""

    metadata: GroupMetadata
    heard: int


class Ownership:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._terms: dict[TopicPartition, int] = {}
        self._told: dict[TopicPartition, int] = {}
        self._metadata: GroupMetadata = None
        self._heard = 0
        self._under_way: dict[int, frozenset[TopicPartition]] = {}

    def begin(self, partitions: Iterable[TopicPartition]) -> int:
        """Begin a new term for *partitions* and return its number."""
        with self._changed:
            term = next(self._numbers)
            self._terms.update(dict.fromkeys(partitions, term))
            return term

    def end(self, partitions: Iterable[TopicPartition]) -> None:
        """End the terms of *partitions*: nothing of theirs can be committed any more."""
        with self._changed:
            for partition in partitions:
                self._terms.pop(partition, None)

    def hear(self, metadata: GroupMetadata) -> None:
        """Keep what the polling thread just learnt of the group."""
        with self._changed:
            self._metadata = metadata
            self._heard += 1
            self._changed.notify_all()

    def tell(self, partitions: Iterable[TopicPartition], term: int) -> None:
        """Note that the taker knows of *partitions* in *term*."""
        with self._changed:
            self._told.update(dict.fromkeys(partitions, term))

    def untell(self, partitions: Iterable[TopicPartition]) -> None:
        """Note that the taker knows *partitions* are gone."""
        with self._changed:
            for partition in partitions:
                self._told.pop(partition, None)

    def work(self, partitions: Iterable[TopicPartition]) -> Work:
        """Return *partitions* as the taker has them now; raises `CommitError` where it has not been told of one.

        For the taker itself, in the moment in which it hands work over to be committed: a moment later it may have been told
        of another term, in which what it handed over is somebody's to do again.
        """
        with self._changed:
            return {partition: self._in_hand(partition) for partition in partitions}

    def _in_hand(self, partition: TopicPartition) -> int:
        term = self._told.get(partition)
        if term is None:
            raise _not_its(partition)
        return term

    def ticket(self, work: Work) -> Ticket:
        """Return leave to commit *work*; raises `CommitError` where the term of some of it is over."""
        with self._changed:
            for partition, term in work.items():
                if term != self._terms.get(partition):
                    raise _not_its(partition)
            return Ticket(self._metadata, self._heard)

    @contextmanager
    def committing(self, work: Work) -> Generator[Ticket]:
        """Give a ticket for a transaction that is under way until the context is left; raises as `ticket` does.

        Leave it by an exception where nobody knows the outcome: then it is under way until `fenced`.
        """
        with self._changed:
            ticket = self.ticket(work)
            number = next(self._numbers)
            self._under_way[number] = frozenset(work)
        yield ticket
        with self._changed:
            self._under_way.pop(number, None)
            self._changed.notify_all()

    def fenced(self) -> None:
        """Note that every older producer is fenced: what was under way with one is decided, and so is what hangs there."""
        with self._changed:
            self._under_way.clear()
            self._changed.notify_all()

    def settle(self, partitions: Collection[TopicPartition], within_s: float) -> bool:
        """End the terms of *partitions* and wait until no transaction with work of theirs is under way; False: one still is."""
        with self._changed:
            self.end(partitions)
            return self._changed.wait_for(
                lambda: all(under_way.isdisjoint(partitions) for under_way in self._under_way.values()), within_s
            )

    def newer(self, ticket: Ticket, within_s: float) -> bool:
        """Wait until the group has been asked again since *ticket*, whole round included."""
        with self._changed:
            return self._changed.wait_for(lambda: self._heard >= ticket.heard + 2, within_s)


def _not_its(partition: TopicPartition) -> CommitError:
    return CommitError(f"{partition.topic}[{partition.partition}] is not this member's any more")
