"""What a tracer's index costs: to write, beside SQLite alone; to ask; and a tracer on Kafka, beside the workers it has to keep up with.

The workflows are of three events and two deliveries each, activity a hundred
deliveries to the record, as records are when they come from Kafka.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from antiphon.agents import interpreter
from antiphon.bus.activity import Activity, Emitted, Handled
from antiphon.bus.heartbeat import AgentSeen, Heard
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import ACTIVITY, AGENTS
from antiphon.bus.record import Record, size_of
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, now_us, to_headers
from antiphon.schemas.event import Event
from antiphon.schemas.ids import caused_id, root_id
from antiphon.schemas.store import AvroSchema, MemoryStore, Reference
from antiphon.tracing import Index, Search
from antiphon.tracing.index import tables
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.rows import Reader
from antiphon.tracing.index.writing import Position, Writer
from antiphon.tracing.tracer import Tracer
from arrivals import arrivals
from bytecode import keeping_in
from feed import ANSWERED, Feed, asked
from following import followed
from hops import Answered, Asked
from running import WorkerProcess
from stage import PARTITIONS, Experiment, Stage
from table import Figure, Pair, Unit

WORKFLOWS, LONG = 20_000, 333_000
HOPS = 40_000
_AT_ONCE = 20_000
_WIDTH = 12
_TOGETHER = 100
_DEEP, _CHAIN = 1_000, 10_000
_LIST = 20

WRITE = Figure(
    "seeing", "indexing 60,000 events, states and all, against SQLite's executemany of the same rows", Unit.RATE, "0.5"
)
SIZE = Figure("seeing", "bytes of index an event, against those of its records", Unit.BYTES, "")
TRACE = Figure(
    "seeing",
    "a workflow of 1,000 events out of 60,000 (10^6 with --long), against reading its rows",
    Unit.MILLISECONDS,
    "50 ms",
)
LONG_CHAIN = Figure(
    "seeing",
    "a workflow of 10,000 events, against reading its rows",
    Unit.MILLISECONDS,
    "",
)
COMMAND = Figure(
    "seeing",
    "`antiphon trace` of the one of 1,000, as a command, against an empty interpreter",
    Unit.MILLISECONDS,
    "400 ms",
)
FOLLOW = Figure(
    "seeing",
    "from an event's acknowledgement to its line in `antiphon trace --follow`, the longest of 20, against a bare reader",
    Unit.MILLISECONDS,
    "500 ms",
)
FAILED = Figure(
    "seeing",
    "the newest 20 that failed out of 20,000 workflows (333,000 with --long), against counting all",
    Unit.MILLISECONDS,
    "100 ms",
)
KEEPS_UP = Figure("seeing", "a tracer on Kafka, hops indexed, against hops of one worker", Unit.RATE, "2")


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Index records out of memory, then ask; and index from Kafka what a worker did."""
    with tempfile.TemporaryDirectory(dir=stage.folder) as folder, _as_a_tracer():
        found = await _indexed(stage, Path(folder))
    follows = await followed(stage)
    with _as_a_tracer():
        return {**found, FOLLOW: follows, KEEPS_UP: await _kept_up(stage)}


@contextlib.contextmanager
def _as_a_tracer() -> Generator[None]:
    """Have the interpreter look for garbage as seldom as `antiphon tracer run` has it, and afterwards as before."""
    thresholds, interval_s = gc.get_threshold(), sys.getswitchinterval()
    gc.collect()
    interpreter.settle()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval_s)


async def _indexed(stage: Stage, folder: Path) -> dict[Figure, Pair]:
    stage.say("seeing: writing")
    mesh = _Mesh()
    await mesh.open()
    place = folder / "index"
    reading = _Reading(place, mesh.codec)
    wrote_s, events, size = reading.read(mesh.records(WORKFLOWS))
    ours = reading.bytes() / events
    bare_s = _bare(reading.database, folder / "bare")
    if stage.long:
        stage.say("seeing: many")
        reading.read(mesh.records(LONG - WORKFLOWS))
    for id, count in ((mesh.deepest, _DEEP), (mesh.longest, _CHAIN)):
        reading.read(mesh.deep(id, count))
    stage.say("seeing: asking")
    with Index.opened(place) as index:
        traced = _best(lambda: index.workflow(mesh.deepest))
        chain = _best(lambda: index.workflow(mesh.longest))
        listed = _best(lambda: [*index.workflows(Search(failed=True, limit=_LIST))])
        tables_of = ("events", "payloads")
        rows_s = _best(lambda: [_rows(reading.database, table, mesh.deepest) for table in tables_of])
        chain_s = _best(lambda: [_rows(reading.database, table, mesh.longest) for table in tables_of])
        count_s = _best(lambda: [*reading.database.rows("SELECT count(*) FROM workflows")])
        document = index.workflow(mesh.deepest)
    assert document is not None  # noqa: S101 - or nothing was measured
    assert len(document.events) == _DEEP  # noqa: S101 - likewise
    trace = ("-m", "antiphon.cli", "trace", mesh.deepest, "--from", "index", "--index", str(place))
    command = _best(lambda: _run(folder, *trace))
    empty = _best(lambda: _run(folder, "-c", ""))
    reading.database.close()
    return {
        WRITE: (events / wrote_s, events / bare_s),
        SIZE: (ours, size / events),
        TRACE: (traced * 1_000, rows_s * 1_000),
        LONG_CHAIN: (chain * 1_000, chain_s * 1_000),
        COMMAND: (command * 1_000, empty * 1_000),
        FAILED: (listed * 1_000, count_s * 1_000),
    }


