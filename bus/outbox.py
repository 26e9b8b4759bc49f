"""What an attempt leaves on the wire: the records of emitted events, and its entry in the activity record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from antiphon.bus import entry
from antiphon.bus.claims import Claims
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Delivery, Outcome
from antiphon.bus.error_text import message_of, traceback_of
from antiphon.bus.errors import TooLargeError
from antiphon.bus.job import Finished, Job
from antiphon.bus.names import ACTIVITY, AGENTS, LOCKS, SCHEMAS, Names
from antiphon.bus.record import Outgoing
from antiphon.bus.telemetry import SILENT, Telemetry
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import to_headers
from antiphon.schemas.event import Event, envelope_of

# Fewer emitted events than this fit into an entry of the activity record.
_MANY = 1_000
# For a replay, which can do without; an entry must fit into a record.
_EFFECTS_ROOM = 65_536


class Outbox:
    """Turns what handlers return, and how they end, into what the committer commits."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        names: Names,
        codec: Codec,
        claims: Claims,
        partitions: int,
        partition_for: Callable[[bytes, int], int],
        telemetry: Telemetry = SILENT,
    ) -> None:
        self._consumer = consumer
        self._telemetry = telemetry
        self._names = names
        self._codec = codec
        self._claims = claims
        self._partitions = partitions
        self._partition_for = partition_for
        self._topics: dict[type[Event], str] = {}
        self._carried = consumer.undoes.keys() | consumer.tells
        """The types whose values stand in the activity record."""
        # What the mesh writes about itself leaves no activity, or its readers would feed themselves; and of a lock that is
        # freed, it is another workflow that hears.
        self._unseen = {names.topic(topic) for topic in (ACTIVITY, AGENTS, LOCKS, SCHEMAS)}

    def encode(self, produced: Sequence[Event]) -> tuple[list[Outgoing], list[bytes], list[bytes]]:
        """Return the records of sealed events, what activity says of each, and values that must be kept first.

        Raises `EncodeError`.
        """
        limit, undo_room = self._claims.limit, self._claims.undo_room
        large: list[bytes] = []
        kept = 0
        records: list[Outgoing] = []
        emitted: list[bytes] = []
        for event in produced:
            envelope = envelope_of(event)
            event_class = type(event)
            topic = self._topics.get(event_class)
            if topic is None:
                topic = self._topics[event_class] = self._names.topic(event_class.__event__.topic)
            value = self._codec.encode(event)
            key = (envelope.key if envelope.key is not None else envelope.correlation_id).encode()
            record = Outgoing(topic, key, value, to_headers(envelope))
            if len(value) + len(key) > limit:
                record = self._claims.outgoing(envelope.type, record)
                large.append(value)
            records.append(record)
            undo = told = None
            if envelope.type in self._carried:
                carried = value
                kept += len(value)
                if kept > undo_room:
                    carried = bytes(self._claims.claim_undo(envelope.type, value, kept))
                    large.append(value)
                    kept -= len(value)
                undo = carried if envelope.type in self._consumer.undoes else None
                told = carried if envelope.type in self._consumer.tells else None
            emitted.append(entry.emitted(envelope.id, envelope.type, event_class.__event__.fails, undo, told))
        if len(emitted) > _MANY:
            self._check_entry(emitted)
        return records, emitted, large

    def _check_entry(self, emitted: Sequence[bytes]) -> None:
        """Refuse what is too much to be told in one entry of the activity record."""
        size = sum(map(len, emitted))
        if size > self._claims.limit:
            remedy = "Emit fewer from one handling, for example by way of an event that is handled in turn"
            what = f"the list of {len(emitted)} events emitted at once"
            raise TooLargeError(what, size, self._claims.limit, remedy)

    def attempt(
        self,
        job: Job,
        delivery: Delivery | None,
        outcome: Outcome,
        *,
        error: BaseException | None = None,
        records: Sequence[Outgoing] = (),
        emitted: list[bytes] | None = None,
        changed: bool = False,
        final: bool = False,
    ) -> Finished:
        """Return what one attempt leaves to be committed."""
        duration_us = job.lasted_us
        self._telemetry.attempted(self._consumer.name, job, delivery, outcome, duration_us)
        envelope, record = job.envelope, job.record
        offset = record.offset if final else None
        if record.topic in self._unseen:
            return Finished(job.owned, offset, records, None)
        said = entry.handled(
            envelope.id,
            envelope.type,
            envelope.correlation_id,
            envelope.key,
            self._names.plain(record.topic),
            record.partition,
            record.offset,
            job.attempt,
            outcome,
            job.started_us,
            duration_us,
            job.started_us - envelope.time_us,
            emitted or [],
            _rest(job, delivery, error, changed=changed),
        )
        return Finished(job.owned, offset, records, said, self._activity_partition(job), job.by.version)

    def _activity_partition(self, job: Job) -> int:
        """The workflow's partition. What an agent emitted without a key of its own lies there already."""
        envelope = job.envelope
        if envelope.parent_id is not None and envelope.key is None and job.record.key is not None:
            return job.record.partition
        # A root may come from a client with a partitioner of its own.
        return self._partition_for(envelope.correlation_id.encode(), self._partitions)


def _rest(job: Job, delivery: Delivery | None, error: BaseException | None, *, changed: bool) -> bytes:
    """Write what of an attempt most have none of."""
    deadline_us = job.envelope.deadline_us
    failure = None if error is None else entry.failure(type(error).__name__, message_of(error), traceback_of(error))
    if delivery is None:
        return entry.rest(error=failure, deadline_us=deadline_us, changed=changed)
    is_plain = failure is None and deadline_us is None and delivery.confidence is None and delivery.logs is None
    if is_plain and not (delivery.causes or delivery.usage or delivery.effects):
        return entry.NO_MORE[changed]
    return entry.rest(
        causes=delivery.causes,
        error=failure,
        usage=delivery.usage,
        confidence=delivery.confidence,
        deadline_us=deadline_us,
        effects=_told(delivery.effects) if delivery.effects else None,
        changed=changed,
        logs=() if delivery.logs is None else delivery.logs.lines(),
    )


def _told(effects: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what activity tells of side effects' results: those there is room for."""
    room, told = _EFFECTS_ROOM, dict[str, bytes]()
    for name, result in effects.items():
        value = orjson.dumps(result)
        if len(value) <= room:
            told[name] = value
            room -= len(value)
    return told
