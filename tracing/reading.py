"""Reading one workflow straight from the topics: no group, nobody's offsets, no index.

A workflow's activity stands on one partition, and so do its events, unless
their class names a key of its own or their publisher had a partitioner of its
own. Those that were handled are fetched from where activity says they stand.
Only where some event is named and still not found, other partitions are read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping

from antiphon.bus.activity import Activity, Handled
from antiphon.bus.claims import Claims
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import ACTIVITY, AGENTS, Names
from antiphon.bus.partition import partition_for
from antiphon.bus.port import Bus
from antiphon.bus.record import Record, TopicPartition
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import now_us
from antiphon.tracing.finding import window_ms
from antiphon.tracing.records import belongs, decoded, event_in, event_topics, may_hold_events
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import Workflow, stitch

_RESTITCH_S = 1.0


async def read_workflow(
    bus: Bus, names: Names, codec: Codec, correlation_id: str, *, claims: Claims | None = None
) -> Workflow | None:
    """Read and stitch one workflow; None where no topic holds anything of it.

    Costs one partition of the activity topic and of each event topic, from the
    time that a UUIDv7 correlation id tells on (from the beginning for other
    ids), and all of `antiphon.agents`. Of records of other workflows only the
    headers are looked at. Where an event is named that is not found there, it
    costs the other partitions too.

    An event published from outside, on another partition, shows once it was handled.
    Raises `BusError`, and `RegistryError` where schemas cannot be had.
    """
    reader = _Reader(bus, names, codec, correlation_id, claims)
    await reader.catch_up()
    return reader.stitched()


async def follow(
    bus: Bus, names: Names, codec: Codec, correlation_id: str, *, every_s: float = 0.2, claims: Claims | None = None
) -> AsyncGenerator[Workflow, None]:
    """Yield the workflow as it is, and again whenever it has changed, until it has ended or is parked.

    Looks every *every_s* seconds, and reads only what is new. Waits for a
    workflow of which there is nothing yet; so bound it by a time-out.
    """
    reader = _Reader(bus, names, codec, correlation_id, claims)
    shown: Workflow | None = None
    stitched_at = -_RESTITCH_S
    while True:
        news = await reader.catch_up()
        # Also without news: that nobody gives a sign of life any more is none.
        if news or time.monotonic() - stitched_at >= _RESTITCH_S:
            workflow, stitched_at = reader.stitched(), time.monotonic()
            if workflow is not None and workflow != shown:
                shown = workflow
                yield workflow
        if shown is not None and shown.settled:
            return
        await asyncio.sleep(every_s)


class _Reader:
    """What was read of one workflow, and how far. Reading on reads only what is new."""

    def __init__(self, bus: Bus, names: Names, codec: Codec, correlation_id: str, claims: Claims | None) -> None:
        self._bus = bus
        self._names = names
        self._codec = codec
        self._id = correlation_id
        self._claims = claims
        self._next: dict[TopicPartition, int] = {}
        self._agents: dict[bytes | None, AgentSeen] = {}
        self._activity: list[Activity] = []
        self._events: dict[TopicPartition, dict[int, SeenEvent]] = {}
        window = window_ms(correlation_id)
        self._since_ms = None if window is None else window[0]
        self._everywhere = False
        """Other partitions than the workflow's own are read too."""

    def stitched(self) -> Workflow | None:
        events = self._seen()
        if not events and not any(self._handled()):
            return None
        return stitch(events, self._activity, self._agents.values(), now_us=now_us(), correlation_id=self._id)

    async def catch_up(self) -> bool:
        """Read what is new; say whether there was anything."""
        news = await self._read_on()
        if not self._seen() and self._since_ms is not None:
            # Whoever made the id had a clock that is far off, or his ids only look like ours.
            self._since_ms = None
            self._next.clear()
            self._activity.clear()
            news |= await self._read_on()
        return news

    async def _read_on(self) -> bool:
        # In this order: what activity names is there when activity is, so it is found,
        # and what was handled since then still counts as outstanding.
        width = await self._bus.topics()
        news = await self._read_agents()
        news |= await self._read_activity(width)
        topics = self._topics(width)
        news |= await self._read_events(topics, width)
        news |= await self._fetch_handled()
        if self._everywhere or self._lacking():
            self._everywhere = True
            every = {topic for topic in width if may_hold_events(self._names, topic)}
            news |= await self._read_events(topics | every, width)
        return news

    def _topics(self, width: Mapping[str, int]) -> set[str]:
        """Return the topics that this workflow's events may stand on, as far as agents and activity tell."""
        plain = event_topics(self._agents.values()) | {handled.topic for handled in self._handled()}
        return {name for topic in plain if (name := self._names.topic(topic)) in width}

    def _seen(self) -> list[SeenEvent]:
        return [event for at in self._events.values() for event in at.values()]

    def _handled(self) -> Iterator[Handled]:
        for activity in self._activity:
            yield from (handled for handled in activity.deliveries if handled.correlation_id == self._id)

    def _lacking(self) -> bool:
        """Say whether something is named that was not seen, or nothing was seen at all."""
        seen = self._seen()
        named = {parent for event in seen for parent in event.parents}
        for handled in self._handled():
            named.add(handled.event_id)
            named.update(emitted.id for emitted in handled.emitted)
        return not seen or not named <= {event.id for event in seen}

    # -- reading ------------------------------------------------------------

    async def _read_agents(self) -> bool:
        news = False
        places = await self._bus.bounds([self._names.topic(AGENTS)])
        async for record in self._new(places):
            seen = None if record.value is None else await decoded(self._codec, AgentSeen, record)
            if seen is None:
                self._agents.pop(record.key, None)
            else:
                self._agents[record.key] = seen
            news = True
        return news

    async def _read_activity(self, width: Mapping[str, int]) -> bool:
        news = False
        topic, wanted = self._names.topic(ACTIVITY), self._id.encode()
        async for record in self._new(await self._own([topic], width), since_ms=self._since_ms):
            # Avro writes text as it is: most records of other workflows need not be decoded.
            if record.value is None or wanted not in record.value:
                continue
            activity = await decoded(self._codec, Activity, record)
            if activity is not None:
                self._activity.append(activity)
                news = True
        return news

    async def _read_events(self, topics: Collection[str], width: Mapping[str, int]) -> bool:
        news = False
        places = await self._bus.bounds(topics) if self._everywhere else await self._own(topics, width)
        async for record in self._new(places, since_ms=self._since_ms):
            news |= await self._see(record)
        return news

    async def _fetch_handled(self) -> bool:
        """Fetch the events that stand elsewhere, from where their deliveries say they stand."""
        wanted = {
            (TopicPartition(self._names.topic(handled.topic), handled.partition), handled.offset)
            for handled in self._handled()
        }
        lacking = [(place, offset) for place, offset in wanted if offset not in self._events.get(place, {})]
        bounds = await self._bus.bounds({place.topic for place, _ in lacking}) if lacking else {}
        news = False
        for place, offset in lacking:
            first, end = bounds.get(place, (0, 0))
            if first <= offset < end:
                async for record in self._bus.read({place: offset}, {place: offset + 1}):
                    news |= await self._see(record)
        return news

    async def _own(self, topics: Collection[str], width: Mapping[str, int]) -> dict[TopicPartition, tuple[int, int]]:
        """Return the bounds of the workflow's own partition of each topic."""
        own = {
            TopicPartition(topic, partition_for(self._id.encode(), width[topic])) for topic in topics if topic in width
        }
        bounds = await self._bus.bounds({place.topic for place in own})
        return {place: bounds[place] for place in own if place in bounds}

    async def _new(
        self, places: Mapping[TopicPartition, tuple[int, int]], *, since_ms: int | None = None
    ) -> AsyncIterator[Record]:
        """Yield what stands in *places* and was not read yet."""
        fresh = {place: first for place, (first, _) in places.items() if place not in self._next}
        if since_ms is not None and fresh:
            fresh |= await self._bus.offsets_at(fresh, since_ms)
        self._next |= fresh
        stop = {place: end for place, (_, end) in places.items() if self._next[place] < end}
        if stop:
            async for record in self._bus.read({place: self._next[place] for place in stop}, stop):
                yield record
            self._next |= stop

    async def _see(self, record: Record) -> bool:
        at = self._events.setdefault(TopicPartition(record.topic, record.partition), {})
        if record.offset in at or not belongs(record, self._id):
            return False
        event = await event_in(record, self._names, self._codec, self._claims)
        if event is None or event.envelope.correlation_id != self._id:
            return False
        at[record.offset] = event
        return True
