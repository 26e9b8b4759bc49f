"""What is odd about a workflow: shown beside it, never hidden, never an exception."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What can be odd. The workflow document uses these words."""

    MISSING_PARENT = "MISSING_PARENT"
    """An event names a cause of which no event was seen."""
    MISSING_EVENT = "MISSING_EVENT"
    """Activity names an event that no topic holds (any more), and no event names as its cause."""
    CYCLE = "CYCLE"
    """Causes lead back to the event itself."""
    ID_CONFLICT = "ID_CONFLICT"
    """Two different events have one id; the first is kept."""
    UNDECLARED_EVENT = "UNDECLARED_EVENT"
    """An agent emitted a type that it does not declare."""
    CLOCK_SKEW = "CLOCK_SKEW"
    """An event is earlier than its cause, or was handled before it was made."""
    LATE = "LATE"
    """An event was made after its deadline."""
    UNDECODABLE = "UNDECODABLE"
    """An event's data could not be read; the event itself is known from its headers."""


class TraceWarning(NamedTuple):
    """One odd thing, and the event it is about."""

    kind: Kind
    event_id: str
    message: str
