"""The tracer: reads a mesh's topics into an index, and keeps it up to date.

It moves no consumer group's offsets. How far it has read stands in the index, and
changes in one transaction with what was read: after a crash it goes on where
the index ends, and what it reads twice changes nothing. Where several share an
index, a group deals the partitions out among them, and does no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from antiphon.bus.claim import reference_in
from antiphon.bus.claims import Claims
from antiphon.bus.errors import BusError
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import ACTIVITY, AGENTS, SAGAS, Names
from antiphon.bus.port import Bus
from antiphon.bus.record import Record, TopicPartition
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import now_us
from antiphon.schemas.errors import RegistryError, SchemaError, UnknownSchemaError
from antiphon.schemas.store import AvroSchema, Reference
from antiphon.tracing.index.errors import IndexAwayError, IndexBusyError, IndexFileError, IndexFullError
from antiphon.tracing.index.index import AS_OF, BEHIND, CLUSTER
from antiphon.tracing.index.rows import Reader, Rows, Source, prefix_of
from antiphon.tracing.index.writing import Position, Writer
from antiphon.tracing.records import event_topics
from antiphon.tracing.sharing import Share

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told how many offsets are behind it, and how many there were to read."""

_AT_ONCE = 20_000
_LOOK_S = 2.0
_TEND_S = 60.0
_WAIT_S, _LONGEST_S = 0.5, 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeping:
    """What is kept in an index, and for how long."""

    age_s: float | None = None
    """How long ago a workflow may have ended; None: for ever."""
    most_bytes: int | None = None
    """The oldest go when it grows beyond that; None: it may grow."""


@dataclasses.dataclass
class Counts:
    """What a tracer has done since it began."""

    records: int = 0
    events: int = 0
    deliveries: int = 0
    unreadable: int = 0
    transactions: int = 0
    settled: int = 0
    forgotten: int = 0
    waits: int = 0
    """Times that it could not go on and waited: the disk was full, the index locked, the registry or the broker away."""
    behind: int = 0
    """Offsets not read, as of the last look."""
    as_of_us: int = 0
    heard_us: int = 0
    """What workers had told of themselves by then is read: so who hears what is known, as it was then."""


class Listener(Protocol):
    """Hears of what is read, on its way into the index."""

    def writing(self, rows: Rows) -> None:
        """They are about to be written. Where this raises an `IndexFileError` they are not; it may be called again."""
        ...

    def written(self, rows: Rows) -> None:
        """They are in the index. Called once for each, and never raises."""
        ...


