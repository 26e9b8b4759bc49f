"""What becomes of a workflow of which there is more to note than fits into a record of state.

It halts: it is kept as it was before, with the reason, and waits for a person.
Had what did not fit been passed over, its undoing would go on without, and
could claim undone what is not. Others that are told of in the same breath go on.
"""

from __future__ import annotations

from typing import Any

import orjson

from antiphon.compensation.workflow import Workflow

REASON_ROOM = 1_000
"""Bytes that what is noted of a workflow leaves free, so that there is room for why it halted."""


def size_of(id: str, written: dict[str, Any]) -> int:
    """Return how much of a record a key of the state and what stands under it take."""
    return len(id) + len(orjson.dumps(written))


def halted(workflow: Workflow, size: int, room: int) -> Workflow:
    """Return *workflow*, as it was before there were *size* bytes to note of it, as one that waits for a person."""
    reason = (
        f"expected at most {room} bytes to note of it, got {size}; nothing since is noted, nor undone. "
        "Where brokers take larger records, raise ANTIPHON_CLAIM_THRESHOLD, then: antiphon saga retry. Else undo by "
        "hand what antiphon trace shows, then: antiphon saga force"
    )
    return workflow._replace(halted=reason)
