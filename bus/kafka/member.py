"""A member of a consumer group on Kafka: one thread polls, one commits, and the event loop waits for neither."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from antiphon.bus.errors import BusError, CommitError
from antiphon.bus.kafka.chatter import log
from antiphon.bus.kafka.committing import Committing, MakeProducer, make_producer
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.kafka.failures import unreachable
from antiphon.bus.kafka.ownership import Ownership, Work
from antiphon.bus.kafka.polling import Polling
from antiphon.bus.port import Membership, Taken, Transaction
from antiphon.bus.record import Outgoing, TopicPartition

# A broker that does not answer must not keep a process from ending.
_CLOSE_S = 5.0
# How often to look whether a call is overdue.
_LOOK_S = 0.25


Bounds: TypeAlias = Callable[[Iterable[str]], Mapping[TopicPartition, tuple[int, int]]]
"""From topics to first offset and end of each partition, of what is committed. Blocks."""


class KafkaMember:
    """`port.Member` on confluent-kafka. *on_classic* is called where the brokers refuse KIP-848's group protocol.

    No call waits for ever on a broker that hangs. A client that is in the middle of one then is left behind, with its thread.
    """

    def __init__(
        self,
        config: KafkaConfig,
        membership: Membership,
        protocol: GroupProtocol,
        *,
        embedded: bool = False,
        bounds: Bounds,
        on_classic: Callable[[], None] = lambda: None,
        make: MakeProducer = make_producer,
    ) -> None:
        self._config = config
        self._membership = membership
        self._ownership = ownership = Ownership()
        self._make = make
        self._bounds = bounds
        self._left_behind = 0
        self._committing = self._commits()
        self._committing.fenced.add_done_callback(self._fail)
        self._polling = Polling(config, membership, protocol, ownership, self._is_fenced, on_classic, embedded=embedded)
        self._committing.start()
        self._polling.start()

    async def take(self) -> Taken:
        return await self._polling.inbox.take()

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._polling.inbox.pause(partitions)
        self._polling.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._polling.inbox.resume(partitions)
        self._polling.resume(partitions)

    async def commit(self, transaction: Transaction) -> None:
        await self._bounded(self._commit(transaction, self._ownership.work(transaction.offsets)))

    async def _commit(self, transaction: Transaction, work: Work) -> None:
        if self._membership.exactly_once:
            if transaction.records or transaction.offsets:
                await self._committing.commit(transaction, work)
                self._polling.note(transaction.offsets)
            return
        if transaction.records:
            await self._committing.write(transaction.records)
        if transaction.offsets:
            await asyncio.wrap_future(self._polling.commit(transaction.offsets, work))
            self._polling.note(transaction.offsets)

    async def try_out(self, records: Sequence[Outgoing]) -> None:
        await self._bounded(self._committing.try_out(records))

    async def _bounded(self, call: Coroutine[None, None, None]) -> None:
        # The client's own time-outs have been seen not to fire when a connection ends, or a broker hangs, in the middle of
        # an answer: its `send_offsets_to_transaction` then waits for ever (librdkafka's issue 5456).
        began_s = time.monotonic()
        task = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait((task,), timeout=_LOOK_S))[0]:
                waited_s = time.monotonic() - began_s
                if self._committing.overdue or waited_s > self._patience_s:
                    self._leave_behind(round(waited_s, 1))
                    raise CommitError(f"no answer within {waited_s:.1f} s")
            task.result()
        finally:
            task.cancel()

    async def restart(self) -> None:
        if not self._committing.left:
            self._committing.close()
        await self._fence_anew()
        self._ownership.fenced()
        self._polling.restart()

    def again(self, partitions: Collection[TopicPartition]) -> None:
        if partitions:
            self._polling.again(frozenset(partitions))

    async def _fence_anew(self) -> None:
        """Have a producer that fences the last one; raises `BrokerUnreachableError` after the configured time."""
        patience_s, waited_s = self._patience_s, 0.0
        while waited_s <= self._config.give_up_s:
            self._committing = self._commits()
            self._committing.start()
            try:
                async with asyncio.timeout(patience_s):
                    return await asyncio.shield(asyncio.wrap_future(self._committing.fenced))
            except TimeoutError:
                # A client made while its brokers were away has been seen to wait on long after they were back.
                self._leave_behind(patience_s)
            waited_s += patience_s
            patience_s *= 2
        raise await asyncio.to_thread(unreachable, self._config, waited_s)

    @property
    def _patience_s(self) -> float:
        """How long an answer may take (seconds) before its client is left behind."""
        return self._config.reach_s + 2 * self._membership.transaction_timeout_s

    async def behind(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        # Asked of the broker: what the consumer knows is as old as its last fetch, and a partition may be paused for long.
        bounds = await asyncio.to_thread(self._bounds, {partition.topic for partition in positions})
        found: dict[TopicPartition, int] = {}
        for partition, position in positions.items():
            first, end = bounds.get(partition, (0, 0))
            last = self._polling.last(partition, end)
            if last is not None:
                found[partition] = max(last - max(position, first), 0)
        return found

    async def close(self) -> None:
        # What is being committed is finished first: afterwards it would be somebody else's.
        if not self._committing.left:
            self._committing.close()
            await _within(self._committing.finished)
        self._polling.close()
        await _within(self._polling.finished)

    def _commits(self) -> Committing:
        return Committing(self._config, self._membership, self._ownership, self._make)

    def _is_fenced(self) -> bool:
        fenced = self._committing.fenced
        return fenced.done() and fenced.exception() is None

    def _leave_behind(self, after_s: float) -> None:
        self._committing.leave()
        self._left_behind += 1
        log.warning(
            "a call to the broker has not come back in time; its client is left behind for a new one",
            extra={"group": self._membership.group, "after_s": after_s, "left_behind": self._left_behind},
        )

    def _fail(self, fenced: Future[None]) -> None:
        error = fenced.exception()
        if isinstance(error, BusError):
            self._polling.inbox.fail(error)


async def _within(finished: Future[None]) -> None:
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(finished)), _CLOSE_S)
    except TimeoutError:
        log.warning("a client did not end in time and is left behind", extra={"after_s": _CLOSE_S})
