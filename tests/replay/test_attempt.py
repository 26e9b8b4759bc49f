"""What a handler finds when it looks around in a replay: what it found then, though nothing of it is made before it looks."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import Agent, Event
from antiphon.bus.delivery import current
from antiphon.bus.handler import Handler
from antiphon.bus.middleware.lineage import lineage, unsealed
from antiphon.bus.record import Record
from antiphon.replay.attempt import unread
from antiphon.replay.compare import Kind
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec, header_of, reference_of
from antiphon.schemas.envelope import Envelope, from_headers, to_headers
from antiphon.schemas.errors import NotAnEventError
from antiphon.schemas.event import envelope_of
from antiphon.schemas.store import AvroSchema, MemoryStore, Reference
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.replay.claims import again, recorded

_TEXT = st.text(st.characters(codec="ascii", exclude_characters=","), min_size=1, max_size=8)
_ENVELOPES = st.builds(
    Envelope,
    id=_TEXT,
    type=_TEXT,
    source=_TEXT,
    time_us=st.integers(0, 1 << 50),
    correlation_id=_TEXT,
    parent_id=st.none() | _TEXT,
    causes=st.lists(_TEXT, max_size=2).map(tuple),
    deadline_us=st.none() | st.integers(0, 1 << 50),
    tenant=st.none() | _TEXT,
    key=st.none() | _TEXT,
)


class NumberHeard(Event):
    number: int


class NumberSaid(Event):
    number: int


def record_of(envelope: Envelope) -> Record:
    key = envelope.key or envelope.correlation_id
    return Record("t", 0, 0, key.encode(), b"", to_headers(envelope), 7)


@given(_ENVELOPES)
def test_an_envelope_that_is_read_late_is_the_one_that_is_read_at_once(envelope: Envelope) -> None:
    """Equal from both sides, copied, and with a field replaced."""
    record = record_of(envelope)
    at_once = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
    changed = dataclasses.replace(at_once, tenant="other")

    assert unread(record) == at_once
    assert at_once == unread(record)
    assert copy.copy(unread(record)) == at_once
    assert dataclasses.replace(unread(record), tenant="other") == changed
    assert unread(record) != changed


def test_an_envelope_that_cannot_be_read_says_so_where_it_is_looked_at() -> None:
    """And has no other attributes than an envelope."""
    record = Record("t", 0, 0, None, b"", [("ce_id", b"1")], 7)

    with pytest.raises(NotAnEventError, match="ce_type is missing"):
        _ = unread(record).correlation_id
    assert not hasattr(unread(record), "corelation_id")


async def test_a_handler_that_looks_at_all_of_its_delivery_finds_what_it_found_then() -> None:
    """But for `replaying`: the record, the envelope, when it began, and what nobody has reported yet."""
    looker, seen = Agent("looker", version="1.2"), list[object]()

    @looker.on(NumberHeard)
    async def look(heard: NumberHeard) -> None:
        found = current.get()
        assert found.event is heard
        assert found.envelope is envelope_of(heard)
        seen.append(
            (
                dataclasses.replace(found.record, timestamp_ms=0),
                found.envelope,
                (found.agent, found.version, found.attempt, found.started_us),
                (found.causes, found.budgets, found.spent_before, found.logs, found.effects),
                (found.usage, found.confidence, found.state_key, found.fields()),
                dict(found.state.mapping(found.state_key)),
            )
        )

    mesh = MemoryMesh(partitions=1)
    async with mesh.running(looker):
        await mesh.publish(NumberHeard(number=1))
        await eventually(mesh.handled, 30, what="it to be handled")
    [one] = await again(mesh, looker.consumer())
    then, now = seen

    assert (one.differences, one.raised) == ([], None)
    assert now == then


async def test_middleware_of_the_user_gets_in_a_replay_what_it_gets_in_production() -> None:
    """Events sealed in the same envelopes, both what came and what was said."""
    seen: list[tuple[str, list[str]]] = []

    def looking(handler: Handler) -> Handler:
        async def looked(event: Event) -> Sequence[Event]:
            produced = await handler(event)
            seen.append((envelope_of(event).id, [envelope_of(made).id for made in produced]))
            return produced

        return looked

    teller = Agent("teller", middleware=[looking])

    @teller.on(NumberHeard)
    async def tell(heard: NumberHeard) -> NumberSaid:
        return NumberSaid(number=heard.number)

    mesh = MemoryMesh(partitions=1)
    async with mesh.running(teller):
        await mesh.publish(NumberHeard(number=1))
        await eventually(mesh.handled, 30, what="it to be handled")
    [one] = await again(mesh, teller.consumer())

    assert one.differences == []
    assert seen == [seen[0]] * 2


def test_what_lineage_wraps_is_found_where_nothing_stands_around_it() -> None:
    """Whoever wraps it again is called as he is."""

    async def handler(event: Event) -> Sequence[Event]:
        return [event]

    sealing = lineage("teller")(handler)

    async def around(event: Event) -> Sequence[Event]:
        return await sealing(event)

    assert [unsealed(one) for one in (handler, sealing, around)] == [handler, handler, around]


class Registry(MemoryStore):
    """A store that names schemas by numbers."""

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        return schema_of(NUMBERED[reference]) if isinstance(reference, int) else None


NUMBERED = {1: NumberHeard, 2: NumberSaid}


@pytest.mark.parametrize(("more", "kinds"), [(0, []), (1, [Kind.CHANGED])])
async def test_what_was_written_through_a_registry_is_the_same_under_another_name_of_its_schema(
    more: int, kinds: list[Kind]
) -> None:
    """And what differs, differs."""
    adder, added = Agent("adder"), 0

    @adder.on(NumberHeard)
    async def add(heard: NumberHeard) -> NumberSaid:
        return NumberSaid(number=heard.number + added)

    mesh = MemoryMesh(partitions=1)
    async with mesh.running(adder):
        await mesh.publish(NumberHeard(number=1))
        await mesh.eventually(NumberSaid, count=1)
    found, added = await recorded(mesh), more
    numbers: dict[Reference, bytes] = {
        fingerprint(schema_of(event_class)): header_of(number) for number, event_class in NUMBERED.items()
    }
    events = {
        id: dataclasses.replace(record, value=numbers[reference_of(record.value or b"")] + (record.value or b"")[10:])
        for id, record in found.events.items()
    }
    recording = dataclasses.replace(found, events=events)
    replay = HandlerReplay(recording, [adder.consumer()], Codec(KeptSchemas(behind=Registry())))
    [one] = [one async for one in replay.run(recording.handlings)]

    assert [difference.kind for difference in one.differences] == kinds
