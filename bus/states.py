"""The states of all partitions that one engine owns: restored, kept within bounds, copied to disk, expired.

    Kafka ──restore──▶ PartitionState ──commit──▶ changed ──write──▶ StateFile
      ▲                   (memory)                          │ and its checkpoint
      └── checkpoint: from where to replay next time ◀──────┘

A file holds what is committed, nothing else, and a checkpoint: an offset of the
changelog such that replaying from it on always gives the truth. ADR 11 says why
that holds, whoever wrote to the changelog meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self, TypeAlias, TypeVar
from urllib.parse import quote

from antiphon.bus.consumer import Consumer, Guarantee
from antiphon.bus.errors import BusError, CommitError, UnknownTopicError
from antiphon.bus.port import Bus
from antiphon.bus.record import Outgoing, Record, TopicPartition
from antiphon.bus.state import Memory, PartitionState, is_workflows
from antiphon.bus.state_file import Checkpoint, Entry, StateFile, StateFileBusyError, StateFileError
from antiphon.schemas.envelope import now_us

log = logging.getLogger(__name__)
T = TypeVar("T")

OLDEST_S = 20 * 3600.0
"""How old a checkpoint may be. A deletion stays on a compacted topic for a day (`delete.retention.ms`) and no longer."""

_CHUNK = 2_000  # entries written, or read, while nobody else gets at the disk
_WAITING = 25_000  # entries that wait to be written while state is restored; the memory does not count them
_EXPIRING = 100  # keys in one transaction, among what else it carries
_TOLD_S = 5.0  # a restore that takes longer is told of, this often
_ROOM = 0.8  # of the memory is filled again
_CLOSE_S = 5.0  # a disk that hangs must not keep a process from ending

Prove: TypeAlias = Callable[[int, list[Outgoing]], Awaitable[bool]]
"""Commit records of a partition's state, in a transaction that begins now, with the offset that only its owner may commit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateSettings:
    """How state is kept by a worker."""

    folder: Path | None = None
    """Where copies last, for the next worker of the same instance; None: what has no room in memory goes to a temporary file."""
    memory: Memory = dataclasses.field(default_factory=Memory)
    """Shared by all engines that are given this."""
    every_s: float = 5.0
    """How often what changed is written to disk, and what is old expires."""
    clock_us: Callable[[], int] = now_us


