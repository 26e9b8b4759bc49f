"""Which of the partitions that a worker is given it may work on: whoever has the number has all that goes with it.

Partition 3 of every topic that an agent hears shares one state, so one worker
must have them all. Assignors see to that among members that subscribe to the
same topics. In a rolling deploy that adds one, they do not: each topic is
shared out among those who hear it. So there is one topic to which every version
of an agent subscribes, its own for redriven events, and whoever has partition 3
of that one has the number. What is given to another worker waits there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from antiphon.bus.record import Committed, TopicPartition


class Numbers:
    """What one member is given, by number. *deciding* is the topic whose owner has the number.

    >>> numbers = Numbers("books.redrive")
    >>> numbers.give({TopicPartition("paid", 3): None})
    {}
    >>> sorted(tp.topic for tp in numbers.give({TopicPartition("books.redrive", 3): None}))
    ['books.redrive', 'paid']
    >>> numbers.take({TopicPartition("books.redrive", 3)}, {TopicPartition("paid", 3)})
    {TopicPartition(topic='paid', partition=3)}
    """

    def __init__(self, deciding: str) -> None:
        self._deciding = deciding
        self._mine: set[int] = set()
        self._waiting: dict[TopicPartition, Committed | None] = {}

    @property
    def waiting(self) -> Collection[TopicPartition]:
        """What is given to this worker and cannot be worked on here: its number is another's."""
        return self._waiting.keys()

    def give(self, partitions: Mapping[TopicPartition, Committed | None]) -> dict[TopicPartition, Committed | None]:
        """Take note of *partitions* that are given; return what may be worked on from now on."""
        self._mine |= {tp.partition for tp in partitions if tp.topic == self._deciding}
        self._waiting.update(partitions)
        ready = {tp: committed for tp, committed in self._waiting.items() if tp.partition in self._mine}
        for tp in ready:
            del self._waiting[tp]
        return ready

    def take(self, partitions: Collection[TopicPartition], owned: Collection[TopicPartition]) -> set[TopicPartition]:
        """Take note that *partitions* are taken away; return which others of those *owned* end with them.

        They are still given to this worker. To wait here, they have to be given to it anew:
        what was committed when they were given is not what is committed now.
        """
        gone = {tp.partition for tp in partitions if tp.topic == self._deciding}
        self._mine -= gone
        for tp in partitions:
            self._waiting.pop(tp, None)
        return {tp for tp in owned if tp.partition in gone}.difference(partitions)
