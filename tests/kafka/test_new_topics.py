"""Topics that were just made: of several brokers the one that is asked next may not have heard of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import TopicPartition


class Brokers:
    """Answers as three brokers do, in turn, one of which is slow to hear of new topics."""

    def __init__(self, *answers: bool, leaderless: bool = False) -> None:
        self._answers: Iterator[bool] = iter(answers)
        self._leaderless = leaderless
        """The first who is asked for offsets knows no leader of any partition."""
        self.listed = 0
        self.error = KafkaError.UNKNOWN_TOPIC_OR_PART
        """What is said of a topic that is not known."""

    def list_topics(self, timeout: float) -> Any:
        self.listed += 1
        topic = SimpleNamespace(partitions={0: SimpleNamespace(leader=1)}, error=None)
        return SimpleNamespace(topics={"orders": topic} if next(self._answers) else {}, cluster_id="three")

    def describe_topics(self, topics: TopicCollection, request_timeout: float) -> dict[str, Future[Any]]:
        known = next(self._answers)
        answers: dict[str, Future[Any]] = {name: Future() for name in topics.topic_names}
        for name, answer in answers.items():
            if known and name == "orders":
                answer.set_result(SimpleNamespace(partitions=[SimpleNamespace(id=0)]))
            else:
                answer.set_exception(KafkaException(KafkaError(self.error)))
        return answers

    def create_topics(self, topics: list[Any], request_timeout: float) -> dict[str, Future[None]]:
        made: Future[None] = Future()
        made.set_result(None)
        return {topic.topic: made for topic in topics}

    def list_offsets(
        self, asked: Mapping[Offset, object], isolation_level: object, request_timeout: float
    ) -> dict[Offset, Future[Any]]:
        answers: dict[Offset, Future[Any]] = {partition: Future() for partition in asked}
        leaderless = self._leaderless
        self._leaderless = False
        for answer in answers.values():
            if leaderless:
                answer.set_exception(KafkaException(KafkaError(KafkaError._NOENT, "No leaders found")))  # noqa: SLF001 - librdkafka's own errors are spelt so
            else:
                answer.set_result(SimpleNamespace(offset=7))
        return answers

    def poll(self, timeout: float) -> int:
        return 0


def test_a_topic_is_there_for_whoever_made_it() -> None:
    """It is asked for again, instead of told that it does not exist."""
    administration = Administration(KafkaConfig())
    # Not there, so it is made; the first broker knows, the second does not, and does.
    administration._client = Brokers(False, True, False, True, False, True)  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] # noqa: SLF001 - no cluster lags on demand
    assert administration.create([TopicSpec("orders", 1)]) == ["orders"]
    assert administration.topics() == {"orders": 1}
    assert administration.partitions({"orders", "lost"}) == {"orders": 1}


def test_leaders_that_are_being_chosen_are_waited_for() -> None:
    """A worker that starts just then asks again, instead of ending with an error."""
    administration = Administration(KafkaConfig())
    brokers = Brokers(*[True] * 9, leaderless=True)
    administration._client = brokers  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] # noqa: SLF001 - as above
    assert administration.bounds(["orders"], committed=True) == {TopicPartition("orders", 0): (7, 7)}


def test_only_what_is_asked_for_is_looked_at() -> None:
    """Once the cluster is met, its list of topics is asked for only where a broker does not answer: that says why."""
    administration = Administration(KafkaConfig())
    brokers = Brokers(*[True] * 5)
    administration._client = brokers  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] # noqa: SLF001 - as above
    assert administration.partitions({"orders"}) == {"orders": 1}
    assert administration.partitions({"orders"}) == {"orders": 1}
    assert brokers.listed == 1
    brokers.error = KafkaError._TIMED_OUT  # noqa: SLF001 - librdkafka's own errors are spelt so
    assert administration.partitions({"orders", "lost"}) == {"orders": 1}
    assert brokers.listed == 2
