"""What an operator asks of a cluster, or has it do: offsets of groups, settings of topics, rights; and removing what is not used any more.

Apart from the bus: nothing here is needed to run an agent. Every call blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from antiphon.bus.errors import BusError
from antiphon.bus.kafka.chatter import library
from antiphon.bus.kafka.config import KafkaConfig, admin
from antiphon.bus.kafka.failures import answered, error_of, unreachable
from antiphon.bus.record import Committed, TopicPartition

_ANSWER_S = 15.0
_GONE = {KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART}


class ClusterRefusedError(BusError):
    """The cluster would not do, or say, what an operator asked for."""

    def __init__(self, what: str, error: KafkaError) -> None:
        self.code = error.code()
        self.reason = f"{error.name()}: {error.str()}"
        remedy = _REMEDIES.get(self.code, "Ask again; 'antiphon doctor' looks closer")
        super().__init__(f"expected the cluster to {what}, got {self.reason}. {remedy}.")


_RIGHT = "Have somebody do it who has the right to, or be given it"
_REMEDIES = {
    KafkaError.NON_EMPTY_GROUP: "Stop its workers first",
    KafkaError.GROUP_AUTHORIZATION_FAILED: _RIGHT,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _RIGHT,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _RIGHT,
}


@dataclasses.dataclass(frozen=True)
class TopicFacts:
    """What the cluster says of one topic."""

    replicas: int
    config: Mapping[str, str]
    """Its settings, the broker's defaults included; empty where the broker does not tell."""


class ClusterAdministration:
    """One admin client for a command. Use it from one thread, and `close` it."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        options = {name: value for name, value in admin(config).items() if name != "debug"}
        self._client: Any = AdminClient(options, logger=library)  # its futures are not typed

    def close(self) -> None:
        """Let go of the client: its threads end with it."""
        self._client = None

    def committed(self, group: str) -> dict[TopicPartition, Committed]:
        """Return what *group* has committed; nothing where there is no such group."""
        asked: Mapping[str, Future[Any]] = self._client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=_ANSWER_S
        )
        try:
            found = self._answer(f"tell the offsets of group {group!r}", next(iter(asked.values())))
        except ClusterRefusedError as error:
            if error.code == KafkaError.GROUP_ID_NOT_FOUND:
                return {}
            raise
        return {
            TopicPartition(place.topic, place.partition): Committed(place.offset, place.metadata or "")
            for place in found.topic_partitions
            if place.offset >= 0
        }

    def facts(self, topics: Iterable[str]) -> dict[str, TopicFacts]:
        """Return what the cluster says of *topics*; those that are not there are left out."""
        wanted = set(topics)
        metadata = self._metadata()
        replicas = {
            name: min((len(partition.replicas) for partition in topic.partitions.values()), default=0)
            for name, topic in metadata.topics.items()
            if name in wanted and topic.error is None
        }
        if not replicas:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(replicas)]
        configs: dict[str, dict[str, str]] = {}
        for resource, answer in self._client.describe_configs(resources, request_timeout=_ANSWER_S).items():
            try:
                found: Mapping[str, Any] = self._answer(f"tell the settings of {resource.name!r}", answer)
            except ClusterRefusedError:
                found = {}  # it may not be told to us
            configs[resource.name] = {name: entry.value for name, entry in found.items() if entry.value is not None}
        return {name: TopicFacts(count, configs.get(name, {})) for name, count in replicas.items()}

    def brokers(self) -> int:
        """Return how many brokers there are."""
        return len(self._metadata().brokers)

    def rights(self) -> int | None:
        """Return how many ACLs there are; None where the brokers say that they have no authorizer. Not all say so.

        Raises `ClusterRefusedError` where they do not say.
        """
        anybody: Any = None  # the library's types know nothing of a filter that leaves something open
        anything = AclBindingFilter(
            ResourceType.ANY,
            anybody,
            ResourcePatternType.ANY,
            anybody,
            anybody,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        try:
            found = self._answer("list its ACLs", self._client.describe_acls(anything, request_timeout=_ANSWER_S))
        except ClusterRefusedError as error:
            if error.code == KafkaError.SECURITY_DISABLED:
                return None
            raise
        return len(found or ())

    def remove_group(self, group: str) -> bool:
        """Remove *group* and its offsets; False where there is none. Raises `ClusterRefusedError` while it has members."""
        [answer] = self._client.delete_consumer_groups([group], request_timeout=_ANSWER_S).values()
        return self._removed(f"remove group {group!r}", answer)

    def remove_topics(self, topics: Iterable[str]) -> list[str]:
        """Remove *topics* and all that stands on them; returns those that were there."""
        wanted = sorted({*topics} & self._metadata().topics.keys())
        if not wanted:
            return []
        answers = self._client.delete_topics(wanted, request_timeout=_ANSWER_S, operation_timeout=_ANSWER_S)
        return [topic for topic, answer in sorted(answers.items()) if self._removed(f"remove topic {topic!r}", answer)]

    def _removed(self, what: str, answer: Future[Any]) -> bool:
        try:
            self._answer(what, answer)
        except ClusterRefusedError as error:
            if error.code in _GONE:
                return False
            raise
        return True

    def _answer(self, what: str, answer: Future[Any]) -> Any:
        return answered(answer, self._config, _ANSWER_S, lambda error: ClusterRefusedError(what, error))

    def _metadata(self) -> Any:
        try:
            return self._client.list_topics(timeout=self._config.reach_s)
        except KafkaException as exception:
            raise unreachable(self._config, self._config.reach_s, error_of(exception)) from exception
