"""What the bus asks of the cluster besides records. Every call blocks: it is made in a thread."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, cast

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Offset
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from antiphon.bus.errors import RemovalRefusedError, TopicCreationRefusedError, missing_rights
from antiphon.bus.kafka.chatter import library
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig, Option, admin
from antiphon.bus.kafka.failures import (
    NO_ANSWER,
    PASSING,
    REFUSED,
    ReadFailedError,
    error_of,
    is_refused,
    is_there,
    unreachable,
)
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import TopicPartition
from antiphon.bus.right import Operation, Resource, Right

# What every noida-db says it is called.
_EMBEDDED = "MkU3OEVBNTctOEUyRi00"
# What a broker says that has no ids for topics: sixteen zero bytes.
_NO_ID = "A" * 22
_ANSWER_S = 15.0
_API = re.compile(r"ApiKey (\w+) \(\d+\) Versions \d+\.\.(\d+)")
# When to see first whether a broker has said why it lets nobody in.
_LOOK_S = 0.5
_LEADERS_S = 15.0
# Until every broker knows of a topic that one has made: some milliseconds, where none is overloaded.
_SPREADS_S = 5.0
_MOVING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - what the client itself says of the same
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - the same
}
# What is said of a topic that does not exist, or may not be seen, which looks alike.
_NOT_THERE = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
}


class Administration:
    """One admin client, made when first needed. Safe to use from any thread; one call at a time."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._client: AdminClient | None = None
        self._features = _Features()
        self._met = False
        self._made: dict[str, float] = {}
        """When topics were made here, as long as some broker may not know of them."""
        self.embedded = False
        """Whether it is the embedded broker, known from the first answer on."""

    def topics(self) -> dict[str, int]:
        """Return every topic's number of partitions; Kafka's own topics are left out.

        What was just made here is among them, though the broker that is asked may not know yet: then it is asked again.
        """
        while True:
            with self._lock:
                metadata = self._metadata()
            found = _counts(metadata)
            if self._just_made() <= found.keys():
                return found
            time.sleep(0.02)

    def partitions(self, topics: Collection[str]) -> dict[str, int]:
        """Return the number of partitions of those of *topics* that there are.

        Asked of these alone: the list of all topics is megabytes long where a cluster has thousands.
        """
        while True:
            with self._lock:
                if not self._met:
                    self._metadata()
                found = self._described(topics)
            if self._just_made() & {*topics} <= found.keys():
                return found
            time.sleep(0.02)

    def protocol(self) -> GroupProtocol:
        """Return the group protocol to use: KIP-848's where the brokers have it."""
        with self._lock:
            if not self._met:
                self._metadata()
        # A broker that says nothing of what it can do is an old one.
        return self.known_protocol or GroupProtocol.CLASSIC

    @property
    def known_protocol(self) -> GroupProtocol | None:
        """The group protocol, or None as long as no broker has said what it can do."""
        if self._config.group_protocol is not None or not self._features.heard:
            return self._config.group_protocol
        return GroupProtocol.CONSUMER if self._features.server_side else GroupProtocol.CLASSIC

    @property
    def apis(self) -> dict[str, int]:
        """The requests that brokers take, each with its highest version; empty as long as none has said."""
        return dict(self._features.apis)

    def note_classic(self) -> None:
        """Note that the brokers have KIP-848's protocol switched off, though they know it."""
        self._features.server_side = False

    def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create what does not exist; returns the names of what it made, once they have leaders."""
        if not specs:
            return []
        existing = self.topics()
        wanted = [spec for spec in specs if spec.name not in existing]
        if not wanted:
            return []
        with self._lock:
            client: Any = self._connected()  # Its futures are not typed.
            futures: Mapping[str, Future[None]] = client.create_topics(
                [_new_topic(spec) for spec in wanted], request_timeout=_ANSWER_S
            )
            made = self._outcome(futures)
            self._made |= dict.fromkeys(futures, time.monotonic())
            if made:
                self._await_leaders([spec.name for spec in wanted])
        return made

    def remove(self, prefix: str) -> list[str]:
        """Remove the topics and groups whose names begin with *prefix*; returns the topics' names."""
        topics = [name for name in self.topics() if name.startswith(prefix)]
        with self._lock:
            client: Any = self._connected()  # Its futures are not typed.
            self._made = {name: since for name, since in self._made.items() if name not in topics}
            try:
                listed = client.list_consumer_groups(request_timeout=_ANSWER_S).result().valid
                groups = [group.group_id for group in listed if group.group_id.startswith(prefix)]
                for future in (
                    client.delete_consumer_groups(groups, request_timeout=_ANSWER_S).values() if groups else ()
                ):
                    # One whose members were killed has them still, until their session ends.
                    with contextlib.suppress(KafkaException):
                        future.result()
            except KafkaException as exception:
                self._refused(error_of(exception), prefix)
            for name, future in client.delete_topics(topics, operation_timeout=_ANSWER_S).items() if topics else ():
                try:
                    future.result()
                except KafkaException as exception:
                    if error_of(exception).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        self._refused(error_of(exception), name)
            # Whoever lists topics at once would find some of which no broker says any more where they begin.
            deadline = time.monotonic() + _SPREADS_S
            while time.monotonic() < deadline and not self._metadata().topics.keys().isdisjoint(topics):
                time.sleep(0.02)
        return sorted(topics)

    def _refused(self, error: KafkaError, what: str) -> None:
        if error.code() in NO_ANSWER:
            raise unreachable(self._config, _ANSWER_S, error)
        raise RemovalRefusedError(what, f"{error.name()}: {error.str()}")

    def bounds(self, topics: Iterable[str], *, committed: bool) -> dict[TopicPartition, tuple[int, int]]:
        """Return first offset and end by partition: of what is committed, or of all that was written."""
        partitions = [
            TopicPartition(topic, partition)
            for topic, count in self.partitions({*topics}).items()
            for partition in range(count)
        ]
        first = self._offsets(partitions, _earliest())
        end = self._offsets(partitions, _latest(), committed=committed)
        return {partition: (first[partition], end[partition]) for partition in partitions}

    def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """Return the first offset not older than *timestamp_ms*, or the end, by partition."""
        found = self._offsets(partitions, OffsetSpec.for_timestamp(timestamp_ms))
        older = [partition for partition, offset in found.items() if offset < 0]
        return found | self._offsets(older, _latest())

    def identities(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the id of each of *topics* that the cluster has; none where it gives no ids."""
        names = sorted(self.partitions({*topics}))
        if not names:
            return {}
        with self._lock:
            client: Any = self._connected()  # Its futures are not typed.
            answers: Mapping[str, Future[Any]] = client.describe_topics(
                TopicCollection(names), request_timeout=_ANSWER_S
            )
            try:
                ids = {name: str(answer.result().topic_id) for name, answer in answers.items()}
            except KafkaException as exception:
                raise ReadFailedError(error_of(exception)) from exception
        return {name: id for name, id in ids.items() if id != _NO_ID}

    @contextmanager
    def client(self) -> Generator[Any]:
        """Give the client, connected, for one question that is not this class's own; nobody else asks meanwhile.

        Its futures are not typed. Raises `BrokerUnreachableError`.
        """
        with self._lock:
            if not self._met:
                self._metadata()
            yield self._connected()

    def close(self) -> None:
        with self._lock:
            self._client = None

    def _offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec, *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        asked = {Offset(*partition): spec for partition in partitions}
        if not asked:
            return {}
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        deadline = time.monotonic() + self._config.settle_s
        while True:
            try:
                return self._ask_offsets(asked, level)
            except KafkaException as exception:
                error = error_of(exception)
                if error.code() in NO_ANSWER:
                    raise unreachable(self._config, _ANSWER_S, error) from exception
                if error.code() not in PASSING or time.monotonic() > deadline:
                    raise ReadFailedError(error) from exception
                time.sleep(0.05)

    def _ask_offsets(self, asked: dict[Offset, OffsetSpec], level: IsolationLevel) -> dict[TopicPartition, int]:
        with self._lock:
            # Asking for something small first tells an unreachable cluster from a slow one.
            self._described({partition.topic for partition in asked})
            client: Any = self._connected()  # Its futures are not typed.
            answers: Mapping[Offset, Future[Any]] = client.list_offsets(
                asked, isolation_level=level, request_timeout=_ANSWER_S
            )
            found = {
                TopicPartition(partition.topic, partition.partition): answer.result().offset
                for partition, answer in answers.items()
            }
        if OFFSET_INVALID in found.values():
            # What the client says, and no error beside it, where a connection ended in the middle of the question. Whoever
            # took it for an end would read nothing, and take that for all there is.
            raise KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE, "the connection was cut"))
        return found

    def _just_made(self) -> Set[str]:
        """Return what was made here so short a time ago that some broker may not know of it."""
        now = time.monotonic()
        self._made = {name: since for name, since in self._made.items() if now - since < _SPREADS_S}
        return self._made.keys()

    def _described(self, topics: Collection[str]) -> dict[str, int]:
        """Return the number of partitions of those of *topics* that there are; raises `BrokerUnreachableError`."""
        if not topics:
            return {}
        client: Any = self._connected()  # Its futures are not typed.
        named = TopicCollection(sorted(topics))
        answers: Mapping[str, Future[Any]] = client.describe_topics(named, request_timeout=self._config.reach_s)
        found: dict[str, int] = {}
        for name, answer in answers.items():
            try:
                found[name] = len(answer.result().partitions)
            except KafkaException as exception:
                if error_of(exception).code() not in _NOT_THERE:
                    # It knows how long to try on, and why nobody answers.
                    return {name: count for name, count in _counts(self._metadata()).items() if name in topics}
        return found

    def _outcome(self, futures: Mapping[str, Future[None]]) -> list[str]:
        made: list[str] = []
        refused: dict[str, KafkaError] = {}
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as exception:
                error = error_of(exception)
                if error.code() in NO_ANSWER:
                    raise unreachable(self._config, _ANSWER_S, error) from exception
                # Somebody else was quicker: as good as made.
                if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    refused[name] = error
            else:
                made.append(name)
        if refused:
            reasons = dict.fromkeys(f"{error.name()}: {error.str()}" for error in refused.values())
            lacking = [
                Right(Operation.CREATE, Resource.TOPIC, name)
                for name, error in sorted(refused.items())
                if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
            ]
            if lacking:
                reasons = {missing_rights(lacking, self._config.identity.principal): None}
            raise TopicCreationRefusedError(refused, "; ".join(reasons))
        return made

    def _await_leaders(self, names: Collection[str]) -> None:
        deadline = time.monotonic() + _LEADERS_S
        while True:
            topics = self._metadata().topics
            if all(name in topics and _is_led(topics[name]) for name in names) or time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def _metadata(self) -> Any:
        """Ask what the cluster has; raises `BrokerUnreachableError` where nobody answers."""
        started = time.monotonic()
        metadata = self._answered(self._connected(), started)
        self._features.trouble = None
        self._met = True
        self.embedded = str(metadata.cluster_id) == _EMBEDDED
        return metadata

    def _answered(self, client: AdminClient, started: float) -> Any:
        """Return the answer. A broker that does not let us in says so early, and the client would try on: look in between."""
        look_s, most_s = _LOOK_S, self._config.reach_s
        while True:
            left_s = max(started + most_s - time.monotonic(), 0.01)
            try:
                return client.list_topics(timeout=min(look_s, left_s))
            except KafkaException as exception:
                error = error_of(exception)
                client.poll(0)
                if error.code() not in NO_ANSWER | REFUSED:
                    raise
                if look_s >= left_s and most_s < self._config.settle_s and is_there(self._config):
                    # One of several brokers is down, or they are choosing who leads: no reason for a worker not to start.
                    most_s = self._config.settle_s
                    left_s = started + most_s - time.monotonic()
                over = look_s >= left_s or error.code() in REFUSED or self._features.trouble is not None
                if over or is_refused(self._config):
                    tried_s = time.monotonic() - started
                    raise unreachable(self._config, tried_s, self._features.trouble or error) from exception
                # Longer each time: a broker may be slow to answer.
                look_s *= 2
            finally:
                client.poll(0)

    def _connected(self) -> AdminClient:
        if self._client is None:
            options = {**admin(self._config), "error_cb": self._features.on_error}
            # The constructor's type knows nothing of callbacks, which it takes.
            self._client = AdminClient(cast("dict[str, Option]", options), logger=self._features.logger)
        return self._client


class _Features(logging.Filter):
    """What the admin client's own log tells: the library knows what brokers can do, and has no call that says it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = False
        self.server_side = False
        self.apis: dict[str, int] = {}
        self.trouble: KafkaError | None = None
        # Its own logger, so that what brokers can do is heard whatever level anybody has set; nothing of it is shown.
        self.logger = logging.Logger(library.name + ".admin", logging.DEBUG)  # noqa: LOG001 - outside the tree on purpose
        self.logger.addHandler(logging.NullHandler())
        self.logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Listen; pass nothing on: whatever matters is raised by the call that failed."""
        text = record.getMessage()
        self.heard = self.heard or "ApiKey " in text
        self.server_side = self.server_side or "ApiKey ConsumerGroupHeartbeat " in text
        self.apis |= {name: int(most) for name, most in _API.findall(text)}
        return False

    def on_error(self, error: KafkaError) -> None:
        """Keep the last thing said besides that nobody answers: why nobody is let in."""
        if error.code() not in NO_ANSWER:
            self.trouble = error


def _counts(metadata: Any) -> dict[str, int]:
    return {
        name: len(topic.partitions)
        for name, topic in metadata.topics.items()
        if not name.startswith("__") and topic.error is None
    }


def _new_topic(spec: TopicSpec) -> NewTopic:
    config = {"cleanup.policy": "compact", **spec.config} if spec.compact else dict(spec.config)
    # -1: as many replicas as the cluster makes by default.
    return NewTopic(spec.name, num_partitions=spec.partitions, replication_factor=-1, config=config)


def _earliest() -> OffsetSpec:
    return cast("OffsetSpec", OffsetSpec.earliest())  # type: ignore[no-untyped-call] # the library forgot


def _latest() -> OffsetSpec:
    return cast("OffsetSpec", OffsetSpec.latest())  # type: ignore[no-untyped-call] # the library forgot


def _is_led(topic: Any) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())
