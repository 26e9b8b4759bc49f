"""A broker in this process: all that the port promises, with nothing to install and nothing on disk.

It is what `antiphon try` runs on, and what a test of an agent can. With a seed
it becomes a simulation: the order in which things happen is drawn from the
seed, and comes again with it; faults are put in at the `Point`s of a member.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing

from antiphon.bus.errors import TopicCreationRefusedError, UnknownTopicError
from antiphon.bus.memory.groups import Group
from antiphon.bus.memory.log import PartitionLog
from antiphon.bus.memory.member import Faults, MemoryMember, no_faults
from antiphon.bus.memory.schedule import BATCH, Schedule
from antiphon.bus.memory.transactions import Coordinator
from antiphon.bus.names import is_legal
from antiphon.bus.partition import partition_for
from antiphon.bus.port import Features, Membership, TopicSpec
from antiphon.bus.record import Committed, Outgoing, Position, Record, TopicPartition
from antiphon.bus.right import Right
from antiphon.schemas.envelope import now_us


class MemoryBus:
    """A `Bus` without a broker. Everything happens in one event loop, and is gone with the object.

    *partitions* is what a topic gets whose spec leaves it open (-1, as in
    Kafka's protocol). *now_us* is the clock that stamps records.
    """

    def __init__(
        self,
        *,
        partitions: int = 4,
        seed: int | None = None,
        faults: Faults = no_faults,
        now_us: Callable[[], int] = now_us,
    ) -> None:
        self.partitions = partitions
        self.schedule = Schedule(seed)
        self._name = uuid.uuid4().hex if seed is None else str(seed)
        self.coordinator = Coordinator()
        self._faults = faults
        self._now_us = now_us
        self._logs: dict[str, list[PartitionLog]] = {}
        self._ids: dict[str, str] = {}
        self._groups: dict[str, Group] = {}

    @property
    def features(self) -> Features:
        return Features(durable=False, server_side_assignment=True, compaction=False)

    async def join(self, membership: Membership) -> MemoryMember:
        """Join a group; raises `UnknownTopicError` rather than waiting for a topic that may never be."""
        await self.schedule.turn()
        for topic in membership.topics:
            self._topic(topic)
        member = MemoryMember(self, self._group(membership.group), membership, self._faults)
        member.enter()
        return member

    async def publish(self, records: Sequence[Outgoing]) -> list[Position]:
        """Write *records*, or none of them where one's topic does not exist (`UnknownTopicError`)."""
        await self.schedule.turn()
        placed = [(self.place(outgoing), outgoing) for outgoing in records]
        return [Position(log.topic, log.partition, log.append(outgoing, self.now_ms())) for log, outgoing in placed]

    async def read(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Record, None]:
        """Yield committed records; a partition that *stop* does not name is read to nowhere."""
        async with aclosing(self.read_batches(start, stop)) as batches:
            async for batch in batches:
                for record in batch:
                    yield record

    async def read_batches(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Yield what there is of all partitions at a time."""
        positions = dict(start)
        stops = None if stop is None else {partition: stop.get(partition, 0) for partition in start}
        logs = {partition: self.log(partition) for partition in sorted(start)}
        watched = [*logs.values()]
        wake = asyncio.Event()
        for log in watched:
            log.watchers[wake] = None
        try:
            while logs:
                wake.clear()
                if batch := self._read_on(logs, positions, stops):
                    yield batch
                if stops is not None:
                    logs = {
                        partition: log for partition, log in logs.items() if positions[partition] < stops[partition]
                    }
                if logs and all(log.stable <= positions[partition] for partition, log in logs.items()):
                    await wake.wait()
                await self.schedule.turn()
        finally:
            for log in watched:
                log.watchers.pop(wake, None)

    async def bounds(self, topics: Iterable[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        """Return first offset and end of each partition, the stable one or the last; unknown topics are left out."""
        await self.schedule.turn()
        return {
            TopicPartition(topic, log.partition): (log.first, log.stable if committed else log.next)
            for topic in topics
            for log in self._logs.get(topic, [])
        }

    async def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """Return for each partition the first offset not older than *timestamp_ms*, or its end."""
        await self.schedule.turn()
        return {partition: self.log(partition).offset_at(timestamp_ms) for partition in partitions}

    def partition_for(self, key: bytes, partitions: int) -> int:
        """Return where producers put *key*."""
        return partition_for(key, partitions)

    async def topics(self) -> dict[str, int]:
        """Return every topic's number of partitions."""
        await self.schedule.turn()
        return {topic: len(logs) for topic, logs in self._logs.items()}

    async def identities(self, topics: Iterable[str]) -> dict[str, str]:
        """Return which topic of this bus each one is, in the order in which they were made."""
        await self.schedule.turn()
        return {topic: self._ids[topic] for topic in topics if topic in self._ids}

    async def create(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create what does not exist. Compaction and configuration are taken note of by nobody."""
        await self.schedule.turn()
        fresh = [spec for spec in topics if spec.name not in self._logs]
        refused = [spec.name for spec in fresh if not is_legal(spec.name)]
        if refused:
            raise TopicCreationRefusedError(refused, "a name is of letters, digits, '.', '_' and '-'")
        refused = [spec.name for spec in fresh if spec.partitions < 1 and spec.partitions != -1]
        if refused:
            raise TopicCreationRefusedError(refused, "a topic has at least one partition")
        for spec in fresh:
            count = self.partitions if spec.partitions == -1 else spec.partitions
            # A simulation has to come again, so nothing is drawn: the seed, or else the bus, tells two apart.
            self._ids[spec.name] = f"{self._name}/{len(self._ids)}"
            self._logs[spec.name] = [PartitionLog(spec.name, partition) for partition in range(count)]
        return [spec.name for spec in fresh]

    async def require(self, rights: Collection[Right]) -> None:
        pass  # Everybody may do everything here.

    async def remove(self, namespace: str) -> list[str]:
        """Forget the topics and groups under *namespace*."""
        await self.schedule.turn()
        prefix = f"{namespace}."
        removed = sorted(name for name in self._logs if name.startswith(prefix))
        self._logs = {name: logs for name, logs in self._logs.items() if not name.startswith(prefix)}
        self._groups = {name: group for name, group in self._groups.items() if not name.startswith(prefix)}
        return removed

    async def close(self) -> None:
        """Nothing is held but memory."""

    def committed(self, group: str) -> dict[TopicPartition, Committed]:
        """Return what *group* has committed."""
        return dict(self._group(group).committed)

    def generation(self, group: str) -> int:
        """Return how often *group* has rebalanced."""
        return self._group(group).generation

    def crash(self, member: MemoryMember, *, unnoticed_s: float = 0.0) -> None:
        """Let *member* end without a word, as after kill -9.

        Its open transaction is never visible. After *unnoticed_s* the group
        gives its partitions to others; until then nobody gets them, and readers
        wait at its open transaction (which its own time-out ends, if sooner).
        """
        member.fail("it crashed")
        if unnoticed_s > 0:
            asyncio.get_running_loop().call_later(unnoticed_s, member.end, "it crashed")
        else:
            member.end("it crashed")

    def expire(self, member: MemoryMember) -> None:
        """Let the group take *member* for dead, while it lives: a zombie, as after SIGSTOP past its session.

        What it commits is refused; its next `take` says what is lost, and joins again.
        """
        member.expire()

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Forget the records of *partition* below *before*, as retention does."""
        self.log(partition).truncate(before)

    def log(self, partition: TopicPartition) -> PartitionLog:
        """Return the log of *partition*; raises `UnknownTopicError`."""
        return _of(self._topic(partition.topic), partition.partition)

    def place(self, outgoing: Outgoing) -> PartitionLog:
        """Return the log that *outgoing* goes to: the one it names, its key's, or any."""
        logs = self._topic(outgoing.topic)
        if outgoing.partition is not None:
            return _of(logs, outgoing.partition)
        if outgoing.key is not None:
            return logs[partition_for(outgoing.key, len(logs))]
        return logs[self.schedule.partition(len(logs))]

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the bus's clock."""
        return self._now_us() // 1_000

    def _read_on(
        self,
        logs: Mapping[TopicPartition, PartitionLog],
        positions: dict[TopicPartition, int],
        stops: Mapping[TopicPartition, int] | None,
    ) -> list[Record]:
        runs: list[list[Record]] = []
        for partition, log in logs.items():
            run, positions[partition] = log.read(positions[partition], BATCH)
            if stops is not None:
                run = [record for record in run if record.offset < stops[partition]]
            if run:
                runs.append(run)
        return self.schedule.merge(runs) if runs else []

    def _topic(self, topic: str) -> list[PartitionLog]:
        logs = self._logs.get(topic)
        if logs is None:
            raise UnknownTopicError(topic, sorted(self._logs))
        return logs

    def _group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group(lambda topic: len(self._topic(topic))))


def _of(logs: list[PartitionLog], partition: int) -> PartitionLog:
    if not 0 <= partition < len(logs):
        message = f"expected a partition from 0 to {len(logs) - 1} of topic {logs[0].topic!r}, got {partition}"
        raise ValueError(message)
    return logs[partition]
