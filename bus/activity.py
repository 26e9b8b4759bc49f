"""What was handled: the record every delivery leaves on `antiphon.activity`, in its own transaction.

The tracer, the saga coordinator and every screen read this topic. It stands on
the workflow's partition, behind the activity of whatever caused the delivery,
so one partition read in order tells a workflow's whole causal graph.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from antiphon.bus.names import ACTIVITY
from antiphon.schemas.event import Event


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Emitted(_Part):
    """An event that a delivery caused."""

    id: str
    type: str
    fails: bool = False
    undo: bytes | None = None
    """The event's whole value where its agent can undo it: all the coordinator needs to ask for that."""
    told: bytes | None = None
    """The event's whole value where the coordinator is to hear it behind all that it follows from."""


class Failure(_Part):
    """Why a delivery did not complete."""

    type: str
    message: str
    traceback: str = ""


class Spent(_Part):
    """What one model call cost."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    currency: str = "USD"
    started_us: int | None = None
    """When it was; None where the agent did not tell."""
    duration_us: int | None = None


class Logged(_Part):
    """A line that was logged while a delivery was handled."""

    time_us: int
    level: str
    """info, warning, error or critical."""
    message: str
    fields: str = ""
    """What stood beside it, JSON; nothing where nothing did."""


class Handled(_Part):
    """One delivery and how it ended. Times are microseconds.

    Written by `bus.entry` and, for speed alone, read by `tracing.index.entries`, both by hand in the order of the fields. With
    another field the reader falls back on the schema until it is told of it.
    """

    event_id: str
    event_type: str
    correlation_id: str
    key: str | None = None
    """The record's key where it is not the correlation id."""
    topic: str
    """The plain name, without namespace."""
    partition: int
    offset: int
    attempt: int
    outcome: str
    started_us: int
    duration_us: int
    queue_us: int
    """From the event's time to the start of its handling."""
    emitted: list[Emitted] = []
    causes: list[str] = []
    """Ids of the other events of a join."""
    error: Failure | None = None
    usage: list[Spent] = []
    confidence: float | None = None
    deadline_us: int | None = None
    """By when the event's workflow should be done."""
    effects: dict[str, bytes] = {}
    """What the side effects of `context.once` returned, by name, JSON: so that the event can be handled again without them."""
    changed: bool = False
    """Records of the agent's state were written, with the event's id in their headers."""
    logs: list[Logged] = []
    """The newest lines, where workers keep any (`ANTIPHON_ACTIVITY_LOGS`)."""


class Activity(Event, type="antiphon.activity.recorded", topic=ACTIVITY):
    """The deliveries of one transaction and one partition; what they share stands once."""

    agent: str
    version: str
    instance: str
    failing: list[str] = []
    """Event types that the agent hears and whose class says `fails=True`: one may come from outside, said by no agent."""
    deliveries: list[Handled]
