"""How sure agents are of what they answer, and whether that falls.

The test is Mann and Whitney's ("On a test of whether one of two random
variables is stochastically larger than the other", Annals of Mathematical
Statistics 18, 1947), one-sided, with the normal approximation, its correction
for ties and for continuity. It asks of ranks alone, so it does not matter how
confidences are distributed: models like to say 0.9 again and again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from antiphon.schemas.envelope import format_time

FEWEST = 20
"""Of fewer answers on either side nothing is said: the approximation does not hold."""
LIKELY = 0.01
"""Below this probability of coming about by chance, confidence counts as falling."""
_DIGITS = 6


class Sure(NamedTuple):
    """One delivery that said how sure it was."""

    agent: str
    version: str
    time_us: int
    confidence: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence:
    """How sure one version of an agent was."""

    agent: str
    version: str
    since_us: int
    """Of the first answer that is counted."""
    answers: int
    mean: float
    p10: float
    """A tenth of the answers were less sure."""
    share_under: float
    """The share of answers under the threshold."""
    against: str | None
    """What it is compared with: the version before, or for the first one its own first half; None: too few answers."""
    change: float | None
    """Of the mean."""
    p: float | None
    """How likely so low a confidence would come about by chance, if nothing had changed."""

    @property
    def falling(self) -> bool:
        return self.p is not None and self.p < LIKELY

    def document(self) -> dict[str, Any]:
        """Return one item of what `antiphon confidence --json` prints."""
        return {
            "agent": self.agent,
            "version": self.version,
            "since": format_time(self.since_us),
            "answers": self.answers,
            "mean": self.mean,
            "p10": self.p10,
            "share_under": self.share_under,
            "against": self.against,
            "change": self.change,
            "p": self.p,
            "falling": self.falling,
        }


def confidences(answers: Sequence[Sure], *, threshold: float) -> list[Confidence]:
    """Return how sure each version of each agent was: by agent, versions in the order in which they came up."""
    by_version: dict[tuple[str, str], list[Sure]] = {}
    for answer in sorted(answers, key=lambda one: (one.agent, one.time_us, one.version, one.confidence)):
        by_version.setdefault((answer.agent, answer.version), []).append(answer)
    found: list[Confidence] = []
    before: tuple[str, str, list[float]] | None = None
    for (agent, version), some in by_version.items():
        values = [answer.confidence for answer in some]
        earlier, later, against = values[: len(values) // 2], values[len(values) // 2 :], "its first half"
        if before is not None and before[0] == agent:
            earlier, later, against = before[2], values, f"version {before[1]}"
        told = len(earlier) >= FEWEST and len(later) >= FEWEST
        found.append(
            Confidence(
                agent=agent,
                version=version,
                since_us=some[0].time_us,
                answers=len(values),
                mean=round(mean(values), _DIGITS),
                p10=round(quantile(sorted(values), 0.1), _DIGITS),
                share_under=round(sum(value < threshold for value in values) / len(values), _DIGITS),
                against=against if told else None,
                change=round(mean(later) - mean(earlier), _DIGITS) if told else None,
                p=float(f"{lower(later, earlier):.3g}") if told else None,
            )
        )
        before = (agent, version, values)
    return found


def mean(values: Sequence[float]) -> float:
    """Return the mean of *values*, whatever their order.

    >>> mean([0.1, 0.2, 0.6])
    0.3
    """
    return round(math.fsum(values) / len(values), 12)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a *share* of *ordered* lies, between two of them if need be.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5), quantile([7.0], 0.1)
    (2.5, 7.0)
    """
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def lower(some: Sequence[float], others: Sequence[float]) -> float:
    """Return how likely *some* would be so much lower than *others* by chance: Mann and Whitney's U, one-sided.

    >>> round(lower([0.5, 0.6, 0.7, 0.8], [0.6, 0.7, 0.8, 0.9]), 4), lower([0.5, 0.5], [0.5, 0.5])
    (0.1889, 1.0)
    """
    marked = sorted([(value, True) for value in some] + [(value, False) for value in others])
    total, first, ranks, ties = len(marked), 0, 0.0, 0
    while first < total:
        end = first
        while end < total and marked[end][0] == marked[first][0]:
            end += 1
        count = end - first
        ranks += (first + end + 1) / 2 * sum(mark for _, mark in marked[first:end])
        ties += count**3 - count
        first = end
    u = ranks - len(some) * (len(some) + 1) / 2
    middle = len(some) * len(others) / 2
    variance = len(some) * len(others) / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance == 0:
        return 1.0
    return 0.5 * math.erfc((middle - u - 0.5) / math.sqrt(2 * variance))
