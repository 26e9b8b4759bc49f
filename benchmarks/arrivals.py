"""What came out of a run and when, as a read_committed reader finds it afterwards.

While the run goes on the broker is only asked how long its log is, a few times a
second: a reader that looked on would take its share of the processor from what
is measured. Times are those that producers stamp on their records.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stage import PARTITIONS

_LOOK_S = 0.02
_MOST_S = 600.0
_NEAR = 0.05
"""How far from where it belongs, as a share of all, a mark may be moved."""


def ignore(count: int) -> None:
    """Look on and do nothing."""


async def arrivals(
    bootstrap: str,
    topic: str,
    count: int,
    *,
    alive: Callable[[], None],
    partitions: int = PARTITIONS,
    look: Callable[[int], None] = ignore,
) -> list[float]:
    """Wait until *topic* has *count* committed records, and return their times in seconds, from early to late.

    *alive* is called meanwhile, and raises where waiting is in vain. *look*
    gets, meanwhile, how many there are, transaction markers included.
    """
    return await asyncio.to_thread(_arrivals, bootstrap, topic, count, partitions, alive, look)


def _arrivals(
    bootstrap: str,
    topic: str,
    count: int,
    partitions: int,
    alive: Callable[[], None],
    look: Callable[[int], None],
) -> list[float]:
    all_of_it = [TopicPartition(topic, number, 0) for number in range(partitions)]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    deadline = time.monotonic() + _MOST_S
    times: list[float] = []
    try:
        written = 0
        while written < count:
            _go_on(deadline, alive, topic, count, written)
            time.sleep(_LOOK_S)
            # A fresh topic has no leader for a moment: the next look will do.
            with contextlib.suppress(KafkaException):
                written = sum(consumer.get_watermark_offsets(one, cached=False)[1] for one in all_of_it)
                look(written)
        consumer.assign(all_of_it)
        while len(times) < count:
            _go_on(deadline, alive, topic, count, len(times))
            times += [message.timestamp()[1] / 1_000 for message in consumer.consume(10_000, timeout=0.1)]
    finally:
        consumer.close()
    return sorted(times)


def _go_on(deadline: float, alive: Callable[[], None], topic: str, count: int, have: int) -> None:
    alive()
    if time.monotonic() > deadline:
        message = f"expected {count} records on {topic} within {_MOST_S:g} s, got {have}"
        raise TimeoutError(message)


def rate(times: list[float], first: float = 0.1, last: float = 0.9) -> float:
    """Return how many came a second between two marks: shares of all that came. Beginning and end are left out.

    What one transaction carries comes at once. So each mark is moved to where the longest pause ends nearby: whole
    transactions are counted, over the time from when the first of them came until the one after the last did.

    >>> rate([0.0, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 8.5, 20.0])
    2.0
    >>> rate([float(n // 50) for n in range(1_000)])
    50.0
    """
    low, high = (_pause(times, int(mark * len(times)) - shift) for mark, shift in ((first, 0), (last, 1)))
    return (high - low) / max(times[high] - times[low], 0.001)


def _pause(times: list[float], mark: int) -> int:
    """Return what came first after the longest pause near *mark*; of several such pauses the nearest."""
    near = int(_NEAR * len(times))
    places = range(max(1, mark - near), min(len(times), mark + near + 1))
    return max(places, key=lambda at: (round(times[at] - times[at - 1], 3), -abs(at - mark)))
