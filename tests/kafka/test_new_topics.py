"""Topics that were just made: of several brokers the one that is asked next may not have heard of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.config import SOME_TOPIC, KafkaConfig
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import TopicPartition


class Brokers:
    """Answers as three brokers do, in turn, one of which is slow to hear of new topics: both clients of an administration."""

    def __init__(self, *answers: bool) -> None:
        self._answers: Iterator[bool] = iter(answers)
        self.listed = 0
        """How often all topics were asked for."""
        self.dead: list[KafkaError] = []
        """What is said first instead of an answer: of topics, and of their offsets."""
        self.refused: list[KafkaError] = []
        """What is said first instead of an answer: to who asks for a topic to be made."""

    def list_topics(self, topic: str | None = None, *, timeout: float) -> Any:
        if topic is None:
            self.listed += 1
        elif topic == SOME_TOPIC:
            return None
        elif self.dead:
            raise KafkaException(self.dead.pop(0))
        known = SimpleNamespace(partitions={0: SimpleNamespace(leader=1)}, error=None)
        unknown = SimpleNamespace(partitions={}, error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        if next(self._answers):
            return SimpleNamespace(
                topics={topic or "orders": known if topic in {None, "orders"} else unknown}, cluster_id="three"
            )
        return SimpleNamespace(topics={} if topic is None else {topic: unknown}, cluster_id="three")

    def create_topics(self, topics: list[Any], request_timeout: float) -> dict[str, Future[None]]:
        made: Future[None] = Future()
        if self.refused:
            made.set_exception(KafkaException(self.refused.pop(0)))
        else:
            made.set_result(None)
        return {topic.topic: made for topic in topics}

    def offsets_for_times(self, asked: Sequence[Offset], timeout: float) -> list[Any]:
        if self.dead:
            raise KafkaException(self.dead.pop(0))
        return [SimpleNamespace(topic=one.topic, partition=one.partition, offset=7, error=None) for one in asked]

    def poll(self, timeout: float) -> None:
        pass


def administration_of(brokers: Brokers) -> Administration:
    """Return an administration whose clients are *brokers*."""
    administration = Administration(KafkaConfig())
    administration._client = brokers  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] # noqa: SLF001 - no cluster lags on demand
    administration._survey._consumers[True] = brokers  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportArgumentType] # noqa: SLF001 - as above
    return administration


def test_a_topic_is_there_for_whoever_made_it() -> None:
    """It is asked for again, instead of told that it does not exist."""
    # Not there, so it is made; the first broker knows, the second does not, and does.
    administration = administration_of(Brokers(False, True, False, True, False, True, True))
    assert administration.create([TopicSpec("orders", 1)]) == ["orders"]
    assert administration.topics() == {"orders": 1}
    assert administration.partitions({"orders"}) == {"orders": 1}
    assert administration.partitions({"lost"}) == {}


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._NOENT,  # noqa: SLF001 - librdkafka's own errors are spelt so
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 - as above
        KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
    ],
)
def test_leaders_that_are_being_chosen_are_waited_for(code: int) -> None:
    """A worker that starts just then asks again, and who leads now, instead of ending with an error."""
    brokers = Brokers(*[True] * 9)
    administration = administration_of(brokers)
    assert administration.offsets_at([TopicPartition("orders", 0)], 5) == {TopicPartition("orders", 0): 7}
    brokers.dead = [KafkaError(code)]
    assert administration.offsets_at([TopicPartition("orders", 0)], 5) == {TopicPartition("orders", 0): 7}
    assert brokers.dead == []


def test_who_is_no_controller_any_more_is_not_asked_for_ever() -> None:
    """Any broker may be called the controller, one that has just died too: whoever makes a topic then asks who else is."""
    brokers = Brokers(False, True)
    brokers.refused = [KafkaError(KafkaError._TIMED_OUT, "Timed out waiting for controller")]  # noqa: SLF001 - as above
    assert administration_of(brokers).create([TopicSpec("orders", 1)]) == ["orders"]


def test_only_what_is_asked_for_is_looked_at() -> None:
    """Once the cluster is met, its list of topics is asked for only where a broker does not answer: that says why."""
    brokers = Brokers(*[True] * 9)
    administration = administration_of(brokers)
    assert administration.partitions({"orders"}) == {"orders": 1}
    assert administration.partitions({"orders", "lost"}) == {"orders": 1}
    assert brokers.listed == 1
    brokers.dead = [KafkaError(KafkaError._TIMED_OUT)]  # noqa: SLF001 - as above
    assert administration.partitions({"orders", "lost"}) == {"orders": 1}
    assert brokers.listed == 2