class States:
    """What one engine keeps, by number of partition. Its files are used by a thread of its own, one call after another."""

    def __init__(self, bus: Bus, consumer: Consumer, *, topic: str, instance: str, settings: StateSettings) -> None:
        self._bus = bus
        self._agent = consumer.name
        self._topic = topic
        self._instance = instance
        self._memory = settings.memory
        self._every_s = settings.every_s
        self._clock_us = settings.clock_us
        self._expires_s = consumer.state_expires_s
        # Without transactions a zombie can write below what was the end: no checkpoint would hold.
        self._folder = settings.folder if consumer.guarantee is Guarantee.EXACTLY_ONCE else None
        self._kept: dict[int, _Kept] = {}
        self._thread = ThreadPoolExecutor(1, f"antiphon-state-{consumer.name}")
        self._disk = True
        self._failure: StateFileError | None = None
        self._wake = asyncio.Event()
        self.restored = 0
        """Records read from the changelog since the engine was made."""
        self.to_restore = 0
        """Offsets that are still to be read before the partitions being assigned are ready."""

    # Given and taken.

    async def restore(self, numbers: Iterable[int]) -> dict[int, PartitionState]:
        """Return the states of partitions that are assigned now: what their files lack is read from the changelog."""
        wanted = sorted(set(numbers))
        if not wanted:
            return {}
        self.drop(wanted)
        if not self._kept:
            self._failure = None
        try:
            await self._restore(wanted)
        except StateFileError as error:
            self._do_without_disk(error)
            self.drop(wanted)
            await self._restore(wanted)
        finally:
            self.to_restore = 0
        return {number: self._kept[number].state for number in wanted}

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget what is kept of partitions that are lost. What lasts on disk stays there, as of its checkpoint."""
        for number in numbers:
            kept = self._kept.pop(number, None)
            if kept is not None:
                kept.gone = True
                kept.state.release()
                kept.changed.clear()
                if kept.file is not None:
                    self._hand(kept.file.close)

    async def close(self) -> None:
        """Forget everything, and let go of the files."""
        self.drop(list(self._kept))
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._in_thread(lambda: None)  # what was handed to it before is done then
        except TimeoutError:
            log.warning("the disk does not answer; files of state are left open", extra={"agent": self._agent})
        self._thread.shutdown(wait=False)

    def committed(self, records: Iterable[Outgoing]) -> None:
        """Take note of a transaction that is visible: of what it wrote, state goes to disk in time."""
        if not any(kept.file is not None for kept in self._kept.values()):
            if self._memory.used > self._memory.most:
                self._wake.set()
            return
        now_ms = self._clock_us() // 1_000
        for record in records:
            if record.topic == self._topic and record.key is not None and record.partition is not None:
                kept = self._kept.get(record.partition)
                if kept is not None and kept.file is not None:
                    key = record.key.decode()
                    kept.changed[key] = Entry(key, record.value, now_ms if is_workflows(record.headers) else None)
                    kept.saved, kept.checkpoint = False, None
        if self._memory.used > self._memory.most:
            self._wake.set()

    @property
    def size(self) -> int:
        """Bytes of memory that state takes. Any thread may ask."""
        return sum(kept.state.size for kept in list(self._kept.values()))

    def check(self) -> None:
        """Raise `CommitError` where what a handler needs is on a disk that failed: all begins again, from Kafka."""
        if self._failure is not None:
            raise CommitError(self._failure.reason)

    # Restoring.

    async def _restore(self, wanted: Sequence[int]) -> None:
        identity = await self._identity()
        for number in wanted:
            self._kept[number] = await self._opened(number, identity)
        # All that was written, not what is committed: the previous owner's last
        # transaction may still be getting its markers although its offsets have
        # theirs, and its state must not be missed.
        bounds = await self._bus.bounds([self._topic], committed=False)
        time_ms = self._clock_us() // 1_000
        start: dict[TopicPartition, int] = {}
        stop: dict[TopicPartition, int] = {}
        for number in wanted:
            tp = TopicPartition(self._topic, number)
            if tp not in bounds:
                # To go on would be to go on without state.
                raise UnknownTopicError(self._topic, await self._bus.topics())
            first, end = bounds[tp]
            begin = await self._loaded(self._kept[number], identity, first, end, time_ms)
            if begin < end:
                start[tp], stop[tp] = begin, end
        if start:
            await self._replay(start, stop)
        for number in wanted:
            kept, tp = self._kept[number], TopicPartition(self._topic, number)
            kept.ready = True
            if tp in start and kept.lasting and identity is not None:
                # Whatever stands below the end is decided now that it has been read: nobody can add to it.
                kept.checkpoint, kept.saved = Checkpoint(identity, bounds[tp][0], bounds[tp][1], time_ms), False

    async def _identity(self) -> str | None:
        """Return the topic's identity, or None where no file can last."""
        if self._folder is None or not self._disk:
            return None
        return (await self._bus.identities([self._topic])).get(self._topic)

    async def _opened(self, number: int, identity: str | None) -> _Kept:
        state = PartitionState(self._topic, number, memory=self._memory, clock_us=self._clock_us)
        kept = _Kept(state, self)
        if identity is not None and self._folder is not None:
            path = self._folder / f"{self._topic}-{number}@{quote(self._instance, safe='')}.sqlite"
            kept.file = await self._in_thread(partial(self._open, path))
            kept.lasting = kept.file is not None
        if kept.file is not None:
            kept.state.hand_over(kept)
        return kept

    def _open(self, path: Path) -> StateFile | None:
        try:
            file, trouble = StateFile.opened(path)
        except StateFileError as error:
            log.warning("this partition's state is not copied to disk", extra={"reason": str(error), **self._fields()})
            return None
        if trouble is not None:
            self._warn_dropped(path, trouble)
        return file

    async def _loaded(self, kept: _Kept, identity: str | None, first: int, end: int, now_ms: int) -> int:
        """Take over what the partition's file holds; returns from which offset on the changelog is to be read."""
        file = kept.file
        if file is None or identity is None or file.is_new:
            return first
        try:
            checkpoint = await self._in_thread(lambda: file.checkpoint)
            trouble = _trouble(checkpoint, identity, first, end, now_ms)
            if checkpoint is not None and trouble is None:
                await self._load(kept, file)
                return checkpoint.end
        except StateFileBusyError:
            raise
        except StateFileError as error:
            trouble = error.reason
        if trouble is not None and file.path is not None:
            self._warn_dropped(file.path, trouble)
        number = kept.state.partition
        await self._in_thread(file.remove)
        kept.state.release()
        self._kept[number] = await self._opened(number, identity)
        return first

    async def _load(self, kept: _Kept, file: StateFile) -> None:
        entries = file.entries()
        try:
            while chunk := await self._in_thread(partial(_some, entries)):
                for key, value, _ in chunk:
                    kept.state.restored(key, value, None, written=True)
                if self._memory.used > self._memory.most * _ROOM:
                    kept.state.complete = False
                    return
        finally:
            await self._in_thread(entries.close)

    async def _replay(self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int]) -> None:
        clock = asyncio.get_running_loop().time
        began_s, told_s, before = clock(), clock(), self.restored
        ends = {tp.partition: end for tp, end in stop.items()}
        reached = {tp.partition: begin for tp, begin in start.items()}
        self.to_restore = sum(ends.values()) - sum(reached.values())
        async with aclosing(self._bus.read_batches(start, stop)) as batches, _Behind() as copying:
            async for batch in batches:
                self._take(batch, reached)
                self.restored += len(batch)
                self.to_restore = sum(ends.values()) - sum(reached.values())
                if self._memory.used > self._memory.most:
                    await copying.ended()
                    await self._make_room(None)
                elif sum(len(kept.changed) for kept in self._kept.values()) > _WAITING:
                    # The disk is as slow as the network: the next batches are read meanwhile.
                    await copying.ended()
                    copying.begin(self._flush_all())
                if clock() - told_s > _TOLD_S:
                    told_s = clock()
                    log.info("restoring state", extra={**self._progress(before), **self._fields()})
        self.to_restore = 0
        if clock() - began_s > _TOLD_S:
            log.info("state restored", extra={**self._progress(before), **self._fields()})

    def _take(self, batch: Sequence[Record], reached: dict[int, int]) -> None:
        for record in batch:
            number = record.partition
            reached[number] = record.offset + 1
            if record.key is None:
                continue
            try:
                key, value = record.key.decode(), record.value
            except UnicodeDecodeError:
                # No event has such a key, so nobody will ask for it.
                log.warning("a record of state has a key that is no text; passed over", extra=self._fields())
                continue
            since_ms = record.timestamp_ms if is_workflows(record.headers) else None
            kept = self._kept[number]
            kept.state.restored(key, value, since_ms)
            if kept.file is not None:
                kept.changed[key] = Entry(key, value, since_ms)
                kept.saved = False

    def _progress(self, before: int) -> dict[str, int]:
        return {"records": self.restored - before, "offsets_left": self.to_restore}

    # While it runs.

    async def tend(self, prove: Prove, busy: Callable[[], Collection[str]]) -> None:
        """Write to disk what changed, expire what is old, and keep within the memory, until cancelled.

        *busy* says which keys handlers are at: they stay in memory.
        """
        while True:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.tend_once(prove, busy)
            if self._failure is not None and self._kept:
                await prove(next(iter(self._kept)), [])  # which `check` refuses

    async def tend_once(self, prove: Prove, busy: Callable[[], Collection[str]]) -> None:
        """Do all of that once; what goes wrong with the disk ends its use, and raises nothing."""
        try:
            await self.save(prove)
            for kept in self._ready():
                await self._expire(kept, prove)
            if self._memory.used > self._memory.most:
                await self._make_room(prove, busy())
        except StateFileError as error:
            self._do_without_disk(error)
        except BusError as error:
            # The next time will do: until then a restart reads more of the changelog.
            log.warning("state was not copied to disk", extra={"reason": str(error), **self._fields()})

    async def save(self, prove: Prove) -> None:
        """Bring the files that last up to what is committed now, each with a checkpoint."""
        lasting = [kept for kept in self._ready() if kept.lasting and not kept.saved]
        fresh = [kept for kept in lasting if kept.checkpoint is not None]
        for kept in fresh:
            await self._flush(kept, kept.checkpoint)
        rest = [kept for kept in lasting if not kept.saved and not kept.gone]
        if not rest:
            return
        identity = (await self._bus.identities([self._topic])).get(self._topic)
        bounds = await self._bus.bounds([self._topic], committed=False)
        time_ms = self._clock_us() // 1_000
        # The end must have been read before a commit begins, and the commit be this partition's owner's: nobody else
        # was it meanwhile, so what is committed below the end is what memory says, and stays so.
        proven = await asyncio.gather(*(prove(kept.state.partition, []) for kept in rest))
        for kept, is_proven in zip(rest, proven, strict=True):
            bound = bounds.get(TopicPartition(self._topic, kept.state.partition))
            if is_proven and not kept.gone and bound is not None and identity is not None:
                await self._flush(kept, Checkpoint(identity, *bound, time_ms))

    async def _flush_all(self) -> None:
        for kept in list(self._kept.values()):
            await self._flush(kept)

    async def _flush(self, kept: _Kept, checkpoint: Checkpoint | None = None) -> None:
        """Write what changed; with *checkpoint*, which must speak for no more than changed until now."""
        file = kept.file
        if file is None:
            return
        changed, kept.changed, kept.checkpoint = kept.changed, {}, None
        kept.saved = kept.saved or checkpoint is not None
        try:
            await self._write(kept, file, changed.values(), checkpoint)
        except BaseException:
            # Cancelled half-way: a later checkpoint must not be written without it.
            kept.changed, kept.saved = {**changed, **kept.changed}, False
            raise

    async def _write(
        self, kept: _Kept, file: StateFile, changed: Iterable[Entry], checkpoint: Checkpoint | None = None
    ) -> None:
        entries = iter(changed)
        while not kept.gone and (chunk := list(islice(entries, _CHUNK))):
            await self._in_thread(partial(file.write, chunk))
            kept.state.note_written({key: value for key, value, _ in chunk})
        if not kept.gone and checkpoint is not None:
            await self._in_thread(partial(file.write, (), checkpoint))

    async def _expire(self, kept: _Kept, prove: Prove) -> None:
        if self._expires_s is None:
            return
        before_ms = self._clock_us() // 1_000 - round(self._expires_s * 1_000)
        while not kept.gone:
            if kept.file is None:
                keys = kept.state.expired(before_ms, _EXPIRING)
            else:
                await self._flush(kept)
                found = await self._in_thread(partial(kept.file.oldest, before_ms, _EXPIRING))
                keys = [key for key in found if kept.state.is_settled(key)]
            if not keys or kept.gone or not await prove(kept.state.partition, kept.state.store(dict.fromkeys(keys))):
                return

    async def _make_room(self, prove: Prove | None, busy: Collection[str] = ()) -> None:
        """Leave to the disk what has no room in memory; without *prove* all that is in memory is committed."""
        share = _ROOM * self._memory.most / max(self._memory.used, 1)
        for kept in self._ready() if prove is not None else [*self._kept.values()]:
            if kept.file is None and not await self._spill(kept, prove):
                return
            await self._flush(kept)
            if not kept.gone:
                kept.state.evict(int(kept.state.size * share), busy)

    async def _spill(self, kept: _Kept, prove: Prove | None) -> bool:
        """Give *kept* a temporary file; returns whether it has one."""
        if not self._disk:
            return False
        file = await self._in_thread(StateFile)
        if kept.gone:
            self._hand(file.close)
            return False
        kept.file = file
        entries = [Entry(*entry) for entry in kept.state.hand_over(kept)]
        # Some of it may not be committed yet; it is when what commits next is through.
        if prove is not None and not await prove(kept.state.partition, []):
            return False
        await self._write(kept, file, entries)
        return not kept.gone

    # What goes wrong.

    def failed(self, kept: _Kept, error: StateFileError) -> None:
        """A value that memory has no room for cannot be had."""
        if not kept.gone:
            self._do_without_disk(error)
            self._wake.set()

    def _do_without_disk(self, error: StateFileError) -> None:
        if self._disk:
            log.warning("state is not copied to disk any more", extra={"reason": str(error), **self._fields()})
        self._disk = False
        for kept in self._kept.values():
            if kept.file is not None:
                if kept.ready:
                    self._failure = error
                self._hand(kept.file.remove)
                kept.file, kept.lasting = None, False

    def _warn_dropped(self, path: Path, reason: str) -> None:
        log.warning(
            "a copy of state cannot be used and is made anew; state is restored from Kafka, nothing needs to be done",
            extra={"path": str(path), "reason": reason, **self._fields()},
        )

    def _fields(self) -> dict[str, object]:
        return {"agent": self._agent}

    def _ready(self) -> list[_Kept]:
        return [kept for kept in self._kept.values() if kept.ready]

    def _hand(self, work: Callable[[], None]) -> None:
        """Have *work*, which raises nothing, done after what the thread was given before."""
        asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@dataclasses.dataclass(eq=False)
