"""A tracer's writing without its reading: records in, in whatever order and however often."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from antiphon.bus.record import Record
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import SchemaError
from antiphon.schemas.store import AvroSchema, Reference
from antiphon.tracing.index.address import opened
from antiphon.tracing.index.database import Database, Sqlite
from antiphon.tracing.index.rows import Reader
from antiphon.tracing.index.writing import Position, Writer


class Read:
    """An index, and what writes to it."""

    def __init__(self, place: Path | str | None, codec: Codec) -> None:
        self.database: Database = Sqlite(None, writes=True) if place is None else opened(place, writes=True)
        self.writer = Writer(self.database)
        self.codec = codec

    def take(self, records: Sequence[Record], *, identity: str = "") -> None:
        sources = {topic: self.writer.source(topic, identity) for topic in sorted({record.topic for record in records})}
        references = {record.value[2:10] for record in records if record.value}
        schemas: dict[Reference, AvroSchema] = {
            reference: schema for reference in references if (schema := self.codec.known(reference))
        }
        unknown = {*references} - {*schemas}
        rows = Reader(self.codec, sources, self.writer.numbers, unknown=unknown).rows(records)
        reached = [Position(sources[record.topic].no, record.partition, record.offset + 1) for record in records]
        self.writer.write(rows, reached, schemas)

    def settle(self, at_us: int) -> None:
        while self.writer.settle(now_us=at_us):
            pass


def relevant(records: Iterable[Record]) -> list[Record]:
    """Those of *records* that a tracer reads."""
    return [record for record in records if not record.topic.endswith((".state", ".dead", "antiphon.schemas"))]


async def learn(codec: Codec, records: Iterable[Record]) -> None:
    """Learn the schemas of *records*, as a tracer does before it reads them."""
    for record in records:
        with contextlib.suppress(SchemaError):
            await codec.learn((record.value or b"")[2:10])
