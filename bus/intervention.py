"""What is said about undoing a workflow as a whole: an operator's word, and that a person is needed.

Both stand on one topic of the mesh, keyed by the workflow, for as long as that
topic is kept: who decided what, when and why can be looked up there.
"""

from __future__ import annotations

from enum import StrEnum

from antiphon.bus.names import SAGAS
from antiphon.schemas.event import Event


class Act(StrEnum):
    """What an operator can have done about a workflow's undoing."""

    CANCEL = "cancel"
    """Undo it although nothing failed."""
    RETRY = "retry"
    """Ask again for the undos that were given up."""
    SKIP = "skip"
    """Go on without an undo that was given up."""
    FORCE = "force"
    """Go on without any that were given up, and without waiting for what has not ended."""
    EXTEND = "extend"
    """Give it more time: put its deadline off."""


class SagaIntervened(Event, type="antiphon.saga.intervened", topic=SAGAS):
    """An operator decided something about a workflow; who and why is kept with it."""

    act: Act
    actor: str
    reason: str
    event_id: str | None = None
    """For `skip` and `retry`: the event whose undo is meant; None: each that was given up."""
    until_us: int | None = None
    """For `extend`: the new deadline, if that is later than the one there is."""


class SagaParked(Event, type="antiphon.saga.parked", topic=SAGAS):
    """An undo was given up, or a workflow halted, and waits for a person: `antiphon saga show`."""

    agent: str
    event_id: str
    event_type: str
    problem: str
