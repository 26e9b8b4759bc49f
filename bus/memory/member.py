"""One member of a group on the in-memory bus, with the producer that commits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias

from antiphon.bus.errors import CommitError, MemberFailedError, OffsetsGoneError, UnknownTopicError
from antiphon.bus.memory.groups import Group
from antiphon.bus.memory.log import PartitionLog
from antiphon.bus.memory.schedule import Schedule
from antiphon.bus.memory.transactions import Coordinator
from antiphon.bus.port import (
    Assigned,
    Jumped,
    Lost,
    Membership,
    MissingOffsets,
    Records,
    Revoked,
    Taken,
    Transaction,
)
from antiphon.bus.record import Committed, Outgoing, Record, TopicPartition


class Point(StrEnum):
    """Where a fault can be put in a member's way."""

    TAKE = "take"
    """It asks for more."""
    COMMIT = "commit"
    """It begins to commit; nothing is written."""
    WRITTEN = "written"
    """The transaction's records are in the log, and it is open. At least once: they are visible."""
    COMMITTED = "committed"
    """All is visible; the answer is on its way."""


Change: TypeAlias = Assigned | Revoked | Lost | Jumped


class Cluster(Protocol):
    """What a member needs of its bus."""

    @property
    def schedule(self) -> Schedule: ...
    @property
    def coordinator(self) -> Coordinator: ...

    def log(self, partition: TopicPartition) -> PartitionLog: ...
    def place(self, outgoing: Outgoing) -> PartitionLog:
        """Return the log that *outgoing* goes to; raises `UnknownTopicError`."""
        ...

    def now_ms(self) -> int: ...


Faults = Callable[[Point, "MemoryMember"], Awaitable[None]]
"""Awaited at every `Point`. It may wait, raise, or call `MemoryBus.crash`."""


async def no_faults(_point: Point, _member: MemoryMember) -> None:
    """Put nothing in anybody's way."""


