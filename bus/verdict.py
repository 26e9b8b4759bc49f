"""What a saga and the coordinator tell each other: that it failed, and what became of what it asked for.

A saga says on the topic of undoing what is to be undone. What it is told stands
on a topic of its own, `<saga>.told`, keyed by the workflow.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache

from antiphon.bus.names import SAGAS, told_topic
from antiphon.schemas.event import Event


class SagaFailed(Event, type="antiphon.saga.failed", topic=SAGAS, fails=True):
    """A saga, or an optional step of it, failed: what follows from the event *scope* is to be undone, and no more."""

    saga: str
    version: str
    scope: str
    step: str
    reason: str
    unknown: list[str] = []
    """Commands of which nobody knows what became, and for which nobody waits."""
    undeclared: list[str] = []
    """Commands whose steps do not say what can be done about them."""


class Told(StrEnum):
    """What a saga can be told."""

    FAILED = "failed"
    """Something below a command of it failed; what that means is for the saga to say."""
    STOPPED = "stopped"
    """What follows from its start is undone, for a reason that lies outside."""
    UNDONE = "undone"
    PARKED = "parked"
    """An undo was given up."""
    DUE = "due"
    """A time has come that it named."""


class SagaTold(Event, type="antiphon.saga.told", topic="told"):
    """Something became of a command of a saga, or of all that follows from its start."""

    saga: str
    what: Told
    about: str
    """The command's id, or that of the event that started it."""
    event_id: str
    """The event that tells it."""
    reason: str
    tries: int = 0


@cache
def saga_told(saga: str) -> type[SagaTold]:
    """Return the class of what *saga* is told: the same schema, on the saga's own topic."""

    class Own(SagaTold, type="antiphon.saga.told", topic=told_topic(saga)):
        pass

    Own.__name__ = Own.__qualname__ = SagaTold.__name__
    return Own
