"""Asking an agent to undo what it did.

The request is an event like any other, on the agent's own topic
`<agent>.undo`, keyed as the event that the agent had heard was, so that it
meets the same state. Its id is made from that of the event to undo, so asking
twice asks once.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

from antiphon.bus.names import undo_topic
from antiphon.schemas.event import Event
from antiphon.schemas.redaction import REDACT


class UndoRequested(Event, type="antiphon.undo.requested", topic="undo"):
    """Undo one event."""

    agent: str
    event_id: str
    event_type: str
    value: Annotated[bytes, REDACT]
    """The event to undo, framed Avro, as it was published."""
    reason: str
    late: bool = False
    """It happened after the failure was known."""


@cache
def undo_requested(agent: str) -> type[UndoRequested]:
    """Return the class of *agent*'s undo requests: the same schema, on the agent's own topic."""

    class Requested(UndoRequested, type="antiphon.undo.requested", topic=undo_topic(agent)):
        pass

    Requested.__name__ = Requested.__qualname__ = UndoRequested.__name__
    return Requested
