"""The little world of one conformance test: names nobody else has, topics, and records to write."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from antiphon.bus.port import Bus, Membership, MissingOffsets, TopicSpec
from antiphon.bus.record import Outgoing, Record, TopicPartition


class Promises:
    """Where `bus` comes from: nowhere yet."""

    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        message = f"expected {type(self).__name__} to override the fixture 'bus', and it does not"
        raise NotImplementedError(message)
        yield  # noqa: PT022 - makes it a generator, as those that override it are


def fresh(name: str) -> str:
    """Return *name* with an ending that no other test, and no former run, has."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


async def new_topic(bus: Bus, name: str, partitions: int = 1) -> str:
    topic = fresh(name)
    await bus.create([TopicSpec(topic, partitions)])
    return topic


def outgoing(topic: str, value: bytes, *, partition: int | None = 0, key: bytes | None = None) -> Outgoing:
    return Outgoing(topic, key, value, [], partition)


def numbered(topic: str, count: int, *, partition: int = 0, first: int = 0) -> list[Outgoing]:
    """Return *count* records for one partition; their values count up from *first*."""
    return [outgoing(topic, b"%d" % number, partition=partition) for number in range(first, first + count)]


def values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def partitions(topic: str, count: int) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in range(count)]


async def everything(bus: Bus, topic: str) -> list[Record]:
    """Return all that can be read of *topic* now."""
    bounds = await bus.bounds([topic])
    start = {partition: first for partition, (first, _) in bounds.items()}
    stop = {partition: end for partition, (_, end) in bounds.items()}
    return [record async for record in bus.read(start, stop)]


def membership(
    group: str,
    *topics: str,
    instance: str = "one",
    exactly_once: bool = True,
    revoke_grace_s: float = 20.0,
    on_missing_offsets: MissingOffsets = MissingOffsets.EARLIEST,
) -> Membership:
    return Membership(
        group=group,
        topics=topics,
        instance=instance,
        exactly_once=exactly_once,
        revoke_grace_s=revoke_grace_s,
        on_missing_offsets=on_missing_offsets,
    )
