"""An index in PostgreSQL is what one in a file is, and several tracers may write it together."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon import Agent, Event
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.record import TopicPartition
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.codec import Codec
from antiphon.testing.conformance import IndexSuite
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.story import Says, Story
from antiphon.testing.waiting import eventually
from antiphon.tracing import By, Index, Search
from antiphon.tracing.clocks import BROKER
from antiphon.tracing.index import database as sqlite
from antiphon.tracing.index import tables
from antiphon.tracing.index.address import Place, opened
from antiphon.tracing.index.database import Database, Sqlite
from antiphon.tracing.index.errors import (
    IndexAwayError,
    IndexBusyError,
    IndexFileError,
    IndexVersionError,
    NoIndexError,
)
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.rebuilding import rebuilding
from antiphon.tracing.sharing import Share
from antiphon.tracing.tracer import Tracer
from tests.tracing.exporting import S, World
from tests.tracing.reading import Read, relevant
from tests.tracing.test_index import AT_US, content, corpus, in_order, states


class TestSqlite(IndexSuite):
    """In a file."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = Sqlite(tmp_path / "index", writes=True)
        yield database
        database.close()


class TestPostgres(IndexSuite):
    """In a schema of a database."""

    @pytest.fixture
    def database(self, shared: str) -> Iterator[Database]:
        database = opened(shared, writes=True)
        database.run("DELETE FROM notes")
        yield database
        database.close()


