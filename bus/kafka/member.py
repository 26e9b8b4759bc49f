"""A member of a consumer group on Kafka: one thread polls, one commits, and the event loop waits for neither."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future

from antiphon.bus.errors import BusError, CommitError
from antiphon.bus.kafka.chatter import log
from antiphon.bus.kafka.committing import Committing
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.kafka.polling import Polling
from antiphon.bus.port import Membership, Taken, Transaction
from antiphon.bus.record import Outgoing, TopicPartition

# A broker that does not answer must not keep a process from ending.
_CLOSE_S = 5.0
_ANSWER_S = 5.0


class KafkaMember:
    """`port.Member` on confluent-kafka. *on_classic* is called where the brokers refuse KIP-848's group protocol."""

    def __init__(
        self,
        config: KafkaConfig,
        membership: Membership,
        protocol: GroupProtocol,
        *,
        rests: bool = False,
        on_classic: Callable[[], None] = lambda: None,
    ) -> None:
        self._membership = membership
        ownership = Ownership()
        self._committing = Committing(config, membership, ownership, self._fail)
        self._polling = Polling(
            config, membership, protocol, ownership, self._committing.fenced.is_set, on_classic, rests=rests
        )
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
        if self._membership.exactly_once:
            if transaction.records or transaction.offsets:
                await self._commit(transaction)
                self._polling.note(transaction.offsets)
            return
        if transaction.records:
            await self._committing.write(transaction.records)
        if transaction.offsets:
            await asyncio.wrap_future(self._polling.commit(transaction.offsets))
            self._polling.note(transaction.offsets)

    async def _commit(self, transaction: Transaction) -> None:
        # The client's own time-outs have been seen not to fire while a broker hangs in the middle of an answer.
        bound_s = _ANSWER_S + 2 * self._membership.transaction_timeout_s
        try:
            async with asyncio.timeout(bound_s):
                await self._committing.commit(transaction)
        except TimeoutError:
            raise CommitError(f"no answer within {bound_s:g} s") from None

    async def try_out(self, records: Sequence[Outgoing]) -> None:
        await self._committing.try_out(records)

    async def restart(self) -> None:
        await self._committing.renew()
        self._polling.restart()

    async def close(self) -> None:
        # What is being committed is finished first: afterwards it would be somebody else's.
        self._committing.close()
        await _within(self._committing.finished)
        self._polling.close()
        await _within(self._polling.finished)

    def _fail(self, error: BusError) -> None:
        self._polling.inbox.fail(error)


async def _within(finished: Future[None]) -> None:
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(finished)), _CLOSE_S)
    except TimeoutError:
        log.warning("a client did not end in time and is left behind", extra={"after_s": _CLOSE_S})