class MemoryMember:
    """A `Member`. Everything happens in the caller's event loop."""

    def __init__(self, cluster: Cluster, group: Group, membership: Membership, faults: Faults = no_faults) -> None:
        self.membership = membership
        self._cluster = cluster
        self._group = group
        self._faults = faults
        self._transactional_id = membership.transactional_id
        self._epoch = 0
        self._failure: str | None = None
        self._changes: deque[tuple[Change, int]] = deque()  # with the grant, of what is assigned
        self._grants: dict[TopicPartition, int] = {}  # by what grant: what `take` has given, and not taken back
        self._positions: dict[TopicPartition, int] = {}  # what may be fetched from, and where to go on
        self._flowing: set[TopicPartition] = set()  # what is not paused
        self._wake = asyncio.Event()

    @property
    def instance(self) -> str:
        return self.membership.instance

    @property
    def topics(self) -> tuple[str, ...]:
        return self.membership.topics

    @property
    def revoke_grace_s(self) -> float:
        return self.membership.revoke_grace_s

    def enter(self) -> None:
        """Become a member, with a producer of its own; an older one of the same instance is fenced."""
        self._start_producer()
        self._group.enter(self)

    async def take(self) -> Taken:
        """Return what came next: what changed first, then records, at most `BATCH` of them."""
        while True:
            await self._reach(Point.TAKE)
            self._wake.clear()
            if self._changes:
                return self._changed(*self._changes.popleft())
            self._fail_if_over()
            if not self._group.has(self):
                self._group.enter(self)
                continue
            if records := self._fetch():
                return records
            await self._wake.wait()

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Stop fetching from *partitions*; nothing more of them comes."""
        self._flowing.difference_update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch again. Not owned any more: ignored."""
        self._flowing.update(partition for partition in partitions if partition in self._positions)
        self._wake.set()

    async def commit(self, transaction: Transaction) -> None:
        """Make *transaction* visible in one step, or raise `CommitError`.

        A topic that does not exist raises `UnknownTopicError` before anything
        is done: doing it again would not help.
        """
        placed = [(self._cluster.place(outgoing), outgoing) for outgoing in transaction.records]
        # Before anything is awaited: the caller speaks of the grants it was told, and of the producer it has.
        commit_offsets, epoch = self._prepared(transaction.offsets), self._epoch
        await self._reach(Point.COMMIT)
        self._refuse_if_over()
        if self.membership.exactly_once:
            await self._commit_together(placed, commit_offsets, epoch)
        else:
            await self._commit_in_turn(placed, commit_offsets)
        await self._reach(Point.COMMITTED)

    async def try_out(self, records: Sequence[Outgoing]) -> None:
        """Raise `CommitError` where a topic of *records* does not exist: all that this bus refuses."""
        self._refuse_if_over()
        for outgoing in records:
            try:
                self._cluster.place(outgoing)
            except UnknownTopicError as error:
                raise CommitError(str(error), topic=outgoing.topic) from error

    async def restart(self) -> None:
        """Begin again: older producers fenced, every partition given as `Lost`, and the owned ones as `Assigned`."""
        self._fail_if_over()
        self._start_producer()
        self._forget()
        if self._group.has(self):
            self._group.begin_again(self)
        self._wake.set()

    def again(self, partitions: Collection[TopicPartition]) -> None:
        """Have *partitions* given as `Lost` and, owned as they are, as `Assigned`."""
        given = frozenset(partitions).intersection(self._grants)
        if given and self._group.has(self):
            self.on_lost(given)
            self._group.give_again(self, given)

    async def behind(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Count what is there; exact."""
        return {
            partition: self._cluster.log(partition).count(position)
            for partition, position in positions.items()
            if partition in self._positions
        }

    async def close(self) -> None:
        """Leave the group at once; an open transaction is aborted. Doing it twice does no harm."""
        if self._failure is None:
            self.end("it was closed")

    def end(self, reason: str) -> None:
        """Be out for good: the group gives the partitions to others, an open transaction is aborted."""
        self.fail(reason)
        self._group.leave(self)
        if self.membership.exactly_once:
            self._cluster.coordinator.abort(self._transactional_id, self._epoch)

    def fail(self, reason: str) -> None:
        """Answer every call with *reason* from now on; to the group it is still a member, one that says nothing."""
        self._failure = self._failure or reason
        self._changes.clear()
        self._stop([*self._positions])
        self._wake.set()

    def expire(self) -> None:
        """Lose the membership, as after too long a silence; `take` says what is lost and enters anew."""
        self._group.leave(self)
        self._forget()
        self._wake.set()

    def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None], grant: int) -> None:
        """The group gives *partitions*."""
        self._tell(Assigned(partitions), grant)

    def on_revoked(self, partitions: frozenset[TopicPartition], release: Callable[[], None]) -> None:
        """The group wants *partitions* back; nothing more is fetched from them."""
        self._stop(partitions)

        def released() -> None:
            for partition in partitions:
                self._grants.pop(partition, None)
            release()

        self._tell(Revoked(partitions, released))

    def on_lost(self, partitions: frozenset[TopicPartition]) -> None:
        """The grace to give *partitions* back has passed; if they were not even asked for yet, they need not be."""
        for change in [*self._changes]:
            if isinstance(change[0], Revoked) and change[0].partitions == partitions:
                self._changes.remove(change)
        self._tell(Lost(partitions))

    def on_replaced(self) -> None:
        """Somebody has joined under the same name."""
        self.fail(f"another member joined as {self.instance!r}; an instance's name must be its own")

    async def _commit_together(
        self, placed: list[tuple[PartitionLog, Outgoing]], commit_offsets: Callable[[], None], epoch: int
    ) -> None:
        coordinator = self._cluster.coordinator
        opened = coordinator.begin(self._transactional_id, epoch, self.membership.transaction_timeout_s)
        for log, outgoing in placed:
            opened.write(log, outgoing, self._cluster.now_ms())
        await self._reach(Point.WRITTEN)
        coordinator.commit(self._transactional_id, opened, commit_offsets)

    async def _commit_in_turn(
        self, placed: list[tuple[PartitionLog, Outgoing]], commit_offsets: Callable[[], None]
    ) -> None:
        for log, outgoing in placed:
            log.append(outgoing, self._cluster.now_ms())
        await self._reach(Point.WRITTEN)
        commit_offsets()

    def _prepared(self, offsets: Mapping[TopicPartition, Committed]) -> Callable[[], None]:
        """Return what commits *offsets*, or raises `CommitError` should any of them have changed hands by then."""
        grants = {partition: self._grants.get(partition) for partition in offsets}

        def commit() -> None:
            self._refuse_if_over()
            if not self._group.has(self):
                raise CommitError("UNKNOWN_MEMBER_ID")
            if not self._group.owns(self, grants):
                raise CommitError("ILLEGAL_GENERATION")
            self._group.committed.update(offsets)

        return commit

    def _fetch(self) -> Records | Jumped | None:
        for partition in sorted(self._flowing):
            # Retention may be quicker than whoever reads.
            if (jumped := self._jumped(partition, self._positions[partition])) is not None:
                self._positions[partition] = jumped.to
                return jumped
        logs = {partition: self._cluster.log(partition) for partition in sorted(self._flowing)}
        ready = [partition for partition, log in logs.items() if log.stable > self._positions[partition]]
        if not ready:
            return None
        schedule = self._cluster.schedule
        runs: list[list[Record]] = []
        for partition, share in zip(ready, schedule.shares(len(ready)), strict=True):
            run, self._positions[partition] = logs[partition].read(self._positions[partition], share)
            if run:
                runs.append(run)
        return Records(schedule.merge(runs)) if runs else None

    def _tell(self, change: Change, grant: int = 0) -> None:
        self._changes.append((change, grant))
        self._wake.set()

    def _changed(self, change: Change, grant: int) -> Change:
        # Only now: until it is told, a caller speaks of the former grant.
        match change:
            case Assigned(partitions):
                return self._assigned(partitions, grant)
            case Revoked(partitions):
                self._stop(partitions)
            case Lost(partitions):
                self._stop(partitions)
                for partition in partitions:
                    self._grants.pop(partition, None)
            case Jumped():
                pass
        return change

    def _assigned(self, partitions: Mapping[TopicPartition, Committed | None], grant: int) -> Assigned:
        given = {**partitions}
        for partition, committed in partitions.items():
            log = self._cluster.log(partition)
            log.watchers[self._wake] = None
            self._positions[partition] = log.first if committed is None else committed.offset
            self._grants[partition] = grant
            if committed is not None and (jumped := self._jumped(partition, committed.offset)) is not None:
                # Kept at once: whoever is next shall not jump again.
                given[partition] = self._group.committed[partition] = Committed(jumped.to)
                self._positions[partition] = jumped.to
                self._tell(jumped)
        return Assigned(given)

    def _jumped(self, partition: TopicPartition, expected: int) -> Jumped | None:
        """Say where *partition* goes on if there is no *expected* offset any more. Raises `OffsetsGoneError`."""
        log = self._cluster.log(partition)
        first, end = log.first, log.next
        if first <= expected <= end:
            return None
        policy = self.membership.on_missing_offsets
        if policy is MissingOffsets.STOP:
            raise OffsetsGoneError(self.membership.group, *partition, expected=expected, first=first, end=end)
        to = log.stable if policy is MissingOffsets.LATEST else first
        return Jumped(partition, expected, first, end, to, anew=expected > end)

    def _forget(self) -> None:
        self._changes.clear()
        self._stop([*self._positions])
        if self._grants:
            self._tell(Lost(frozenset(self._grants)))

    def _stop(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            self._cluster.log(partition).watchers.pop(self._wake, None)
            self._positions.pop(partition, None)
            self._flowing.discard(partition)

    def _start_producer(self) -> None:
        if self.membership.exactly_once:
            self._epoch = self._cluster.coordinator.start(self._transactional_id)

    async def _reach(self, point: Point) -> None:
        await self._cluster.schedule.turn()
        await self._faults(point, self)

    def _fail_if_over(self) -> None:
        if self._failure is not None:
            raise MemberFailedError(self.membership.group, self._failure)

    def _refuse_if_over(self) -> None:
        if self._failure is not None:
            raise CommitError(self._failure)
