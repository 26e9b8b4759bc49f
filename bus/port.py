"""The port: what the mesh asks of a broker. Memory, the embedded broker and Kafka answer it alike.

`testing.conformance.BusSuite` states each promise below as a test. Where a
broker cannot keep one, its `Features` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias

from antiphon.bus.names import transactional_prefix
from antiphon.bus.record import Committed, Outgoing, Position, Record, TopicPartition
from antiphon.bus.right import Right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """Where brokers differ. Every promise of the port that is not named here holds everywhere."""

    durable: bool
    """A committed record survives the broker's own sudden end."""
    server_side_assignment: bool
    """The broker has KIP-848's group protocol; kept partitions are not disturbed by a rebalance."""
    compaction: bool
    """Old records of a compacted topic are removed in time. Readers must cope either way."""


class MissingOffsets(StrEnum):
    """What becomes of a partition that no longer has the offset at which a group is to go on. None of it is silent."""

    STOP = "stop"
    """`Member.take` raises `OffsetsGoneError`: a person decides."""
    EARLIEST = "earliest"
    """Go on with the first record that is there."""
    LATEST = "latest"
    """Go on with what comes from now on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Membership:
    """How one worker takes part in a consumer group."""

    group: str
    topics: tuple[str, ...]
    instance: str
    """Unique among the group's live members; part of the transactional id."""
    exactly_once: bool = True
    """False: no transactions; records are written idempotently, then offsets committed."""
    session_timeout_s: float = 10.0
    transaction_timeout_s: float = 8.0
    """Below the session's: when a dead worker's partitions move on, its transaction is over."""
    revoke_grace_s: float = 5.0
    """How long a rebalance may wait for `Revoked.release`."""
    on_missing_offsets: MissingOffsets = MissingOffsets.EARLIEST
    deciding: str | None = None
    """That one of *topics* whose partition n goes with the right to work on partition n of the others, and with the state that
    they share (see `antiphon.bus.numbers`): it is given once no transaction of anybody with work of any of them is under way."""

    @property
    def transactional_id(self) -> str:
        """Whoever begins under it fences whoever had it before. Within the group: nobody else may have such a one."""
        return f"{transactional_prefix(self.group)}{self.instance}"


@dataclasses.dataclass(frozen=True)
class Assigned:
    """Partitions this member now owns. They are paused until the member is told to `resume` them.

    Reading starts at the committed offset, or at the partition's beginning
    where the group has none. Where there is no such offset any more it starts
    as `Membership.on_missing_offsets` says, and `Jumped` tells of it.
    """

    partitions: Mapping[TopicPartition, Committed | None]


@dataclasses.dataclass(frozen=True)
class Revoked:
    """Partitions this member is about to give up. It still owns them, and may commit, until it calls *release*."""

    partitions: frozenset[TopicPartition]
    release: Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Lost:
    """Partitions this member has lost already. What was not committed for them is somebody else's now."""

    partitions: frozenset[TopicPartition]


@dataclasses.dataclass(frozen=True)
class Records:
    """Records of partitions that are owned and not paused, in order within each partition."""

    records: Sequence[Record]


@dataclasses.dataclass(frozen=True)
class Jumped:
    """Reading goes on elsewhere than where the group had come to: what was to be read next is gone.

    Retention was quicker than the group, or the topic was deleted and made
    anew. In the second case a partition that is owned is given as `Lost`
    before, and as `Assigned` after.
    """

    partition: TopicPartition
    expected: int
    """The offset at which the group was to go on."""
    first: int
    """The first one there is."""
    end: int
    to: int
    """Where it goes on."""
    anew: bool = False
    """The topic was made anew, or lost its end: offsets mean other records now."""

    @property
    def gone(self) -> int | None:
        """How many offsets nobody will read, markers of transactions among them; None where nobody can tell."""
        return None if self.anew else self.to - self.expected


Taken: TypeAlias = Records | Assigned | Revoked | Lost | Jumped


@dataclasses.dataclass(frozen=True)
class Transaction:
    """What becomes visible together: records, and how far their causes have been read."""

    records: Sequence[Outgoing]
    offsets: Mapping[TopicPartition, Committed]


