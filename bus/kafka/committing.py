"""The thread that owns a member's producer: it makes transactions visible, one after the other.

A thread lives as long as its producer. After a failed commit the member starts
another one, whose producer fences this one's, and never waits for this one
again: a call of the client may not come back while a broker hangs, whatever
time-out it was given. What such a call comes to in the end is nobody's concern.
If it was a commit and arrived before the fence, the group has it on record by the time
anybody asks what is committed; if it did not, the broker refuses it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from antiphon.bus.errors import BusError, CommitError, MemberFailedError
from antiphon.bus.kafka.chatter import library, log
from antiphon.bus.kafka.config import SOME_TOPIC, KafkaConfig, member_producer
from antiphon.bus.kafka.failures import NO_ANSWER, denied, error_of, said, unreachable
from antiphon.bus.kafka.ownership import GroupMetadata, Ownership, Work
from antiphon.bus.kafka.records import offsets_of, produce
from antiphon.bus.port import Membership, Transaction
from antiphon.bus.record import Outgoing
from antiphon.bus.right import Operation, Resource

# The group has moved on, but not with these partitions: the same work may be committed under its new generation.
_STALE = frozenset((KafkaError.STALE_MEMBER_EPOCH, KafkaError.FENCED_MEMBER_EPOCH, KafkaError.ILLEGAL_GENERATION))
_STALE_TRIES = 3
# Why a record may not arrive that has nothing to do with where it was to go.
_NOT_ITS_TOPICS = NO_ANSWER | {
    KafkaError._PURGE_QUEUE,  # noqa: SLF001 - librdkafka's own errors are spelt so
    KafkaError._PURGE_INFLIGHT,  # noqa: SLF001 - as above
    KafkaError._MSG_TIMED_OUT,  # noqa: SLF001 - as above
    KafkaError._FENCED,  # noqa: SLF001 - as above
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}
# How long one blocking call may last before somebody looks whether the member is being closed.
_STEP_S = 2.0
_LOOK_AGAIN_S = 0.01
# How much longer than its own time-out says a call may take before it counts as one that does not come back.
_SLACK_S = 1.0


MakeProducer: TypeAlias = Callable[[dict[str, Any]], Producer]
"""From a client's options and callbacks to the client."""


def make_producer(options: dict[str, Any]) -> Producer:
    """Make the client that commits."""
    return Producer(options, logger=library)


