"""Readers of what stands on topics of events, and of what people type for one."""

from __future__ import annotations

import dataclasses
import json

import orjson
from ground import Ground, Reader
from mutator import Mutator
from troupe import BookWanted

from antiphon.bus.claim import DATAREF, in_full
from antiphon.bus.errors import ClaimError
from antiphon.bus.guard import over_limit
from antiphon.bus.record import Record
from antiphon.schemas.codec import reference_of, to_json
from antiphon.schemas.condition import Condition
from antiphon.schemas.envelope import Envelope, from_headers, to_headers
from antiphon.schemas.errors import ConditionError, InvalidDataError, NotAnEventError, SchemaError
from antiphon.schemas.event import Event
from antiphon.schemas.input import event_from_json
from antiphon.tracing.finding import window_ms
from antiphon.tracing.index.keys import id_of, key_of


class Events:
    """Headers, values and references."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def readers(self) -> list[Reader]:
        """Return this part of the table."""
        events, one = self._ground.corpus.events, self._ground.one
        claimed = [record for record in events if not record.value]
        own = [record for record in events if record.topic.startswith("antiphon.") or ".undo" in record.topic]
        return [
            Reader("headers", one(events), self.headers, (NotAnEventError,), 20),
            Reader("values, as their classes", one(events), self.event, (SchemaError,), 30),
            Reader("values, without classes", self._ground.value(events), self.untyped, (SchemaError,), 20),
            Reader("the mesh's own events", one(own), self.event, (SchemaError,), 10),
            Reader("references to large values", one(claimed), self.claim, (ClaimError,), 2),
        ]

    async def headers(self, record: Record) -> None:
        """Read, ask the guards, and hand on what an answer inherits."""
        envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        over_limit(envelope, (), max_hops=100)
        key = key_of(envelope.correlation_id)
        assert id_of(key) == envelope.correlation_id
        window_ms(envelope.correlation_id)
        answer = Envelope(
            id=envelope.id,
            type=envelope.type,
            source=envelope.source,
            time_us=envelope.time_us,
            correlation_id=envelope.correlation_id,
            parent_id=envelope.id,
            causes=envelope.causes,
            traceparent=envelope.traceparent,
            deadline_us=envelope.deadline_us,
            hops=envelope.hops + 1,
            budget=envelope.budget,
            tenant=envelope.tenant,
            replay_of=envelope.replay_of,
            key=envelope.key,
        )
        headers = to_headers(answer)
        key_text = answer.correlation_id if answer.key is None else answer.key
        again = from_headers(headers, key=key_text.encode(), timestamp_ms=0)
        # What was handed on is read as it was, but for causes, of which the comma is no part.
        assert dataclasses.replace(again, causes=(), hops=0) == dataclasses.replace(answer, causes=(), hops=0)
        orjson.dumps(dataclasses.asdict(again))

    async def event(self, record: Record) -> None:
        found = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        event_class = self._ground.classes.get(found.type, BookWanted)
        event = self._ground.codec.decode(event_class, record.value or b"")
        orjson.dumps(to_json(event))
        await self._announced(event_class)
        self._ground.codec.encode(event)

    async def _announced(self, event_class: type[Event]) -> None:
        await self._ground.codec.announce([event_class])

    async def untyped(self, value: bytes) -> None:
        reference_of(value)
        self._ground.codec.read_raw(value)
        orjson.dumps(to_json(self._ground.codec.shown(value)))

    async def claim(self, record: Record) -> None:
        in_full(record)
        headers = [(name, said) for name, said in record.headers]
        if DATAREF in dict(headers):
            await self._ground.corpus.kept.store().value_of(dataclasses.replace(record, value=None))


class Typed:
    """What is no record yet."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def readers(self) -> list[Reader]:
        """Return this part of the table."""
        return [
            Reader("JSON that people type", self.typed, self.json, (InvalidDataError,), 5),
            Reader("conditions that people type", self.asked, self.condition, (ConditionError,), 2),
        ]

    def typed(self, mutator: Mutator) -> bytes:
        data = {"book": "Emma", "member": "ann", "pages": "x"}
        text = json.dumps(mutator.json(data)).encode()
        return mutator.content(text) if mutator.draw.random() < 0.5 else text

    async def json(self, text: bytes) -> None:
        event_from_json(BookWanted, text)

    def asked(self, mutator: Mutator) -> str:
        return mutator.content(mutator.draw.choice((b"amount>100", b"customer.country=DE", b"body~refund"))).decode(
            errors="replace"
        )

    async def condition(self, text: str) -> None:
        Condition.parse(text).holds({"amount": 7, "customer": {"country": "DE"}, "body": "a refund"})
