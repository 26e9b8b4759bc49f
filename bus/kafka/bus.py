"""The bus on any cluster that speaks Kafka's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence, Set
from contextlib import aclosing

from antiphon.bus.errors import MissingRightError, UnknownTopicError
from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.authorization import Authorization
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.kafka.member import KafkaMember
from antiphon.bus.kafka.partitioner import partition_for
from antiphon.bus.kafka.publishing import Publishing
from antiphon.bus.kafka.reading import read
from antiphon.bus.port import Features, Member, Membership, TopicSpec
from antiphon.bus.record import Outgoing, Position, Record, TopicPartition
from antiphon.bus.right import Operation, Resource, Right


class KafkaBus:
    """`port.Bus` on confluent-kafka. Clients are made when first needed, and shared.

    The first call that needs the cluster raises `BrokerUnreachableError` within
    `KafkaConfig.reach_s` where nobody answers.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._administration = Administration(config)
        self._authorization = Authorization(config, self._administration)
        self._publishing = Publishing(config)
        self._known: set[str] = set()

    @property
    def features(self) -> Features:
        """What the cluster can do, known from the first answer on; less is said before."""
        embedded = self._administration.embedded
        return Features(
            durable=not embedded,
            server_side_assignment=self._administration.known_protocol is GroupProtocol.CONSUMER,
            compaction=not embedded,
        )

    async def join(self, membership: Membership) -> Member:
        # The client itself would wait for them for ever, and say nothing.
        await self._know({*membership.topics}, Operation.READ)
        protocol = await asyncio.to_thread(self._administration.protocol)
        return KafkaMember(
            self._config,
            membership,
            protocol,
            embedded=self._administration.embedded,
            bounds=lambda topics: self._administration.bounds(topics, committed=True),
            on_classic=self._administration.note_classic,
        )

    async def publish(self, records: Sequence[Outgoing]) -> list[Position]:
        self._publishing.warm()
        # The client would wait half a minute for a topic to appear.
        await self._know({record.topic for record in records} - self._known, Operation.WRITE)
        return await self._publishing.publish(records)

    async def read(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Record, None]:
        async with aclosing(self.read_batches(start, stop)) as batches:
            async for batch in batches:
                for record in batch:
                    yield record

    async def read_batches(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Sequence[Record], None]:
        # The client itself would try for ever, and say nothing.
        await self._know({partition.topic for partition in start}, Operation.READ)
        async with aclosing(read(self._config, start, stop, rests=self._administration.embedded)) as batches:
            async for batch in batches:
                yield batch

    async def bounds(self, topics: Iterable[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        return await asyncio.to_thread(self._administration.bounds, topics, committed=committed)

    async def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        return await asyncio.to_thread(self._administration.offsets_at, partitions, timestamp_ms)

    async def identities(self, topics: Iterable[str]) -> dict[str, str]:
        return await asyncio.to_thread(self._administration.identities, topics)

    def partition_for(self, key: bytes, partitions: int) -> int:
        return partition_for(key, partitions)

    async def topics(self) -> dict[str, int]:
        return await asyncio.to_thread(self._administration.topics)

    async def create(self, topics: Sequence[TopicSpec]) -> list[str]:
        self._publishing.warm()
        return await asyncio.to_thread(self._administration.create, topics)

    async def remove(self, namespace: str) -> list[str]:
        removed = await asyncio.to_thread(self._administration.remove, f"{namespace}.")
        self._known.difference_update(removed)
        return removed

    async def require(self, rights: Collection[Right]) -> None:
        lacking = await asyncio.to_thread(self._authorization.lacking, rights)
        if lacking:
            raise MissingRightError(lacking, self._config.identity.principal)

    async def _know(self, topics: Set[str], operation: Operation) -> None:
        """Raise `UnknownTopicError` for what is not there, `MissingRightError` for what may not be seen: both look alike."""
        if topics:
            existing = await asyncio.to_thread(self._administration.partitions, topics)
            missing = sorted(topics - existing.keys())
            if missing:
                await self.require([Right(operation, Resource.TOPIC, name) for name in missing])
                raise UnknownTopicError(missing[0], await self.topics())
            self._known.update(existing)

    async def close(self) -> None:
        await asyncio.to_thread(self._publishing.close)
        await asyncio.to_thread(self._administration.close)