class Committing(threading.Thread):
    """Every call to the producer is made here: two threads in one client starve one another.

    It is a daemon: a call that hangs keeps neither the member from going on nor the process from ending.
    """

    def __init__(
        self,
        config: KafkaConfig,
        membership: Membership,
        ownership: Ownership,
        make: MakeProducer = make_producer,
    ) -> None:
        super().__init__(name=f"antiphon-commit-{membership.group}", daemon=True)
        self.fenced: Future[None] = Future()
        """Done once there is a producer: older ones of the same name can commit no more. Raises `BusError` where there is none."""
        self.finished: Future[None] = Future()
        self._config = config
        self._membership = membership
        self._ownership = ownership
        self._make = make
        self._timeout_s = membership.transaction_timeout_s
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._left_at: float | None = None
        self._due_at: float | None = None
        """When the call that is being made must have come back."""
        self._producer: Producer | None = None
        self._undelivered: tuple[KafkaError, str | None] | None = None
        """Why a record was not written, the first one, and the topic it was for if that is what refused it."""

    # The event loop's side.

    async def commit(self, transaction: Transaction, work: Work) -> None:
        """Commit *transaction*, which holds *work*; raises `CommitError`, and the producer is gone."""
        await self._do(lambda: self._commit(transaction, work))

    async def write(self, records: Iterable[Outgoing]) -> None:
        """Write *records* outside a transaction; raises `CommitError` where one did not arrive."""
        await self._do(lambda: self._write(records))

    async def try_out(self, records: Iterable[Outgoing]) -> None:
        """Write *records* and abort; raises `CommitError` where one is refused. Without transactions they stay."""
        await self._do(lambda: self._try_out(records) if self._membership.exactly_once else self._write(records))

    def close(self) -> None:
        """End after what is being done now; `finished` says when."""
        self._closing.set()
        self._jobs.put(None)

    def leave(self) -> None:
        """End as `close` says, should it ever come to that; begin nothing more, not even the next step of a commit."""
        self._left_at = time.monotonic()
        self.close()

    @property
    def left(self) -> bool:
        """Whether nobody is to wait for it."""
        return self._left_at is not None

    @property
    def overdue(self) -> bool:
        """Whether a call has not come back although its time-out is over: the client has been seen to wait for ever."""
        due_at = self._due_at
        return due_at is not None and time.monotonic() > due_at

    def _do(self, work: Callable[[], None]) -> asyncio.Future[None]:
        done: Future[None] = Future()
        if self._closing.is_set():
            done.set_exception(CommitError("the member is closed"))
        else:
            self._jobs.put((work, done))
        return asyncio.wrap_future(done)

    # The thread's side.

    def run(self) -> None:
        """Have a producer, then do what is asked until closed."""
        try:
            self._begin()
        except BusError as error:
            self.fenced.set_exception(error)
        except Exception as error:
            reason = str(error_of(error)) if isinstance(error, KafkaException) else repr(error)
            self.fenced.set_exception(MemberFailedError(self._membership.group, reason))
        else:
            self.fenced.set_result(None)
        while (job := self._jobs.get()) is not None:
            work, done = job
            if done.set_running_or_notify_cancel():
                try:
                    work()
                except BaseException as error:
                    done.set_exception(error)
                else:
                    done.set_result(None)
            del job, work, done
            if self._left_at is not None:
                late_s = round(time.monotonic() - self._left_at, 1)
                log.info("a call to the broker that was given up has ended; nobody asks how", extra={"late_s": late_s})
                break
        self._discard()
        self.finished.set_result(None)

    def _commit(self, transaction: Transaction, work: Work) -> None:
        for attempt in range(1, _STALE_TRIES + 1):
            if self._producer is None:
                raise CommitError("there is no producer")
            self._undelivered = None
            with self._ownership.committing(work) as ticket:
                try:
                    return self._transact(self._producer, transaction, ticket.metadata)
                except KafkaException as exception:
                    failure = exception
                error = error_of(failure)
                # Where the outcome is unknown there is no abort: it could hit the next transaction.
                if not (error.txn_requires_abort() and not self.left and self._abort()):
                    self._discard()
                    raise self._failed(error) from failure
            again = error.code() in _STALE and attempt < _STALE_TRIES
            if not (again and self._ownership.newer(ticket, within_s=1.0)):
                self._discard()
                raise self._failed(error) from failure
            log.info("the group moved on during a commit; trying again under its new generation")
        return None

    def _try_out(self, records: Iterable[Outgoing]) -> None:
        if self._producer is None:
            raise CommitError("there is no producer")
        self._undelivered = None
        try:
            self._producer.begin_transaction()
            produce(self._producer, records, self._producer.poll)
            self._producer.flush(self._timeout_s)
        except KafkaException as exception:
            failure: CommitError | None = self._failed(error_of(exception))
        else:
            failure = self._refusal()
        if not self._abort():
            self._discard()
        if failure is not None:
            raise failure

    def _transact(self, producer: Producer, transaction: Transaction, metadata: GroupMetadata) -> None:
        producer.begin_transaction()
        produce(producer, transaction.records, producer.poll)
        if transaction.offsets:
            with self._within(self._timeout_s):
                producer.send_offsets_to_transaction(offsets_of(transaction.offsets), metadata, self._timeout_s)
        if self.left:
            raise CommitError("it was given up")
        with self._within(self._timeout_s):
            producer.commit_transaction(self._timeout_s)
        producer.poll(0)  # Serves the client's log.

    def _write(self, records: Iterable[Outgoing]) -> None:
        if self._producer is None:
            raise CommitError("there is no producer")
        self._undelivered = None
        try:
            produce(self._producer, records, self._producer.poll)
        except KafkaException as exception:
            raise self._failed(error_of(exception)) from exception
        left = self._producer.flush(self._timeout_s)
        if left or self._undelivered is not None:
            self._discard()
            raise self._refusal() or CommitError("time-out")

    def _refusal(self) -> CommitError | None:
        """Say which topic refused a record, if one did."""
        if self._undelivered is None:
            return None
        error, topic = self._undelivered
        return CommitError(said(self._config, error, writing=topic), topic=topic)

    def _failed(self, error: KafkaError) -> CommitError:
        names = {Resource.GROUP: self._membership.group}
        lacking = denied(self._config, error, Operation.READ, names)
        return self._refusal() or CommitError(said(self._config, error) if lacking is None else str(lacking))

    def _begin(self) -> None:
        options = member_producer(self._config, self._membership)
        producer = self._make({**options, "on_delivery": self._on_delivery})
        if self._membership.exactly_once:
            self._fence(producer)
        self._producer = producer

    def _fence(self, producer: Producer) -> None:
        started = time.monotonic()
        while True:
            self._connect(producer)
            try:
                producer.init_transactions(_STEP_S)
            except KafkaException as exception:
                error = error_of(exception)
                elapsed = time.monotonic() - started
                names = {Resource.TRANSACTIONAL_ID: self._membership.transactional_id}
                if (lacking := denied(self._config, error, Operation.WRITE, names)) is not None:
                    raise lacking from exception
                if error.fatal() or not (error.retriable() or error.code() in NO_ANSWER):
                    raise MemberFailedError(self._membership.group, f"{error.name()}: {error.str()}") from exception
                if elapsed > self._config.give_up_s or self._closing.is_set():
                    raise unreachable(self._config, elapsed, error) from exception
            else:
                return

    def _connect(self, producer: Producer) -> None:
        """Return once one of the cluster's brokers has answered, or soon.

        To be fenced the client asks any broker who coordinates. Where it has a
        connection to none, the one it began with being over already, it asks again half a second later.
        """
        until_s = time.monotonic() + _STEP_S
        with suppress(KafkaException):
            while (left_s := until_s - time.monotonic()) > 0:
                # The one it began with, by an address and not by a number, has none.
                if producer.list_topics(SOME_TOPIC, timeout=left_s).orig_broker_id >= 0:
                    break
                self._closing.wait(_LOOK_AGAIN_S)

    def _abort(self) -> bool:
        assert self._producer is not None  # noqa: S101 - it has just failed
        try:
            with self._within(self._timeout_s):
                self._producer.abort_transaction(self._timeout_s)
        except KafkaException:
            return False
        return True

    @contextmanager
    def _within(self, timeout_s: float) -> Generator[None]:
        """Make one call of the client that is to last *timeout_s* at most, as it was told."""
        self._due_at = time.monotonic() + timeout_s + _SLACK_S
        try:
            yield
        finally:
            self._due_at = None

    def _discard(self) -> None:
        """Let go of the producer. Whatever it still has under way is fenced by the next one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge(blocking=False)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._undelivered is None:
            self._undelivered = error, None if error.code() in _NOT_ITS_TOPICS else message.topic()
