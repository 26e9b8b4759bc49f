"""The client of one group member, on whichever of Kafka's two group protocols it has come to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.kafka.config import GroupProtocol
from antiphon.bus.kafka.records import named
from antiphon.bus.record import TopicPartition


class GroupClient:
    """A `Consumer` that the polling thread alone calls. *make* makes one that has subscribed."""

    def __init__(self, make: Callable[[GroupProtocol], Consumer], protocol: GroupProtocol) -> None:
        self._make = make
        self._protocol = protocol
        self.consumer = make(protocol)

    @property
    def by_increments(self) -> bool:
        """Whether the group's protocol is KIP-848's: partitions come and go one by one."""
        return self._protocol is GroupProtocol.CONSUMER

    def fall_back(self) -> None:
        """Join anew, on the classic protocol."""
        self.consumer.close()
        self._protocol = GroupProtocol.CLASSIC
        self.consumer = self._make(self._protocol)

    def close(self) -> None:
        """Leave the group, whatever state the client is in."""
        with contextlib.suppress(KafkaException, RuntimeError):
            self.consumer.close()

    def assign(self, offsets: list[Offset]) -> None:
        """Take what the group gives, paused."""
        if self.by_increments:
            self.consumer.incremental_assign(offsets)
        else:
            self.consumer.assign(offsets)
        self.consumer.pause(offsets)

    def unassign(self, offsets: list[Offset]) -> None:
        """Give what the group takes."""
        if self.by_increments:
            self.consumer.incremental_unassign(offsets)
        else:
            self.consumer.unassign()

    def revive(
        self, partition: TopicPartition, at: Mapping[TopicPartition, int], assigned: Iterable[TopicPartition]
    ) -> None:
        """Have *partition* fetched again, where it is to go on: after some errors the client refuses to seek.

        On the classic protocol that voids every pause.
        """
        if self.by_increments:
            self.consumer.incremental_unassign(named([partition]))
            self.consumer.incremental_assign([Offset(*partition, at[partition])])
        else:
            self.consumer.assign([Offset(*one, at.get(one, OFFSET_BEGINNING)) for one in assigned])

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch nothing more from *partitions*; what was fetched ahead is dropped."""
        self.consumer.pause(named(partitions))

    def fetch(self, partitions: Mapping[TopicPartition, int]) -> None:
        """Fetch from *partitions* at these offsets, at once."""
        self.consumer.resume(named(partitions))
        # `resume` alone is noticed when the client next looks up, which may be a second later. `seek` wakes it.
        self.seek(partitions)

    def seek(self, partitions: Mapping[TopicPartition, int]) -> None:
        """Go on at these offsets."""
        for partition, offset in partitions.items():
            self.consumer.seek(Offset(*partition, offset))

    def metadata(self) -> Any:
        """Return the client's opaque word for member, generation and group."""
        return self.consumer.consumer_group_metadata()
