"""Running again for real: past events published once more, as new ones, to whoever hears them now.

What followed from them then is not published: it follows again, or does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence

from antiphon.bus.claim import DATAREF
from antiphon.bus.claims import Claims
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.publisher import Published
from antiphon.bus.record import Outgoing, Record
from antiphon.bus.redrive import COUNT, EDITED, FROM
from antiphon.replay.pace import Pace
from antiphon.replay.recording import Handling, Recording
from antiphon.schemas.envelope import Envelope, from_headers, now_us, to_headers
from antiphon.schemas.ids import root_id

SOURCE = "/replays"
_OURS = frozenset({"traceparent", COUNT, EDITED, FROM, DATAREF})
_MESH = "antiphon."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Again:
    """One past event that is to be published once more."""

    handling: Handling
    topic: str
    """The plain name."""
    record: Record


@dataclasses.dataclass(frozen=True)
class Republished:
    """A past event's id, and what it is now."""

    replay_of: str
    now: Published


def again(recording: Recording, chosen: Sequence[Handling]) -> list[Again]:
    """Return the events to publish: those that *chosen* handled and that did not follow from one another, in order.

    Left out is what is gone, and what the mesh itself said.
    """
    followed = {emitted.id for handling in chosen for emitted in handling.entry.emitted}
    found: dict[str, Again] = {}
    for handling in chosen:
        entry = handling.entry
        # As everybody heard it, not as one agent was given it.
        record = recording.events.get(entry.event_id)
        if record is None or entry.event_id in followed or entry.event_type.startswith(_MESH):
            continue
        found.setdefault(entry.event_id, Again(handling=handling, topic=_topic(handling, chosen), record=record))
    return [*found.values()]


def _topic(handling: Handling, chosen: Sequence[Handling]) -> str:
    """Return the event's own topic, also where it was redriven on another one."""
    id = handling.entry.event_id
    topics = [one.entry.topic for one in chosen if one.entry.event_id == id]
    return next((topic for topic in topics if not topic.endswith(".redrive")), handling.entry.event_type)


class LiveReplay:
    """Publishes events once more. Each gets a new id, those of one workflow one new workflow, and says what it is a replay of."""

    def __init__(self, bus: Bus, names: Names, *, claims: Claims | None = None, pace: Pace | None = None) -> None:
        self._bus = bus
        self._names = names
        self._claims = claims or Claims()
        self._pace = pace or Pace()

    async def run(self, events: Sequence[Again]) -> AsyncGenerator[Republished, None]:
        """Publish *events* one after the other, and yield what each became. Raises `BusError`, and `ClaimStoreError`."""
        workflows = _workflows(events)
        for one in events:
            await self._pace.next(one.handling.entry.started_us)
            envelope = _envelope(one, workflows)
            record = await self._record(one, envelope)
            [position] = await self._bus.publish([record])
            plain = self._names.plain(position.topic)
            place = (plain, position.partition, position.offset)
            yield Republished(
                one.handling.entry.event_id, Published(envelope.id, envelope.correlation_id, envelope.type, *place)
            )

    async def _record(self, one: Again, envelope: Envelope) -> Outgoing:
        said = [(name, value) for name, value in one.record.headers if not _is_ours(name)]
        headers = [*to_headers(envelope), *said]
        key = (envelope.key or envelope.correlation_id).encode()
        value = one.record.value or b""
        outgoing = Outgoing(self._names.topic(one.topic), key, value, headers)
        if len(value) + len(key) > self._claims.limit:
            outgoing = self._claims.outgoing(envelope.type, outgoing)
            await self._claims.keep([value])
        return outgoing


def _is_ours(name: str) -> bool:
    return name.startswith("ce_") or name == "content-type" or name in _OURS


def _workflows(events: Sequence[Again]) -> Mapping[str, str]:
    """Return the new workflows' ids by those they were in: events of one shall meet again."""
    return {id: root_id() for id in dict.fromkeys(one.handling.entry.correlation_id for one in events)}


def _envelope(one: Again, workflows: Mapping[str, str]) -> Envelope:
    record, now = one.record, now_us()
    then = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
    workflow = workflows[then.correlation_id]
    is_root = then.id == then.correlation_id
    return Envelope(
        id=workflow if is_root else root_id(),
        type=then.type,
        source=SOURCE,
        time_us=now,
        correlation_id=workflow,
        # As much time as there was.
        deadline_us=None if then.deadline_us is None else now + max(0, then.deadline_us - then.time_us),
        budget=then.budget,
        tenant=then.tenant,
        replay_of=then.id,
        key=then.key,
    )
