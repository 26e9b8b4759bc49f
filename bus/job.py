"""One delivery on its way through the engine: taken, handled, finished, committed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from time import monotonic_ns

from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Usage
from antiphon.bus.offsets import Progress
from antiphon.bus.record import Outgoing, Record, TopicPartition
from antiphon.bus.state import PartitionState
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event


@dataclasses.dataclass(slots=True, eq=False)
class Owned:
    """A partition this worker owns, from its assignment to its loss. A later assignment is another object."""

    tp: TopicPartition
    progress: Progress
    state: PartitionState
    pending: int = 0
    """Records taken and not finished."""
    paused: bool = False
    closing: bool = False
    """Nothing new is started: the partition is about to be given up."""


@dataclasses.dataclass(slots=True, eq=False)
class Job:
    """One record of an owned partition, and all that will be committed with its offset."""

    owned: Owned
    record: Record
    envelope: Envelope
    event_class: type[Event]
    by: Consumer
    """Who handles it: the consumer, or its canary."""
    attempt: int = 1
    runner: asyncio.Task[None] | None = None
    """The task that is handling it now."""
    abandoned: bool = False
    """Its partition is gone; whatever it still does is thrown away."""
    started_us: int = 0
    """By the wall clock, which every machine shares, more or less."""
    spent: tuple[Usage, ...] = ()
    """What its earlier attempts, here, reported to have spent."""
    began_ns: int = 0
    """By a clock that nobody sets: what durations are taken from."""

    @property
    def lasted_us(self) -> int:
        """How long the attempt has taken."""
        return (monotonic_ns() - self.began_ns) // 1_000

    @property
    def state_key(self) -> str:
        """The key of the state that belongs to the event."""
        return self.envelope.key or self.envelope.correlation_id

    def fields(self, agent: str) -> dict[str, object]:
        """Return what every log line about this job carries."""
        return {
            "agent": agent,
            "event_id": self.envelope.id,
            "correlation_id": self.envelope.correlation_id,
            "topic": self.record.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "attempt": self.attempt,
        }


@dataclasses.dataclass(slots=True, eq=False)
class Finished:
    """What one attempt leaves to be committed: always activity, and once the attempt is final the offset and effects."""

    owned: Owned
    offset: int | None
    """None: the attempt was not the last one; its offset stays unfinished."""
    outgoing: Sequence[Outgoing]
    activity: bytes | None
    """Its entry in the activity record, written."""
    activity_partition: int = 0
    version: str = ""
    """Of the handler, for the activity record."""


@dataclasses.dataclass(slots=True, eq=False)
class Remembered:
    """The result of a side effect on its way to being durable before its delivery is complete."""

    owned: Owned
    outgoing: list[Outgoing]
    written: asyncio.Future[None]