class _Reading:
    """An index that is written from records in memory."""

    def __init__(self, path: Path, codec: Codec) -> None:
        self.database = Sqlite(path, writes=True)
        self._writer = Writer(self.database)
        self._codec = codec
        self._schemas: dict[Reference, AvroSchema] = {
            fingerprint(schema): schema for schema in map(schema_of, (Asked, Answered))
        }
        topics = (Asked.__event__.topic, Answered.__event__.topic, ACTIVITY, AGENTS)
        self._sources = {topic: self._writer.source(topic, "") for topic in topics}

    def read(self, records: Iterator[Record]) -> tuple[float, int, int]:
        """Index *records*; return the processor time without making them, how many were events, and the bytes of all."""
        seconds, events, size = 0.0, 0, 0
        while some := [*islice(records, _AT_ONCE)]:
            size += sum(map(size_of, some))
            began = time.process_time()
            rows = Reader(self._codec, self._sources, self._writer.numbers).rows(some)
            events += len(rows.events)
            last = some[-1]
            reached = [Position(self._sources[last.topic].no, last.partition, last.offset + 1)]
            self._writer.write(rows, reached, self._schemas)
            seconds += time.process_time() - began
        began = time.process_time()
        while self._writer.settle(now_us=now_us()):
            pass
        return seconds + time.process_time() - began, events, size

    def bytes(self) -> int:
        return self.database.size()


def _bare(database: Sqlite, path: Path) -> float:
    """Write the rows of *database* to tables as it has them, by executemany; return the processor time that took."""
    import sqlite3  # noqa: PLC0415 - here alone

    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -65536", "wal_autocheckpoint = 8000"):
        connection.execute(f"PRAGMA {pragma}")
    for form in sorted(tables.FORMS):
        connection.executescript(tables.FORMS[form])
    found: dict[str, tuple[str, list[Any]]] = {
        name: (statement, [*database.rows(f"SELECT * FROM {name}")])  # noqa: S608 - ours
        for name, statement in (
            ("events", tables.EVENTS),
            ("payloads", tables.PAYLOADS),
            ("deliveries", tables.DELIVERIES),
            ("workflows", tables.WORKFLOWS),
        )
    }
    began = time.process_time()
    for statement, rows in found.values():
        for first in range(0, len(rows), _AT_ONCE):
            connection.execute("BEGIN")
            connection.executemany(statement, rows[first : first + _AT_ONCE])
            connection.execute("COMMIT")
    seconds = time.process_time() - began
    connection.close()
    return seconds


def _best(act: Callable[[], Any]) -> float:
    """Return the processor time of the second time, of programs started too: what is asked twice is what is asked."""
    act()
    began = _used_s()
    act()
    return _used_s() - began


def _used_s() -> float:
    times = os.times()
    # Finer than the ticks of `times` for what this process did itself.
    return time.process_time() + times.children_user + times.children_system


def _run(folder: Path, *arguments: str) -> None:
    """Run an interpreter that keeps compiled modules from one time to the next, as one does of an installed package."""
    environment = keeping_in(folder / "compiled")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, *arguments], check=True, env=environment, **quiet)


def _rows(database: Sqlite, table: str, workflow: str) -> list[Any]:
    key = bytes.fromhex(workflow.replace("-", ""))
    return [*database.rows(f"SELECT * FROM {table} WHERE workflow = ?", (key,))]  # noqa: S608 - ours


