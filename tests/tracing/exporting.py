"""Exporting without a network: an endpoint that remembers, and an index, an exporter and a clock beside it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from antiphon.bus.names import Names
from antiphon.bus.record import Record
from antiphon.cli.exports import opened_ledger
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import to_headers
from antiphon.schemas.store import MemoryStore
from antiphon.testing.story import START_US, Story
from antiphon.tracing.index.address import Place, opened
from antiphon.tracing.index.rows import Reader, Rows
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.otlp.deciding import Exports
from antiphon.tracing.otlp.exporting import Exporter, Taken
from antiphon.tracing.otlp.ledger import Ledger
from antiphon.tracing.otlp.ledger_file import LedgerFile
from antiphon.tracing.spans.span import Span

S = 1_000_000
ALL = Exports(since_us=0, patience_s=600)
METRICS = {
    "messaging.client.sent.messages": ("sum", "{message}"),
    "messaging.client.consumed.messages": ("sum", "{message}"),
    "messaging.process.duration": ("histogram", "s"),
    "gen_ai.client.token.usage": ("histogram", "{token}"),
    "gen_ai.client.operation.duration": ("histogram", "s"),
    "antiphon.delivery.attempts": ("sum", "{attempt}"),
    "antiphon.delivery.queue_wait": ("histogram", "s"),
    "antiphon.cost": ("sum", ""),
    "antiphon.saga.workflows": ("gauge", "{workflow}"),
    "antiphon.lag": ("gauge", "{event}"),
}
"""Every metric that is exported, with its kind and its unit."""


class Endpoint:
    """Remembers what it took, and takes what it is told to."""

    def __init__(self) -> None:
        self.took: list[Span] = []
        self.requests = 0
        self.takes: Callable[[Sequence[Span]], bool] = lambda _: True

    def send(self, spans: Sequence[Span]) -> Taken:
        self.requests += 1
        if not self.takes(spans):
            return Taken(ok=False, reason="code: 400")
        self.took += spans
        return Taken(ok=True)

    def close(self) -> None:
        """Nothing waits."""

    def names(self) -> Counter[str]:
        return Counter(span.name for span in self.took)


class World:
    """An index that stories are read into, an exporter beside it, and a clock that stands."""

    def __init__(self, folder: Path, exports: Exports = ALL, *, place: Place | None = None) -> None:
        """*place*: where the index is, if not in the folder."""
        self.folder = folder
        self.place = place or folder / "index"
        self.exports = exports
        self.endpoint = Endpoint()
        self.now_us = START_US + 3_600 * S
        self.codec = Codec(MemoryStore())
        self.exporter: Exporter
        self.places: Counter[str] = Counter()

    @contextlib.contextmanager
    def tracing(self) -> Generator[None]:
        """A tracer that is up for the length of the block, and gone at its end as after kill -9."""
        self.database = database = opened(self.place, writes=True)
        self.ledger = ledger = (
            Ledger(LedgerFile(self.folder / "index.export"))
            if isinstance(self.place, Path)
            else opened_ledger(self.place)
        )
        self.writer = Writer(database)
        self.exporter = Exporter(
            self.place,
            ledger,
            self.endpoint,
            names=Names(),
            exports=self.exports,
            clock=lambda: self.now_us,
            heard=lambda: self.now_us,
        )
        try:
            yield
        finally:
            database.close()
            ledger.close()

    async def read(self, *stories: Story) -> None:
        """Read the stories as a tracer does, and say how their workflows stand."""
        rows = await self.rows(*stories)
        self.exporter.writing(rows)
        self.writer.write(rows)
        while self.writer.settle(now_us=self.now_us):
            pass

    async def rows(self, *stories: Story) -> Rows:
        records = [record for story in stories for record in await self.records(story)]
        sources = {topic: self.writer.source(topic, "") for topic in sorted({record.topic for record in records})}
        return Reader(self.codec, sources, self.writer.numbers).rows(records)

    async def records(self, story: Story) -> list[Record]:
        await self.codec.announce([type(one) for one in [*story.activity, *story.agents]])
        found = [
            self.record(event.topic, to_headers(event.envelope), None, event.envelope.correlation_id)
            for event in story.events
        ]
        found += [self.record("antiphon.activity", [], self.codec.encode(one), "") for one in story.activity]
        found += [self.record("antiphon.agents", [], self.codec.encode(one), one.instance) for one in story.agents]
        return found

    def record(self, topic: str, headers: list[tuple[str, bytes | None]], value: bytes | None, key: str) -> Record:
        self.places[topic] += 1
        return Record(topic, 0, self.places[topic], key.encode(), value, headers, 0)

    async def send_all(self) -> None:
        """Send what is due, time passing as it does."""
        self.now_us += 6 * S
        while await self.exporter.send_due():
            self.now_us += 2 * S
