"""Reading one workflow straight from the topics: no group, nobody's offsets, no index.

A workflow's activity stands on one partition, and so do its events, unless
their class names a key of its own or their publisher had a partitioner of its
own. Those that were handled are fetched from where activity says they stand.
Only where some event is named and still not found, other partitions are read.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from antiphon.bus.activity import Activity
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import ACTIVITY, AGENTS, Names, undo_topic
from antiphon.bus.partition import partition_for
from antiphon.bus.port import Bus
from antiphon.bus.record import Record, TopicPartition
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.envelope import from_headers, now_us
from antiphon.schemas.errors import NotAnEventError, RegistryError, SchemaError, UnknownSchemaError
from antiphon.schemas.event import Event
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import Workflow, stitch

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)

SKEW_MS = 3_600_000
"""How far the clock of whoever made a root's id may be ahead of the clocks of whoever wrote its workflow's records."""
_RESTITCH_S = 1.0
_NO_EVENTS = re.compile(r"(^|\.)antiphon\.[^.]+$|\.(state|dead)$|^__")
_TIMED_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}(-(7[0-9a-f-]*)?)?)?")


class Candidate(NamedTuple):
    """A workflow whose id, or one of whose events' ids, begins as was asked for."""

    correlation_id: str
    type: str
    """Of its earliest event that was seen."""
    time_us: int


async def read_workflow(bus: Bus, names: Names, codec: Codec, correlation_id: str) -> Workflow | None:
    """Read and stitch one workflow; None where no topic holds anything of it.

    Costs one partition of the activity topic and of each event topic, from the
    time that a UUIDv7 correlation id tells on (from the beginning for other
    ids), and all of `antiphon.agents`. Of records of other workflows only the
    headers are looked at. Where an event is named that is not found there, it
    costs the other partitions too.

    An event published from outside, on another partition, shows once it was handled.
    Raises `BusError`, and `RegistryError` where schemas cannot be had.
    """
    reader = _Reader(bus, names, codec, correlation_id)
    await reader.catch_up()
    return reader.stitched()


async def follow(
    bus: Bus, names: Names, codec: Codec, correlation_id: str, *, every_s: float = 0.2
) -> AsyncIterator[Workflow]:
    """Yield the workflow as it is, and again whenever it has changed, until it has ended or is parked.

    Looks every *every_s* seconds, and reads only what is new. Waits for a
    workflow of which there is nothing yet; so bound it by a time-out.
    """
    reader = _Reader(bus, names, codec, correlation_id)
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


async def find_workflows(bus: Bus, names: Names, prefix: str) -> list[Candidate]:
    """Return the workflows whose correlation id begins with *prefix*, the newest last.

    Where there is none: those that have an event whose id begins so. Reads the
    headers of every event topic, all partitions; first only of the time that
    the prefix of a UUIDv7 tells (eight digits: about a minute, and an hour to
    either side), and of all time where nothing is found there.
    """
    places = await _bounds(bus, names, await _event_topics(bus, names))
    window = _window_ms(prefix)
    if window is not None:
        start = await bus.offsets_at(places, window[0])
        stop = await bus.offsets_at(places, window[1])
        if found := await _candidates(bus, {place: (start[place], stop[place]) for place in places}, prefix):
            return found
    return await _candidates(bus, places, prefix)


