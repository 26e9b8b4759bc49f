"""From records to rows: a pure function, so that what an index holds depends on what was read alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum, IntEnum
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names
from antiphon.bus.record import Position, Record
from antiphon.bus.redrive import origin_of
from antiphon.schemas.codec import Codec, header_of, to_json
from antiphon.schemas.envelope import Envelope, from_headers, parse_time, time_within
from antiphon.schemas.errors import NotAnEventError, SchemaError
from antiphon.schemas.store import Reference
from antiphon.tracing.clocks import BROKER, producer_of
from antiphon.tracing.index.database import Row
from antiphon.tracing.index.emitted import Heads, packed
from antiphon.tracing.index.entries import Behind, Found, Longs, Moments, found_in, is_ours, real_in
from antiphon.tracing.index.keys import Keys, key_of
from antiphon.tracing.index.recurring import Numbered, Numbers, Seconds

NO_VALUE = "the record has no value"

_of = itemgetter(
    "event_id",
    "event_type",
    "correlation_id",
    "attempt",
    "outcome",
    "started_us",
    "duration_us",
    "queue_us",
    "emitted",
    "error",
)


# RFC 3339 as `to_headers` writes it: 2026-11-22T10:00:00.000123Z.
_MOST_HOPS, _SHORT = 1 << 31, 9
_SECOND, _OURS, _DOT, _Z = 19, 27, ord("."), ord("Z")
# Headers of an event that began its workflow, and of one that was caused.
_ROOT, _CAUSED = 7, 9
_LENGTHS, _IDS = (_ROOT, _CAUSED), 1_000


HOUR_US = 3_600_000_000
# A worker may say any number, and a database holds what numbers add up to only as long as it fits: the year 38,000, a million million tokens.
_TIME_BITS, _TOKEN_BITS = 60, 40


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


@dataclasses.dataclass
class Rows:
    """What some records come to, by table."""

    events: list[Row] = dataclasses.field(default_factory=list[Row])
    payloads: list[Row] = dataclasses.field(default_factory=list[Row])
    deliveries: list[Row] = dataclasses.field(default_factory=list[Row])
    calls: list[Row] = dataclasses.field(default_factory=list[Row])
    workers: list[Row] = dataclasses.field(default_factory=list[Row])
    gaps: dict[tuple[int, int, int], int] = dataclasses.field(default_factory=dict[Any, Any])
    """By worker, broker and hour: by how much the broker appended what happened later than it did, at least."""
    replays: set[bytes] = dataclasses.field(default_factory=set[bytes])
    """Workflows of events that were published once more."""
    topics: set[str] = dataclasses.field(default_factory=set[str])
    """Plain names of the topics on which stands what was handled."""
    unreadable: int = 0
    """Records of the mesh's own that could not be read."""

    def touched(self) -> set[bytes]:
        """Return the workflows that they are about."""
        found = {row[0] for row in self.events}
        found.update([row[0] for row in self.deliveries])
        return found


