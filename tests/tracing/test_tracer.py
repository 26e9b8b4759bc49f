"""A tracer on a mesh that really runs: it catches up, follows, and goes on where the index ends."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sqlite3
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Annotated

import pytest

from antiphon import Agent, Context, Event, PermanentError
from antiphon.schemas.condition import Condition
from antiphon.schemas.redaction import MASK, REDACT
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing import Index, Search
from antiphon.tracing.index import tables
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.errors import (
    IndexBusyError,
    IndexDamagedError,
    IndexFileError,
    IndexVersionError,
    NoIndexError,
)
from antiphon.tracing.index.rows import Rows
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.state import State
from antiphon.tracing.tracer import Tracer


class TicketOpened(Event):
    ticket: str
    email: Annotated[str, REDACT]


class TicketTriaged(Event):
    ticket: str
    queue: str


triage = Agent("triage")
answer = Agent("answer")


@triage.on(TicketOpened)
async def sort(ticket: TicketOpened, context: Context) -> TicketTriaged:
    context.spend(model="m-1", cost=0.25)
    if ticket.ticket == "poison":
        raise PermanentError("no")
    return TicketTriaged(ticket=ticket.ticket, queue="billing")


@answer.on(TicketTriaged)
async def say(ticket: TicketTriaged) -> None:
    """Answered elsewhere."""


@contextlib.contextmanager
def writing(path: Path | None, *, most_bytes: int | None = None) -> Generator[Writer]:
    """A writer for the length of the block."""
    database = Sqlite(path, writes=True, most_bytes=most_bytes)
    try:
        yield Writer(database)
    finally:
        database.close()


@contextlib.asynccontextmanager
async def tracing(mesh: MemoryMesh, path: Path) -> AsyncGenerator[Tracer]:
    """A tracer that runs for the length of the block, and is then gone as after kill -9: nothing is said or written any more."""
    with writing(path) as writer:
        tracer = Tracer(mesh.bus, mesh.names, mesh.codec, writer)
        running = asyncio.create_task(tracer.run())
        try:
            yield tracer
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def open_tickets(mesh: MemoryMesh, *tickets: str) -> list[str]:
    published = await mesh.publisher.publish(
        [TicketOpened(ticket=ticket, email="me@example.org") for ticket in tickets]
    )
    return [one.correlation_id for one in published]


def seen(path: Path) -> dict[str, str]:
    """Each workflow in the index with its state."""
    with Index.opened(path) as index:
        return {one.correlation_id: one.state.value for one in index.workflows(Search())}


async def until_seen(path: Path, expected: dict[str, str]) -> None:
    await eventually(lambda: seen(path) == expected, 30, what=f"the index to say {expected}")


async def test_it_follows_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """What happened while it was down is read when it is up again, and nothing twice."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(triage, answer):
        async with tracing(mesh, path) as tracer:
            first = await open_tickets(mesh, "1", "poison")
            await until_seen(path, {first[0]: "completed", first[1]: "failed"})
            assert tracer.counts.events == 3
        second = await open_tickets(mesh, "2")
        async with tracing(mesh, path) as tracer:
            await until_seen(path, {first[0]: "completed", first[1]: "failed", second[0]: "completed"})
            assert tracer.counts.events == 2
        with Index.opened(path) as index:
            for id in (*first, *second):
                straight = await read_workflow(mesh.bus, mesh.names, mesh.codec, id)
                kept = index.workflow(id)
                assert straight is not None
                assert kept is not None
                assert kept.document() == straight.document()


class Written:
    """Notes of each transaction how many events and how many deliveries are in it."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, int]] = []

    def writing(self, rows: Rows) -> None:
        """It is about to be written."""

    def written(self, rows: Rows) -> None:
        self.counts.append((len(rows.events), len(rows.deliveries)))


async def test_events_and_what_became_of_them_are_read_in_one_go() -> None:
    """A new index knows from heartbeats where events stand before it reads of what was handled: nothing is looked at twice."""
    mesh, written = MemoryMesh(), Written()
    async with mesh.running(triage, answer):
        await open_tickets(mesh, "1", "2", "3")
        await mesh.eventually(TicketTriaged, count=3)
        with writing(None) as writer:
            tracer = Tracer(mesh.bus, mesh.names, mesh.codec, writer, listener=written)
            await tracer.catch_up()
    assert next(count for count in written.counts if any(count))[0] == 6
    assert tracer.counts.settled == 3


async def test_nobody_is_there_for_what_is_outstanding(tmp_path: Path) -> None:
    """The list says that it is stalled, and who is missing; it asks the clock, nothing is written for it."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    await mesh.prepare(triage, answer)
    async with mesh.running(triage, answer):
        pass
    async with mesh.running(triage), tracing(mesh, path):
        [id] = await open_tickets(mesh, "1")
        await until_seen(path, {id: "stalled"})
    with Index.opened(path) as index:
        [one] = index.workflows(Search(states=[State.STALLED]))
        assert (one.owing, one.unattended) == (("answer",), ("answer",))
        assert [*index.workflows(Search(states=[State.RUNNING]))] == []


