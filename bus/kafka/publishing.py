"""The thread that writes records outside any transaction, for everybody in the process."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from antiphon.bus.errors import BusError
from antiphon.bus.kafka.chatter import library
from antiphon.bus.kafka.config import KafkaConfig, publisher
from antiphon.bus.kafka.failures import NO_ANSWER, error_of, said, unreachable
from antiphon.bus.record import Outgoing, Position

# While records are under way: how soon another publication joins them.
_LOOK_S = 0.002
_CLOSE_S = 5.0


class NotWrittenError(BusError):
    """The broker did not take a record."""

    def __init__(self, topic: str, reason: str) -> None:
        self.topic = topic
        self.reason = reason
        super().__init__(f"expected to write to {topic!r}, but the broker said: {reason}")


class Publication:
    """Records of one call, and where they came to stand."""

    def __init__(self, records: Sequence[Outgoing]) -> None:
        self.records = records
        self.loop = asyncio.get_running_loop()
        self.written: asyncio.Future[list[Position]] = self.loop.create_future()
        self._left = len(records)
        self._positions: list[Position | None] = [None] * len(records)
        self._error: KafkaError | None = None

    def arrived(self, index: int, error: KafkaError | None, message: Message | None) -> bool:
        """Note what became of one record; says whether it was the last."""
        self._left -= 1
        if error is not None:
            self._error = self._error or error
        elif message is not None:
            record = self.records[index]
            self._positions[index] = Position(record.topic, message.partition() or 0, message.offset() or 0)
        return self._left == 0

    def resolve(self, config: KafkaConfig) -> None:
        """Wake whoever waits. Called in the publishing thread, after the last record."""
        failure: BusError | None = None
        if self._error is not None:
            if self._error.code() in NO_ANSWER | {KafkaError._MSG_TIMED_OUT}:  # noqa: SLF001 - librdkafka's own errors are spelt so
                failure = unreachable(config, config.reach_s, self._error)
            else:
                failure = NotWrittenError(topic := self.records[0].topic, said(config, self._error, writing=topic))
        positions = [position for position in self._positions if position is not None]
        with contextlib.suppress(RuntimeError):  # The loop was closed: nobody waits.
            self.loop.call_soon_threadsafe(_settle, self.written, positions, failure)


Job: TypeAlias = Publication | None


class Publishing:
    """One idempotent producer, made when first needed."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._under_way = 0

    async def publish(self, records: Sequence[Outgoing]) -> list[Position]:
        """Write *records* and return where they stand, when all replicas have them."""
        if not records:
            return []
        self.warm()
        publication = Publication(records)
        self._jobs.put(publication)
        return await publication.written

    def warm(self) -> None:
        """Have the producer made now: its first record waits half a second for an id, which can pass meanwhile."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="antiphon-publish", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End once everything has arrived, or after a few seconds. Blocks."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(_CLOSE_S)
            self._thread = None

    def _run(self) -> None:
        producer = Producer(dict(publisher(self._config)), logger=library)
        while True:
            try:
                job = self._jobs.get(block=self._under_way == 0, timeout=None)
            except queue.Empty:
                producer.poll(_LOOK_S)
                continue
            if job is None:
                producer.flush(_CLOSE_S)
                return
            self._produce(producer, job)

    def _produce(self, producer: Producer, publication: Publication) -> None:
        put: Callable[..., None] = producer.produce
        for index, record in enumerate(publication.records):
            self._under_way += 1

            def report(error: KafkaError | None, message: Message | None, index: int = index) -> None:
                self._under_way -= 1
                if publication.arrived(index, error, message):
                    publication.resolve(self._config)

            while True:
                try:
                    put(
                        record.topic,
                        record.value,
                        record.key,
                        -1 if record.partition is None else record.partition,
                        on_delivery=report,
                        headers=record.headers,
                    )
                except BufferError:
                    producer.poll(0.05)
                except KafkaException as exception:
                    report(error_of(exception), None)
                    break
                else:
                    break
            producer.poll(0)


def _settle(written: asyncio.Future[list[Position]], positions: list[Position], failure: BusError | None) -> None:
    if written.done():
        return
    if failure is not None:
        written.set_exception(failure)
    else:
        written.set_result(positions)
