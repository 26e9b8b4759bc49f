"""What is to be done about a workflow that waits to be exported: a pure function of what is known of it."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import NamedTuple

from antiphon.tracing.index.outlook import Outlook
from antiphon.tracing.otlp.ledger import Waiting
from antiphon.tracing.spans.making import Relation
from antiphon.tracing.spans.sampling import Facts, Reason, Sampling

SOON_US = 500_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exports:
    """What is exported of a mesh, and how."""

    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    relation: Relation = Relation.BOTH
    content: bool = False
    patience_s: float = 600.0
    """Of a workflow that goes on for longer, what there is is sent; and again each time that it has gone on for as long."""
    since_us: int | None = None
    """What ended before is not sent; None: an hour before something was exported first."""


class Act(Enum):
    """What is to be done about a workflow that waits."""

    LOOK_AGAIN = "look again"
    LEAVE_OUT = "leave out"
    SEND = "send"


class Decision(NamedTuple):
    """What is to be done about one workflow."""

    act: Act
    look_us: int = 0
    """When to look at it again, where that is to be done."""
    whole: bool = False
    """It has ended."""
    reason: Reason | None = None
    """Why it is kept."""


def decide(
    workflow: str, waiting: Waiting, outlook: Outlook | None, exports: Exports, *, now_us: int, heard_us: int
) -> Decision:
    """Say what is to be done about a workflow: by what is known of it, never by how long it has been quiet.

    No *outlook*: more of it was read than has been looked at. *heard_us*: by when who hears what is known; what
    was read later may look finished only because nobody has told yet that he hears it.
    """
    if outlook is None or heard_us <= waiting.touched_us:
        return Decision(Act.LOOK_AGAIN, now_us + SOON_US)
    patient_until_us = waiting.since_us + round(exports.patience_s * 1_000_000)
    if not outlook.ended and now_us < patient_until_us:
        return Decision(Act.LOOK_AGAIN, patient_until_us)
    facts = Facts(
        correlation_id=workflow,
        state=outlook.state,
        duration_us=outlook.last_us - outlook.begun_us,
        cost=outlook.cost,
        confidence=outlook.confidence,
    )
    reason = exports.sampling.keeps(facts)
    if outlook.last_us < (exports.since_us or 0) or (outlook.ended and reason is None):
        return Decision(Act.LEAVE_OUT)
    if reason is None:
        # What is remarkable about it may still come.
        return Decision(Act.LOOK_AGAIN, now_us + round(exports.patience_s * 1_000_000))
    return Decision(Act.SEND, whole=outlook.ended, reason=reason)