class _Reader:
    """What was read of one workflow, and how far. Reading on reads only what is new."""

    def __init__(self, bus: Bus, names: Names, codec: Codec, correlation_id: str) -> None:
        self._bus = bus
        self._names = names
        self._codec = codec
        self._id = correlation_id
        self._next: dict[TopicPartition, int] = {}
        self._agents: dict[bytes | None, AgentSeen] = {}
        self._activity: list[Activity] = []
        self._events: dict[TopicPartition, dict[int, SeenEvent]] = {}
        self._everywhere = False
        """Other partitions than the workflow's own are read too."""

    def stitched(self) -> Workflow | None:
        events = [event for at in self._events.values() for event in at.values()]
        if not events and not self._activity:
            return None
        return stitch(events, self._activity, self._agents.values(), now_us=now_us(), correlation_id=self._id)

    async def catch_up(self) -> bool:
        """Read what is new; say whether there was anything.

        In this order: events that activity tells of are there when it is, so
        whatever it names is found, and what was handled since is still outstanding.
        """
        width = await self._bus.topics()
        news = await self._read_agents()
        news |= await self._read_activity(width)
        topics = self._topics(width)
        news |= await self._read_events(topics, width)
        news |= await self._fetch_handled()
        if self._everywhere or self._lacking():
            self._everywhere = True
            every = {topic for topic in width if self._names.plain(topic) and _may_hold_events(self._names, topic)}
            news |= await self._read_events(topics | every, width)
        return news

    def _topics(self, width: Mapping[str, int]) -> set[str]:
        named = event_topics(self._agents.values()) | {
            handled.topic for activity in self._activity for handled in activity.deliveries
        }
        return {name for topic in named if (name := self._names.topic(topic)) in width}

    def _lacking(self) -> bool:
        """Say whether something is named that was not seen, or nothing was seen at all."""
        seen = {event.id: event for at in self._events.values() for event in at.values()}
        named = {parent for event in seen.values() for parent in event.parents}
        for handled in self._handled():
            named.add(handled.event_id)
            named.update(emitted.id for emitted in handled.emitted)
        return not seen or not named <= seen.keys()

    def _handled(self) -> Iterable[Any]:
        return (
            handled
            for activity in self._activity
            for handled in activity.deliveries
            if handled.correlation_id == self._id
        )

    # -- reading ------------------------------------------------------------

    async def _read_agents(self) -> bool:
        news = False
        places = await self._bus.bounds([self._names.topic(AGENTS)])
        async for record in self._new(places):
            seen = None if record.value is None else await _decode(self._codec, AgentSeen, record)
            if seen is None:
                self._agents.pop(record.key, None)
            else:
                self._agents[record.key] = seen
            news = True
        return news

    async def _read_activity(self, width: Mapping[str, int]) -> bool:
        news = False
        topic = self._names.topic(ACTIVITY)
        async for record in self._new(await self._own([topic], width)):
            # Avro writes text as it is: most records of other workflows need not be decoded.
            if record.value is None or self._id.encode() not in record.value:
                continue
            activity = await _decode(self._codec, Activity, record)
            if activity is not None:
                self._activity.append(activity)
                news = True
        return news

    async def _read_events(self, topics: Collection[str], width: Mapping[str, int]) -> bool:
        news = False
        places = await self._bus.bounds(topics) if self._everywhere else await self._own(topics, width)
        async for record in self._new(places):
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

    async def _new(self, places: Mapping[TopicPartition, tuple[int, int]]) -> AsyncIterator[Record]:
        """Yield what stands in *places* and was not read yet."""
        fresh = [place for place in places if place not in self._next]
        window = _window_ms(self._id)
        agents = self._names.topic(AGENTS)
        timed = [place for place in fresh if window is not None and place.topic != agents]
        begin = await self._bus.offsets_at(timed, window[0]) if window is not None and timed else {}
        for place in fresh:
            self._next[place] = begin.get(place, places[place][0])
        start = {place: self._next[place] for place, (_, end) in places.items() if self._next[place] < end}
        if not start:
            return
        stop = {place: places[place][1] for place in start}
        async for record in self._bus.read(start, stop):
            yield record
        self._next.update(stop)

    async def _see(self, record: Record) -> bool:
        at = self._events.setdefault(TopicPartition(record.topic, record.partition), {})
        if record.offset in at or not _belongs(record, self._id):
            return False
        event = await _event(record, self._names, self._codec)
        if event is None or event.envelope.correlation_id != self._id:
            return False
        at[record.offset] = event
        return True


def event_topics(agents: Iterable[AgentSeen]) -> set[str]:
    """Return the plain names of the topics on which events of a mesh stand, as its agents tell."""
    topics: set[str] = set()
    for seen in agents:
        topics |= {part.topic for part in (*seen.hears, *seen.emits)}
        if seen.undoes:
            topics.add(undo_topic(seen.agent))
    return {topic for topic in topics if not _NO_EVENTS.search(topic)}


