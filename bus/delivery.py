"""One event handed to one handler, and what came of it.

While a handler runs, `current` holds its delivery. That is how `Context`, and
middleware that needs more than the event, get at it without every handler in
the mesh having a second argument.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from antiphon.bus.record import Record
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event

if TYPE_CHECKING:
    from antiphon.bus.kept_log import KeptLog

E = TypeVar("E", bound=Event)


class Outcome(StrEnum):
    """How a delivery ended. The set is closed; the activity topic and every screen use these words."""

    COMPLETED = "completed"
    RETRIED = "retried"
    DEAD_LETTERED = "dead_lettered"
    EXPIRED = "expired"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


@dataclasses.dataclass(slots=True)
class Usage:
    """What one model call cost. Tokens are counts; *cost* is in *currency*."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    currency: str = "USD"
    started_us: int | None = None
    """When it was, and how long it took; None where nobody told."""
    duration_us: int | None = None


class State(Protocol):
    """Durable state of one agent. A key's mapping is JSON: str keys; values of JSON's types.

    Changes become durable with the delivery that made them, or not at all.
    Any key of the delivery's own partition may be asked for; the event's own
    key is the usual one.
    """

    def mapping(self, key: str) -> MutableMapping[str, Any]:
        """Return the mapping kept under *key*; an emptied one is forgotten."""
        ...

    def changed(self) -> Mapping[str, bytes | None]:
        """Return the keys whose mappings differ now, as they will stand in their records; None for emptied ones."""
        ...


class Services(Protocol):
    """What a delivery asks of the worker that runs it."""

    async def decode(self, event_class: type[E], value: bytes) -> E:
        """Decode framed Avro, fetching the writer's schema where it is not known yet."""
        ...

    async def remember(self, delivery: Delivery, name: str, result: Any) -> None:
        """Make the result of a side effect durable now, before the delivery is complete. *result* is JSON."""
        ...

    def remembered(self, delivery: Delivery) -> dict[str, Any]:
        """Return the results of the side effects of this event that ran already, by name."""
        ...

    @property
    def state_room(self) -> int:
        """Bytes that a key of the state and what stands under it may come to together."""
        ...

    def wake_at(self, time_us: int) -> None:
        """Have the handler called again for this delivery's partition when a time has come."""
        ...


@dataclasses.dataclass(slots=True, eq=False)
class Delivery:
    """One event handed to one handler."""

    record: Record
    event: Event
    envelope: Envelope
    agent: str
    version: str
    attempt: int
    state: State
    services: Services
    started_us: int | None = None
    """When the attempt began; None where nobody took note."""
    spent_before: tuple[Usage, ...] = ()
    """What earlier attempts at the same event reported to have spent, as far as this worker knows of them."""
    logs: KeptLog | None = None
    """Takes what is logged meanwhile; None: nobody keeps that."""
    replaying: bool = False
    causes: tuple[str, ...] = ()
    """Ids of the other events that led to this call (a join); set by dispatch."""
    budgets: tuple[str, ...] = ()
    """What the other events of a join had left to spend; set by dispatch."""
    usage: list[Usage] = dataclasses.field(default_factory=list)  # pyright: ignore[reportUnknownVariableType] - `list[Usage]` takes ten times as long to call
    confidence: float | None = None
    effects: dict[str, Any] | None = None
    """Results of side effects that ran for this event, by name; None where it was not asked for any."""

    @property
    def state_key(self) -> str:
        """The key of the state that belongs to this event: the record's key."""
        return self.envelope.key or self.envelope.correlation_id

    def wake_at(self, time_us: int) -> None:
        """Have the handler called with `bus.alarms.TimeCame`, in this partition, at *time_us* or soon after.

        For consumers that `wake`. Of several times the earliest counts, and is
        forgotten when it has come: who is called names the next one. Nothing is
        kept of it; what is to be done then stands in the state, and the handler
        is called anyway whenever a worker is given the partition. When it is, all
        that could be read of the partition when the time had come is handled.
        """
        self.services.wake_at(time_us)

    def fields(self) -> dict[str, object]:
        """Return what every log line about this delivery carries."""
        return {
            "agent": self.agent,
            "event_id": self.envelope.id,
            "correlation_id": self.envelope.correlation_id,
            "topic": self.record.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "attempt": self.attempt,
        }


current: ContextVar[Delivery] = ContextVar("antiphon_delivery")
"""The delivery whose handler is running in this task or thread."""
