"""What undoing costs: how many undos a second beside plain hops, and what the coordinator keeps of workflows, and for how long.

Workflows did something that can be undone, and wait; then each is
said to have failed: as many as keep the machine at it for several seconds, since what
one transaction carries comes at once. A plain hop is an event handled and answered by a worker;
behind an undo there are two of these, and what the coordinator makes of both.
Last, one of two coordinators is killed with -9, and workflows fail at once: what
counts is when undoing has begun on the last of the partitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from antiphon import Worker
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import COORDINATOR, Names
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing, Record
from antiphon.bus.schema_topic import TopicStore
from antiphon.compensation.agenda import RESERVED
from antiphon.compensation.coordinator import LINGER_S, coordinator
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.ids import root_id
from arrivals import arrivals, rate
from feed import ANSWERED, Feed, asked
from hops import Freed, Held, Lost, rooms
from running import WorkerProcess
from stage import PARTITIONS, Experiment, NotMeasuredError, Stage
from table import Figure, Pair, Unit
from takeover import session_timeout_s

SAGAS, LONG, _FEW = 10_000, 100_000, 200
UNDOS, HOPS = 60_000, 120_000
_LINGER_S = 0.5
_LOOK_S = 0.5
_MOST_S, _MOST_LONG_S = 120.0, 900.0
_BETWEEN_LOOKS = 5
"""Times as long as a look at all state takes: it is read by the process that is looked at."""

RATE = Figure("undoing", "undos of 60,000 workflows that failed, against plain hops", Unit.RATE, "0.5")
COST = Figure(
    "undoing",
    "processor time of an undo, the agent's and the coordinator's, against a plain hop's",
    Unit.MICROSECONDS,
    "",
)
MEMORY = Figure(
    "undoing", "the coordinator's memory with 10,000 workflows that can be undone, against none", Unit.MEGABYTES, ""
)
STATE = Figure("undoing", "its state of one of them, against the event that it would undo", Unit.BYTES, "")
GONE = Figure(
    "undoing",
    "its state after 10^4 workflows (10^5 with --long) have ended, against while they wait",
    Unit.MEGABYTES,
    "0.0",
)

BEYOND = Figure(
    "undoing",
    "from kill -9 of a coordinator to the first undos on all its partitions, beyond the session time-out",
    Unit.SECONDS,
    "1 s",
    beyond=True,
)


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Undo by a worker and a coordinator, each a process; hop by a worker; then see what is left when all has ended."""
    return {**await _undone(stage), GONE: await _ended(stage), BEYOND: await _taken_over(stage)}


async def _undone(stage: Stage) -> Mapping[Figure, Pair]:
    hops, hop_us = await _plain(stage)
    stage.say("undoing: workflows")
    names = stage.names("undoing")
    feed = _Workflows(stage, names, UNDOS)
    await feed.open()
    with (
        WorkerProcess(stage, names, "rooms") as worker,
        WorkerProcess(stage, names, COORDINATOR) as undoing,
    ):
        await worker.ready()
        await undoing.ready()
        before_mb = undoing.memory_mb
        await feed.begin(SAGAS)
        await arrivals(stage.bootstrap, names.topic(Held.__event__.topic), SAGAS, alive=worker.alive)
        kept = await _until(stage, names, lambda kept: len(kept) >= SAGAS, "every workflow to be known")
        after_mb = undoing.memory_mb
        await feed.begin(UNDOS - SAGAS, first=SAGAS)
        await _until(stage, names, lambda kept: len(kept) >= UNDOS, "every workflow to be known")
        stage.say("undoing: undos")
        before_s = worker.cpu_s + undoing.cpu_s
        await feed.fail()
        times = await arrivals(stage.bootstrap, names.topic(Freed.__event__.topic), UNDOS, alive=undoing.alive)
        undo_us = (worker.cpu_s + undoing.cpu_s - before_s) / UNDOS * 1e6
    return {
        RATE: (rate(times), hops),
        COST: (undo_us, hop_us),
        MEMORY: (after_mb, before_mb),
        STATE: (sum(kept.values()) / len(kept), feed.size),
    }


async def _plain(stage: Stage) -> tuple[float, float]:
    """Return how many hops a second there are, and the processor time of one in microseconds."""
    stage.say("undoing: plain hops")
    names = stage.names("undoing-hops")
    feed = Feed(stage, names)
    await feed.open()
    with WorkerProcess(stage, names, "answer") as worker:
        await worker.ready()
        records, before_s = [*feed.records(HOPS)], worker.cpu_s
        await feed.publish(records)
        times = await arrivals(stage.bootstrap, names.topic(ANSWERED), HOPS, alive=worker.alive)
        return rate(times), (worker.cpu_s - before_s) / HOPS * 1e6


async def _ended(stage: Stage) -> Pair:
    """Let workflows fail, be undone and be forgotten, in this process, by a coordinator that keeps nothing for long."""
    stage.say("undoing: what is left")
    count = LONG if stage.long else SAGAS
    names = stage.names("undoing-ended")
    feed = _Workflows(stage, names, count)
    await feed.open()
    # One that keeps nothing for long would forget the first of them before the last is known.
    async with _coordinated(stage, names, linger_s=LINGER_S):
        await feed.begin()
        kept = await _until(stage, names, lambda kept: len(kept) >= count, "every workflow to be known")
    async with _coordinated(stage, names, linger_s=_LINGER_S):
        await feed.fail()
        left = await _until(stage, names, lambda kept: not kept, "every workflow to be forgotten")
    return sum(left.values()) / 1e6, sum(kept.values()) / 1e6