def worker_in(kept: str) -> AgentSeen:
    """Return the heartbeat that a row of `workers` holds; what a tracer of a newer release knows besides is passed over."""
    return AgentSeen.model_validate_json(kept, extra="ignore")


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
    _keys: Keys = dataclasses.field(default_factory=Keys)
    _seconds: Seconds = dataclasses.field(default_factory=Seconds)
    _longs: Longs = dataclasses.field(default_factory=Longs)
    _moments: Moments = dataclasses.field(default_factory=Moments)
    _ours: dict[Reference, bool] = dataclasses.field(default_factory=dict[Reference, bool])
    """Whether a schema is that of this release's activity."""
    _as_it_is: bool = dataclasses.field(init=False)
    _numbered: Numbered = dataclasses.field(init=False)
    _behind: Behind = dataclasses.field(init=False)
    _heads: Heads = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        # What is looked up for every record, and found out once.
        object.__setattr__(self, "_as_it_is", not self.masked and not self.unknown)
        object.__setattr__(self, "_numbered", Numbered(self.numbers))
        object.__setattr__(self, "_behind", Behind(self._numbered))
        object.__setattr__(self, "_heads", Heads(self._numbered))

    def rows(self, records: Sequence[Record]) -> Rows:
        """Return what *records* come to. The same record always gives the same rows."""
        rows = Rows()
        sources = self.sources
        # Each event's own, behind its name: of what leads to it the ids are those of others.
        self._learn_ids([record.headers[1][1] for record in records if len(record.headers) in _LENGTHS])
        for record in records:
            source = sources.get(record.topic)
            if source is None:
                continue
            if source.holds is Holds.EVENTS:
                self._event(record, source.no, rows)
            elif source.holds is Holds.ACTIVITY:
                self._activity(record, rows)
            else:
                self._worker(record, source.no, rows)
        return rows

    def _learn_ids(self, ids: Sequence[bytes | None]) -> None:
        """Have the keys of *ids* found together, rather than each where it is met."""
        for start in range(0, len(ids), _IDS):
            self._keys.learn([id for id in ids[start : start + _IDS] if id])

    def _event(self, record: Record, source: int, rows: Rows) -> None:
        """Read an event's headers, and keep its value.

        By hand where they are those that nearly all events have, in the order in which `to_headers`
        writes them, because there are those of every event to read; a test holds it to `from_headers`.
        """
        headers: Any = record.headers
        key, part, place = record.key, record.partition, record.offset
        try:
            # Name by name: tuples of them to compare with would take three times as long.
            if len(headers) == _CAUSED:
                (a, _), (b, id), (c, type), (d, sayer), (e, time), (f, correlation), (g, _), (h, parent), (i, hops) = (
                    headers
                )
                if h != "ce_causationid" or i != "ce_hops":
                    raise ValueError
            else:
                (a, _), (b, id), (c, type), (d, sayer), (e, time), (f, correlation), (g, _) = headers
                parent = hops = None
            if (
                b != "ce_id"
                or c != "ce_type"
                or d != "ce_source"
                or e != "ce_time"
                or f != "ce_correlationid"
                or a != "ce_specversion"
                or g != "content-type"
                or key != correlation
                or not (type and sayer)
            ):
                raise ValueError
            keys, numbered = self._keys, self._numbered
            workflow = keys[correlation]
            row = (
                workflow,
                source,
                part,
                place,
                keys[id],
                numbered[type],
                numbered[sayer],
                self._seconds[time[:_SECOND]] + int(time[20:26])
                if len(time) == _OURS and time[26] == _Z and time[20:26].isdigit() and time[19] == _DOT
                else parse_time(time.decode()),
                None if parent is None else keys[parent],
                0 if hops is None else int(hops) if len(hops) < _SHORT else _bounded(int(hops)),
                None,
            )
        except (KeyError, AttributeError, TypeError, ValueError):
            try:
                envelope = from_headers(record.headers, key=key, timestamp_ms=record.timestamp_ms)
            except NotAnEventError:
                return
            row = self._any(envelope, origin_of(record), (source, part, place))
            workflow = row[0]
            if envelope.replay_of is not None:
                rows.replays.add(workflow)
        rows.events.append(row)
        value = record.value
        if value and self._as_it_is:
            rows.payloads.append((workflow, source, part, place, 0, value))
        else:
            form, content = self._content(record)
            rows.payloads.append((workflow, source, part, place, form.value, content))

    def _any(self, envelope: Envelope, origin: Position | None, at: tuple[int, int, int]) -> Row:
        parent = envelope.parent_id
        return (
            key_of(envelope.correlation_id),
            *at,
            key_of(envelope.id),
            self.numbers[envelope.type],
            self.numbers[envelope.source],
            envelope.time_us,
            None if parent is None else key_of(parent),
            _bounded(envelope.hops),
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

    def _activity(self, record: Record, rows: Rows) -> None:
        if record.value is None:
            return
        try:
            found = self._found(record.value)
            numbers = self._numbered
            agent, version, instance = numbers[found.agent], numbers[found.version], numbers[found.instance]
            self._learn_ids(found.ids())
            topics, last_us = set[bytes](), 0
            for entry in found.entries:
                parts: Any = entry
                if isinstance(entry, tuple):
                    row, topic = self._plain(parts, agent, version, instance)
                    topics.add(topic[1:])
                    rows.deliveries.append(row)
                else:
                    topics.add(entry["topic"])
                    row = self._delivery(entry, agent, version, instance)
                    rows.deliveries.append(row)
                    if entry["usage"]:
                        self._calls(row[:6], version, entry["usage"], rows)
                if row[3] + row[9] > last_us:  # noqa: PLR1730 - a call for each delivery costs more
                    last_us = row[3] + row[9]
            rows.topics.update(topic.decode() for topic in topics)
            if record.appended and last_us:
                worker = producer_of(found.agent.decode(), found.instance.decode())
                at = (self.numbers[worker], self.numbers[BROKER], last_us // HOUR_US)
                # The broker counts in milliseconds.
                gap = time_within(record.timestamp_ms * 1_000) + 999 - last_us
                rows.gaps[at] = min(gap, rows.gaps.get(at, gap))
        except (SchemaError, KeyError, TypeError, AttributeError, ValueError):
            # Whoever wrote that is no worker of this mesh; its neighbours count all the same.
            rows.unreadable += 1

    def _found(self, value: bytes) -> Found:
        """Return what a record of activity tells: by hand where it is of this release's own schema."""
        reference, ours = prefix_of(value), self._ours
        if reference not in ours and self.codec.known(reference) is not None:
            ours[reference] = is_ours(self.codec, reference)
        if ours.get(reference) and (found := found_in(value, len(header_of(reference)))) is not None:
            return found
        # Ids are text, and kept as bytes: they need not be text in between.
        data: dict[str, Any] = self.codec.read_raw(value)
        return Found(data["agent"], data["version"], data["instance"], data["deliveries"])

    def _plain(self, entry: Sequence[Any], agent: int, version: int, instance: int) -> tuple[Row, bytes]:
        """Return the row of an entry as `entries` finds it, and its topic."""
        event, type, of, topic, attempt, outcome, started, duration, queue, emitted, made, confidence = entry
        keys, behind, long = self._keys, self._behind, self._longs
        row = (
            keys[of],
            keys[event],
            agent,
            self._moments.of(started),
            instance,
            long[attempt],
            behind[type],
            version,
            behind[outcome],
            long[duration],
            long[queue],
            None if confidence is None else real_in(confidence),
            None if emitted is None else self._heads.packed(keys[emitted], made),
            None,
        )
        return row, topic

    def _delivery(self, handled: Mapping[str, Any], agent: int, version: int, instance: int) -> Row:
        """Return the row of an entry as fastavro reads it."""
        numbers, keys = self._numbered, self._keys
        event, type, of, attempt, outcome, started_us, duration_us, queue_us, emitted, error = _of(handled)
        if (abs(started_us) | abs(duration_us) | abs(queue_us)) >> _TIME_BITS:
            raise ValueError
        logs = handled.get("logs")
        return (
            keys[of],
            keys[event],
            agent,
            started_us,
            instance,
            attempt,
            numbers[type],
            version,
            numbers[outcome],
            duration_us,
            queue_us,
            handled.get("confidence"),
            packed(emitted, keys, numbers) if emitted else None,
            _told(error, logs) if error is not None or logs else None,
        )

    def _calls(self, known_by: Row, version: int, usage: Iterable[Mapping[str, Any]], rows: Rows) -> None:
        for call, spent in enumerate(usage):
            if (abs(spent["input_tokens"]) | abs(spent["output_tokens"])) >> _TOKEN_BITS:
                raise ValueError
            begun_us, lasted_us = spent.get("started_us"), spent.get("duration_us")
            if (abs(begun_us or 0) | abs(lasted_us or 0)) >> _TIME_BITS:
                raise ValueError
            rows.calls.append(
                (
                    *known_by,
                    call,
                    version,
                    self._numbered[spent["model"]],
                    spent["input_tokens"],
                    spent["output_tokens"],
                    spent["cost"],
                    spent["currency"].decode(),
                    begun_us,
                    lasted_us,
                )
            )

    def _worker(self, record: Record, source: int, rows: Rows) -> None:
        name = (record.key or b"").decode("utf-8", "replace")
        seen: str | None = None
        if record.value is not None:
            try:
                seen = self.codec.decode(AgentSeen, record.value).model_dump_json()
            except SchemaError:
                rows.unreadable += 1
        rows.workers.append((name, source, record.partition, record.offset, seen))


def _bounded(hops: int) -> int:
    # Anybody can write any number into a header; no database can keep it.
    return max(-_MOST_HOPS, min(hops, _MOST_HOPS))


def _told(error: Mapping[str, bytes] | None, logs: Iterable[Mapping[str, Any]] | None) -> str:
    """Return what few deliveries have, as JSON."""
    found: dict[str, Any] = {}
    if error is not None:
        found["error"] = _texts(error)
    if logs:
        found["logs"] = [_texts(line) for line in logs]
    return orjson.dumps(found).decode()


def _texts(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in part.items()}


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


def prefix_of(value: bytes) -> Reference:
    """Return what *value*'s header names its schema by, or what stands in its place."""
    return int.from_bytes(value[1:5], "big") if value[:1] == b"\0" else value[2:10]


def named(reference: Reference) -> str:
    """Return a reference as text.

    >>> named(17), named(b"\\xc3\\x01")
    ('#17', 'c301')
    """
    return f"#{reference}" if isinstance(reference, int) else reference.hex()
