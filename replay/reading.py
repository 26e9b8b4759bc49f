"""Reading a recording straight from the topics: no group, nobody's offsets, no index."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from antiphon.bus.activity import Activity
from antiphon.bus.claims import Claims
from antiphon.bus.errors import ClaimError
from antiphon.bus.names import ACTIVITY, Names, redrive_topic
from antiphon.bus.partition import partition_for
from antiphon.bus.port import Bus
from antiphon.bus.record import Record, TopicPartition
from antiphon.bus.redrive import EDITED
from antiphon.bus.state import CHANGED_BY
from antiphon.replay.came import json_of
from antiphon.replay.choice import Choice
from antiphon.replay.recording import Change, Handling, Recording, edited_id, handlings
from antiphon.schemas.codec import Codec
from antiphon.schemas.condition import Condition
from antiphon.schemas.errors import SchemaError
from antiphon.tracing.finding import window_ms
from antiphon.tracing.records import between, decoded, event_topics, may_hold_events, read_agents

_ID = "ce_id"
_UNREADABLE = object()


async def read_recording(
    bus: Bus, names: Names, codec: Codec, choice: Choice, *, claims: Claims | None = None
) -> Recording:
    """Read what *choice* means, and all of the workflows that it lies in: state is told by what came before.

    Costs the activity topic (of named workflows, their partitions alone) and the
    topics of their events from when the first of them began, and the agents' state topics. Raises `BusError`, and
    `RegistryError` where schemas cannot be had.
    """
    every = handlings(await _activity(bus, names, codec, choice))
    # Whether its data fits is known once an event is read; the latest are those of what fits.
    workflows = (dataclasses.replace(choice, last=None) if choice.where else choice).workflows_in(every)
    found = [one for one in every if one.entry.correlation_id in workflows]
    return Recording(
        handlings=found,
        events=await _events(bus, names, codec, found, claims or Claims()),
        changes={agent: await _changes(bus, names, agent, of) for agent, of in _by_agent(found).items()},
    )


async def fitting(recording: Recording, where: Sequence[Condition], codec: Codec) -> set[tuple[str, str]]:
    """Return which handlings' events fit all of *where*, by event id and agent; one that is gone or cannot be read never does."""
    data: dict[int, Any] = {}
    found: set[tuple[str, str]] = set()
    for handling in recording.handlings:
        record = recording.event_of(handling)
        if record is None:
            continue
        if id(record) not in data:
            try:
                data[id(record)] = await json_of(codec, record.value or b"")
            except SchemaError:
                data[id(record)] = _UNREADABLE
        if data[id(record)] is not _UNREADABLE and all(one.holds(data[id(record)]) for one in where):
            found.add(handling.pair)
    return found


def _by_agent(found: Iterable[Handling]) -> Mapping[str, list[Handling]]:
    of: defaultdict[str, list[Handling]] = defaultdict(list)
    for handling in found:
        of[handling.agent].append(handling)
    return of


async def _activity(bus: Bus, names: Names, codec: Codec, choice: Choice) -> list[Activity]:
    topic = names.topic(ACTIVITY)
    places = await bus.bounds([topic])
    windows = [window_ms(id) for id in choice.workflows]
    if choice.workflows:
        own = {partition_for(id.encode(), len(places)) for id in choice.workflows}
        places = {place: ends for place, ends in places.items() if place.partition in own}
    begun = [window[0] for window in windows if window is not None]
    if windows and len(begun) == len(windows):
        places = await _since(bus, places, min(begun))
    found: list[Activity] = []
    wanted = [id.encode() for id in choice.workflows]
    async for record in between(bus, places):
        # Avro writes text as it is: most records of other workflows need not be decoded.
        value = record.value or b""
        if wanted and not any(id in value for id in wanted):
            continue
        told = await decoded(codec, Activity, record)
        if told is not None:
            found.append(told)
    return found


async def _since(
    bus: Bus, places: Mapping[TopicPartition, tuple[int, int]], timestamp_ms: int
) -> dict[TopicPartition, tuple[int, int]]:
    starts = await bus.offsets_at(places, timestamp_ms)
    return {place: (max(first, starts.get(place, first)), end) for place, (first, end) in places.items()}


async def _events(bus: Bus, names: Names, codec: Codec, found: Sequence[Handling], claims: Claims) -> dict[str, Record]:
    """Return what was handled, and what came of it, by id."""
    events: dict[str, Record] = {}
    spans: dict[TopicPartition, tuple[int, int]] = {}
    emitted: dict[str, str] = {}
    for handling in found:
        entry = handling.entry
        place = TopicPartition(names.topic(entry.topic), entry.partition)
        low, high = spans.get(place, (entry.offset, entry.offset))
        spans[place] = (min(low, entry.offset), max(high, entry.offset))
        for said in entry.emitted:
            emitted[said.id] = said.type
    handled = {handling.entry.event_id for handling in found}
    bounds = await bus.bounds({place.topic for place in spans})
    inputs = {
        place: (max(low, bounds[place][0]), min(high + 1, bounds[place][1]))
        for place, (low, high) in spans.items()
        if place in bounds
    }
    await _collect(bus, names, inputs, handled | emitted.keys(), events, claims)
    lacking = emitted.keys() - events.keys()
    if lacking:
        topics = await _topics(bus, names, codec, {emitted[id] for id in lacking})
        begun_ms = min(handling.entry.started_us for handling in found) // 1_000
        places = await _since(bus, await bus.bounds(topics), begun_ms - 60_000)
        await _collect(bus, names, places, lacking, events, claims)
    return events


async def _topics(bus: Bus, names: Names, codec: Codec, types: set[str]) -> set[str]:
    """Return the topics on which events of *types* may stand: those that agents told of, or all where one did not."""
    agents = await read_agents(bus, names, codec)
    told = {part.type: part.topic for seen in agents for part in (*seen.hears, *seen.emits)}
    if types <= told.keys():
        return {names.topic(told[type]) for type in types}
    every = {topic for topic in await bus.topics() if may_hold_events(names, topic)}
    return every | {names.topic(topic) for topic in event_topics(agents)}


async def _collect(
    bus: Bus,
    names: Names,
    places: Mapping[TopicPartition, tuple[int, int]],
    wanted: Collection[str],
    events: dict[str, Record],
    claims: Claims,
) -> None:
    async for record in between(bus, places):
        said = dict(record.headers)
        id = (said.get(_ID) or b"").decode(errors="replace")
        if id in wanted:
            try:
                value = await claims.value_of(record)
            except ClaimError:
                continue  # as good as gone: what stands here is not the event
            if EDITED in said:
                id = edited_id(names.plain(record.topic).removesuffix(redrive_topic("")), id)
            events[id] = record if value is record.value else dataclasses.replace(record, value=value, size=0)


async def _changes(bus: Bus, names: Names, agent: str, of: Sequence[Handling]) -> list[Change]:
    keys = {handling.state_key.encode() for handling in of}
    partitions = {handling.entry.partition for handling in of}
    bounds = await bus.bounds([names.state(agent)])
    found: list[Change] = []
    async for record in between(bus, {place: ends for place, ends in bounds.items() if place.partition in partitions}):
        if record.key in keys:
            by = dict(record.headers).get(CHANGED_BY)
            found.append(Change(record.key.decode(), None if by is None else by.decode(), record.value))
    return found