async def read_agents(bus: Bus, names: Names, codec: Codec) -> list[AgentSeen]:
    """Return the last heartbeat of every worker that `antiphon.agents` still holds."""
    latest: dict[bytes | None, AgentSeen] = {}
    places = await bus.bounds([names.topic(AGENTS)])
    async for record in _between(bus, places):
        seen = None if record.value is None else await _decode(codec, AgentSeen, record)
        latest.pop(record.key, None)
        if seen is not None:
            latest[record.key] = seen
    return [*latest.values()]


def _may_hold_events(names: Names, topic: str) -> bool:
    inside = not names.namespace or topic.startswith(f"{names.namespace}.")
    return inside and not _NO_EVENTS.search(names.plain(topic))


async def _event_topics(bus: Bus, names: Names) -> list[str]:
    return [topic for topic in await bus.topics() if _may_hold_events(names, topic)]


async def _bounds(bus: Bus, names: Names, topics: Iterable[str]) -> dict[TopicPartition, tuple[int, int]]:
    return await bus.bounds(topics)


async def _candidates(bus: Bus, places: Mapping[TopicPartition, tuple[int, int]], prefix: str) -> list[Candidate]:
    by_workflow: dict[str, Candidate] = {}
    by_event: dict[str, Candidate] = {}
    async for record in _between(bus, places):
        try:
            envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        except NotAnEventError:
            continue
        found = by_workflow if envelope.correlation_id.startswith(prefix) else by_event
        if found is by_workflow or envelope.id.startswith(prefix):
            candidate = Candidate(envelope.correlation_id, envelope.type, envelope.time_us)
            known = found.setdefault(envelope.correlation_id, candidate)
            found[envelope.correlation_id] = min(known, candidate, key=lambda one: one.time_us)
    return sorted((by_workflow or by_event).values(), key=lambda one: (one.time_us, one.correlation_id))


async def _between(bus: Bus, places: Mapping[TopicPartition, tuple[int, int]]) -> AsyncIterator[Record]:
    start = {place: first for place, (first, end) in places.items() if first < end}
    if start:
        async for record in bus.read(start, {place: places[place][1] for place in start}):
            yield record


def _window_ms(id: str) -> tuple[int, int] | None:
    """Return when an id that begins so was made, give or take; None where it does not tell."""
    if not _TIMED_ID.match(id):
        return None
    digits = id.replace("-", "")[:12]
    low, high = int(digits.ljust(12, "0"), 16), int(digits.ljust(12, "f"), 16)
    return max(0, low - SKEW_MS), high + SKEW_MS


def _belongs(record: Record, correlation_id: str) -> bool:
    """Say whether the headers name the workflow: as its correlation, or without one as its root."""
    wanted = correlation_id.encode()
    found = {name: value for name, value in record.headers if name in ("ce_correlationid", "ce_id")}
    return found.get("ce_correlationid", found.get("ce_id")) == wanted


async def _event(record: Record, names: Names, codec: Codec) -> SeenEvent | None:
    try:
        envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
    except NotAnEventError:
        return None
    data, problem = await _json(codec, record.value)
    return SeenEvent(
        envelope=envelope,
        topic=names.plain(record.topic),
        partition=record.partition,
        offset=record.offset,
        data=data,
        problem=problem,
    )


async def _json(codec: Codec, value: bytes | None) -> tuple[Any, str | None]:
    """Return the data as JSON, or why there is none: an event whose data cannot be read is still an event."""
    if value is None:
        return None, "the record has no value"
    try:
        try:
            return to_json(codec.read(value)[1]), None
        except UnknownSchemaError as error:
            await codec.learn(error.reference)
            return to_json(codec.read(value)[1]), None
    except SchemaError as error:
        return None, str(error)


async def _decode(codec: Codec, event_class: type[E], record: Record) -> E | None:
    """Decode what the mesh wrote about itself; None, and a word in the log, where somebody wrote something else."""
    value = record.value or b""
    try:
        try:
            return codec.decode(event_class, value)
        except UnknownSchemaError as error:
            await codec.learn(error.reference)
            return codec.decode(event_class, value)
    except RegistryError:
        raise
    except SchemaError as error:
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "reason": str(error)}
        log.warning("a record of the mesh's own could not be read", extra=where)
        return None
