"""What may happen next in a mesh: whose turn it is, and what may go wrong with that."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Mishap(StrEnum):
    """What may happen to one delivery, besides going well."""

    CRASH = "its worker crashes before the commit"
    """The handler has run, and nothing of it is kept but what `once` remembers and what it did outside of Kafka. The event
    is handed out again. A handler that raises after it has done something comes to the same. Of a saga it would change nothing."""
    REPEAT = "and the event comes a second time"
    """As where its publisher sent it twice, or an agent promises only at least once."""
    GIVE_UP = "gives it up"
    """It is set aside as a dead letter, having done nothing: the workflow fails, or the saga is told, or an undo waits for a person."""
    TIME_OUT = "finds it past its deadline"
    """It is not started: the workflow fails, as a whole. Undos have no deadline."""
    LATE = "while an answer is on its way"
    """A saga's time-out comes before what it waits for."""


class Choice(NamedTuple):
    """One thing that may happen next."""

    lane: int
    """Whose turn it is: the place in `Position.due`."""
    mishap: Mishap | None = None


OPERATOR = Choice(-1)
"""Nothing else is left: somebody has what was given up tried again."""

TIME = Choice(-2)
"""Nothing else is left: the next time comes that a saga named."""

TOO_EARLY = Choice(-2, Mishap.LATE)
"""... though something is."""
