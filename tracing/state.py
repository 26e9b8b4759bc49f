"""What state a workflow is in: decided from facts, never from a time-out.

In order, the first that fits:

    parked          an undo was given up, and nobody has decided since: a person has to act
    stalled         undos are due or under way, something is outstanding, and of some agent that owes it nobody is live
    compensating    undos are due or under way
    incomplete      all undos are done, but some event was not seen, so there may be more to undo
    compensated     all undos are done
    failed          an event says so, or one was set aside; other branches may still be running
    stalled         something is outstanding, and of some agent that owes it nobody is live
    running         something is outstanding
    incomplete      nothing is outstanding among what was seen, but some event was not seen
    completed       nothing is outstanding

So what needs a person comes before what goes on by itself, and a failure shows
at once, not when the last branch is done. Missing events only ever take back a
good end: that something failed, or is still to do, is certain without them.
`waiting` (on a person or a timer) is given by nothing yet: no agent can say so.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class State(StrEnum):
    """The word for a workflow as a whole. Closed; every screen and document uses these."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    PARKED = "parked"
    STALLED = "stalled"
    INCOMPLETE = "incomplete"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the state is decided from."""

    outstanding: bool
    """Some agent owes some event a delivery."""
    unattended: bool
    """... and of that agent nobody is live."""
    failed: bool
    undoing: bool
    """Undos were asked for, or will be."""
    parked: bool
    """An undo was given up, and nobody has decided what then."""
    missing: bool
    """Some event is named that was not seen."""


def decide(facts: Facts) -> State:
    """Return the state that *facts* amount to."""
    match facts:
        case Facts(parked=True):
            return State.PARKED
        case Facts(undoing=True, outstanding=True):
            return State.STALLED if facts.unattended else State.COMPENSATING
        case Facts(undoing=True):
            return State.INCOMPLETE if facts.missing else State.COMPENSATED
        case Facts(failed=True):
            return State.FAILED
        case Facts(outstanding=True):
            return State.STALLED if facts.unattended else State.RUNNING
        case _:
            return State.INCOMPLETE if facts.missing else State.COMPLETED
