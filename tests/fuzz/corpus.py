"""What is spoilt: real records as a mesh writes them, by topic, and what else is read from outside."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import cast

from keeping import Kept, files, kept

from antiphon.bus.port import Bus
from antiphon.bus.record import Record, TopicPartition
from antiphon.schemas.avro import fingerprint
from antiphon.schemas.codec import Codec, header_of
from antiphon.schemas.store import AvroSchema, MemoryStore


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The newest records that were kept, and what they need to be read."""

    kept: Kept

    @cached_property
    def topics(self) -> Mapping[str, Sequence[Record]]:
        found: defaultdict[str, list[Record]] = defaultdict(list)
        for record in self.kept.records:
            found[record.topic].append(record)
        return found

    @cached_property
    def schemas(self) -> Sequence[AvroSchema]:
        """All that stand on the topic of schemas, each once."""
        texts = {record.value for record in self.topics["antiphon.schemas"] if record.value}
        return [json.loads(text) for text in sorted(texts)]

    @cached_property
    def donors(self) -> Sequence[bytes]:
        """What is spliced in."""
        return [record.value for record in self.kept.records if record.value]

    @cached_property
    def events(self) -> Sequence[Record]:
        """Records that are events, the mesh's own among them."""
        return [
            record
            for record in self.kept.records
            if not record.topic.endswith((".state", "antiphon.schemas")) and "ce_type" in dict(record.headers)
        ]

    @cached_property
    def states(self) -> Sequence[Record]:
        return [record for record in self.kept.records if record.topic.endswith(".state") and record.value]

    def under(self, prefix: str = "", topic: str = "compensation.state") -> Sequence[Record]:
        """Return the records of a state's topic whose keys begin so; all workflows' where nothing is asked for."""
        keys = [(record, (record.key or b"").decode()) for record in self.topics[topic] if record.value]
        return [
            record for record, key in keys if (key.startswith(prefix) if prefix else not key.startswith("antiphon:"))
        ]

    def codec(self) -> Codec:
        """Return a codec that knows every schema: by fingerprint, and by a number as a registry's."""
        found = Codec(MemoryStore())
        for number, schema in enumerate(self.schemas, 1):
            found.know(fingerprint(schema), schema)
            found.know(number, schema)
        return found

    def framed(self, value: bytes, draw: random.Random) -> bytes:
        """Return *value* as it stands, or now and then in a registry's framing."""
        if value[:2] != b"\xc3\x01" or draw.random() < 0.7:
            return value
        for number, schema in enumerate(self.schemas, 1):
            if fingerprint_of(schema) == value[2:10]:
                return header_of(number) + value[10:]
        return value


_FINGERPRINTS: dict[str, bytes] = {}


def fingerprint_of(schema: AvroSchema) -> bytes:
    """Return it, worked out once."""
    text = json.dumps(schema)
    if text not in _FINGERPRINTS:
        _FINGERPRINTS[text] = fingerprint(schema)
    return _FINGERPRINTS[text]


def newest() -> Corpus:
    """Return what the newest release that was kept has written."""
    return Corpus(kept(files()[-1]))


class Standing:
    """A cluster on which nothing stands but *records*: as much of a `Bus` as readers of it ask for."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = [
            dataclasses.replace(record, partition=0, offset=offset) for offset, record in enumerate(records)
        ]

    @property
    def bus(self) -> Bus:
        return cast("Bus", self)

    async def topics(self) -> dict[str, int]:
        return {record.topic: 1 for record in self._records}

    async def bounds(self, topics: Collection[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        return {
            TopicPartition(record.topic, 0): (0, len(self._records))
            for record in self._records
            if record.topic in topics
        }

    async def identities(self, topics: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "")

    async def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def read(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Record, None]:
        for record in self._records:
            place = TopicPartition(record.topic, 0)
            if place in start and record.offset >= start[place]:
                yield record

    async def read_batches(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Sequence[Record], None]:
        yield [record async for record in self.read(start, stop)]


def plain(data: bytes) -> str:
    """Return bytes as a test's source may have them."""
    return base64.b64encode(data).decode()
