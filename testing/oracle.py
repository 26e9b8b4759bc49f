"""What must hold of a mesh when everything is done, from what a read_committed reader sees of it and nothing else."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import orjson

from antiphon.bus.activity import Activity, Handled
from antiphon.bus.consumer import Consumer, Guarantee, Lane
from antiphon.bus.delivery import Outcome
from antiphon.bus.names import ACTIVITY, AGENTS, SCHEMAS, Names
from antiphon.bus.record import Record
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, from_headers
from antiphon.schemas.event import Event
from antiphon.testing.delivery import MemoryServices, MemoryState, delivery_of, hand

E = TypeVar("E", bound=Event)

_FINAL = frozenset({Outcome.COMPLETED.value, Outcome.DEAD_LETTERED.value, Outcome.EXPIRED.value})


class _Seen(NamedTuple):
    envelope: Envelope
    record: Record

    def __str__(self) -> str:
        envelope, record = self
        place = f"{record.topic}[{record.partition}]@{record.offset}"
        return f"{envelope.type} {envelope.id} (key {_text(record.key)}, {place})"


@dataclasses.dataclass(frozen=True)
class Run:
    """One simulated run, when all is done: what happened, and what can be read."""

    seed: int
    faults: Sequence[str]
    """What went wrong, in order."""
    records: Mapping[str, Sequence[Record]]
    """All that is committed, by topic."""
    codec: Codec

    def events(self, event_class: type[E]) -> list[E]:
        """Return the committed events of a class, in the order of each partition."""
        return [
            self.codec.decode(event_class, seen.record.value or b"").sealed(seen.envelope)
            for seen in self.seen.get(event_class.__event__.topic, ())
            if seen.envelope.type == event_class.__event__.type
        ]

    def state(self, agent: str) -> dict[str, dict[str, Any]]:
        """Return what *agent* keeps, by key."""
        kept: dict[str, dict[str, Any]] = {}
        for record in self.records.get(Names().state(agent), ()):
            key = (record.key or b"").decode()
            kept.pop(key, None)
            if record.value is not None:
                kept[key] = orjson.loads(record.value)
        return kept

    def handled(self, agent: str) -> list[Handled]:
        """Return what activity says of *agent*: one entry for every attempt."""
        return self._handled.get(agent, [])

    @cached_property
    def _handled(self) -> dict[str, list[Handled]]:
        by_agent: defaultdict[str, list[Handled]] = defaultdict(list)
        for record in self.records.get(ACTIVITY, ()):
            activity = self.codec.decode(Activity, record.value or b"")
            by_agent[activity.agent] += activity.deliveries
        return dict(by_agent)

    @cached_property
    def seen(self) -> dict[str, list[_Seen]]:
        """The events of every topic but the mesh's own, in the order of each partition."""
        return {
            topic: [
                _Seen(from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms), record)
                for record in records
            ]
            for topic, records in self.records.items()
            if topic not in (ACTIVITY, AGENTS, SCHEMAS) and not topic.endswith((".state", ".dead"))
        }


async def problems(run: Run, consumers: Sequence[Consumer], *, fold: bool) -> list[str]:
    """Return what does not hold, a sentence each."""
    found = [*_repeated(run, consumers)]
    for consumer in consumers:
        if ACTIVITY in consumer.topics:
            continue  # what the mesh says of itself leaves no activity
        found += _outcomes(run, consumer)
        if consumer.guarantee is Guarantee.EXACTLY_ONCE:
            found += _effects(run, consumer)
            found += _dead_letters(run, consumer)
            found += _order(run, consumer)
            # State that several topics make depends on which came first, which nothing tells afterwards.
            if fold and len(consumer.topics) == 1 and not consumer.undoes and consumer.lane is Lane.KEY:
                found += [line async for line in _Fold(run, consumer).differences()]
    return found


def _inputs(run: Run, consumer: Consumer) -> list[_Seen]:
    return [
        seen for topic in consumer.topics for seen in run.seen.get(topic, ()) if seen.envelope.type in consumer.hears
    ]


def _finals(run: Run, consumer: Consumer) -> dict[str, list[Handled]]:
    finals: defaultdict[str, list[Handled]] = defaultdict(list)
    for entry in run.handled(consumer.name):
        if entry.outcome in _FINAL:
            finals[entry.event_id].append(entry)
    return finals


def _repeated(run: Run, consumers: Sequence[Consumer]) -> Iterator[str]:
    """No event stands on its topic twice, unless its agent promised no more than at least once."""
    careless = {f"/agents/{consumer.name}" for consumer in consumers if consumer.guarantee is Guarantee.AT_LEAST_ONCE}
    for events in run.seen.values():
        times = Counter(seen.envelope.id for seen in events if seen.envelope.source not in careless)
        shown = {seen.envelope.id: seen for seen in events}
        yield from (f"duplicated: {shown[id]} is there {count} times" for id, count in times.items() if count > 1)


def _outcomes(run: Run, consumer: Consumer) -> Iterator[str]:
    """Every event has one final outcome with each agent that hears it."""
    finals = _finals(run, consumer)
    inputs = {seen.envelope.id: seen for seen in _inputs(run, consumer)}
    for id, seen in inputs.items():
        entries = finals.get(id, [])
        if not entries:
            yield f"lost: {consumer.name} is past {seen}, and never handled it"
        elif len(entries) > 1 and consumer.guarantee is Guarantee.EXACTLY_ONCE:
            yield f"duplicated: {consumer.name} handled {seen} to the end {len(entries)} times"
    undone = {seen.envelope.id for seen in run.seen.get(Names().undo(consumer.name), ())}
    for id in finals.keys() - inputs.keys() - undone:
        yield f"invented: {consumer.name} handled {finals[id][0].event_type} {id}, which nobody can read"


