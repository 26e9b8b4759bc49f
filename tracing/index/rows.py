"""From records to rows: a pure function, so that what an index holds depends on what was read alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from enum import Enum, IntEnum
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names
from antiphon.bus.record import Position, Record
from antiphon.bus.redrive import FROM, origin_of
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.envelope import Envelope, from_headers, parse_time
from antiphon.schemas.errors import NotAnEventError, SchemaError
from antiphon.schemas.store import Reference
from antiphon.tracing.index.database import Row
from antiphon.tracing.index.keys import key_of

FAILS, UNDO, TOLD = 1, 2, 4
"""What is marked on an emitted event."""
NO_VALUE = "the record has no value"

_RARE = frozenset(
    ("ce_causes", "traceparent", "ce_deadline", "ce_budget", "ce_tenant", "ce_replayof", "ce_dataref", FROM)
)
_of = itemgetter(
    "event_id",
    "event_type",
    "correlation_id",
    "topic",
    "attempt",
    "outcome",
    "started_us",
    "duration_us",
    "queue_us",
    "emitted",
    "error",
    "usage",
)


class Holds(Enum):
    """What stands on a topic."""

    EVENTS = "events"
    ACTIVITY = "activity"
    AGENTS = "agents"


class Form(IntEnum):
    """How an event's data is kept."""

    AVRO = 0
    """As it stood in the record."""
    JSON = 1
    """As JSON, with what is not to be seen left out."""
    PROBLEM = 2
    """Not at all; instead, why not."""


class Source(NamedTuple):
    """A topic, as an index knows it."""

    no: int
    holds: Holds


class Numbers(dict[str, int]):
    """Text that recurs, as numbers. What is asked for and has none gets the next one."""

    def __init__(self, known: Mapping[str, int]) -> None:
        super().__init__(known)
        self.fresh: list[Row] = []
        """Those that are not written down yet."""
        self._next = max(known.values(), default=0) + 1

    def __missing__(self, name: str) -> int:
        number = self[name] = self._next
        self._next += 1
        self.fresh.append((number, name))
        return number


@dataclasses.dataclass
class Rows:
    """What some records come to, by table."""

    events: list[Row] = dataclasses.field(default_factory=list[Row])
    payloads: list[Row] = dataclasses.field(default_factory=list[Row])
    deliveries: list[Row] = dataclasses.field(default_factory=list[Row])
    calls: list[Row] = dataclasses.field(default_factory=list[Row])
    workers: list[Row] = dataclasses.field(default_factory=list[Row])
    topics: set[str] = dataclasses.field(default_factory=set[str])
    """Plain names of the topics on which stands what was handled."""
    unreadable: int = 0
    """Records of the mesh's own that could not be read."""

    def touched(self) -> set[bytes]:
        """Return the workflows that they are about."""
        found = {row[0] for row in self.events}
        found.update([row[0] for row in self.deliveries])
        return found