@contextlib.asynccontextmanager
async def _coordinated(stage: Stage, names: Names, *, linger_s: float) -> AsyncIterator[None]:
    """Run the agent and a coordinator here."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=stage.bootstrap))
    store = TopicStore(bus, names, partitions=PARTITIONS)
    consumers = [rooms.consumer(), coordinator(linger_s=linger_s)]
    worker = Worker(bus, consumers, names=names, store=store, partitions=PARTITIONS)
    run = asyncio.create_task(worker.run())
    try:
        await worker.ready.wait()
        yield
    finally:
        worker.stop()
        await run
        await bus.close()


async def _taken_over(stage: Stage) -> Pair:
    """Kill one of two coordinators; raises where something is undone twice, or not at all."""
    stage.say("undoing: takeover after kill -9")
    session_s = await asyncio.to_thread(session_timeout_s, stage.bootstrap)
    names = stage.names("undoing-takeover")
    feed = _Workflows(stage, names, _FEW)
    await feed.open()
    agreed = {"ANTIPHON_SESSION_TIMEOUT": str(session_s)}
    with (
        WorkerProcess(stage, names, "rooms") as worker,
        WorkerProcess(stage, names, COORDINATOR, label="-victim", settings=agreed) as victim,
        WorkerProcess(stage, names, COORDINATOR, label="-heir", settings=agreed) as heir,
    ):
        for process in (worker, victim, heir):
            await process.ready()
        await feed.begin()
        await _until(stage, names, lambda kept: len(kept) >= _FEW, "every workflow to be known")
        victim.kill()
        killed_s = time.monotonic()
        await feed.fail()
        first_s: dict[int, float] = {}
        undone = Counter[bytes | None]()
        topic = names.topic(Freed.__event__.topic)
        bounds = await stage.bus.bounds([topic])
        async with asyncio.timeout(_MOST_S):
            async for record in stage.bus.read({tp: first for tp, (first, _) in bounds.items()}):
                first_s.setdefault(record.partition, time.monotonic() - killed_s)
                undone[record.key] += 1
                if len(undone) == _FEW:
                    break
        await asyncio.sleep(_LOOK_S)
        undos = len([record async for record in _all(stage, topic)])
    if undos != _FEW:
        message = f"expected each of {_FEW} workflows to be undone once, got {undos} undos"
        raise NotMeasuredError(message)
    return max(first_s.values()), session_s


async def _all(stage: Stage, topic: str) -> AsyncIterator[Record]:
    bounds = {tp: ends for tp, ends in (await stage.bus.bounds([topic])).items() if ends[0] < ends[1]}
    start = {tp: first for tp, (first, _) in bounds.items()}
    async for record in stage.bus.read(start, {tp: end for tp, (_, end) in bounds.items()}):
        yield record


class _Workflows(Feed):
    """Workflows that do something, and fail when they are told to."""

    def __init__(self, stage: Stage, names: Names, count: int) -> None:
        super().__init__(stage, names)
        self._stage = stage
        self._topics = names
        self._own = Codec(TopicStore(stage.bus, names, partitions=PARTITIONS))
        self._ids = [root_id() for _ in range(count)]
        self.size = len(asked(0).model_dump_json())

    async def open(self) -> None:
        await super().open()
        plain = (Held.__event__.topic, Lost.__event__.topic, Freed.__event__.topic)
        await self._stage.bus.create([TopicSpec(self._topics.topic(topic), PARTITIONS) for topic in plain])
        await self._own.announce([Held, Lost])
        self.size = len(self._own.encode(Held(**asked(0).__dict__)))

    async def begin(self, count: int | None = None, *, first: int = 0) -> None:
        """Have each do what can be undone, or *count* of them from the *first* on."""
        await self.publish(self.records(count or len(self._ids), first=first, workflow=self._ids.__getitem__))

    async def fail(self) -> None:
        """Say of each that it failed."""
        await self.publish([*self._lost()])

    def _lost(self) -> Iterator[Outgoing]:
        for n, id in enumerate(self._ids):
            envelope = Envelope.root(Lost.__event__.type, source="/benchmarks", correlation_id=id)
            topic = self._topics.topic(Lost.__event__.topic)
            yield Outgoing(topic, id.encode(), self._own.encode(Lost(name=f"n{n}")), to_headers(envelope))


async def _until(
    stage: Stage, names: Names, enough: Callable[[Mapping[str, int]], bool], what: str
) -> Mapping[str, int]:
    """Wait until what the coordinator keeps is *enough*; returns the size of each workflow's state, by id."""
    most_s = _MOST_LONG_S if stage.long else _MOST_S
    deadline = time.monotonic() + most_s
    while True:
        began = time.monotonic()
        kept = await _kept(stage, names)
        if enough(kept):
            return kept
        if time.monotonic() > deadline:
            message = f"expected {what} within {most_s:g} s, got {len(kept):,} workflows"
            raise NotMeasuredError(message)
        await asyncio.sleep(max(_LOOK_S, _BETWEEN_LOOKS * (time.monotonic() - began)))


async def _kept(stage: Stage, names: Names) -> dict[str, int]:
    topic = names.state(COORDINATOR)
    if topic not in await stage.bus.topics():
        return {}
    bounds = {tp: ends for tp, ends in (await stage.bus.bounds([topic])).items() if ends[0] < ends[1]}
    kept: dict[str, int] = {}
    if bounds:
        start = {tp: first for tp, (first, _) in bounds.items()}
        async for record in stage.bus.read(start, {tp: end for tp, (_, end) in bounds.items()}):
            id = (record.key or b"").decode()
            kept.pop(id, None)
            if record.value is not None and not id.startswith(RESERVED):
                kept[id] = len(record.value)
    return kept


EXPERIMENT = Experiment((RATE, COST, MEMORY, STATE, GONE, BEYOND), once)
