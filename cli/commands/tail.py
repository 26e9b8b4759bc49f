"""`antiphon tail`: events as they happen."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Coroutine, Mapping
from typing import Annotated, Any

import typer

from antiphon.bus.record import Record, TopicPartition
from antiphon.cli import output
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import UsageError, did_you_mean
from antiphon.cli.options import given
from antiphon.cli.types import topics_of_types
from antiphon.cli.when import moment_ms
from antiphon.tracing.document import event_item
from antiphon.tracing.records import event_in, read_agents
from antiphon.tracing.seen import SeenEvent

_LOOK_AGAIN_S = 2.0
_SORTED = 20_000
"""A backlog of at most so many records is shown in the order of time; a longer one as it comes."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which events to show."""

    types: frozenset[str]
    """Empty: all."""
    workflow: str | None
    since_ms: int | None
    until_ms: int | None
    from_beginning: bool
    limit: int | None

    def has(self, event: SeenEvent) -> bool:
        envelope = event.envelope
        return (not self.types or envelope.type in self.types) and (
            self.workflow is None or envelope.correlation_id.startswith(self.workflow)
        )


def tail(
    types: Annotated[list[str] | None, typer.Argument(metavar="TYPE", help="Event types; without any, all.")] = None,
    *,
    workflow: Annotated[
        str | None, typer.Option(help="Only this workflow's: its id, or the beginning of it.", metavar="ID")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Begin there: 10m ago, or an ISO time.", metavar="WHEN")] = None,
    until: Annotated[str | None, typer.Option(help="End there.", metavar="WHEN")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the oldest event the topics still hold.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many.", metavar="N")] = None,
) -> None:
    """Show events as they happen. Joins no group, moves no offset.

    Example:
      antiphon tail --from-beginning --limit 3
      antiphon tail ticket.opened ticket.triaged --since 10m --until 1s
    """
    if since is not None and from_beginning:
        raise UsageError("expected --since or --from-beginning, got both")
    wanted = Wanted(
        types=frozenset(types or ()),
        workflow=workflow,
        since_ms=None if since is None else moment_ms(since, option="--since"),
        until_ms=None if until is None else moment_ms(until, option="--until"),
        from_beginning=from_beginning,
        limit=limit,
    )
    asyncio.run(_tail(wanted))


async def _tail(wanted: Wanted) -> None:
    async with opened() as cluster:
        await _check_types(cluster, wanted.types)
        codec = cluster.codec()
        agents = await read_agents(cluster.bus, cluster.names, codec)
        failing = {said.type for seen in agents for said in seen.emits if said.fails}
        shown = 0
        async with contextlib.aclosing(_records(cluster, wanted)) as records:
            async for record in records:
                event = await event_in(record, cluster.names, codec, cluster.claims)
                if event is None or not wanted.has(event):
                    continue
                _show(event, fails=event.envelope.type in failing)
                shown += 1
                if shown == wanted.limit:
                    return


async def _check_types(cluster: Cluster, types: Collection[str]) -> None:
    if not types:
        return
    known = await topics_of_types(cluster)
    for type in types:
        if type not in known:
            raise UsageError(
                f"no event type {type!r} on {cluster.settings.bootstrap_servers}",
                did_you_mean(type, [*known], what="event types"),
            )


async def _records(cluster: Cluster, wanted: Wanted) -> AsyncGenerator[Record]:
    """Yield the records of the wanted topics; those of topics that appear later too."""
    following = _Following(cluster, wanted)
    try:
        async for record in following.records():
            yield record
    finally:
        await following.close()


class _Following:
    """Reads topics side by side, and looks now and then whether there are more."""

    def __init__(self, cluster: Cluster, wanted: Wanted) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._queue: asyncio.Queue[Record | None] = asyncio.Queue(maxsize=1_000)
        self._topics: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def records(self) -> AsyncIterator[Record]:
        self._spawn(self._look(first=True))
        while True:
            record = await self._queue.get()
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
            if record is not None:
                yield record
            elif not self._tasks and self._queue.empty():
                return

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._nudge())

    def _nudge(self) -> None:
        # Wakes the reader, which finds the task that ended. A full queue wakes it anyway.
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)

    async def _look(self, *, first: bool) -> None:
        while True:
            topics = await self._new_topics()
            if topics:
                self._topics |= topics
                start, stop = await self._range(topics, first=first)
                if start:
                    self._spawn(self._read(start, stop))
            if self._ends:
                return
            first = False
            await asyncio.sleep(_LOOK_AGAIN_S)

    @property
    def _ends(self) -> bool:
        """The end lies in the past, so nothing that comes later is wanted."""
        return self._wanted.until_ms is not None and self._wanted.until_ms <= time.time() * 1_000

    async def _new_topics(self) -> set[str]:
        known = await topics_of_types(self._cluster)
        types = self._wanted.types or known.keys()
        return {self._cluster.names.topic(known[type]) for type in types if type in known} - self._topics

    async def _range(
        self, topics: Collection[str], *, first: bool
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int] | None]:
        bus, wanted = self._cluster.bus, self._wanted
        bounds = await bus.bounds(topics)
        self._topics -= {*topics} - {place.topic for place in bounds}  # not made yet: look again
        if wanted.since_ms is not None:
            start = await bus.offsets_at(bounds, wanted.since_ms)
        elif wanted.from_beginning or not first:
            start = {place: begin for place, (begin, _) in bounds.items()}
        else:
            start = {place: end for place, (_, end) in bounds.items()}
        stop = None
        if wanted.until_ms is not None and self._ends:
            stop = await bus.offsets_at(bounds, wanted.until_ms)
            start = {place: offset for place, offset in start.items() if offset < stop[place]}
            stop = {place: stop[place] for place in start}
        return start, stop

    async def _read(self, start: dict[TopicPartition, int], stop: dict[TopicPartition, int] | None) -> None:
        behind = stop or {place: end for place, (_, end) in (await self._bounds(start)).items()}
        if 0 < sum(max(0, behind[place] - offset) for place, offset in start.items()) <= _SORTED:
            await self._catch_up(start, behind)
            start = {place: max(offset, behind[place]) for place, offset in start.items()}
            if stop is not None:
                return
        async for record in self._cluster.bus.read(start, stop):
            await self._put(record)

    async def _catch_up(self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int]) -> None:
        """Read what is there already, and hand it on in the order of time: partitions know no order among themselves."""
        places = {place: offset for place, offset in start.items() if offset < stop[place]}
        reading = self._cluster.bus.read(places, {place: stop[place] for place in places})
        for record in sorted([record async for record in reading], key=lambda record: record.timestamp_ms):
            await self._put(record)

    async def _bounds(self, places: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        bounds = await self._cluster.bus.bounds({place.topic for place in places})
        return {place: bounds[place] for place in places}

    async def _put(self, record: Record) -> None:
        if self._wanted.until_ms is None or record.timestamp_ms < self._wanted.until_ms:
            await self._queue.put(record)


_ID = 23
"""Digits of a workflow's id: the first thirteen are when it began, and those of many that began together are alike."""


def _show(event: SeenEvent, *, fails: bool) -> None:
    if given().json:
        output.line(event_item(event, fails=fails))
        return
    envelope = event.envelope
    moment = time.strftime("%H:%M:%S", time.localtime(envelope.time_us / 1_000_000))
    millis = envelope.time_us // 1_000 % 1_000
    said = (
        f"cannot be read: {output.inert(event.problem)}" if event.problem else output.compact(event.data, at_most=160)
    )
    output.result(
        f"{moment}.{millis:03d}  {output.inert(envelope.correlation_id[:_ID]):<{_ID}}  {output.inert(envelope.type):<24}  {said}"
    )
    output.flush()
