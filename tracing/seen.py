"""An event as a reader found it on its topic: the envelope, the place, and the data if it could be read."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import orjson

from antiphon.bus.undo import UndoRequested
from antiphon.schemas.envelope import Envelope

AGENT_SOURCE = "/agents/"
"""What `ce_source` begins with where an agent said it; the agent's name follows."""
UNDO_REQUESTED = UndoRequested.__event__.type
_OURS = "antiphon."
_REDRIVE_TOPIC = ".redrive"

Content: TypeAlias = tuple[object, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """One event at one place. The same event may be seen at several: a redelivery, a redrive."""

    envelope: Envelope
    topic: str
    """The plain name, without namespace."""
    partition: int
    offset: int
    data: Any = None
    """What JSON can say of the event's data; None where it could not be read."""
    problem: str | None = None
    """Why the data could not be read."""

    @property
    def id(self) -> str:
        return self.envelope.id

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of all that led to this event, each once; several where it answers a join."""
        first = () if self.envelope.parent_id is None else (self.envelope.parent_id,)
        return tuple(dict.fromkeys((*first, *self.envelope.causes)))

    @property
    def is_undo_request(self) -> bool:
        return self.envelope.type == UNDO_REQUESTED

    @property
    def place(self) -> tuple[int, bool, str, int, int]:
        """What sightings of one event are sorted by: the first one is the event, later ones repeat it."""
        # An edited event stands on its agent's redrive topic; what everybody else heard comes first.
        again = self.topic.endswith(_REDRIVE_TOPIC)
        return (self.envelope.time_us, again, self.topic, self.partition, self.offset)

    def content(self) -> Content:
        """Return what two sightings of one event must agree in.

        Not its time: an agent that runs again after a crash makes the same
        event again, a little later.
        """
        envelope = self.envelope
        data = orjson.dumps(self.data, option=orjson.OPT_SORT_KEYS)
        return (envelope.type, envelope.source, envelope.parent_id, envelope.causes, envelope.key, self.topic, data)


def is_ours(type: str) -> bool:
    """Say whether events of *type* are what the mesh itself says: the only ones whose data is more than data to it."""
    return type.startswith(_OURS)
