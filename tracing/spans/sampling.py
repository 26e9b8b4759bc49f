"""Which workflows are exported: a share of them, and all that somebody will ask about.

Only what is exported is ever chosen; the index has all. A share is chosen by
the workflow's id alone, so that every tracer, and one that starts again, chooses
the same, and so that what is kept at a tenth is kept at a fifth too.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from enum import StrEnum

from antiphon.tracing.index.search import FAILED
from antiphon.tracing.state import State

_SPACE = 1 << 64


class Reason(StrEnum):
    """Why a workflow is kept."""

    SHARE = "share"
    FAILED = "failed"
    SLOW = "slow"
    COSTLY = "costly"
    UNSURE = "unsure"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a workflow when it is chosen or not."""

    correlation_id: str
    state: State
    duration_us: int
    cost: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """By currency."""
    confidence: float | None = None
    """Of its least sure answer; None: no agent said."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How many workflows are exported, and which always. A threshold that is None keeps nothing."""

    share: float = 1.0
    slow_s: float | None = 60.0
    """Took longer."""
    costly: float | None = 1.0
    """Cost more, in whatever currency."""
    unsure: float | None = 0.5
    """Some answer was less sure."""

    def keeps(self, facts: Facts) -> Reason | None:
        """Say why a workflow is kept; None: it is not."""
        if facts.state in FAILED:
            return Reason.FAILED
        if self.slow_s is not None and facts.duration_us > self.slow_s * 1_000_000:
            return Reason.SLOW
        if self.costly is not None and any(amount > self.costly for amount in facts.cost.values()):
            return Reason.COSTLY
        if self.unsure is not None and facts.confidence is not None and facts.confidence < self.unsure:
            return Reason.UNSURE
        return Reason.SHARE if chosen(facts.correlation_id, self.share) else None


def chosen(correlation_id: str, share: float) -> bool:
    """Say whether a workflow is among a *share* of all.

    >>> sum(chosen(f"order-{n}", 0.1) for n in range(10_000))
    1035
    """
    digest = hashlib.blake2b(correlation_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"sampling")
    return int.from_bytes(digest.digest(), "big") < share * _SPACE
