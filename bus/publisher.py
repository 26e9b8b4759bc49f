"""Publishing from outside a handler: an application, the command line, a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from antiphon.bus.claims import Claims
from antiphon.bus.delivery import current
from antiphon.bus.errors import PublishedInReplayError
from antiphon.bus.guard import Unreadable
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.readers import Readers
from antiphon.bus.record import Outgoing
from antiphon.bus.tracecontext import current_traceparent
from antiphon.schemas.budget import Budget
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.event import Event, key_of


@dataclasses.dataclass(frozen=True)
class Published:
    """Where an event went."""

    id: str
    correlation_id: str
    type: str
    topic: str
    partition: int
    offset: int


def refuse_in_replay(what: str | Sequence[Event]) -> None:
    """Raise `PublishedInReplayError` where a handler calls this that handles an event again, or a task or thread of it.

    A replay's fence is the bus that its workers are given. Whoever opens one of
    his own is outside of it, and is known by the delivery in hand.
    """
    delivery = current.get(None)
    if delivery is not None and delivery.replaying:
        types = sorted({event.__event__.type for event in what if isinstance(event, Event)})
        raise PublishedInReplayError(delivery.agent, what if isinstance(what, str) else ", ".join(types))


class Publisher:
    """Publishes root events, and events that join a workflow from outside."""

    def __init__(
        self,
        bus: Bus,
        codec: Codec,
        names: Names,
        *,
        source: str = "/applications",
        claims: Claims | None = None,
        unreadable: Unreadable = Unreadable.REFUSE,
    ) -> None:
        self._readers = Readers(bus, names, codec, policy=unreadable)
        self._bus = bus
        self._codec = codec
        self._names = names
        self._source = source
        self._claims = claims or Claims()

    async def publish(
        self,
        events: Sequence[Event],
        *,
        correlation_id: str | None = None,
        key: str | None = None,
        id: str | None = None,
        deadline: datetime | None = None,
        budget: str | None = None,
    ) -> list[Published]:
        """Publish *events* and return when every replica has them.

        Each starts a workflow, unless *correlation_id* names the one it joins.
        With an *id* of the caller's own, publishing twice is recognised as once;
        it names one event, so more raise `ValueError`. What is published in a span of OpenTelemetry's belongs to its trace.
        *budget*, such as "1.50 USD", is what may be spent on the way to any event of the workflow.
        Raises `PublishedInReplayError` in a handler that a replay calls; `EncodeError` before anything is written, `TooLargeError` for instance, and `BreaksReadersError` where
        agents of the mesh could not read them; `ClaimStoreError` where a large one cannot be kept.
        """
        refuse_in_replay(events)
        if id is not None and len(events) != 1:
            message = f"expected one event where an id is given, got {len(events)}. Publish each with an id of its own."
            raise ValueError(message)
        classes = {type(event) for event in events}
        await self._readers.check(classes)
        await self._codec.announce(classes, topic_of=self._names.topic)
        envelopes = [self._envelope(event, correlation_id, key, id, deadline) for event in events]
        if budget is not None:
            said = str(Budget.parse(budget))
            for envelope in envelopes:
                envelope.budget = said
        records = [
            Outgoing(
                self._names.topic(event.__event__.topic),
                (envelope.key or envelope.correlation_id).encode(),
                self._codec.encode(event),
                to_headers(envelope),
            )
            for event, envelope in zip(events, envelopes, strict=True)
        ]
        large: list[bytes] = []
        for number, (record, envelope) in enumerate(zip(records, envelopes, strict=True)):
            value = record.value or b""
            if len(value) + len(record.key or b"") > self._claims.limit:
                records[number] = self._claims.outgoing(envelope.type, record)
                large.append(value)
        await self._claims.keep(large)
        positions = await self._bus.publish(records)
        return [
            Published(
                envelope.id,
                envelope.correlation_id,
                envelope.type,
                self._names.plain(position.topic),
                position.partition,
                position.offset,
            )
            for envelope, position in zip(envelopes, positions, strict=True)
        ]

    def _envelope(
        self, event: Event, correlation_id: str | None, key: str | None, id: str | None, deadline: datetime | None
    ) -> Envelope:
        envelope = Envelope.root(event.__event__.type, source=self._source, id=id, correlation_id=correlation_id)
        envelope.key = key if key is not None else key_of(event)
        envelope.traceparent = current_traceparent()
        if deadline is not None:
            envelope.deadline_us = int(deadline.timestamp() * 1_000_000)
        return envelope