class _Kept:
    """One partition's state, and its copy on disk where it has one. Implements `state.Cold`."""

    state: PartitionState
    states: States
    file: StateFile | None = None
    lasting: bool = False
    changed: dict[str, Entry] = dataclasses.field(default_factory=dict[str, Entry])
    """What is committed and not on disk yet."""
    checkpoint: Checkpoint | None = None
    """What was restored speaks up to there, once `changed` is on disk."""
    saved: bool = True
    """Nothing was committed since the file's checkpoint."""
    ready: bool = False
    """It is restored; not a moment before may anything be said of it."""
    gone: bool = False

    async def fetch(self, keys: Collection[str]) -> Mapping[str, bytes | None]:
        file = self.file
        if file is not None:
            try:
                return await self.states.in_thread(lambda: {key: file.read(key) for key in keys})
            except StateFileError as error:
                self.states.failed(self, error)
        # Whoever waits here is given up with the partition, and does its work again after it is restored.
        await asyncio.Event().wait()
        raise AssertionError  # pragma: no cover - nobody sets it

    def read(self, key: str) -> bytes | None:
        if self.file is None:
            raise StateFileError(None, "the partition is given up")
        try:
            return self.file.read(key)
        except StateFileError as error:
            self.states.failed(self, error)
            raise


class _Behind:
    """One piece of work at a time that goes on while its owner does; it has ended when the context is left."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.create_task(work)

    async def ended(self) -> None:
        """Wait for what was begun; raises what it raised."""
        task, self._task = self._task, None
        if task is not None:
            await task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            await self.ended()
        elif self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def _trouble(checkpoint: Checkpoint | None, identity: str, first: int, end: int, now_ms: int) -> str | None:
    """Say why a file with *checkpoint* cannot be a base for the topic as it is; None: it can, or holds nothing yet."""
    if checkpoint is None:
        return None
    if checkpoint.topic != identity:
        return "the topic was made anew"
    if checkpoint.first != first:
        return f"the topic was truncated: it begins at {first}, and began at {checkpoint.first}"
    if checkpoint.end > end:
        return f"the topic has lost records: it ends at {end}, and had {checkpoint.end}"
    age_s = (now_ms - checkpoint.time_ms) / 1_000
    if checkpoint.end < end and not 0 <= age_s <= OLDEST_S:
        return f"it is {age_s:.0f} s old; after {OLDEST_S:.0f} s deletions may be gone from the topic"
    return None


def _some(entries: Iterator[Entry]) -> list[Entry]:
    return list(islice(entries, _CHUNK))
