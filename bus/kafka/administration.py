"""What the bus asks of the cluster besides records. Every call blocks: it is made in a thread."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from antiphon.bus.errors import RemovalRefusedError, TopicCreationRefusedError, missing_rights
from antiphon.bus.kafka.chatter import library
from antiphon.bus.kafka.config import SOME_TOPIC, GroupProtocol, KafkaConfig, Option, admin
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
from antiphon.bus.kafka.survey import END, FIRST, Survey
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
# How long a question may take at first: twice as long each time, as it may be the broker that is slow.
_FIRST_S = 1.0
# A broker is none any more while it is being asked.
_REPLACED = PASSING | {KafkaError._DESTROY_BROKER}  # noqa: SLF001 - librdkafka's own errors are spelt so

T = TypeVar("T")


class Administration:
    """One admin client, made when first needed, and a `Survey`. Safe to use from any thread; one call at a time."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._survey = Survey(config)
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
            found = _counts(metadata.topics)
            if self._just_made() <= found.keys():
                return found
            time.sleep(0.02)

    def partitions(self, topics: Collection[str]) -> dict[str, int]:
        """Return the number of partitions of those of *topics* that there are.

        Asked of these alone: the list of all topics is megabytes long where a cluster has thousands.
        """
        return self._partitions(topics, committed=True)

    def _partitions(self, topics: Collection[str], *, committed: bool) -> dict[str, int]:
        self._meet()
        while True:
            found = self._counted(topics, committed=committed)
            if self._just_made() & {*topics} <= found.keys():
                return found
            time.sleep(0.02)

    def protocol(self) -> GroupProtocol:
        """Return the group protocol to use: KIP-848's where the brokers have it."""
        self._meet()
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

        def ask(client: Any, timeout_s: float) -> list[str]:
            futures: Mapping[str, Future[None]] = client.create_topics(
                [_new_topic(spec) for spec in wanted], request_timeout=timeout_s
            )
            return self._outcome(futures)

        with self._lock:
            made = self._steered(ask)
            self._made |= dict.fromkeys((spec.name for spec in wanted), time.monotonic())
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
            for topic, count in self._partitions({*topics}, committed=committed).items()
            for partition in range(count)
        ]
        first = self._offsets(partitions, FIRST, committed=committed)
        end = self._offsets(partitions, END, committed=committed)
        return {partition: (first[partition], end[partition]) for partition in partitions}

    def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """Return the first offset not older than *timestamp_ms*, or the end, by partition."""
        # Below zero there is no time; what stands for `FIRST` and `END` is.
        found = self._offsets(partitions, max(timestamp_ms, 0))
        older = [partition for partition, offset in found.items() if offset < 0]
        return found | self._offsets(older, END)

    def identities(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the id of each of *topics* that the cluster has; none where it gives no ids."""
        names = sorted(self.partitions({*topics}))
        if not names:
            return {}

        def ask(client: Any, timeout_s: float) -> dict[str, str]:
            answers: Mapping[str, Future[Any]] = client.describe_topics(
                TopicCollection(names), request_timeout=timeout_s
            )
            return {name: str(answer.result().topic_id) for name, answer in answers.items()}

        with self._lock:
            try:
                ids = self._steered(ask)
            except KafkaException as exception:
                raise ReadFailedError(error_of(exception)) from exception
        return {name: id for name, id in ids.items() if id != _NO_ID}

    def asked(self, ask: Callable[[Any, float], T]) -> T:
        """Return what *ask* returns, which is given the client and how long to wait (seconds), perhaps several times.

        For questions that are not this class's own; nobody else asks meanwhile. The client's futures are not typed.
        What the client raises comes through, but for what says that nobody answers. Raises `BrokerUnreachableError`.
        """
        self._meet()
        with self._lock:
            return self._steered(ask)

    def close(self) -> None:
        with self._lock:
            self._client = None
        self._survey.close()

    def _offsets(
        self, partitions: Iterable[TopicPartition], time_ms: int, *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        asked = list(partitions)
        if not asked:
            return {}
        topics = {partition.topic for partition in asked}
        started, patience_s = time.monotonic(), _FIRST_S
        while True:
            try:
                return self._survey.offsets(asked, time_ms, patience_s, committed=committed)
            except KafkaException as exception:
                error, tried_s = error_of(exception), time.monotonic() - started
                is_over = tried_s > self._config.settle_s
                if is_over and error.code() in NO_ANSWER:
                    raise unreachable(self._config, tried_s, error) from exception
                if is_over or error.code() not in NO_ANSWER | _REPLACED:
                    raise ReadFailedError(error) from exception
            if error.code() in NO_ANSWER:
                patience_s = min(2 * patience_s, _ANSWER_S)
            else:
                time.sleep(0.05)
            # Somebody else may lead by now. And this tells an unreachable cluster from a slow one.
            self._counted(topics, committed=committed)

    def _just_made(self) -> Set[str]:
        """Return what was made here so short a time ago that some broker may not know of it."""
        now = time.monotonic()
        self._made = {name: since for name, since in self._made.items() if now - since < _SPREADS_S}
        return self._made.keys()

    def _counted(self, topics: Collection[str], *, committed: bool) -> dict[str, int]:
        """Return the number of partitions of those of *topics* that there are; raises `BrokerUnreachableError`."""
        try:
            found = _counts(self._survey.metadata(topics, self._config.reach_s, committed=committed))
        except KafkaException:
            # It knows how long to try on, and why nobody answers.
            with self._lock:
                found = _counts(self._metadata().topics)
        return {name: count for name, count in found.items() if name in topics}

    def _steered(self, ask: Callable[[Any, float], T]) -> T:
        """Do what `asked` says.

        Much of what an administrator asks goes to the controller, and any broker may be called that: also one that
        has just died, until the cluster notices. The client asks that one, as fast as it can, until it is told of another.
        """
        started, patience_s = time.monotonic(), _FIRST_S
        while True:
            self._steer()
            try:
                return ask(self._connected(), patience_s)
            except KafkaException as exception:
                error, tried_s = error_of(exception), time.monotonic() - started
                if error.code() not in NO_ANSWER:
                    raise
                if tried_s > self._config.settle_s:
                    raise unreachable(self._config, tried_s, error) from exception
            patience_s = min(2 * patience_s, _ANSWER_S)

    def _steer(self) -> None:
        """Have the client learn anew who is there, and whom to ask."""
        with contextlib.suppress(KafkaException):  # whatever is asked next says more of it
            self._connected().list_topics(SOME_TOPIC, timeout=self._config.reach_s)

    def _outcome(self, futures: Mapping[str, Future[None]]) -> list[str]:
        made: list[str] = []
        refused: dict[str, KafkaError] = {}
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as exception:
                error = error_of(exception)
                if error.code() in NO_ANSWER:
                    raise
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

    def _meet(self) -> None:
        """Hear from the cluster once: what it is, and what it can do; raises `BrokerUnreachableError`."""
        if not self._met:
            with self._lock:
                self._metadata()

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


def _counts(topics: Mapping[str, Any]) -> dict[str, int]:
    return {
        name: len(topic.partitions)
        for name, topic in topics.items()
        if not name.startswith("__") and topic.error is None
    }


def _new_topic(spec: TopicSpec) -> NewTopic:
    config = {"cleanup.policy": "compact", **spec.config} if spec.compact else dict(spec.config)
    # -1: as many replicas as the cluster makes by default.
    return NewTopic(spec.name, num_partitions=spec.partitions, replication_factor=-1, config=config)


def _is_led(topic: Any) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())
