"""Reading partitions from one offset to another, in no group."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.errors import BusError
from antiphon.bus.kafka.chatter import library
from antiphon.bus.kafka.config import KafkaConfig, reader
from antiphon.bus.kafka.failures import NO_ANSWER, REFUSED, ReadFailedError, denied, error_of, is_there, unreachable
from antiphon.bus.kafka.handshake import NOT_LET_IN
from antiphon.bus.kafka.records import named, record_of
from antiphon.bus.kafka.resting import Rest
from antiphon.bus.record import Record, TopicPartition
from antiphon.bus.right import Operation, Resource

T = TypeVar("T")

_BATCH = 1_000
_ROOM = 4
"""Batches that may wait for the event loop."""
_LOOK_S = 0.05
# How long a topic may be unknown to the broker that shall serve it.
_YOUNG_S = 10.0


async def read(
    config: KafkaConfig,
    start: Mapping[TopicPartition, int],
    stop: Mapping[TopicPartition, int] | None,
    *,
    rests: bool,
) -> AsyncGenerator[list[Record], None]:
    """Yield records as `Bus.read_batches` promises; its thread ends when the iterator is closed."""
    wanted = {
        partition: offset for partition, offset in start.items() if stop is None or offset < stop.get(partition, offset)
    }
    if not wanted:
        return
    reading = Reading(config, wanted, stop, rests=rests)
    reading.start()
    try:
        while (batch := await reading.next()) is not None:
            yield batch
    finally:
        reading.close()


class Reading(threading.Thread):
    """One consumer with partitions assigned by hand, and the thread that owns it."""

    def __init__(
        self,
        config: KafkaConfig,
        start: Mapping[TopicPartition, int],
        stop: Mapping[TopicPartition, int] | None,
        *,
        rests: bool,
    ) -> None:
        super().__init__(name="antiphon-read", daemon=True)
        self._config = config
        self._stop_at = stop
        self._rest = Rest() if rests else None
        self._at = {partition: max(offset, 0) for partition, offset in start.items()}
        self._left = set(start)
        self._loop = asyncio.get_running_loop()
        self._batches: deque[list[Record]] = deque()
        self._wake = asyncio.Event()
        self._room = threading.Semaphore(_ROOM)
        self._closing = threading.Event()
        self._ended = False
        self._down_since: float | None = None
        self._unknown = False
        self._started_at = time.monotonic()
        self._failure: BusError | None = None
        self._denied: str | None = None
        """The topic that may not be read."""

    async def next(self) -> list[Record] | None:
        """Return the next batch, or None at the end."""
        while not self._batches:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        self._room.release()
        return self._batches.popleft()

    def close(self) -> None:
        """Let go; the thread ends by itself."""
        self._closing.set()
        self._room.release()

    def run(self) -> None:
        """Read until everything asked for is there, or nobody wants it any more."""
        failure: BusError | None = None
        try:
            self._read()
        except BusError as exception:
            failure = exception
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in NO_ANSWER | NOT_LET_IN:
                failure = unreachable(self._config, self._config.reach_s, error)
            elif (lacking := denied(self._config, error, Operation.READ, {Resource.TOPIC: self._denied})) is not None:
                failure = lacking
            else:
                failure = ReadFailedError(error)
        self._tell(self._end, failure)

    def _read(self) -> None:
        options = reader(self._config, ends=self._stop_at is not None)
        consumer = Consumer({**options, "error_cb": self._on_error}, logger=library)
        try:
            self._assign(consumer)
            while self._left and not self._closing.is_set():
                first = consumer.poll(_LOOK_S)
                if first is None:
                    self._probe(consumer)
                    continue
                records = self._records([first, *consumer.consume(_BATCH - 1, 0)])
                if records:
                    self._room.acquire()
                    self._tell(self._arrive, records)
                if self._unknown:
                    # It was there when it was asked for: not every broker knows yet.
                    self._unknown = False
                    self._closing.wait(_LOOK_S)
                    self._assign(consumer)
                elif self._rest is not None and self._rest.is_due(self._left):
                    self._pause(consumer, self._rest.begin())
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> None:
        consumer.assign([Offset(*partition, at) for partition, at in self._at.items() if partition in self._left])

    def _pause(self, consumer: Consumer, length_s: float) -> None:
        consumer.pause(named(self._left))
        self._closing.wait(length_s)
        consumer.resume(named(self._left))
        for partition in self._left:
            # Wakes the client, which notices `resume` alone too late.
            consumer.seek(Offset(*partition, self._at[partition]))

    def _records(self, messages: list[Message]) -> list[Record]:
        records: list[Record] = []
        partition, stop = TopicPartition("", -1), None
        for message in messages:
            error = message.error()
            topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            # They come in runs, and whoever restores state reads millions.
            if number != partition.partition or topic != partition.topic:
                partition = TopicPartition(topic, number)
                stop = None if self._stop_at is None else self._stop_at.get(partition)
            if error is not None:
                self._heed(error, partition, offset)
                continue
            self._at[partition] = offset + 1
            if partition not in self._left:
                continue
            if self._rest is not None:
                self._rest.came((partition,))
            if stop is not None and offset >= stop - 1:
                self._left.discard(partition)
                if offset >= stop:
                    continue
            records.append(record_of(message))
        return records

    def _heed(self, error: KafkaError, partition: TopicPartition, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own errors are spelt so
            self._at[partition] = offset
            if self._rest is not None:
                self._rest.ended(partition)
            stop = None if self._stop_at is None else self._stop_at.get(partition)
            if stop is not None and offset >= stop:
                self._left.discard(partition)
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and time.monotonic() - self._started_at < _YOUNG_S:
            self._unknown = True
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            # The group is the client's own idea: nothing is committed, and nothing asked of it.
            return
        elif error.fatal() or error.code() in REFUSED or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._denied = partition.topic or self._denied
            raise KafkaException(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in REFUSED and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise KafkaException(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - as above
            self._down_since = self._down_since or time.monotonic()

    def _probe(self, consumer: Consumer) -> None:
        """While nobody is there: who follows waits, as a worker does; who wants an answer is told in time."""
        if self._down_since is None:
            return
        try:
            consumer.list_topics(next(iter(self._left)).topic, timeout=1.0)
        except KafkaException as exception:
            tried_s = time.monotonic() - self._down_since
            if tried_s > self._patience_s(tried_s):
                raise unreachable(self._config, tried_s, error_of(exception)) from exception
        else:
            self._down_since = None

    def _patience_s(self, tried_s: float) -> float:
        if self._stop_at is None:
            return self._config.give_up_s
        is_early = self._config.reach_s < tried_s <= self._config.settle_s
        return self._config.settle_s if is_early and is_there(self._config) else self._config.reach_s

    def _tell(self, what: Callable[[T], None], value: T) -> None:
        with contextlib.suppress(RuntimeError):  # The loop was closed: nobody reads.
            self._loop.call_soon_threadsafe(what, value)

    def _arrive(self, records: list[Record]) -> None:
        self._batches.append(records)
        self._wake.set()

    def _end(self, failure: BusError | None) -> None:
        self._ended = True
        self._failure = failure
        self._wake.set()
