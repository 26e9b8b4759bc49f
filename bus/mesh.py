"""The mesh, as an application sees it: publish an event, wait for an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from antiphon.bus.claims import Claims
from antiphon.bus.connect import claim_check, connect, schema_store
from antiphon.bus.errors import AnswerTimeoutError, UnknownTopicError, WorkflowFailedError
from antiphon.bus.failing import reason_in
from antiphon.bus.names import COORDINATOR, Names
from antiphon.bus.partition import partition_for
from antiphon.bus.port import Bus, TopicSpec
from antiphon.bus.publisher import Published, Publisher, refuse_in_replay
from antiphon.bus.record import TopicPartition
from antiphon.bus.right import Operation, Resource, Right
from antiphon.bus.settings import Settings
from antiphon.bus.topics import partitions_of_mesh
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import NotAnEventError, UnknownSchemaError
from antiphon.schemas.event import Event
from antiphon.schemas.ids import root_id
from antiphon.schemas.store import SchemaStore

E = TypeVar("E", bound=Event)


class Mesh:
    """A connection for applications. Use it as an async context manager.

        async with Mesh() as mesh:
            published = await mesh.publish(TicketOpened(ticket_id="7", body="refund?"))
            triaged = await mesh.request(TicketOpened(...), until=TicketTriaged, timeout=30)

    Without arguments it is configured as the command line is: `ANTIPHON_*`,
    `.env`, `[tool.antiphon]` in pyproject.toml. Writes are idempotent and
    outside any transaction; an event is published when the call returns. In a handler that a replay calls,
    opening one and publishing raise `PublishedInReplayError`: nothing leaves a replay.
    """

    def __init__(
        self,
        bus: Bus | None = None,
        *,
        settings: Settings | None = None,
        store: SchemaStore | None = None,
        claims: Claims | None = None,
        source: str = "/applications",
    ) -> None:
        self._settings = settings or Settings()
        self._given = bus
        self._store = store
        self._claims = claims or claim_check(self._settings)
        self._source = source
        self._names = Names(self._settings.namespace)
        self._topics: set[str] = set()

    async def __aenter__(self) -> Self:
        refuse_in_replay("a Mesh that it opens")
        self._bus = self._given or connect(self._settings)
        await self._bus.topics()  # Where nobody answers, that is said now.
        store = self._store or schema_store(self._settings, self._bus, self._names, self._settings.partitions)
        self._codec = Codec(store)
        self._publisher = Publisher(
            self._bus,
            self._codec,
            self._names,
            source=self._source,
            claims=self._claims,
            unreadable=self._settings.unreadable,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._given is None:
            await self._bus.close()

    async def publish(
        self,
        event: Event,
        *,
        correlation_id: str | None = None,
        key: str | None = None,
        id: str | None = None,
        deadline: datetime | None = None,
        budget: str | None = None,
    ) -> Published:
        """Publish one event; with *correlation_id* it joins that workflow, else it starts one.

        With an *id* of your own, publishing again is recognised as the same event. *budget*, such as "1.50 USD", is what
        the agents may spend on the way to any event of the workflow: what they report with `Context.spend`.
        Raises `TooLargeError` where it is too large for a record, and `ANTIPHON_CLAIMS` is not set; `BreaksReadersError`
        where agents of the mesh could not read it.
        """
        [published] = await self.publish_all(
            [event], correlation_id=correlation_id, key=key, id=id, deadline=deadline, budget=budget
        )
        return published

    async def publish_all(
        self,
        events: Sequence[Event],
        *,
        correlation_id: str | None = None,
        key: str | None = None,
        id: str | None = None,
        deadline: datetime | None = None,
        budget: str | None = None,
    ) -> list[Published]:
        """Publish many events at once: far quicker than one by one."""
        refuse_in_replay(events)
        await self._have_topics({type(event) for event in events})
        return await self._publisher.publish(
            events, correlation_id=correlation_id, key=key, id=id, deadline=deadline, budget=budget
        )

    async def request(self, event: Event, until: type[E] | tuple[type[E], ...], *, timeout: float = 30.0) -> E:
        """Publish *event* as the start of a workflow and return the first event of class *until* in it.

        Raises `WorkflowFailedError` once the coordinator, where there is one, says that the workflow failed and no such
        event has come; `AnswerTimeoutError` after *timeout* seconds: the workflow goes on all the same.
        """
        refuse_in_replay([event])
        wanted = until if isinstance(until, tuple) else (until,)
        await self._have_topics({type(event), *wanted})
        correlation_id = root_id()
        start = await self._places(wanted, correlation_id)
        verdicts = await self._verdicts(correlation_id)
        answers = {answer.__event__.type: answer for answer in wanted}
        try:
            async with asyncio.timeout(timeout):
                # The id doubles as the correlation id, as for every root. Reading starts where the
                # topics ended before it was published, so no answer is missed.
                await self.publish(event, id=correlation_id)
                found = await self._first({**start, **verdicts}, answers, correlation_id)
                if isinstance(found, str):
                    # What failed may be an answer itself, on a topic that was read more slowly.
                    stop = {tp: end for tp, (_, end) in (await self._bus.bounds({tp.topic for tp in start})).items()}
                    reason, found = found, await self._first(start, answers, correlation_id, stop)
                    if isinstance(found, str):
                        raise WorkflowFailedError(correlation_id, reason)
                return found
        except TimeoutError:
            raise AnswerTimeoutError(
                correlation_id, [answer.__event__.type for answer in wanted], timeout_s=timeout
            ) from None

    async def _places(self, classes: Collection[type[Event]], correlation_id: str) -> dict[TopicPartition, int]:
        """Return where answers will stand, and from which offset on: one partition, unless a class has keys of its own."""
        keyed = {self._names.topic(answer.__event__.topic): answer.__event__.key is not None for answer in classes}
        bounds = await self._bus.bounds(list(keyed))
        missing = sorted(keyed.keys() - {tp.topic for tp in bounds})
        if missing:
            # What may not be seen looks the same.
            await self._bus.require([Right(Operation.READ, Resource.TOPIC, name) for name in missing])
            raise UnknownTopicError(missing[0], await self._bus.topics())
        own = _own(bounds, correlation_id)
        return {tp: end for tp, (_, end) in bounds.items() if keyed[tp.topic] or tp in own}

    async def _verdicts(self, correlation_id: str) -> dict[TopicPartition, int]:
        """Return where the coordinator will say that it failed; nothing where none has ever run, or this client may not know."""
        bounds = await self._bus.bounds([self._names.state(COORDINATOR)])
        own = _own(bounds, correlation_id)
        return {tp: end for tp, (_, end) in bounds.items() if tp in own}

    async def _first(
        self,
        start: Mapping[TopicPartition, int],
        classes: Mapping[str, type[E]],
        correlation_id: str,
        stop: Mapping[TopicPartition, int] | None = None,
    ) -> E | str:
        """Return the first answer, or why there will be none: what the coordinator says, or that it did not come until *stop*."""
        state = self._names.state(COORDINATOR)
        places = start if stop is None else {tp: first for tp, first in start.items() if first < stop[tp]}
        async for record in self._bus.read(places, None if stop is None else {tp: stop[tp] for tp in places}):
            if record.topic == state:
                reason = reason_in(record.value, correlation_id) if record.key == correlation_id.encode() else None
                if reason is not None:
                    return reason
                continue
            try:
                envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
            except NotAnEventError:
                continue
            answer = classes.get(envelope.type)
            if answer is None or envelope.correlation_id != correlation_id:
                continue
            return (await self._decode(answer, await self._claims.value_of(record))).sealed(envelope)
        return "no answer came"

    async def _decode(self, event_class: type[E], value: bytes) -> E:
        try:
            return self._codec.decode(event_class, value)
        except UnknownSchemaError as error:
            await self._codec.learn(error.reference)
            return self._codec.decode(event_class, value)

    async def _have_topics(self, classes: Collection[type[Event]]) -> None:
        """Create the events' topics where nobody has yet, and this mesh may."""
        wanted = {self._names.topic(event_class.__event__.topic) for event_class in classes}
        if wanted <= self._topics:
            return
        if self._settings.create_topics:
            # Asked for now: a worker may have made the mesh's topics since this one was opened, as wide as it was told.
            existing = await self._bus.topics()
            width = partitions_of_mesh(existing, self._names, self._settings.partitions, beside=sorted(wanted))
            await self._bus.create([TopicSpec(name, width) for name in sorted(wanted - existing.keys())])
        self._topics |= wanted


def _own(places: Collection[TopicPartition], correlation_id: str) -> set[TopicPartition]:
    """Return those of *places*, all of their topics', at which events of the workflow stand: by how many a topic has."""
    widths = Counter(tp.topic for tp in places)
    return {TopicPartition(topic, partition_for(correlation_id.encode(), count)) for topic, count in widths.items()}
