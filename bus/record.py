"""What stands on a topic: records, and where they stand."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


def in_words(partitions: Iterable[TopicPartition]) -> str:
    """Name *partitions* in one line, however many; topics of which the same numbers are meant together.

    >>> in_words([TopicPartition("paid", 0), *(TopicPartition("orders", n) for n in (0, 3, 1, 2, 7))])
    'orders 0-3 7, paid 0'
    >>> in_words([TopicPartition("paid", 0), TopicPartition("orders", 0)])
    'orders+paid 0'
    """
    numbers: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        numbers.setdefault(topic, []).append(number)
    topics: dict[str, list[str]] = {}
    for topic, some in numbers.items():
        topics.setdefault(" ".join(_runs(some)), []).append(topic)
    return ", ".join(f"{'+'.join(alike)} {some}" for some, alike in topics.items())


def _runs(numbers: Sequence[int]) -> Iterator[str]:
    for _, run in itertools.groupby(enumerate(numbers), lambda placed: placed[1] - placed[0]):
        first, *rest = [number for _, number in run]
        yield f"{first}-{rest[-1]}" if rest else str(first)


class Position(NamedTuple):
    """Where one record stands."""

    topic: str
    partition: int
    offset: int


@dataclasses.dataclass(slots=True)
class Record:
    """One record as a broker handed it over. A value: nobody changes one, but for noting its size."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int
    size: int = dataclasses.field(default=0, compare=False)
    """Bytes, headers included, where whoever took it has counted them; see `size_of`."""
    appended: bool = dataclasses.field(default=False, compare=False)
    """The broker stamped it when it appended it; otherwise whoever wrote it did."""


def size_of(record: Record) -> int:
    """Return how many bytes *record* holds, headers included; their names, of a few bytes, are not counted."""
    if not record.size:
        size = len(record.value or b"") + len(record.key or b"")
        for _, value in record.headers:
            if value:
                size += len(value)
        record.size = size
    return record.size


@dataclasses.dataclass(slots=True)
class Outgoing:
    """One record on its way to a broker. A value: nobody changes one."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    partition: int | None = None
    """Where it must go; None: by the key's murmur2, at random without a key, as Java's producer does."""


@dataclasses.dataclass(slots=True)
class Committed:
    """What a group has committed for a partition: where to go on, and what it wrote beside it."""

    offset: int
    metadata: str = ""