class _Mesh:
    """Records as two agents would leave them: one asks back, one answers; of a hundred workflows one fails."""

    def __init__(self) -> None:
        self.codec = Codec(MemoryStore())
        self.deepest, self.longest = root_id(), root_id()
        self._offsets: dict[tuple[str, int], int] = {}
        self._pending: dict[tuple[str, int], list[Handled]] = {}

    async def open(self) -> None:
        classes: Sequence[type[Event]] = (Asked, Answered, Activity, AgentSeen)
        await self.codec.announce(classes)
        for reference in [self.codec.encode(asked(0))[2:10], self.codec.encode(self._answer(0))[2:10]]:
            await self.codec.learn(reference)
        await self.codec.learn(self.codec.encode(Activity(agent="a", version="1", instance="1", deliveries=[]))[2:10])

    def _answer(self, n: int) -> Answered:
        return Answered(**asked(n).__dict__)

    def records(self, count: int) -> Iterator[Record]:
        """Make the records of *count* workflows."""
        for agent in ("first", "second"):
            yield self._record(AGENTS, 0, f"{agent}/1", self.codec.encode(_heartbeat(agent)), [])
        for n in range(count):
            root = Envelope.root(Asked.__event__.type, source="/benchmarks")
            yield from self._event(root, n, asked(n))
            first = self._caused(root, "first")
            yield from self._handled(root, "first", first, n)
            yield from self._event(first, n, self._answer(n))
            yield from self._handled(first, "second", second := self._caused(first, "second"), n, fails=n % 100 == 0)
            yield from self._event(second, n, self._answer(n))
        yield from self._flushed(1)

    def deep(self, id: str, count: int) -> Iterator[Record]:
        """Make the records of one workflow, each of whose events led to the next."""
        envelope = Envelope.root(Asked.__event__.type, source="/benchmarks", id=id)
        yield from self._event(envelope, 0, asked(0))
        for n in range(1, count):
            caused = self._caused(envelope, "first")
            yield from self._handled(envelope, "first", caused, 0)
            yield from self._event(caused, 0, self._answer(n))
            envelope = caused
        yield from self._flushed(1)

    def _caused(self, cause: Envelope, agent: str) -> Envelope:
        return dataclasses.replace(
            cause,
            id=caused_id(cause.id, agent, 0),
            type=Answered.__event__.type,
            source=f"/agents/{agent}",
            time_us=cause.time_us + 500,
            parent_id=cause.id,
            hops=cause.hops + 1,
        )

    def _event(self, envelope: Envelope, n: int, event: Event) -> Iterator[Record]:
        value, headers = self.codec.encode(event), to_headers(envelope)
        yield self._record(event.__event__.topic, n % _WIDTH, envelope.correlation_id, value, headers)

    def _handled(self, event: Envelope, agent: str, made: Envelope, n: int, *, fails: bool = False) -> Iterator[Record]:
        pending = self._pending.setdefault((agent, n % _WIDTH), [])
        pending.append(
            Handled(
                event_id=event.id,
                event_type=event.type,
                correlation_id=event.correlation_id,
                topic=event.type,
                partition=n % _WIDTH,
                offset=n,
                attempt=1,
                outcome="completed",
                started_us=event.time_us + 200,
                duration_us=250,
                queue_us=200,
                emitted=[Emitted(id=made.id, type=made.type, fails=fails)],
            )
        )
        yield from self._flushed(_TOGETHER)

    def _flushed(self, at_least: int) -> Iterator[Record]:
        for (agent, number), pending in self._pending.items():
            if len(pending) >= at_least:
                activity = Activity(agent=agent, version="1", instance="1", deliveries=pending)
                yield self._record(ACTIVITY, number, "any", self.codec.encode(activity), [])
                pending.clear()

    def _record(
        self, topic: str, number: int, key: str, value: bytes, headers: list[tuple[str, bytes | None]]
    ) -> Record:
        offset = self._offsets.get((topic, number), 0)
        self._offsets[topic, number] = offset + 1
        return Record(topic, number, offset, key.encode(), value, headers, now_us() // 1_000)


def _heartbeat(agent: str) -> AgentSeen:
    heard = Asked if agent == "first" else Answered
    return AgentSeen(
        agent=agent,
        version="1",
        instance="1",
        started_us=0,
        time_us=now_us(),
        interval_s=3_600,
        hears=[Heard(type=heard.__event__.type, topic=heard.__event__.topic)] if agent == "first" else [],
        capacity=100,
    )


async def _kept_up(stage: Stage) -> Pair:
    """Let a worker answer, then read all of it into an index."""
    stage.say("seeing: hops")
    names = stage.names("seeing")
    feed = Feed(stage, names)
    await feed.open()
    with WorkerProcess(stage, names, "answer") as worker:
        await worker.ready()
        records = [*feed.records(HOPS)]
        with worker.frozen():
            await feed.publish(records)
        began_s = time.time()
        times = await arrivals(stage.bootstrap, names.topic(ANSWERED), HOPS, alive=worker.alive)
    # All of it: a busy worker commits in bursts, and between marks they would count for more than they are.
    hops_a_second = HOPS / (times[-1] - began_s)
    stage.say("seeing: a tracer")
    bus = KafkaBus(KafkaConfig(bootstrap_servers=stage.bootstrap))
    database = Sqlite(None, writes=True)
    try:
        tracer = Tracer(bus, names, Codec(TopicStore(bus, names, partitions=PARTITIONS)), Writer(database))
        began = time.perf_counter()
        await tracer.catch_up()
        seconds = time.perf_counter() - began
    finally:
        database.close()
        await bus.close()
    assert tracer.counts.deliveries == HOPS, tracer.counts  # noqa: S101 - or nothing was measured
    return HOPS / seconds, hops_a_second


EXPERIMENT = Experiment((WRITE, SIZE, TRACE, LONG_CHAIN, COMMAND, FAILED, FOLLOW, KEEPS_UP), once)