@dataclasses.dataclass(frozen=True)
class Reader:
    """What is known when records are read; nothing is fetched, so it has to be known before."""

    codec: Codec
    sources: Mapping[str, Source]
    """By the topic's name on the cluster; records of others are passed over."""
    numbers: Numbers
    names: Names = dataclasses.field(default_factory=Names)
    masked: Collection[Reference] = frozenset()
    """Schemas that have something in them that is not to be seen."""
    unknown: Collection[Reference] = frozenset()
    """Schemas that nobody has."""
    fetched: Mapping[tuple[str, int, int], bytes | str] = dataclasses.field(default_factory=dict[Any, Any])
    """By topic, partition and offset: large values that stand elsewhere, or why they cannot be had."""
    _numbered: dict[bytes, int] = dataclasses.field(default_factory=dict[bytes, int])

    def rows(self, records: Iterable[Record]) -> Rows:
        """Return what *records* come to. The same record always gives the same rows."""
        rows = Rows()
        sources = self.sources
        for record in records:
            source = sources.get(record.topic)
            if source is None:
                continue
            if source.holds is Holds.EVENTS:
                self._event(record, source.no, rows)
            elif source.holds is Holds.ACTIVITY:
                self._activity(record, source.no, rows)
            else:
                self._worker(record, source.no, rows)
        return rows

    def _event(self, record: Record, source: int, rows: Rows) -> None:
        found = dict(record.headers)
        part, place = record.partition, record.offset
        row = self._plain(found, record.key)
        if row is None:
            try:
                envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
            except NotAnEventError:
                return
            row = self._any(envelope, origin_of(record))
        workflow = row[0]
        rows.events.append((workflow, source, part, place, *row[1:]))
        value = record.value
        if value and not self.masked and not self.unknown:
            rows.payloads.append((workflow, source, part, place, 0, value))
        else:
            form, content = self._content(record)
            rows.payloads.append((workflow, source, part, place, form.value, content))

    def _plain(self, found: dict[str, bytes | None], key: bytes | None) -> Row | None:
        """Read the headers that nearly all events have, and no others; None where there may be more to it.

        By hand, because there are those of every event to read; a test holds it to `from_headers`.
        """
        if not _RARE.isdisjoint(found):
            return None
        try:
            correlation, parent, time = found["ce_correlationid"], found.get("ce_causationid"), found["ce_time"]
            if key != correlation:
                return None
            return (
                _key(correlation),
                _key(found["ce_id"]),
                self._number(found["ce_type"]),  # type: ignore[arg-type]
                self._number(found["ce_source"]),  # type: ignore[arg-type]
                parse_time(time.decode()),  # type: ignore[union-attr]
                None if parent is None else _key(parent),
                int(found.get("ce_hops", b"0")),  # type: ignore[arg-type]
                None,
            )
        except (KeyError, AttributeError, TypeError, ValueError):
            return None

    def _number(self, name: bytes) -> int:
        number = self._numbered.get(name)
        if number is None:
            if not name:
                raise ValueError
            number = self._numbered[name] = self.numbers[name.decode()]
        return number

    def _any(self, envelope: Envelope, origin: Position | None) -> Row:
        parent = envelope.parent_id
        return (
            key_of(envelope.correlation_id),
            key_of(envelope.id),
            self.numbers[envelope.type],
            self.numbers[envelope.source],
            envelope.time_us,
            None if parent is None else key_of(parent),
            envelope.hops,
            _more(envelope, None if origin is None else origin._replace(topic=self.names.plain(origin.topic))),
        )

    def _content(self, record: Record) -> tuple[Form, bytes]:
        value = record.value or self.fetched.get((record.topic, record.partition, record.offset), NO_VALUE)
        if isinstance(value, str):
            return Form.PROBLEM, value.encode()
        reference = prefix_of(value)
        if reference in self.unknown:
            # What may be in it nobody knows, so nobody shall see it.
            return Form.PROBLEM, f"no schema {named(reference)} was found".encode()
        if reference not in self.masked:
            return Form.AVRO, value
        try:
            return Form.JSON, orjson.dumps(to_json(self.codec.shown(value)))
        except SchemaError as error:
            return Form.PROBLEM, str(error).encode()

    def _activity(self, record: Record, source: int, rows: Rows) -> None:
        if record.value is None:
            return
        try:
            data: dict[str, Any] = self.codec.read(record.value)[1]
            numbers, topics, part, place = self.numbers, rows.topics, record.partition, record.offset
            agent, version, instance = numbers[data["agent"]], numbers[data["version"]], numbers[data["instance"]]
            for entry, handled in enumerate(data["deliveries"]):
                event, type, of, topic, attempt, outcome, started_us, duration_us, queue_us, emitted, error, usage = (
                    _of(handled)
                )
                workflow = key_of(of)
                topics.add(topic)
                rows.deliveries.append(
                    (
                        workflow,
                        source,
                        part,
                        place,
                        entry,
                        key_of(event),
                        numbers[type],
                        agent,
                        version,
                        instance,
                        attempt,
                        numbers[outcome],
                        started_us,
                        duration_us,
                        queue_us,
                        handled.get("confidence"),
                        _emitted(emitted) if emitted else None,
                        None if error is None else orjson.dumps({"error": error}).decode(),
                    )
                )
                for call, spent in enumerate(usage):
                    rows.calls.append(
                        (
                            workflow,
                            source,
                            part,
                            place,
                            entry,
                            call,
                            agent,
                            version,
                            numbers[spent["model"]],
                            started_us,
                            spent["input_tokens"],
                            spent["output_tokens"],
                            spent["cost"],
                            spent["currency"],
                        )
                    )
        except (SchemaError, KeyError, TypeError):
            # Whoever wrote that is no worker of this mesh; its neighbours count all the same.
            rows.unreadable += 1

    def _worker(self, record: Record, source: int, rows: Rows) -> None:
        name = (record.key or b"").decode("utf-8", "replace")
        seen: str | None = None
        if record.value is not None:
            try:
                seen = self.codec.decode(AgentSeen, record.value).model_dump_json()
            except SchemaError:
                rows.unreadable += 1
        rows.workers.append((name, source, record.partition, record.offset, seen))


@lru_cache(maxsize=65_536)
def _key(id: bytes) -> bytes:
    if not id:
        raise ValueError
    return key_of(id.decode())


def _more(envelope: Envelope, origin: Position | None) -> str | None:
    """Return what few events have, as JSON; *origin* is where one that was redriven as it was stood first."""
    found = {
        name: value
        for name, value in (
            ("causes", envelope.causes),
            ("traceparent", envelope.traceparent),
            ("deadline_us", envelope.deadline_us),
            ("budget", envelope.budget),
            ("tenant", envelope.tenant),
            ("replay_of", envelope.replay_of),
            ("key", envelope.key),
            ("origin", None if origin is None else (*origin,)),
        )
        if value not in (None, ())
    }
    return orjson.dumps(found).decode() if found else None


def _emitted(emitted: list[dict[str, Any]]) -> str:
    marked = [
        [
            one["id"],
            one["type"],
            (FAILS if one.get("fails") else 0)
            | (0 if one.get("undo") is None else UNDO)
            | (0 if one.get("told") is None else TOLD),
        ]
        for one in emitted
    ]
    return orjson.dumps(marked).decode()


def prefix_of(value: bytes) -> Reference:
    """Return what *value*'s header names its schema by, or what stands in its place."""
    return int.from_bytes(value[1:5], "big") if value[:1] == b"\0" else value[2:10]


def named(reference: Reference) -> str:
    """Return a reference as text.

    >>> named(17), named(b"\\xc3\\x01")
    ('#17', 'c301')
    """
    return f"#{reference}" if isinstance(reference, int) else reference.hex()
