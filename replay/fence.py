"""A bus that writes under one namespace and nowhere else: all that a replay's workers are given.

Whatever they read, they may read anywhere. What they would write, join, make or
remove elsewhere is refused before anything of it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from antiphon.bus.names import Names
from antiphon.bus.port import (
    Assigned,
    Bus,
    Features,
    Lost,
    Member,
    Membership,
    Records,
    Revoked,
    Taken,
    TopicSpec,
    Transaction,
)
from antiphon.bus.record import Outgoing, Position, Record, TopicPartition
from antiphon.bus.right import Right
from antiphon.replay.errors import OutsideSandboxError
from antiphon.replay.ordering import Ordering, place_of

Arriving: TypeAlias = Callable[[str, Record], Record]
"""Makes of a record what the agent of that name gets."""


class Fenced:
    """A `Bus` that writes under the namespace of *names* alone. Everything else raises `OutsideSandboxError`."""

    def __init__(
        self,
        bus: Bus,
        names: Names,
        *,
        arriving: Arriving = lambda _agent, record: record,
        ordering: Ordering | None = None,
    ) -> None:
        self._bus = bus
        self._names = names
        self._arriving = arriving
        self._ordering = ordering or Ordering([])

    @property
    def features(self) -> Features:
        return self._bus.features

    async def join(self, membership: Membership) -> Member:
        self._check([membership.group, *membership.topics])
        agent = self._names.plain(membership.group)
        return _Member(agent, await self._bus.join(membership), self._check, self._arriving, self._ordering)

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
        self,
        agent: str,
        member: Member,
        check: Callable[[Iterable[str]], None],
        arriving: Arriving,
        ordering: Ordering,
    ) -> None:
        self._agent = agent
        self._member = member
        self._check = check
        self._arriving = arriving
        self._ordering = ordering
        self._due: list[Record] = []
        self._news = asyncio.Event()
        self._taking: asyncio.Future[Taken] | None = None

    async def take(self) -> Taken:
        """Return what came next, or what was held back and is due."""
        while True:
            if self._due:
                due, self._due = self._due, []
                return Records(due)
            if self._taking is None:
                self._taking = asyncio.ensure_future(self._member.take())
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            waiting: list[asyncio.Future[Any]] = [self._taking, news]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if not self._taking.done():
                continue
            taken, self._taking = self._taking.result(), None
            if not isinstance(taken, Records):
                self._forget(taken)
                return taken
            for record in taken.records:
                self._ordering.arrived(self._agent, self._arriving(self._agent, record), self._hand_over)

    def _hand_over(self, record: Record) -> None:
        self._due.append(record)
        self._news.set()

    def _forget(self, taken: Taken) -> None:
        """Drop what is given anew, or to somebody else."""
        if isinstance(taken, Assigned | Lost | Revoked):
            gone = {*taken.partitions}
            self._ordering.forget(self._agent, gone)
            self._due = [record for record in self._due if place_of(record) not in gone]

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
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.wait([self._taking])
        await self._member.close()
