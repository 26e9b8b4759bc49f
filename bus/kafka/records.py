"""Records and offsets, between the client's classes and ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from operator import methodcaller
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.record import Committed, Outgoing, Record, TopicPartition

UNREADABLE = "antiphon_unreadable_headers"
"""The one header of a record of whose headers the client tells none, as the name of one is no UTF-8."""


# Not called as a method: the interpreter takes a short way to those, on which it does not look whether the client has
# left an exception behind, and something else raises it then.
_headers: Callable[[Any], Any] = methodcaller("headers")


def record_of(message: Any) -> Record:
    """Say a client's message as a record; one that carries an error is none."""
    kind, timestamp_ms = message.timestamp()
    try:
        headers: list[tuple[str, bytes | None]] = _headers(message) or []
    except (SystemError, UnicodeDecodeError) as error:
        # Without it this would end whoever reads the partition, whenever it is read again.
        headers = [(UNREADABLE, str(error.__cause__ or error).encode())]
    # The client's types say that everything of a message may be missing: in a record nothing is.
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        headers,
        timestamp_ms,
        0,
        kind == TIMESTAMP_LOG_APPEND_TIME,
    )


def produce(
    producer: Producer,
    records: Iterable[Outgoing],
    wait: Callable[[float], object],
) -> None:
    """Hand *records* to the client; *wait* is called while its buffer is full."""
    put: Callable[..., None] = producer.produce
    for record in records:
        partition = record.partition
        while True:
            try:
                put(
                    record.topic,
                    record.value,
                    record.key,
                    -1 if partition is None else partition,
                    headers=record.headers,
                )
            except BufferError:
                wait(0.05)
            else:
                break


def offsets_of(offsets: Mapping[TopicPartition, Committed]) -> list[Offset]:
    """Say *offsets* as the client takes them."""
    return [
        Offset(topic, partition, committed.offset, committed.metadata)
        for (topic, partition), committed in offsets.items()
    ]


def named(partitions: Collection[TopicPartition]) -> list[Offset]:
    """Name *partitions* to the client."""
    return [Offset(topic, partition) for topic, partition in partitions]


def partitions_of(offsets: Collection[Offset]) -> frozenset[TopicPartition]:
    """Say which partitions the client means."""
    return frozenset(TopicPartition(offset.topic, offset.partition) for offset in offsets)