class Tracer:
    """Reads all of a mesh, as readers see what is committed, into an index.

    Large values come from *claims*. A workflow that ended longer ago than is
    *kept* is neither read nor kept.
    """

    def __init__(  # noqa: PLR0913 - all from *keeping* on have a default
        self,
        bus: Bus,
        names: Names,
        codec: Codec,
        writer: Writer,
        *,
        claims: Claims | None = None,
        keeping: Keeping = Keeping(),
        since_ms: int | None = None,
        cluster: str = "",
        listener: Listener | None = None,
        share: Share | None = None,
    ) -> None:
        """*since_ms*: what is older is not read; by default what would not be kept. *cluster* is noted in the index.

        *share*: which partitions are for this one to read; None: all.
        """
        self.counts = Counts()
        self._bus = bus
        self._names = names
        self._codec = codec
        self._writer = writer
        self._claims = claims or Claims()
        self._keeping = keeping
        self._since_ms = since_ms
        self._cluster = cluster
        self._listener = listener
        self._share = share
        self._sources: dict[str, Source] = {}
        """By the topic's name on the cluster."""
        self._next: dict[TopicPartition, int] = {}
        self._unknown: set[Reference] = set()
        self._known: set[Reference] = set()
        self._reader = Reader(codec, self._sources, writer.numbers, names)
        self._tended_at = 0.0
        self._stands_since: float | None = None
        """Since when something is waited for."""
        self._told_us = 0
        self._told: Mapping[TopicPartition, int] = {}
        """How far heartbeats went, and when."""

    async def catch_up(self, progress: Progress | None = None) -> None:
        """Read up to what is committed now, and say how all of it stands.

        Raises `BusError` (an `IndexFileError` among them) and `RegistryError`: what
        was written until then stays, and the next call goes on from there.
        """
        await self._look()
        # Heartbeats come first: they tell on which topics events stand, and how a workflow stands costs least to say
        # when its events and its activity are there.
        agents = self._names.topic(AGENTS)
        await self._read_to({place: end for place, end in (await self._ends()).items() if place.topic == agents})
        await self._look()
        read = 0
        while True:
            stop = await self._ends()
            total = read + sum(end - self._next[place] for place, end in stop.items())

            def told(count: int, read: int = read, total: int = total) -> None:
                if progress is not None:
                    progress(min(read + count, total), total)

            read += await self._read_to(stop, told)
            if progress is not None:
                progress(total, total)
            # What was read may have told of other topics.
            if not await self._look():
                break
        await self._settle_all()
        self._tend()
        self._note(0)

    async def run(self) -> None:
        """Keep the index up to date until cancelled.

        What can pass is waited for: a broker or a registry that is away, a full
        disk, an index that is locked. Nothing is passed over meanwhile. Raises
        `IndexFileError` where only `antiphon tracer rebuild` helps.
        """
        while True:
            await self._persist(self.catch_up)
            await self._persist(self._follow)

    # -- reading ------------------------------------------------------------

    async def _read_to(
        self, stop: Mapping[TopicPartition, int], told: Callable[[int], None] = lambda count: None
    ) -> int:
        """Read from where it is up to *stop*; return how many records that were, and have that *told* meanwhile."""
        read = 0
        async with contextlib.aclosing(self._bus.read_batches({p: self._next[p] for p in stop}, stop)) as batches:
            async for records in _together(batches):
                await self._take(records)
                read += len(records)
                told(read)
        # Behind the last record stand marks of transactions, which no reader sees.
        self._pass(stop)
        return read

    async def _follow(self) -> None:
        """Read what comes, until there may be more to read than the topics that are read now."""
        if not self._next:
            await asyncio.sleep(_LOOK_S)
            return
        looked_at, turns = time.monotonic(), self._turns
        async with contextlib.aclosing(self._bus.read_batches(dict(self._next))) as batches:
            coming = asyncio.ensure_future(anext(batches))
            try:
                while True:
                    done, _ = await asyncio.wait([coming], timeout=_LOOK_S)
                    if done:
                        records = [*coming.result()]
                        coming = asyncio.ensure_future(anext(batches))
                        # What has come meanwhile goes along: an event and its activity come on different topics.
                        while len(records) < _AT_ONCE and await _is_there(coming):
                            records += coming.result()
                            coming = asyncio.ensure_future(anext(batches))
                        await self._take(records)
                        await self._settle_all()
                        self._note(self.counts.behind)
                    elif await self._is_behind():
                        return
                    if time.monotonic() - looked_at >= _LOOK_S:
                        self._tend()
                        if await self._look() or self._turns != turns:
                            return
                        looked_at = time.monotonic()
            finally:
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                    await coming

    @property
    def _turns(self) -> int:
        return 0 if self._share is None else self._share.turns

    async def _is_behind(self) -> bool:
        """Nothing came for a while: see whether that is all, or marks of transactions stand behind what was read."""
        # Also without news: somebody's word may count no longer.
        await self._settle_all()
        ends = await self._ends()
        self._note(sum(end - self._next[place] for place, end in ends.items()))
        return bool(ends)

    async def _look(self) -> bool:
        """See which topics there are to read; say whether there are others than before."""
        if self._share is not None:
            await self._share.join()
            self._next = {place: next for place, next in self._next.items() if self._has(place)}
        wanted = {self._names.topic(topic) for topic in self._topics()}
        asked_us = now_us()
        # Before the bounds: others that share the index go on, and nobody has read beyond an end that is asked for later.
        kept = self._writer.positions()
        bounds = await self._bus.bounds(wanted)
        bounds = {place: ends for place, ends in bounds.items() if self._has(place)}
        if self._is_told():
            agents = self._names.topic(AGENTS)
            self._told_us, self._told = asked_us, {at: end for at, (_, end) in bounds.items() if at.topic == agents}
        there = {place.topic for place in bounds}
        identities = await self._bus.identities(there)
        news = False
        since = await self._since(bounds)
        for topic in sorted(there):
            news |= self._place(topic, identities.get(topic, ""), bounds, kept, since)
        return news

    def _has(self, place: TopicPartition) -> bool:
        """Say whether a partition is for this one to read: of heartbeats all are, as who hears what decides what has ended."""
        return self._share is None or self._share.has(place.partition) or place.topic == self._names.topic(AGENTS)

    def _place(
        self,
        topic: str,
        identity: str,
        bounds: Mapping[TopicPartition, tuple[int, int]],
        kept: Mapping[tuple[int, int], int],
        since: Mapping[TopicPartition, int],
    ) -> bool:
        """Find where to go on with *topic*; say whether that is new."""
        places = {place: ends for place, ends in bounds.items() if place.topic == topic}
        again = itertools.count(1)
        source = self._writer.source(self._names.plain(topic), identity)
        # A broker that does not tell one topic from the next of its name shows by its offsets that it is another.
        while any(kept.get((source.no, place.partition), 0) > end for place, (_, end) in places.items()):
            source = self._writer.source(self._names.plain(topic), f"{identity}#{next(again)}")
        is_same = self._sources.get(topic) == source and places.keys() <= self._next.keys()
        self._sources[topic] = source
        for place, (first, _) in places.items():
            fresh = max(since.get(place, 0), first)
            known = self._next.get(place) if is_same else None
            self._next[place] = kept.get((source.no, place.partition), fresh) if known is None else known
        return not is_same

    def _topics(self) -> set[str]:
        """Return the plain names of the topics to read: as agents tell, and as activity tells."""
        agents: Iterable[AgentSeen] = self._writer.workers().values()
        return {ACTIVITY, AGENTS, SAGAS} | event_topics(agents) | self._writer.topics()

    async def _since(self, bounds: Mapping[TopicPartition, tuple[int, int]]) -> Mapping[TopicPartition, int]:
        since_ms, age_s = self._since_ms, self._keeping.age_s
        if since_ms is None and age_s is not None:
            since_ms = int((time.time() - age_s) * 1_000)
        fresh = [place for place in bounds if place not in self._next and place.topic != self._names.topic(AGENTS)]
        if since_ms is None or not fresh:
            return {}
        return await self._bus.offsets_at(fresh, since_ms)

    async def _ends(self) -> dict[TopicPartition, int]:
        """Return the ends of the partitions in which there is something that was not read."""
        bounds = await self._bus.bounds({place.topic for place in self._next})
        return {place: bounds[place][1] for place, next in self._next.items() if next < bounds.get(place, (0, 0))[1]}

    # -- writing ------------------------------------------------------------

    async def _take(self, records: Sequence[Record]) -> None:
        """Write *records*, and that they were read."""
        fetched = await self._fetch(records)
        schemas = await self._learn(records, fetched)
        reader = dataclasses.replace(
            self._reader,
            masked=frozenset(reference for reference in self._known if self._codec.hides(reference)),
            unknown=frozenset(self._unknown),
            fetched=fetched,
        )
        rows = reader.rows(records)
        # Plain pairs while it is done for every record: to make named ones takes five times as long.
        ends = {(record.topic, record.partition): record.offset + 1 for record in records}
        reached = {TopicPartition(*place): end for place, end in ends.items()}
        await self._patiently(lambda: self._write(rows, self._positions(reached), schemas))
        self._next |= reached
        counts = self.counts
        counts.records += len(records)
        counts.events += len(rows.events)
        counts.deliveries += len(rows.deliveries)
        counts.unreadable += rows.unreadable
        counts.transactions += 1

    def _write(self, rows: Rows, reached: Sequence[Position], schemas: Mapping[Reference, AvroSchema]) -> None:
        if self._listener is not None:
            self._listener.writing(rows)
        self._writer.write(rows, reached, schemas)
        if self._listener is not None:
            self._listener.written(rows)

    async def _fetch(self, records: Iterable[Record]) -> dict[tuple[str, int, int], bytes | str]:
        """Fetch the large values, which stand elsewhere."""
        found: dict[tuple[str, int, int], bytes | str] = {}
        for record in records:
            if record.value or reference_in(record) is None:
                continue
            at = (record.topic, record.partition, record.offset)
            try:
                found[at] = await self._claims.value_of(record)
            except SchemaError as error:
                found[at] = str(error)
        return found

    async def _learn(
        self, records: Iterable[Record], fetched: Mapping[tuple[str, int, int], bytes | str]
    ) -> dict[Reference, AvroSchema]:
        """Learn the schemas of *records*; return those that were not known."""
        values = [record.value for record in records if record.value]
        values += [value for value in fetched.values() if isinstance(value, bytes)]
        headers = {value[:5] if value[:1] == b"\0" else value[:10] for value in values}
        learned: dict[Reference, AvroSchema] = {}
        for reference in sorted({prefix_of(header) for header in headers} - self._known, key=repr):
            try:
                await self._codec.learn(reference)
            except UnknownSchemaError:
                self._unknown.add(reference)
                continue
            except SchemaError as error:
                log.warning("a schema could not be used", extra={"reason": str(error)})
                self._unknown.add(reference)
                continue
            self._known.add(reference)
            self._unknown.discard(reference)
            schema = self._codec.known(reference)
            if schema is not None:
                learned[reference] = schema
        return learned

    def _positions(self, reached: Mapping[TopicPartition, int]) -> list[Position]:
        return [Position(self._sources[place.topic].no, place.partition, next) for place, next in reached.items()]

    def _pass(self, stop: Mapping[TopicPartition, int]) -> None:
        self._writer.pass_to(self._positions(stop))
        self._next |= stop

    async def _settle_all(self) -> None:
        while done := await self._patiently(lambda: self._writer.settle(now_us=now_us())):
            self.counts.settled += done
            await asyncio.sleep(0)
        if self._is_told():
            self.counts.heard_us = self._told_us

    def _is_told(self) -> bool:
        """Say whether all heartbeats are read that there were at the last look."""
        return all(self._next.get(place, 0) >= end for place, end in self._told.items())

    def _tend(self) -> None:
        """Forget, now and then, what is not to be kept any more."""
        if time.monotonic() - self._tended_at < _TEND_S:
            return
        age_s = self._keeping.age_s
        before_us = None if age_s is None else now_us() - int(age_s * 1_000_000)
        self.counts.forgotten += self._writer.forget(before_us=before_us, most_bytes=self._keeping.most_bytes)
        self._tended_at = time.monotonic()

    def _note(self, behind: int) -> None:
        self.counts.behind, self.counts.as_of_us = behind, now_us()
        with contextlib.suppress(IndexBusyError, IndexFullError, IndexAwayError):
            self._writer.note_all({AS_OF: str(self.counts.as_of_us), BEHIND: str(behind), CLUSTER: self._cluster})
            if self._stands_since is not None:
                log.info("reading goes on", extra={"after_s": round(time.monotonic() - self._stands_since, 1)})
                self._stands_since = None

    # -- going on -----------------------------------------------------------

    def _wait_for(self, error: Exception, level: int, message: str) -> None:
        """Say what is waited for: what it is stands in the error's own words, and not in where it was raised."""
        self.counts.waits += 1
        self._stands_since = self._stands_since or time.monotonic()
        log.log(level, message, extra={"reason": str(error)})

    async def _patiently(self, act: Callable[[], int | None]) -> int:
        """Do *act*; where the index is full or locked, make room and wait until it is not."""
        wait_s = _WAIT_S
        while True:
            try:
                return act() or 0
            except (IndexFullError, IndexBusyError, IndexAwayError) as error:
                self._wait_for(
                    error, logging.ERROR, "the index takes nothing; nothing is lost, and nothing is read until it does"
                )
                if isinstance(error, IndexFullError):
                    self._make_room()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_S)

    def _make_room(self) -> None:
        if self._keeping.most_bytes is None:
            return
        with contextlib.suppress(IndexFullError, IndexBusyError, IndexAwayError):
            self.counts.forgotten += self._writer.forget(most_bytes=self._keeping.most_bytes * 9 // 10)

    async def _persist(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do *act* until it was done once; wait longer and longer for what is away."""
        wait_s = _WAIT_S
        while True:
            try:
                await act()
            except (IndexBusyError, IndexFullError, IndexAwayError) as error:
                self._wait_for(
                    error, logging.ERROR, "the index takes nothing; nothing is lost, and nothing is read until it does"
                )
            except IndexFileError:
                raise
            except (BusError, RegistryError) as error:
                self._wait_for(error, logging.WARNING, "reading is interrupted, and goes on where it was")
            else:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_S)


async def _is_there(coming: asyncio.Future[Sequence[Record]]) -> bool:
    """Say whether it has come already; what it raises is raised where it is asked for."""
    for _ in range(2):
        await asyncio.sleep(0)
    return coming.done() and coming.exception() is None


async def _together(batches: AsyncGenerator[Sequence[Record], None]) -> AsyncGenerator[Sequence[Record], None]:
    """Yield many records at a time: what one transaction writes costs less the more it is."""
    held: list[Record] = []
    async for batch in batches:
        held += batch
        if len(held) >= _AT_ONCE:
            yield held
            held = []
    if held:
        yield held