class Member(Protocol):
    """One member of a consumer group, with the producer that commits for it.

    No method blocks the event loop. Heartbeats go on whatever the caller does.
    One task takes; one task commits; they may be different ones.
    """

    async def take(self) -> Taken:
        """Return what came next; waits until something does.

        Bounded: what is not taken is not fetched. Raises `BusError` when the
        member can go on no longer (for example, no broker answers), and
        `OffsetsGoneError` where it shall not.
        """
        ...

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Stop fetching from *partitions*. A few records already fetched may still come."""
        ...

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch again; records that were fetched and held back come first. Not owned any more: ignored."""
        ...

    async def commit(self, transaction: Transaction) -> None:
        """Make *transaction* visible, all of it or nothing, and return when it is.

        Raises `CommitError`, after which the outcome may be unknown: the caller
        forgets everything uncommitted and calls `restart`. In particular it is
        raised when a partition in *offsets* is not this member's any more.
        """
        ...

    async def try_out(self, records: Sequence[Outgoing]) -> None:
        """Write *records* and take them back; nobody sees them, unless the membership knows no transactions.

        Raises `CommitError` where they would not be taken. What is committed meanwhile waits.
        """
        ...

    async def restart(self) -> None:
        """Begin again after a failed commit: a new producer, older ones fenced.

        `take` then gives every partition as `Lost` and, still owned, as
        `Assigned` with what is truly committed. Records taken before are void.
        """
        ...

    def again(self, partitions: Collection[TopicPartition]) -> None:
        """Have *partitions* given anew: as `Lost`, and as `Assigned` with what is committed. What was taken of them is void.

        Others are not disturbed. Not owned any more, or not given yet: ignored.
        """
        ...

    async def behind(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return how many records readers may see from each of *positions* on; a partition not owned is left out.

        Zero where there is none. Where there are some it may count offsets that are
        no records: ends of transactions, what was aborted or compacted away. Costs the
        broker a question or two, the taker nothing. Raises `BusError` where it does not answer.
        """
        ...

    async def close(self) -> None:
        """Leave the group at once, so that others take over without waiting for a time-out."""
        ...


@dataclasses.dataclass(frozen=True)
class TopicSpec:
    """A topic as the mesh wants it."""

    name: str
    partitions: int
    compact: bool = False
    replication: int | None = None
    """None: as the broker is configured."""
    config: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])


class Bus(Protocol):
    """A broker. One object per process and cluster; `close` when done."""

    @property
    def features(self) -> Features: ...

    async def join(self, membership: Membership) -> Member:
        """Join a group. Returns when the group has been asked, not when partitions are assigned.

        Raises `UnknownTopicError` rather than waiting for a topic that may never be.
        """
        ...

    async def publish(self, records: Sequence[Outgoing]) -> list[Position]:
        """Write *records* outside any transaction, idempotently; returns when all replicas have them."""
        ...

    def read(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Record, None]:
        """Yield committed records from *start* on, in order within a partition, belonging to no group.

        With *stop*, ends once every partition has been read up to its offset
        there (exclusive; at once where there is nothing to read). Without, goes
        on for ever. An offset before a partition's beginning means its beginning.
        """
        ...

    def read_batches(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Sequence[Record], None]:
        """As `read`, some records at a time, never none: for whoever reads many, as a task's turn costs more than a record."""
        ...

    async def bounds(self, topics: Iterable[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        """Return first offset and end (exclusive) of each partition; unknown topics are left out.

        The end is that of what is committed, or with *committed* false that of
        all that was written. Reading up to the latter waits for transactions
        still open: that is how a new owner of a partition sees the last word
        of the one before.
        """
        ...

    async def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """Return for each partition the first offset not older than *timestamp_ms*, or its end."""
        ...

    async def topics(self) -> dict[str, int]:
        """Return every topic's number of partitions."""
        ...

    async def identities(self, topics: Iterable[str]) -> dict[str, str]:
        """Return what tells a topic from one of the same name that was made before or after it.

        Left out: topics that are not there, and all where the broker has no such word.
        """
        ...

    def partition_for(self, key: bytes, partitions: int) -> int:
        """Return the partition of *key* in a topic of *partitions*: what `bus.partition` says, perhaps quicker."""
        ...

    async def create(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create what does not exist and return its names; existing topics are left as they are.

        Returns when the topics can be written to.
        Raises `TopicCreationRefusedError` where the broker says no.
        """
        ...

    async def require(self, rights: Collection[Right]) -> None:
        """Raise `MissingRightError` for those of *rights* that this client is known not to have.

        Nothing is known where the broker does not tell, nor of topics that are not there yet.
        """
        ...

    async def remove(self, namespace: str) -> list[str]:
        """Remove every topic and group under *namespace*, which nobody else uses, and return the topics' names.

        A group whose members were killed has them until their session ends: it
        stays then, and goes when asked again. Raises `BrokerUnreachableError`,
        and `RemovalRefusedError` where the broker says no.
        """
        ...

    async def close(self) -> None:
        """Free sockets and threads; members are closed by whoever joined."""
        ...
