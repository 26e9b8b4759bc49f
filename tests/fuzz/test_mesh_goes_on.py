"""A mesh in memory with spoilt records on every topic: whatever is good is done, and the rest is set aside or counted."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

from corpus import Corpus, newest
from fuzz import quiet
from keeping import empty
from mutator import Mutator
from troupe import (
    AGENTS,
    BookReturned,
    BookWanted,
    LoanFiled,
    MoveEnded,
    MoveWanted,
    StampCounted,
    VanReturned,
    moving,
)

from antiphon import Event
from antiphon.bus.consumer import Consumer
from antiphon.bus.memory import MemoryBus
from antiphon.bus.names import redrive_topic
from antiphon.bus.port import TopicSpec
from antiphon.bus.publisher import Published
from antiphon.bus.record import Outgoing, Record
from antiphon.bus.topics import ensure
from antiphon.compensation.coordinator import coordinator
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import SchemaError
from antiphon.testing.mesh import MemoryMesh, consumers_of
from antiphon.testing.waiting import eventually
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.state import State
from antiphon.tracing.tracer import Tracer

E = TypeVar("E", bound=Event)

EACH = 12
PATIENCE_S = 90.0
GOOD = ("first", "second")


def outgoing(record: Record) -> Outgoing:
    return Outgoing(record.topic, record.key, record.value, record.headers, record.partition)


def spoilt(corpus: Corpus, mutator: Mutator, topics: Iterable[str]) -> list[Outgoing]:
    """Return spoilt records of each topic: of the agenda none, as all that a partition waits for hangs on that one record."""
    found: list[Outgoing] = []
    for topic in topics:
        records = [
            one for one in corpus.topics[topic] if topic != "compensation.state" or b"agenda" not in (one.key or b"")
        ]
        found += [outgoing(mutator.record(mutator.draw.choice(records))) for _ in range(EACH)]
    return found


async def behind(mesh: MemoryMesh, consumers: Iterable[Consumer]) -> dict[str, int]:
    """Return how many records each consumer has not come past, where there are any."""
    bus = mesh.bus
    assert isinstance(bus, MemoryBus)
    left: dict[str, int] = {}
    for consumer in consumers:
        topics = {heard.__event__.topic for heard in consumer.hears.values()} | {redrive_topic(consumer.name)}
        committed = bus.committed(mesh.names.group(consumer.name))
        for place in await bus.bounds(topics):
            at = committed[place].offset if place in committed else 0
            if count := bus.log(place).count(at):
                left[f"{consumer.name} on {place.topic}[{place.partition}]"] = count
    return left


async def test_f26_spoilt_records_on_every_topic_stop_nobody() -> None:
    """Loans, moves, undoing and state go on; nobody stays behind; the tracer reads all there is, and counts what it cannot."""
    corpus = newest()
    mutator = Mutator(random.Random(26), corpus.donors)
    mesh = empty(corpus.kept.store())
    consumers = consumers_of([*AGENTS, moving, coordinator()])
    await ensure(mesh.bus, consumers, mesh.names, partitions=mesh.partitions, may_create=True)
    topics = sorted(corpus.topics)
    await mesh.bus.create([TopicSpec(topic, mesh.partitions) for topic in topics])
    # What the good ones were written with; without it all of theirs were unknown.
    await mesh.bus.publish([outgoing(record) for record in corpus.topics["antiphon.schemas"]])
    await mesh.bus.publish(spoilt(corpus, mutator, topics))
    asked: list[Published] = []
    with quiet():
        async with mesh.running(*AGENTS, moving, coordinator(), instance="one"):
            for turn in GOOD:
                asked += await mesh.publisher.publish([BookWanted(book=turn, member=f"{turn} member")])
                await mesh.publish(BookWanted(book=f"{turn} barred", member="barred"))
                await mesh.publish(MoveWanted(to=turn), MoveWanted(to="nowhere"))
                await done(mesh, turn)
                live = [topic for topic in topics if not topic.endswith(".state")]
                await mesh.bus.publish(spoilt(corpus, mutator, live))

            async def through() -> bool:
                return not await behind(mesh, consumers)

            try:
                await eventually(through, PATIENCE_S, what="everybody to be through")
            except TimeoutError as error:
                error.add_note(str(await behind(mesh, consumers)))
                raise
        database = Sqlite(None, writes=True)
        tracer = Tracer(mesh.bus, mesh.names, Codec(mesh.store), Writer(database), claims=mesh.claims)
        await tracer.catch_up()
        database.close()
        found = [
            await read_workflow(mesh.bus, mesh.names, Codec(mesh.store), one.correlation_id, claims=mesh.claims)
            for one in asked
        ]
    assert [workflow.state for workflow in found if workflow] == [State.COMPLETED] * len(GOOD)
    assert (tracer.counts.unreadable > 0, tracer.counts.behind) == (True, 0)
    letters = [record for topic in topics if topic.endswith(".dead") for record in await mesh.records(topic)]
    assert b"undecodable" in {dict(letter.headers).get("antiphon_dead_reason") for letter in letters}


async def done(mesh: MemoryMesh, turn: str) -> None:
    """Wait until all that was asked for in a turn was done: filed, undone, moved, counted."""
    wanted: list[Event] = [LoanFiled(book=turn), BookReturned(book=f"{turn} barred"), MoveEnded(to=turn)]

    async def there() -> bool:
        found = [event for one in (LoanFiled, BookReturned, MoveEnded) for event in await good(mesh, one)]
        counted = [one.count for one in await good(mesh, StampCounted) if one.member == f"{turn} member"]
        returned = [one.plate for one in await good(mesh, VanReturned)].count("van to nowhere")
        return all(one in found for one in wanted) and counted == [1] and returned >= GOOD.index(turn) + 1

    await eventually(there, PATIENCE_S, what=f"the {turn} turn to be done")


async def good(mesh: MemoryMesh, event_class: type[E]) -> list[E]:
    """Return the events of a class that can be read: those that stand there spoilt are nobody's."""
    found: list[E] = []
    for record in await mesh.records(event_class.__event__.topic):
        try:
            envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
            if envelope.type == event_class.__event__.type:
                found.append(mesh.codec.decode(event_class, record.value or b""))
        except SchemaError:
            continue
    return found
