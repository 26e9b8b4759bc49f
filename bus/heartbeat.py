"""Who is up: one record per worker and agent on the compacted topic `antiphon.agents`.

The key is `<agent>/<instance>`. A worker writes it when it starts, every
*interval_s* while it runs, and once more, with *stopped*, when it leaves. The
last record of an agent stays: it says who should handle an event even while
nobody is there to do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from antiphon.bus.names import AGENTS
from antiphon.bus.schema_digest import class_digest
from antiphon.schemas.event import Event

if TYPE_CHECKING:
    from antiphon.bus.consumer import Consumer


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Named(_Part):
    """An event type, and where its events go."""

    type: str
    topic: str
    schema_digest: str | None = None
    """Names the schema of the class that it is read or written as, among those on `antiphon.schemas`."""


class Heard(Named):
    """An event type an agent subscribes to."""

    join: bool = False
    leads_to: list[str] | None = None
    """The event types it may answer with; None: any that the agent emits."""
    starts: bool = False
    """One starts a saga."""


class Said(Named):
    """An event type an agent may emit."""

    fails: bool = False
    command: bool = False
    """A saga asks for something by it, and judges what fails below it."""


class InFlight(_Part):
    """An event a worker is handling right now."""

    event_id: str
    type: str
    since_us: int


class Canary(_Part):
    """Another version that handles some workflows in the worker's own one's place."""

    version: str
    share: int
    """Of how many, in ten-thousandths."""
    hears: list[Heard] = []
    emits: list[Said] = []


class AgentSeen(Event, type="antiphon.agent.seen", topic=AGENTS):
    """One worker of one agent, as it was at *time_us*."""

    agent: str
    version: str
    instance: str
    started_us: int
    time_us: int
    interval_s: float
    stopped: bool = False
    hears: list[Heard] = []
    emits: list[Said] = []
    undoes: list[str] = []
    capacity: int
    in_flight: list[InFlight] = []
    max_hops: int | None = None
    """How many agents may lead to an event that it handles; 0: any number. None: the worker is of an older release."""
    lag: int | None = None
    """Events not handled on the partitions that this worker owns; None: not known yet."""
    canary: Canary | None = None

    @property
    def versions(self) -> list[tuple[str, list[Heard], list[Said]]]:
        """What each version that runs there is, hears and may say; the worker's own comes first."""
        own = (self.version, self.hears, self.emits)
        return [own] if self.canary is None else [own, (self.canary.version, self.canary.hears, self.canary.emits)]


def hears(consumer: Consumer) -> list[Heard]:
    """Return what *consumer* subscribes to, as its heartbeats tell it."""
    return [
        Heard(
            type=type,
            topic=event_class.__event__.topic,
            schema_digest=class_digest(event_class),
            join=type in consumer.joins,
            leads_to=sorted(consumer.leads_to[type]) if type in consumer.leads_to else None,
            starts=type in consumer.starts,
        )
        for type, event_class in sorted(consumer.hears.items())
    ]


def says(consumer: Consumer) -> list[Said]:
    """Return what *consumer* may emit, as its heartbeats tell it."""
    return [
        Said(
            type=declared.type,
            topic=declared.topic,
            schema_digest=class_digest(event_class),
            fails=declared.fails,
            command=declared.type in consumer.asks,
        )
        for declared, event_class in sorted(
            ((event_class.__event__, event_class) for event_class in consumer.emits or ()), key=lambda d: d[0].type
        )
    ]


def canary(consumer: Consumer) -> Canary | None:
    """Return the canary of *consumer*, as its heartbeats tell it."""
    other = consumer.canary
    if other is None:
        return None
    return Canary(version=other.version, share=consumer.share.ten_thousandths, hears=hears(other), emits=says(other))
