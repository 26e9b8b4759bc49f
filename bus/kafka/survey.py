"""How many partitions topics have, and where those begin and end: asked through a consumer.

An administrator's client has calls for it. But as long as a broker is dead that the
client takes for a leader, they ask that broker again and again, with two threads
as fast as they go, and nobody else (librdkafka 2.16): every worker of a mesh would
take a core from the brokers that are to take over. A consumer waits instead.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.kafka.config import KafkaConfig, surveyor
from antiphon.bus.record import TopicPartition

FIRST = OFFSET_BEGINNING
"""Instead of a time: the first offset there is."""
END = OFFSET_END
"""Instead of a time: one past the last."""

# Beyond so many topics one long answer costs less than many short ones.
_MANY = 32


class Survey:
    """Two consumers at most, in no group, made when first needed. Safe to use from any thread; one call at a time."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._consumers: dict[bool, Consumer] = {}

    def metadata(self, topics: Collection[str], timeout_s: float, *, committed: bool) -> dict[str, Any]:
        """Return what the cluster says of *topics*, or of more, and have the consumer know by it who leads.

        What is not there is left out, or bears an error. Raises `KafkaException`.
        """
        found: dict[str, Any] = {}
        with self._lock:
            consumer = self._consumer(committed=committed)
            if len(topics) > _MANY:
                return dict(consumer.list_topics(timeout=timeout_s).topics)
            for topic in topics:
                found |= consumer.list_topics(topic, timeout=timeout_s).topics
        return found

    def offsets(
        self, partitions: Iterable[TopicPartition], time_ms: int, timeout_s: float, *, committed: bool
    ) -> dict[TopicPartition, int]:
        """Return the first offset that is not older than *time_ms* (or `FIRST`, or `END`) by partition.

        -1 where there is none as young. Raises `KafkaException` where a leader does not answer, or is not known:
        then ask for the `metadata` of its topic before you ask again, as the consumer does not.
        """
        asked = [Offset(*partition, time_ms) for partition in partitions]
        with self._lock:
            answers = self._consumer(committed=committed).offsets_for_times(asked, timeout=timeout_s)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
            if answer.offset == OFFSET_INVALID or (answer.offset < 0 and time_ms in (FIRST, END)):
                # What the client says, and no error beside it, where a connection ended in the middle of the question. Whoever
                # took it for an end would read nothing, and take that for all there is.
                raise KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE, "the connection was cut"))
        return {TopicPartition(answer.topic, answer.partition): answer.offset for answer in answers}

    def close(self) -> None:
        """Let go of the clients."""
        with self._lock:
            while self._consumers:
                self._consumers.popitem()[1].close()

    def _consumer(self, *, committed: bool) -> Consumer:
        consumer = self._consumers.get(committed)
        if consumer is None:
            # What it meets with is raised by the call that fails.
            options = {**surveyor(self._config, committed=committed), "error_cb": _nothing}
            consumer = self._consumers[committed] = Consumer(options)
        consumer.poll(0)  # Drops what has piled up of it.
        return consumer


def _nothing(_: KafkaError) -> None:
    pass