def _effects(run: Run, consumer: Consumer) -> Iterator[str]:
    """What activity says was emitted can be read, and nothing else can."""
    said = {
        emitted.id: emitted.type
        for entries in _finals(run, consumer).values()
        for entry in entries
        for emitted in entry.emitted
    }
    source = f"/agents/{consumer.name}"
    visible = {
        seen.envelope.id: seen for events in run.seen.values() for seen in events if seen.envelope.source == source
    }
    for id, type in said.items():
        if id not in visible:
            yield f"lost: {consumer.name} emitted {type} {id}, and it cannot be read"
    for id, seen in visible.items():
        # What is said because a time had come belongs to no delivery.
        if id not in said and not consumer.wakes:
            yield f"uncommitted: {seen} can be read, and {consumer.name} never completed what it belongs to"


def _dead_letters(run: Run, consumer: Consumer) -> Iterator[str]:
    """What was dead-lettered is on the dead-letter topic, once."""
    letters = Counter(
        from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms).id
        for record in run.records.get(Names().dead(consumer.name), ())
    )
    wanted = Counter(
        id
        for id, entries in _finals(run, consumer).items()
        for entry in entries
        if entry.outcome == Outcome.DEAD_LETTERED.value
    )
    for id in sorted(letters.keys() | wanted.keys()):
        if letters[id] != wanted[id]:
            yield f"dead letters of {consumer.name}: expected {wanted[id]} of event {id}, got {letters[id]}"


def _order(run: Run, consumer: Consumer) -> Iterator[str]:
    """Effects stand in the order of their causes, key by key."""
    causes = {seen.envelope.id: seen for seen in _inputs(run, consumer)}
    last: dict[tuple[object, ...], int] = {}
    for events in run.seen.values():
        for seen in events:
            cause = causes.get(seen.envelope.parent_id or "")
            if cause is None or seen.envelope.source != f"/agents/{consumer.name}":
                continue
            effect, record = seen.record, cause.record
            lane = (effect.topic, effect.partition, record.topic, record.partition, record.key)
            if record.offset < last.get(lane, -1):
                yield f"reordered: {seen}, caused by {cause}, stands behind what a later event caused"
            last[lane] = max(last.get(lane, -1), record.offset)


class _Fold:
    """The agent's own handlers, run over what it heard, event by event: what its state and effects must be."""

    def __init__(self, run: Run, consumer: Consumer) -> None:
        self._run = run
        self._consumer = consumer
        self._states: dict[int, MemoryState] = {}
        self._services = MemoryServices()
        self._visible: defaultdict[str, list[_Seen]] = defaultdict(list)
        for events in run.seen.values():
            for seen in events:
                if seen.envelope.source == f"/agents/{consumer.name}":
                    self._visible[seen.envelope.parent_id or ""].append(seen)

    async def differences(self) -> AsyncIterator[str]:
        finals = _finals(self._run, self._consumer)
        for seen in _inputs(self._run, self._consumer):
            entry = next(iter(finals.get(seen.envelope.id, [])), None)
            if entry is None or entry.outcome == Outcome.EXPIRED.value:
                continue
            try:
                produced = await self._handle(seen)
            except Exception as error:
                if entry.outcome != Outcome.DEAD_LETTERED.value:
                    yield f"{self._consumer.name} {entry.outcome} {seen}; in order it raises {error!r}"
                continue
            if entry.outcome != Outcome.COMPLETED.value:
                yield f"{self._consumer.name} {entry.outcome} {seen}; in order it completes"
            for line in self._compared(seen, produced):
                yield line
        expected = {key: value for state in self._states.values() for key, value in state.values.items()}
        got = self._run.state(self._consumer.name)
        for key in sorted(expected.keys() | got.keys()):
            if expected.get(key) != got.get(key):
                yield (
                    f"state: {self._consumer.name} keeps {got.get(key)} under {key!r}, "
                    f"where its events in order make {expected.get(key)}"
                )

    async def _handle(self, seen: _Seen) -> list[Event]:
        consumer = self._consumer.version_for(seen.envelope.correlation_id)
        event = self._run.codec.decode(consumer.hears[seen.envelope.type], seen.record.value or b"")
        state = self._states.setdefault(seen.record.partition, MemoryState())
        delivery = delivery_of(
            event.sealed(seen.envelope),
            agent=consumer.name,
            version=consumer.version,
            state=state,
            services=self._services,
        )
        return await hand(consumer, delivery)

    def _compared(self, cause: _Seen, produced: Sequence[Event]) -> Iterator[str]:
        got = [
            self._run.codec.decode(type(event), seen.record.value or b"")
            for event, seen in zip(produced, self._visible[cause.envelope.id], strict=False)
            if seen.envelope.type == event.__event__.type
        ]
        if len(produced) == len(self._visible[cause.envelope.id]) and got != [*produced]:
            yield f"wrong: on {cause} {self._consumer.name} said {got}; its events in order make {[*produced]}"


def _text(key: bytes | None) -> str:
    return "none" if key is None else repr(key.decode(errors="replace"))
