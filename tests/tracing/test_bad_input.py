"""What somebody else wrote, or broke, ends no tracer and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from pathlib import Path

import pytest

from antiphon import Agent, Event
from antiphon.bus.record import Outgoing, Record
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.store import MemoryStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing import Index, Search
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.errors import IndexDamagedError
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.rebuilding import rebuilding
from antiphon.tracing.tracer import Tracer
from tests.tracing.reading import Read


class Ordered(Event):
    n: int


class Packed(Event):
    n: int


pack = Agent("pack")


@pack.on(Ordered)
async def packed(ordered: Ordered) -> Packed:
    return Packed(n=ordered.n)


def seen(path: Path) -> dict[str, str]:
    with Index.opened(path) as index:
        return {one.correlation_id: one.state.value for one in index.workflows(Search())}


ODD: dict[str, list[tuple[str, bytes | None]]] = {
    "a count that no database holds": [("ce_hops", b"9" * 30)],
    "a count below nothing": [("ce_hops", b"-" + b"9" * 30)],
    "a count of digits that no number has": [("ce_hops", b"9" * 5_000)],
    "a time before all time": [("ce_time", b"0001-01-01T00:00:00Z")],
    "a time after all time": [("ce_time", b"9999-12-31T23:59:59.999999Z")],
    "a type with a character 0": [("ce_type", b"order\0placed")],
    "markup and controls": [("ce_type", b"\x1b[31m[bold]"), ("ce_source", "\u202e/evil".encode())],
    "no text": [("ce_id", b"\xff\xfe")],
    "an empty id": [("ce_correlationid", b"")],
    "itself as its cause": [("ce_causationid", b"e")],
    "thousands of causes": [("ce_causes", b",".join(b"%d" % n for n in range(5_000)))],
    "a value that is none": [("ce_time", None)],
}


@pytest.mark.parametrize("place", ["file", "database"])
def test_odd_headers(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each is read, or is no event; what stands beside it is read in any case, and shown."""
    where = tmp_path / "index" if place == "file" else request.getfixturevalue("shared")
    read = Read(where, Codec(MemoryStore()))
    plain = Envelope.root("order.placed", source="/shop", id="fine")
    records = [Record("order.placed", 0, 0, b"fine", b"", to_headers(plain), 1)]
    for n, odd in enumerate(ODD.values(), 1):
        base: dict[str, bytes | None] = dict(to_headers(Envelope.root("order.placed", source="/shop", id=f"odd-{n}")))
        records.append(Record("order.placed", 0, n, f"odd-{n}".encode(), b"", [*{**base, **dict(odd)}.items()], 1))
    read.take(records)
    read.settle(1)
    index = Index(read.database)
    listed = [one.correlation_id for one in index.workflows(Search())]
    assert "fine" in listed
    assert len(listed) >= len(ODD) - 2
    for id in listed:
        workflow = index.workflow(id)
        assert workflow is not None
        assert workflow.document()["correlation_id"] == id
    read.database.close()


async def test_an_index_that_is_damaged_while_it_is_written(tmp_path: Path) -> None:
    """The tracer says so and ends, as waiting does not help; made again, all is there."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(pack):
        published = await mesh.publisher.publish([Ordered(n=n) for n in range(300)])
        await mesh.eventually(Packed, count=300)
        database = Sqlite(path, writes=True)
        await Tracer(mesh.bus, mesh.names, mesh.codec, Writer(database)).catch_up()
        database.settle()
        database.close()
        content = path.read_bytes()
        path.write_bytes(content[:8_192] + b"\xa5" * (len(content) - 8_192))
        later = await mesh.publisher.publish([Ordered(n=n) for n in range(300)])
        await mesh.eventually(Packed, count=600)

        async def run() -> None:
            database = Sqlite(path, writes=True)
            try:
                await Tracer(mesh.bus, mesh.names, mesh.codec, Writer(database)).run()
            finally:
                database.close()

        with pytest.raises(IndexDamagedError, match="antiphon tracer rebuild"):
            await asyncio.wait_for(run(), 60)
        with rebuilding(path) as again:
            await Tracer(mesh.bus, mesh.names, mesh.codec, Writer(again)).catch_up()
    assert seen(path) == {one.correlation_id: "completed" for one in (*published, *later)}


async def test_a_lock_that_comes_and_goes_ends_no_tracer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever it meets it: while it reads, while it notes how far it is. The log says why it waits, without a traceback, and when it goes on."""
    caplog.set_level(logging.INFO, logger="antiphon.tracing.tracer")
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(pack):
        database = Sqlite(path, writes=True, patience_s=0.01)
        tracer = Tracer(mesh.bus, mesh.names, mesh.codec, Writer(database))
        running = asyncio.create_task(tracer.run())
        try:
            await eventually(lambda: tracer.counts.as_of_us > 0, 30, what="it to catch up once")
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as locking:
                locking.execute("BEGIN IMMEDIATE")
                published = await mesh.publisher.publish([Ordered(n=n) for n in range(5)])
                await mesh.eventually(Packed, count=5)
                await eventually(lambda: tracer.counts.waits > 0, 30, what="it to wait")
                locking.execute("ROLLBACK")
            expected = {one.correlation_id: "completed" for one in published}
            await eventually(lambda: seen(path) == expected, 60, what="all to be read")
            await eventually(lambda: "reading goes on" in caplog.messages, 30, what="it to say so")
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            database.close()
    waited = [one for one in caplog.records if "takes nothing" in one.message]
    assert {("another program has it locked" in vars(one)["reason"], one.exc_info) for one in waited} == {(True, None)}


async def test_records_of_others_on_the_meshs_own_topics(tmp_path: Path) -> None:
    """They are counted and passed over; their neighbours are read."""
    mesh, path = MemoryMesh(), tmp_path / "index"
    async with mesh.running(pack):
        odd = [
            Outgoing("antiphon.activity", b"?", value, [])
            for value in (b"", None, b"{}", b"\xc3\x01" + b"?" * 30, b"\0\0\0\0\x07abc")
        ]
        await mesh.bus.publish([*odd, Outgoing("antiphon.agents", b"\xff", b"no heartbeat", [])])
        [published] = await mesh.publisher.publish([Ordered(n=1)])
        await mesh.eventually(Packed, count=1)
        database = Sqlite(path, writes=True)
        tracer = Tracer(mesh.bus, mesh.names, mesh.codec, Writer(database))
        await tracer.catch_up()
        database.close()
    assert seen(path) == {published.correlation_id: "completed"}
    assert tracer.counts.unreadable >= 4
