"""Holding an entity for a workflow: what agents ask, what they are answered, and that it is free again.

A named entity, `order/A-7` for instance, is held by one workflow at a time, until
that has ended: completed, or with what it did undone. All that is said of one
entity is keyed by it, so one coordinator hears it in order. The answer stands on
`<agent>.answered`, keyed as the event is that waits for it, and carries that event.
"""

from __future__ import annotations

from functools import cache

from antiphon.bus.names import LOCKS, answered_topic
from antiphon.schemas.event import Event
from antiphon.schemas.ids import caused_id


class LockWanted(Event, type="antiphon.lock.wanted", topic=LOCKS, key="entity"):
    """An agent will handle an event once its workflow holds an entity."""

    entity: str
    agent: str
    event_id: str
    event_type: str
    event_key: str | None
    """The key of the event, where it has one of its own: its handling must meet the same state."""
    value: bytes
    """The event, framed Avro, as it was published; or a reference to where it is kept."""


class LockFreed(Event, type="antiphon.lock.freed", topic=LOCKS, key="entity"):
    """A workflow needs an entity no more."""

    entity: str
    requests: list[str]
    """The ids of the events by which it was wanted."""
    withdrawn: bool = False
    """It failed: what still waits need not. What holds the entity already goes on."""


class LockAnswered(Event, type="antiphon.lock.answered", topic="answered"):
    """The workflow holds the entity, and the event may be handled; or it was withdrawn before."""

    entity: str
    granted: bool
    event_id: str
    event_type: str
    value: bytes


@cache
def lock_answered(agent: str) -> type[LockAnswered]:
    """Return the class of what *agent* is answered: the same schema, on the agent's own topic."""

    class Answered(LockAnswered, type="antiphon.lock.answered", topic=answered_topic(agent)):
        pass

    Answered.__name__ = Answered.__qualname__ = LockAnswered.__name__
    return Answered


WANTED, ANSWERED = LockWanted.__event__.type, LockAnswered.__event__.type


def answer_id(request: str) -> str:
    """Return the id of the answer to the event *request*: always the same, so it is answered once."""
    return caused_id(request, "antiphon.lock", 0)
