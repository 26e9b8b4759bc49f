"""A bus that writes under one namespace and nowhere else: all that a replay's workers are given.

Whatever they read, they may read anywhere. What they would write, join, make or
remove elsewhere is refused before anything of it is done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeAlias

from antiphon.bus.names import Names
from antiphon.bus.port import Bus, Features, Member, Membership, Records, Taken, TopicSpec, Transaction
from antiphon.bus.record import Outgoing, Position, Record, TopicPartition
from antiphon.bus.right import Right
from antiphon.replay.errors import OutsideSandboxError

Arriving: TypeAlias = Callable[[str, Record], Record]
"""Makes of a record what the agent of that name gets."""


class Fenced:
    """A `Bus` that writes under the namespace of *names* alone. Everything else raises `OutsideSandboxError`."""

    def __init__(self, bus: Bus, names: Names, *, arriving: Arriving = lambda _agent, record: record) -> None:
        self._bus = bus
        self._names = names
        self._arriving = arriving

    @property
    def features(self) -> Features:
        return self._bus.features

    async def join(self, membership: Membership) -> Member:
        self._check([membership.group, *membership.topics])
        agent = self._names.plain(membership.group)
        return _Member(await self._bus.join(membership), self._check, lambda record: self._arriving(agent, record))

    async def publish(self, records: Sequence[Outgoing]) -> list[Position]:
        self._check(record.topic for record in records)
        return await self._bus.publish(records)

    async def read(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Record, None]:
        async with aclosing(self._bus.read(start, stop)) as records:
            async for record in records:
                yield record

    async def read_batches(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Sequence[Record], None]:
        async with aclosing(self._bus.read_batches(start, stop)) as batches:
            async for batch in batches:
                yield batch

    async def bounds(self, topics: Iterable[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        return await self._bus.bounds(topics, committed=committed)

    async def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        return await self._bus.offsets_at(partitions, timestamp_ms)

    async def topics(self) -> dict[str, int]:
        return await self._bus.topics()

    async def identities(self, topics: Iterable[str]) -> dict[str, str]:
        return await self._bus.identities(topics)

    async def create(self, topics: Sequence[TopicSpec]) -> list[str]:
        self._check(spec.name for spec in topics)
        return await self._bus.create(topics)

    async def remove(self, namespace: str) -> list[str]:
        self._check([f"{namespace}."])
        return await self._bus.remove(namespace)

    async def require(self, rights: Collection[Right]) -> None:
        await self._bus.require(rights)

    def partition_for(self, key: bytes, partitions: int) -> int:
        return self._bus.partition_for(key, partitions)

    async def close(self) -> None:
        """Nothing: the bus behind it is somebody else's."""

    def _check(self, names: Iterable[str]) -> None:
        inside = self._names.topic("")
        for name in names:
            if not name.startswith(inside):
                raise OutsideSandboxError(name, inside)


class _Member:
    """A `Member` behind the fence."""

    def __init__(
        self, member: Member, check: Callable[[Iterable[str]], None], arriving: Callable[[Record], Record]
    ) -> None:
        self._member = member
        self._check = check
        self._arriving = arriving

    async def take(self) -> Taken:
        taken = await self._member.take()
        return Records([self._arriving(record) for record in taken.records]) if isinstance(taken, Records) else taken

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._member.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._member.resume(partitions)

    async def commit(self, transaction: Transaction) -> None:
        self._check(record.topic for record in transaction.records)
        self._check(partition.topic for partition in transaction.offsets)
        await self._member.commit(transaction)

    async def try_out(self, records: Sequence[Outgoing]) -> None:
        self._check(record.topic for record in records)
        await self._member.try_out(records)

    async def restart(self) -> None:
        await self._member.restart()

    def again(self, partitions: Collection[TopicPartition]) -> None:
        self._member.again(partitions)

    async def behind(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return await self._member.behind(positions)

    async def close(self) -> None:
        await self._member.close()
