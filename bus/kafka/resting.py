"""When to stop asking for a moment.

A broker keeps a fetch waiting until there is something to fetch. The embedded
one answers at once that there is nothing, and a client asks again at once: some
thousand times a second, which takes a third of a core on either side. Such a
client is paused for a few milliseconds whenever it has come to the end of
everything, longer the longer nothing comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from antiphon.bus.record import TopicPartition

_SHORTEST_S = 0.002
_LONGEST_S = 0.05


class Rest:
    """Which partitions have been read to their end, and how long to rest when all have.

    >>> rest, orders = Rest(), {TopicPartition("orders", 0), TopicPartition("orders", 1)}
    >>> rest.ended(TopicPartition("orders", 0))
    >>> rest.is_due(orders)
    False
    >>> rest.ended(TopicPartition("orders", 1))
    >>> rest.is_due(orders), rest.begin(), rest.is_due(orders), rest.begin()
    (True, 0.002, False, 0.004)
    """

    def __init__(self) -> None:
        self._ended: set[TopicPartition] = set()
        self._length_s = _SHORTEST_S

    def ended(self, partition: TopicPartition) -> None:
        """Note that there is nothing more of *partition* for now."""
        self._ended.add(partition)

    def came(self, partitions: Iterable[TopicPartition]) -> None:
        """Note that there were records of *partitions*."""
        self._ended.difference_update(partitions)
        self._length_s = _SHORTEST_S

    def is_due(self, flowing: Set[TopicPartition]) -> bool:
        """Say whether all of *flowing* have come to their end."""
        return bool(flowing) and self._ended >= flowing

    def begin(self) -> float:
        """Return how long to rest. Afterwards the ends have to be found again."""
        self._ended.clear()
        length_s = self._length_s
        self._length_s = min(2 * length_s, _LONGEST_S)
        return length_s
