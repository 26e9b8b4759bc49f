"""Topics that were just made: of several brokers the one that is asked next may not have heard of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.port import TopicSpec


class Brokers:
    """Answers as three brokers do, in turn, one of which is slow to hear of new topics."""

    def __init__(self, *answers: bool) -> None:
        self._answers: Iterator[bool] = iter(answers)

    def list_topics(self, timeout: float) -> Any:
        topic = SimpleNamespace(partitions={0: SimpleNamespace(leader=1)}, error=None)
        return SimpleNamespace(topics={"orders": topic} if next(self._answers) else {}, cluster_id="three")

    def create_topics(self, topics: list[Any], request_timeout: float) -> dict[str, Future[None]]:
        made: Future[None] = Future()
        made.set_result(None)
        return {topic.topic: made for topic in topics}

    def poll(self, timeout: float) -> int:
        return 0


def test_a_topic_is_there_for_whoever_made_it() -> None:
    """It is asked for again, instead of told that it does not exist."""
    administration = Administration(KafkaConfig())
    # Not there, so it is made; the first broker knows, the second does not, and does.
    administration._client = Brokers(False, True, False, True)  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] # noqa: SLF001 - no cluster lags on demand
    assert administration.create([TopicSpec("orders", 1)]) == ["orders"]
    assert administration.topics() == {"orders": 1}