async def test_what_is_to_be_redacted_never_reaches_the_file(tmp_path: Path) -> None:
    """Neither where it is shown nor in the bytes on the disk."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(triage, answer):
        [id] = await open_tickets(mesh, "1")
        with writing(path) as writer:
            await mesh.eventually(TicketTriaged, count=1)
            await Tracer(mesh.bus, mesh.names, mesh.codec, writer).catch_up()
    with Index.opened(path) as index:
        workflow = index.workflow(id)
    assert workflow is not None
    assert workflow.events[0].data == {"ticket": "1", "email": MASK}
    assert b"me@example.org" not in path.read_bytes()


async def test_search(tmp_path: Path) -> None:
    """By type, agent, state, time, and what stands in an event's data."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(triage, answer), tracing(mesh, path):
        first, poison, third = ids = await open_tickets(mesh, "1", "poison", "3")
        await until_seen(path, {first: "completed", poison: "failed", third: "completed"})
    with Index.opened(path) as index:

        def found(**wanted: object) -> set[str]:
            return {one.correlation_id for one in index.workflows(Search(**wanted))}  # type: ignore[arg-type]

        assert found(type="ticket.opened") == {*ids}
        assert found(type="ticket.triaged") == set()
        assert found(failed=True) == {poison}
        assert found(agent="answer") == {first, third}
        assert found(where=[Condition.parse("ticket=3"), Condition.parse("queue=billing")]) == {third}
        assert found(where=[Condition.parse("email=me@example.org")]) == set()
        [listed] = index.workflows(Search(limit=1, until_us=1 << 60))
        assert found(since_us=listed.begun_us + 1) == set()
        assert [one.correlation_id for one in index.find(first[:13])] == sorted(
            (id for id in ids if id.startswith(first[:13])), key=ids.index
        )
        triaged = next(event for event in index.workflow(third).events if event.envelope.parent_id)  # type: ignore[union-attr]
        assert [one.correlation_id for one in index.find(triaged.id)] == [third]


def _released(agent: Agent, version: str) -> Agent:
    released = copy.copy(agent)
    released.version = version
    return released


async def test_search_by_version(tmp_path: Path) -> None:
    """What a version handled, alone or of one agent: one attempt has to be both, whatever came of it."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    newer, first_answer = _released(triage, "2.1"), _released(answer, "2.1")
    async with tracing(mesh, path):
        async with mesh.running(triage, first_answer):
            before = await open_tickets(mesh, "1", "poison")
            expected: dict[str, str] = dict(zip(before, ("completed", "failed"), strict=True))
            await until_seen(path, expected)
        async with mesh.running(newer, answer):
            after = await open_tickets(mesh, "2", "poison")
            expected.update(zip(after, ("completed", "failed"), strict=True))
            await until_seen(path, expected)
    with Index.opened(path) as index:

        def found(**wanted: object) -> list[str]:
            return [one.correlation_id for one in index.workflows(Search(**wanted))]  # type: ignore[arg-type]

        assert {
            "2.1": found(version="2.1"),
            "triage 2.1": found(version="2.1", agent="triage"),
            "triage 2.1, failed": found(version="2.1", agent="triage", failed=True),
            "triage 2.1, the newest": found(version="2.1", agent="triage", limit=1),
            "triage 0": found(version="0", agent="triage"),
            "answer 2.1": found(version="2.1", agent="answer"),
            "answer 2.1, failed": found(version="2.1", agent="answer", failed=True),
            "of nobody": found(version="9") + found(version="2.1", agent="nobody") + found(version="triage"),
        } == {
            "2.1": [after[1], after[0], before[0]],
            "triage 2.1": [after[1], after[0]],
            "triage 2.1, failed": [after[1]],
            "triage 2.1, the newest": [after[1]],
            "triage 0": [before[1], before[0]],
            "answer 2.1": [before[0]],
            "answer 2.1, failed": [],
            "of nobody": [],
        }
        assert [index.versions(of) for of in (None, "triage", "nobody")] == [["0", "2.1"], ["0", "2.1"], []]


async def test_what_ended_long_ago_is_forgotten(tmp_path: Path) -> None:
    """By age what is outstanding stays; by size the oldest goes first. It is not read again."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(triage, answer):
        ids = await open_tickets(mesh, "1", "2", "3")
        await mesh.eventually(TicketTriaged, count=3)
        with writing(path) as writer:
            tracer = Tracer(mesh.bus, mesh.names, mesh.codec, writer)

            async def through() -> bool:
                await tracer.catch_up()
                return {*seen(path).values()} == {"completed"}

            await eventually(through, 30, what="all to be completed")
            assert writer.forget(before_us=1 << 62) == len(ids)
            await tracer.catch_up()
            assert seen(path) == {}
            later = await open_tickets(mesh, "4")
            await mesh.eventually(TicketTriaged, count=4)
            await tracer.catch_up()
            assert {*seen(path)} == {*later}
            assert writer.forget(most_bytes=0) == 1


