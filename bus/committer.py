"""What is finished, gathered into transactions: effects, activity and offsets of several deliveries at a time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Callable

from antiphon.bus import entry
from antiphon.bus.activity import Activity
from antiphon.bus.consumer import Consumer
from antiphon.bus.job import Finished, Owned, Remembered
from antiphon.bus.names import ACTIVITY, Names
from antiphon.bus.port import Transaction
from antiphon.bus.record import Committed, Outgoing, TopicPartition
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, to_headers

# A record of more deliveries than this may outgrow a broker's 1 MB limit.
_MOST_PER_ACTIVITY_RECORD = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """One transaction, and what is said to whom when it is through."""

    transaction: Transaction
    owned: frozenset[Owned]
    remembered: list[Remembered]
    deliveries: int = 0
    """How many of them are finished with it."""


class Committer:
    """Gathers what runners finish; the engine asks for a batch, commits it, and says how that went.

    A batch takes all there is, up to a limit. While one commits the next one
    gathers, so a lone event is committed at once and a stream in large batches,
    without a timer.
    """

    def __init__(self, consumer: Consumer, *, names: Names, codec: Codec, instance: str, most: int, limit: int) -> None:
        self._codec = codec
        self._most = most
        self._limit = limit
        self._activity_topic = names.topic(ACTIVITY)
        self._source = f"/agents/{consumer.name}"
        failing = sorted(type for type, event_class in consumer.hears.items() if event_class.__event__.fails)
        self._agent, self._instance, self._failing = consumer.name, instance, failing
        self._finished: list[Finished] = []
        self._remembered: list[Remembered] = []
        self._committing = 0
        self._under_way = 0
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, finished: Finished) -> None:
        """Commit *finished* with the next batch."""
        self._finished.append(finished)
        self._work.set()
        self._idle.clear()

    async def remember(self, owned: Owned, outgoing: list[Outgoing]) -> None:
        """Commit *outgoing* with the next batch, and return when it is durable.

        With it goes how far *owned* has come, so that this returns only for whoever
        owned the partition when the commit began. Cancelled where nobody knows.
        """
        written = asyncio.get_running_loop().create_future()
        self._remembered.append(Remembered(owned, outgoing, written))
        self._work.set()
        self._idle.clear()
        await written

    def forget(self, gone: Callable[[Owned], bool]) -> None:
        """Throw away what is not in a batch yet and belongs to partitions that are *gone*."""
        self._finished = [finished for finished in self._finished if not gone(finished.owned)]
        for remembered in self._remembered:
            if gone(remembered.owned):
                remembered.written.cancel()
        self._remembered = [remembered for remembered in self._remembered if not gone(remembered.owned)]
        self._settle()

    @property
    def waiting(self) -> int:
        """The number of deliveries that are in no batch yet."""
        return len(self._finished)

    @property
    def uncommitted(self) -> int:
        """The number of deliveries that are in no batch yet, or in one that is under way."""
        return len(self._finished) + self._under_way

    async def idle(self) -> None:
        """Return when everything that was added is committed, or forgotten."""
        await self._idle.wait()

    async def next_batch(self) -> Batch:
        """Wait for something to commit and return it. `committed` or `failed` must follow."""
        while not (self._finished or self._remembered):
            # What woke this may have been forgotten meanwhile: a partition was lost.
            self._work.clear()
            await self._work.wait()
        # A remembered result carries its key's whole state, which must not get
        # ahead of the deliveries that made it: those go with it, however many.
        most = len(self._finished) if self._remembered else self._most
        finished, self._finished = self._finished[:most], self._finished[most:]
        remembered, self._remembered = self._remembered, []
        self._committing += 1
        self._under_way += len(finished)
        return self._batch(finished, remembered)

    def committed(self, batch: Batch) -> None:
        """The batch is visible."""
        for remembered in batch.remembered:
            if not remembered.written.done():
                remembered.written.set_result(None)
        self._committing -= 1
        self._under_way -= batch.deliveries
        self._settle()

    def failed(self, batch: Batch) -> None:
        """The batch is void, or may be; its work will be done again."""
        for remembered in batch.remembered:
            remembered.written.cancel()
        self._committing -= 1
        self._under_way -= batch.deliveries
        self._settle()

    def _settle(self) -> None:
        if not self._finished and not self._remembered and not self._committing:
            self._idle.set()

    def _batch(self, finished: list[Finished], remembered: list[Remembered]) -> Batch:
        records: list[Outgoing] = []
        touched: dict[TopicPartition, Owned] = {}
        activity: defaultdict[tuple[int, str], list[bytes]] = defaultdict(list)
        for done in finished:
            records += done.outgoing
            # Where no offset moves, as after an attempt that is made again, it still is what a zombie's commit is refused by.
            touched[done.owned.tp] = done.owned
            if done.offset is not None:
                # Only now: an offset counts as finished once its effects are in this very transaction.
                done.owned.progress.finish(done.offset)
            if done.activity is not None:
                activity[done.activity_partition, done.version].append(done.activity)
        for side in remembered:
            records += side.outgoing
            touched[side.owned.tp] = side.owned
        for (partition, version), deliveries in activity.items():
            # Of one workflow all are in one record's row, in order: it has one version.
            for first in range(0, len(deliveries), _MOST_PER_ACTIVITY_RECORD):
                records += self._activity(partition, version, deliveries[first : first + _MOST_PER_ACTIVITY_RECORD])
        offsets: dict[TopicPartition, Committed] = {tp: owned.progress.committed() for tp, owned in touched.items()}
        return Batch(Transaction(records, offsets), frozenset(touched.values()), remembered, len(finished))

    def _activity(self, partition: int, version: str, deliveries: list[bytes]) -> list[Outgoing]:
        """Return the activity record of *deliveries*, or several where one would outgrow the limit."""
        envelope = Envelope.root(Activity.__event__.type, source=self._source)
        said = entry.activity(self._agent, version, self._instance, self._failing, deliveries)
        value = self._codec.framed(Activity, said)
        if len(value) > self._limit and len(deliveries) > 1:
            half = len(deliveries) // 2
            first, rest = deliveries[:half], deliveries[half:]
            return self._activity(partition, version, first) + self._activity(partition, version, rest)
        return [Outgoing(self._activity_topic, None, value, to_headers(envelope), partition=partition)]
