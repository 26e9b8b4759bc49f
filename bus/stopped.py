"""Partitions that stand still because their dead letters are refused, until they are taken again."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from antiphon.bus.dead_letter import origin_of
from antiphon.bus.errors import CommitError
from antiphon.bus.record import Outgoing, TopicPartition

log = logging.getLogger(__name__)


class Stopped:
    """Which partitions of one agent stand still, and for which letters.

    A letter that cannot be written must not be skipped, and trying it in a
    transaction of its partition would undo the work of all others again and
    again. So its partition stops, and the letter is tried out beside.
    """

    def __init__(self, agent: str, topic: str) -> None:
        self._agent = agent
        self._topic = topic
        self._letters: dict[TopicPartition, list[Outgoing]] = {}

    def __contains__(self, partition: TopicPartition) -> bool:
        return partition in self._letters

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter([*self._letters])

    def __bool__(self) -> bool:
        return bool(self._letters)

    def stop(self, records: Iterable[Outgoing], error: CommitError) -> bool:
        """Stop the partitions whose letters are among *records*, if it was these that were refused; says whether it was."""
        if error.topic != self._topic:
            return False
        found: defaultdict[TopicPartition, list[Outgoing]] = defaultdict(list)
        for record in records:
            if record.topic == self._topic:
                found[origin_of(record)].append(record)
        self._letters |= found
        self._say(found, error)
        return True

    async def try_out(self, write: Callable[[Sequence[Outgoing]], Awaitable[None]]) -> list[TopicPartition]:
        """Try whether letters would be taken now; returns the partitions that may go on."""
        free: list[TopicPartition] = []
        for partition, letters in [*self._letters.items()]:
            try:
                await write(letters)
            except CommitError as error:
                self._say([partition], error)
            else:
                del self._letters[partition]
                free.append(partition)
        if free:
            log.warning(
                "the dead-letter topic takes records again; going on",
                extra={"agent": self._agent, "topic": self._topic, "partitions": _listed(free)},
            )
        return free

    def _say(self, partitions: Iterable[TopicPartition], error: CommitError) -> None:
        log.error(
            "the dead-letter topic refuses records; partitions stand still until it takes them",
            extra={
                "agent": self._agent,
                "topic": self._topic,
                "partitions": _listed(partitions),
                "reason": error.reason,
                "remedy": "create the topic, let this agent write to it, or let it take records as large as those it hears",
            },
        )


def _listed(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in partitions)