@pytest.mark.parametrize("kind", ["file", "database"])
def test_one_of_the_form_before_is_brought_up(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever writes to it next: of its calls no time is known, and replays are told from what it holds."""
    place: Place = tmp_path / "index" if kind == "file" else str(request.getfixturevalue("shared"))
    first = {2: tables.FORMS[2]}
    monkeypatch.setattr(sqlite, "FORMS", first)
    monkeypatch.setattr(sqlite, "VERSION", 2)
    if isinstance(place, Path):
        before: Database = Sqlite(place, writes=True)
    else:
        from antiphon.tracing.index.postgres import Postgres  # noqa: PLC0415 - an extra

        before = Postgres(place, writes=True, forms=first)
    call = (b"w", b"e", 1, 0, 1, 1, 0, 1, 1, 0, 0, 0.25, "USD")
    with before.transaction():
        before.run(f"INSERT INTO calls VALUES ({', '.join('?' * len(call))})", call)
        for workflow, more in ((b"w", '{"replay_of":"then"}'), (b"v", '{"key":"\\"replay_of\\":"}'), (b"u", None)):
            before.many(tables.EVENTS, [(workflow, 1, 0, 0, b"e", 1, 1, 0, None, 0, more)])
    before.close()
    monkeypatch.undo()
    with contextlib.closing(opened(place, writes=True)) as now:
        assert [*now.rows("SELECT * FROM calls")] == [(*call, None, None)]
        assert [*now.rows("SELECT * FROM replays")] == [(b"w",)]


@pytest.mark.parametrize("seed", range(6))
def test_two_that_write_make_the_index_of_one(seed: int, shared: str) -> None:
    """Whoever of the two reads what, in whatever order and however often, and whoever says how workflows stand."""
    mesh, _, records = corpus()
    chance = random.Random(seed)
    some = relevant(records)
    some += chance.sample(some, chance.randrange(len(some)))
    chance.shuffle(some)
    both = [Read(shared, mesh.codec), Read(shared, mesh.codec)]
    while some:
        size, read = chance.choice((1, 20, 1_000)), chance.choice(both)
        read.take(some[:size])
        some = some[size:]
        if chance.random() < 0.3:
            chance.choice(both).settle(AT_US - chance.choice((0, 60_000_000)))
    chance.choice(both).settle(AT_US + 1_000_000)
    chance.choice(both).settle(AT_US + 2_000_000)
    found, expected = content(both[0].database), in_order()
    asked = states(Index(both[1].database))
    for read in both:
        read.database.close()
    for table in expected:
        if table != "notes":
            assert found[table] == expected[table], table
    assert sorted(asked.values()) == ["compensated"] * 2 + ["running"] * 4


def test_a_file_and_a_database_answer_alike(shared: str) -> None:
    """Every question that can be asked."""
    mesh, ids, records = corpus()
    answers: list[Any] = []
    for place in (None, shared):
        read = Read(place, mesh.codec)
        read.take(relevant(records))
        read.settle(AT_US)
        index = Index(read.database)
        found: list[Any] = [[*index.workflows(wanted, at_us=AT_US)] for wanted in _searches()]
        found += [index.workflow(id, at_us=AT_US) for id in ids.values()]
        found += [index.find(id[:9]) for id in ids.values()]
        found += [index.find(event.id) for one in found if hasattr(one, "events") for event in one.events]
        found += (
            [index.cost(by) for by in By]
            + [index.versions(), index.versions("card")]
            + [index.confidence(threshold=0.5), index.durations()]
        )
        found += [index.states(at_us=AT_US), [*map(str, index.agents())], index.extent()._replace(bytes=0)]
        answers.append(found)
        read.database.close()
    assert answers[0] == answers[1]


def _searches() -> list[Search]:
    return [
        Search(),
        Search(failed=True, limit=1),
        Search(agent="card", slowest_first=True),
        Search(type="order.placed", until_us=1 << 60, longer_than_us=0),
        *(Search(version=version, agent=agent) for version in ("0", "1", "9") for agent in (None, "card", "stock")),
    ]


def test_there_is_none(shared: str) -> None:
    """Nobody who only asks makes one."""
    with pytest.raises(NoIndexError, match="antiphon tracer run"):
        Index.opened(shared)


def test_one_of_a_newer_release(shared: str) -> None:
    """It says which form was expected, which came, and what to do."""
    database = opened(shared, writes=True)
    database.run("UPDATE notes SET value = ? WHERE name = 'form'", (str(tables.VERSION + 1),))
    database.close()
    for writes in (False, True):
        with pytest.raises(IndexVersionError, match=f"form {tables.VERSION} or older, got form {tables.VERSION + 1}"):
            opened(shared, writes=writes)


def test_secrets_are_not_told(server: str) -> None:
    """Neither the address's login nor a password behind it stands in an error."""
    address = server.replace("tracer@", "me:se@cr/et@").replace("postgres?", "none?") + "?password=secret"
    for place in (address, address.replace("/postgres", "/none"), address + "&schema=Ä"):
        with pytest.raises(IndexFileError) as raised:
            opened(place, writes=True)
        assert ("***" in str(raised.value), "se@cr/et" in str(raised.value), "secret" in str(raised.value)) == (
            True,
            False,
            False,
        )


def test_it_is_made_again_beside_the_old_one(shared: str) -> None:
    """Which answers meanwhile; while a tracer writes to it nobody may; one that was given up is in nobody's way."""
    mesh, ids, records = corpus()
    old = Read(shared, mesh.codec)
    with pytest.raises(IndexBusyError, match="a tracer writes to it"), rebuilding(shared):
        pass
    old.take(relevant(records)[:5])
    before = Writer(old.database).identity()
    old.database.close()
    with contextlib.suppress(ZeroDivisionError), rebuilding(shared) as database:
        _ = 1 / 0
    with rebuilding(shared) as database:
        new = Read.__new__(Read)
        new.database, new.writer, new.codec = database, Writer(database), mesh.codec
        new.take(relevant(records))
        new.settle(AT_US)
        with pytest.raises(IndexBusyError, match="made again"):
            opened(shared, writes=True)
        with Index.opened(shared) as index:
            assert index.extent().workflows == 0
    with Index.opened(shared) as index:
        assert {*states(index)} == {*ids}
    again = opened(shared, writes=True)
    assert Writer(again).identity() != before
    again.close()


def test_a_connection_that_was_lost(shared: str) -> None:
    """What was under way has changed nothing, and can be done again."""
    database, other = opened(shared, writes=True), opened(shared, writes=True)
    rows = [("a", "1")]

    def cut() -> None:
        other.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def lose() -> None:
        with database.transaction():
            database.many(tables.NOTES, rows)
            cut()
            database.many(tables.NOTES, rows)

    with pytest.raises(IndexAwayError):
        lose()
    assert [*database.rows("SELECT value FROM notes WHERE name = 'a'")] == []
    with database.transaction():
        database.many(tables.NOTES, rows)
    assert [*database.rows("SELECT value FROM notes WHERE name = 'a'")] == [("1",)]
    database.close()
    other.close()


class Ordered(Event):
    n: int


class Packed(Event):
    n: int


pack = Agent("pack")
ALL = frozenset(range(4))


@pack.on(Ordered)
async def packed(ordered: Ordered) -> Packed:
    return Packed(n=ordered.n)


class Overtaken:
    """A bus on which, once it has said how far there is to read, somebody else goes further."""

    def __init__(self, bus: Bus, then: Callable[[], Awaitable[None]]) -> None:
        self._bus = bus
        self._then: Callable[[], Awaitable[None]] | None = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def bounds(self, topics: Iterable[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        found = await self._bus.bounds(topics, committed=committed)
        if self._then is not None:
            then, self._then = self._then, None
            await then()
        return found


async def test_one_that_is_overtaken_while_it_looks(shared: str) -> None:
    """What another one has read meanwhile is not taken for another topic of that name, and read again."""
    mesh = MemoryMesh()
    one, other = opened(shared, writes=True), opened(shared, writes=True)
    async with mesh.running(pack):

        async def handled(count: int) -> None:
            await mesh.publisher.publish([Ordered(n=n) for n in range(10)])
            await mesh.eventually(Packed, count=count)

        async def overtake() -> None:
            await handled(20)
            await Tracer(mesh.bus, mesh.names, mesh.codec, Writer(other)).catch_up()

        await handled(10)
        await Tracer(mesh.bus, mesh.names, mesh.codec, Writer(other)).catch_up()
        bus: Any = Overtaken(mesh.bus, overtake)
        await Tracer(bus, mesh.names, mesh.codec, Writer(one)).catch_up()
    extent = Index(one).extent()
    assert (extent.workflows, extent.events, extent.deliveries) == (20, 40, 20)
    one.close()
    other.close()


async def test_one_of_several_exports_what_all_have_read(shared: str, tmp_path: Path) -> None:
    """Each span once. When the one that exports is gone another goes on where it was; making the index again changes nothing."""
    one, two = (World(tmp_path, place=shared) for _ in range(2))
    two.endpoint = one.endpoint
    stories = [Story(f"0199f2c1-0000-7000-8000-{number:012x}") for number in range(4)]
    for story in stories:
        story.handled("triage", story.published("ticket.opened"), Says("ticket.triaged"))
    with two.tracing():
        with one.tracing():
            await one.read(stories[0])
            await two.read(stories[1])
            one.now_us = two.now_us = one.now_us + 60 * S
            assert [await one.exporter.send_due(), await two.exporter.send_due()] == [True, False]
            await two.read(stories[2])
            await one.read(stories[3])
        await two.send_all()
    with rebuilding(shared):
        pass
    with one.tracing():
        await one.read(*stories)
        await one.send_all()
    assert set(one.endpoint.names().values()) == {4}
    assert len({span.id for span in one.endpoint.took}) == len(one.endpoint.took)


@contextlib.asynccontextmanager
async def tracing(mesh: MemoryMesh, place: str) -> AsyncGenerator[tuple[Tracer, Share]]:
    """A tracer of those that share the index at *place*, gone when the block ends."""
    database = opened(place, writes=True)
    writer = Writer(database)
    share = Share(mesh.bus, mesh.names, index=writer.identity())
    tracer = Tracer(mesh.bus, mesh.names, Codec(mesh.store), writer, share=share)
    running = asyncio.create_task(tracer.run())
    try:
        yield tracer, share
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await share.leave()
        database.close()


@pytest.mark.kafka
async def test_two_tracers_in_one_group(kafka: str, namespace: str, shared: str) -> None:
    """Each reads a part of the partitions; when one is gone the other goes on with all; nothing lacks, nothing is twice."""
    names, bus = Names(namespace), KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    mesh = MemoryMesh(4, bus=bus, names=names, store=TopicStore(bus, names, partitions=4))

    def counted() -> tuple[dict[str, int], int, int]:
        with Index.opened(shared) as index:
            extent = index.extent()
            return index.states(), extent.events, extent.deliveries

    async def publish(count: int) -> None:
        await mesh.publisher.publish([Ordered(n=n) for n in range(count)])

    try:
        async with mesh.running(pack), tracing(mesh, shared) as (one, its):
            async with tracing(mesh, shared) as (two, others):

                def dealt() -> bool:
                    return (
                        its.partitions | others.partitions == ALL
                        and not its.partitions & others.partitions
                        and bool(its.partitions and others.partitions)
                    )

                await eventually(dealt, 90, what="each to have partitions of its own")
                await publish(400)
                expected = ({"completed": 400}, 800, 400)
                await eventually(lambda: counted() == expected, 90, what=f"{expected}")
                # Each counts what it wrote when that is done, which the index shows a moment before.
                await eventually(lambda: one.counts.events > 0 < two.counts.events, 30, what="each to have read some")
            await publish(100)
            expected = ({"completed": 500}, 1_000, 500)
            await eventually(lambda: counted() == expected, 90, what=f"{expected}")
            await eventually(lambda: its.partitions == ALL, 90, what="the one that is left to have them all")
        # The broker's clock is one that workers are compared with; on one machine none is off.
        database = opened(shared, writes=False)
        assert BROKER in {row[1] for row in content(database)["clocks"]}
        assert Index(database).clocks() == []
        database.close()
    finally:
        await bus.close()
