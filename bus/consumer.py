"""What runs as one consumer group: what it hears, what it may say, and its handler."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from antiphon.bus.handler import Handler
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.retry import RetryPolicy
from antiphon.bus.share import Share
from antiphon.schemas.event import Event

if TYPE_CHECKING:
    from antiphon.bus.telemetry import Figure
    from antiphon.schemas.codec import Codec

STATE_EXPIRES_S = 30 * 24 * 3600.0
"""Longer than Kafka keeps events unless it is told to (7 days), so no event can come again that state should refuse."""

UNSAID = "0"
"""The version of an agent that says none."""

Follower: TypeAlias = Callable[[Bus, Names, "Codec"], Awaitable[None]]
"""What a worker runs beside a handler that needs to know more than its events tell; it reads on until cancelled."""


class Guarantee(Enum):
    """What a worker promises about Kafka. Side effects elsewhere are at least once under both."""

    EXACTLY_ONCE = "exactly_once"
    AT_LEAST_ONCE = "at_least_once"


class Lane(Enum):
    """What must be handled one after the other."""

    KEY = "key"
    """Events of one key: the usual."""
    PARTITION = "partition"
    """All events of a partition, for handlers that keep state across its keys."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consumer:
    """An agent, the saga coordinator or the tracer, as the engine sees it."""

    name: str
    """Name of the agent, of the consumer group, and of its state and dead-letter topics."""
    version: str = UNSAID
    hears: Mapping[str, type[Event]]
    """Event type to the class it is read as. The classes name the topics."""
    handler: Handler
    """Gets events sealed in their envelopes; returns events, sealed by `lineage`."""
    emits: frozenset[type[Event]] | None = frozenset()
    """What the handler may return; None: anything."""
    leads_to: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict[str, frozenset[str]])
    """What each event type it hears may make it say; a type that is not listed: anything it emits."""
    undoes: Mapping[str, type[Event]] = dataclasses.field(default_factory=dict[str, type[Event]])
    """Event types of its own that it can undo. A consumer that undoes anything also hears its undo topic."""
    tells: frozenset[str] = frozenset()
    """Event types of its own that the coordinator hears from the activity record, behind all that they follow from."""
    joins: frozenset[str] = frozenset()
    """The event types it hears as part of a join."""
    holds: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """The event types it handles once their workflow holds something, each with the field that names it."""
    starts: frozenset[str] = frozenset()
    """The event types that start a saga of it."""
    asks: frozenset[str] = frozenset()
    """The event types that it emits as commands: what fails below one of them is for it to judge."""
    concurrency: int = 100
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE
    retry: RetryPolicy = dataclasses.field(default_factory=RetryPolicy)
    timeout_s: float | None = None
    lane: Lane = Lane.KEY
    state_expires_s: float | None = STATE_EXPIRES_S
    """How long state of a workflow's key is kept after it last changed; None: for ever, as that of a key field is."""
    reads: Callable[[Event], Collection[str]] | None = None
    """The keys of state that an event's handling may ask for besides the event's own: on disk they are fetched before."""
    wakes: bool = False
    """Its handler is called with `bus.alarms.TimeCame` too: once a worker is given a partition, and at times that it names
    (`Delivery.wake_at`). A look that fails is made again later, leaves no activity and is never set aside. Needs `Lane.PARTITION`."""
    figures: Callable[[Collection[int]], Iterable[Figure]] | None = None
    """What it tells of itself for /metrics, given the numbers of the partitions that its worker owns. Any thread may ask."""
    functions: Mapping[str, Callable[..., object]] = dataclasses.field(
        default_factory=dict[str, Callable[..., object]], compare=False
    )
    """What a person wrote to handle each event type, for debuggers."""
    follows: Follower | None = None
    """Runs as long as the worker does. What it raises ends the worker."""
    canary: Consumer | None = None
    """Another version of it, which handles *share* of the workflows in its place: see `bus.canary.beside`."""
    share: Share = dataclasses.field(default_factory=Share)

    def __post_init__(self) -> None:
        if self.wakes and self.lane is not Lane.PARTITION:
            # It looks at the whole partition's state: nobody else may be at it.
            message = f"expected lane=Lane.PARTITION of {self.name!r}, as it wakes; got {self.lane}"
            raise ValueError(message)

    @property
    def versions(self) -> tuple[Consumer, ...]:
        """It, and its canary where it has one."""
        return (self,) if self.canary is None else (self, self.canary)

    def version_for(self, correlation_id: str) -> Consumer:
        """Return the version that handles the events of a workflow: always the same one, as long as the share is."""
        if self.canary is None or not self.share.takes(correlation_id):
            return self
        return self.canary

    @property
    def topics(self) -> tuple[str, ...]:
        """The plain names of the topics it reads."""
        return tuple(sorted({event_class.__event__.topic for event_class in self.hears.values()}))