def test_there_is_none(tmp_path: Path) -> None:
    """Nobody who only asks makes one."""
    with pytest.raises(NoIndexError, match="antiphon tracer run"):
        Index.opened(tmp_path / "index")
    assert [*tmp_path.iterdir()] == []


def test_one_of_a_newer_release(tmp_path: Path) -> None:
    """It says which form was expected, which came, and what to do; and leaves it as it is."""
    path = tmp_path / "index"
    with writing(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {tables.VERSION + 1}")
    before = path.read_bytes()
    for open_it in (lambda: Index.opened(path), lambda: Sqlite(path, writes=True)):
        with pytest.raises(IndexVersionError, match=f"form {tables.VERSION} or older, got form {tables.VERSION + 1}"):
            open_it()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 1_000, b"SQLite format 3\0" + b"\1" * 9_000])
def test_a_damaged_one(tmp_path: Path, content: bytes) -> None:
    """It says so, and that it can be made again."""
    path = tmp_path / "index"
    path.write_bytes(content)
    with pytest.raises(IndexDamagedError, match="antiphon tracer rebuild"):
        Sqlite(path, writes=True)


def test_another_programs_file(tmp_path: Path) -> None:
    """It is not touched."""
    path = tmp_path / "index"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (id)")
    before = path.read_bytes()
    with pytest.raises(IndexFileError, match="another program's"):
        Sqlite(path, writes=True)
    assert path.read_bytes() == before


def test_two_tracers_on_one(tmp_path: Path) -> None:
    """The second one is told; when the first one is gone, it may."""
    path = tmp_path / "index"
    with writing(path), pytest.raises(IndexBusyError, match="another tracer"):
        Sqlite(path, writes=True)
    with writing(path):
        pass


async def test_a_full_one_loses_nothing(tmp_path: Path) -> None:
    """What has no room is not written, nor is how far it was read; with room it goes on, and all is there."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(triage, answer):
        ids = await open_tickets(mesh, *(f"{n} {'x' * 1_000}" for n in range(200)))
        await mesh.eventually(TicketTriaged, count=200)
        with writing(path, most_bytes=300_000) as writer:
            tracer = Tracer(mesh.bus, mesh.names, mesh.codec, writer)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await tracer.catch_up()
            assert tracer.counts.waits > 0
        with writing(path) as writer:
            await Tracer(mesh.bus, mesh.names, mesh.codec, writer).catch_up()
    assert {*seen(path)} == {*ids}


async def test_a_locked_one_is_waited_for(tmp_path: Path) -> None:
    """While another program holds it nothing is lost, and then it goes on."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(triage, answer):
        with writing(path):
            pass
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            database = Sqlite(path, writes=True, patience_s=0.01)
            [id] = await open_tickets(mesh, "1")
            await mesh.eventually(TicketTriaged, count=1)
            with pytest.raises(IndexBusyError):
                Writer(database).source("any", "")
            other.execute("ROLLBACK")
            await Tracer(mesh.bus, mesh.names, mesh.codec, Writer(database)).catch_up()
            database.close()
    assert [*seen(path)] == [id]


async def test_topics_and_values_that_come_later(tmp_path: Path) -> None:
    """An agent that starts when the tracer runs already brings topics of its own; they are read from their beginning."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with tracing(mesh, path):
        async with mesh.running(triage):
            [id] = await open_tickets(mesh, "1")
            await until_seen(path, {id: "completed"})
        async with mesh.running(answer):
            await eventually(lambda: "answer" in agents(path, id), 30, what="the answer to be seen")


def agents(path: Path, id: str) -> tuple[str, ...]:
    with Index.opened(path) as index:
        return next(one.agents for one in index.workflows(Search()) if one.correlation_id == id)
