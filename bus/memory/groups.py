"""Consumer groups: who reads which partition, and how far each group has come.

A partition changes hands in two steps, as in KIP-848: its owner is told to
revoke it, and only once it is released, or the grace has passed, it is given
to the next. Partitions that stay where they are are not disturbed.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from antiphon.bus.record import Committed, TopicPartition


class Participant(Protocol):
    """A member, as its group sees it. None of these may call back into the group."""

    @property
    def instance(self) -> str: ...
    @property
    def topics(self) -> tuple[str, ...]: ...
    @property
    def revoke_grace_s(self) -> float: ...

    def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None], grant: int) -> None: ...
    def on_revoked(self, partitions: frozenset[TopicPartition], release: Callable[[], None]) -> None: ...
    def on_lost(self, partitions: frozenset[TopicPartition]) -> None: ...
    def on_replaced(self) -> None: ...


@dataclasses.dataclass(eq=False)
class _Revocation:
    partitions: frozenset[TopicPartition]
    timer: asyncio.TimerHandle | None = None


@dataclasses.dataclass(eq=False)
class _Seat:
    member: Participant
    owned: dict[TopicPartition, int] = dataclasses.field(default_factory=dict[TopicPartition, int])
    """What it may commit, by which grant; includes what it is asked to revoke."""
    revocations: list[_Revocation] = dataclasses.field(default_factory=list[_Revocation])

    @property
    def revoking(self) -> set[TopicPartition]:
        return {partition for revocation in self.revocations for partition in revocation.partitions}


class Group:
    """One consumer group. It outlives its members: what was committed stays."""

    def __init__(self, partitions_of: Callable[[str], int]) -> None:
        self._partitions_of = partitions_of
        self._seats: dict[str, _Seat] = {}
        self._target: dict[str, set[TopicPartition]] = {}
        self._grants = 0
        self.committed: dict[TopicPartition, Committed] = {}
        self.generation = 0
        """Counts rebalances."""

    def enter(self, member: Participant) -> None:
        """Take *member* in. Who had the same instance name is out."""
        former = self._seats.get(member.instance)
        if former is not None:
            self.leave(former.member)
            former.member.on_replaced()
        self._seats[member.instance] = _Seat(member)
        self._rebalance()

    def leave(self, member: Participant) -> None:
        """Let *member* go; its partitions are somebody else's at once."""
        if self.has(member):
            seat = self._seats.pop(member.instance)
            for revocation in seat.revocations:
                _stop(revocation)
            self._rebalance()

    def has(self, member: Participant) -> bool:
        seat = self._seats.get(member.instance)
        return seat is not None and seat.member is member

    def owns(self, member: Participant, grants: Mapping[TopicPartition, int | None]) -> bool:
        """Say whether *member* has every partition, by the very grant; those it is asked to revoke it still has.

        Who lost a partition and was given it again starts from what is
        committed: what it did under the former grant must not come on top.
        """
        if not self.has(member):
            return False
        owned = self._seats[member.instance].owned
        return all(owned.get(partition, -1) == grant for partition, grant in grants.items())

    def begin_again(self, member: Participant) -> None:
        """Tell *member* anew what it owns. What it was asked to revoke is released: its work there is void."""
        seat = self._seats[member.instance]
        for revocation in [*seat.revocations]:
            self._give_up(seat, revocation)
        self._assign(seat, {*seat.owned})
        self._reconcile()

    def give_again(self, member: Participant, partitions: Collection[TopicPartition]) -> None:
        """Tell *member* of *partitions* anew, those that it owns and is not asked to revoke."""
        seat = self._seats[member.instance]
        self._assign(seat, seat.owned.keys() & set(partitions) - seat.revoking)

    def _rebalance(self) -> None:
        self.generation += 1
        subscriptions = {instance: seat.member.topics for instance, seat in self._seats.items()}
        topics = sorted({topic for subscribed in subscriptions.values() for topic in subscribed})
        self._target = assign({topic: self._partitions_of(topic) for topic in topics}, subscriptions)
        self._reconcile()

    def _reconcile(self) -> None:
        for instance, seat in self._seats.items():
            surplus = seat.owned.keys() - self._target[instance] - seat.revoking
            if surplus:
                self._revoke(seat, frozenset(surplus))
        held = {partition for seat in self._seats.values() for partition in seat.owned}
        for instance, seat in self._seats.items():
            fresh = self._target[instance] - held
            self._assign(seat, fresh)

    def _assign(self, seat: _Seat, partitions: set[TopicPartition]) -> None:
        if partitions:
            self._grants += 1
            seat.owned.update(dict.fromkeys(partitions, self._grants))
            given = {partition: self.committed.get(partition) for partition in sorted(partitions)}
            seat.member.on_assigned(given, self._grants)

    def _revoke(self, seat: _Seat, partitions: frozenset[TopicPartition]) -> None:
        revocation = _Revocation(partitions)
        seat.revocations.append(revocation)

        def release() -> None:
            if self._give_up(seat, revocation):
                self._reconcile()

        def overdue() -> None:
            if self._give_up(seat, revocation):
                seat.member.on_lost(partitions)
                self._reconcile()

        revocation.timer = asyncio.get_running_loop().call_later(seat.member.revoke_grace_s, overdue)
        seat.member.on_revoked(partitions, release)

    def _give_up(self, seat: _Seat, revocation: _Revocation) -> bool:
        # Only the first of release, overdue and begin_again counts, and none after the member has left.
        _stop(revocation)
        if revocation not in seat.revocations or self._seats.get(seat.member.instance) is not seat:
            return False
        seat.revocations.remove(revocation)
        for partition in revocation.partitions:
            del seat.owned[partition]
        return True


def _stop(revocation: _Revocation) -> None:
    if revocation.timer is not None:
        revocation.timer.cancel()


def assign(
    partitions: Mapping[str, int], subscriptions: Mapping[str, Collection[str]]
) -> dict[str, set[TopicPartition]]:
    """Share out topics as Kafka's range assignor does: topics of one size and audience are co-partitioned.

    >>> shares = assign({"a": 3, "b": 3}, {"one": ["a", "b"], "two": ["a", "b"]})
    >>> [(topic, partition) for topic, partition in sorted(shares["two"])]
    [('a', 2), ('b', 2)]
    """
    shares: dict[str, set[TopicPartition]] = {instance: set() for instance in subscriptions}
    for topic, count in partitions.items():
        audience = sorted(instance for instance, topics in subscriptions.items() if topic in topics)
        share, extra = divmod(count, len(audience))
        for index, instance in enumerate(audience):
            first = index * share + min(index, extra)
            last = first + share + (index < extra)
            shares[instance].update(TopicPartition(topic, partition) for partition in range(first, last))
    return shares
