"""What the demo has seen: one row a package, and what they add up to. No clock, no topics, no screen."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """How far a package is. The last five are ends."""

    SUBMITTED = "submitted"
    READ = "read"
    IDENTIFIED = "identified"
    APPROVED = "approved"
    REFUSED = "refused"
    REVIEW = "review"
    UNREADABLE = "unreadable"
    FAILED = "failed"


ENDS = (Stage.APPROVED, Stage.REFUSED, Stage.REVIEW, Stage.UNREADABLE, Stage.FAILED)

_STAGES = {
    "package.read": Stage.READ,
    "licence.identified": Stage.IDENTIFIED,
    "package.approved": Stage.APPROVED,
    "package.refused": Stage.REFUSED,
    "review.requested": Stage.REVIEW,
    "package.unreadable": Stage.UNREADABLE,
}
_ORDER = [*Stage]


@dataclasses.dataclass
class Package:
    """One package on its way."""

    name: str
    version: str
    correlation_id: str
    started_us: int
    stage: Stage = Stage.SUBMITTED
    ended_us: int | None = None
    licence: str | None = None
    confidence: float | None = None
    reason: str = ""
    declared: str | None = None
    judged: str | None = None
    file: str | None = None
    agrees: bool | None = None
    released: bool = False

    @property
    def settled(self) -> bool:
        """Nothing more will come: it has its end, and where that was a refusal, what was done is undone."""
        # Nobody refuses what was not reserved, though that may be read later: they stand on two topics.
        return self.stage in ENDS and (self.released or self.stage is not Stage.REFUSED)

    @property
    def seconds(self) -> float | None:
        """From submission to outcome."""
        return None if self.ended_us is None else max(0.0, (self.ended_us - self.started_us) / 1e6)

    def document(self) -> dict[str, Any]:
        """Return the row as `demo --json` has it."""
        return {
            "name": self.name,
            "version": self.version,
            "outcome": str(self.stage),
            "licence": self.licence,
            "confidence": self.confidence,
            "reason": self.reason,
            "correlation_id": self.correlation_id,
        }


@dataclasses.dataclass(frozen=True)
class Heard:
    """One event, as far as the board needs it."""

    type: str
    correlation_id: str
    time_us: int
    data: Mapping[str, Any]


class Board:
    """All packages of one run, by workflow. *expected* is how many there will be."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.packages: dict[str, Package] = {}

    def submit(self, correlation_id: str, name: str, version: str, time_us: int) -> Package:
        """Add a package that was just submitted."""
        return self.packages.setdefault(correlation_id, Package(name, version, correlation_id, time_us))

    def hear(self, event: Heard) -> Package | None:
        """Take in *event*; returns the package where that brought it further.

        Events of one workflow come from several topics, in any order between
        them: a package never goes back a stage.
        """
        package = self.packages.get(event.correlation_id)
        if package is None:
            return None
        if event.type == "package.released":
            package.released = True
            return package
        if event.type == "licence.identified":
            package.declared, package.agrees = event.data["declared"], event.data["agrees"]
            package.judged, package.file = event.data["licence"], event.data["file"]
        stage = _STAGES.get(event.type)
        if stage is None or _ORDER.index(stage) <= _ORDER.index(package.stage):
            return None
        package.stage = stage
        if stage in ENDS:
            self._end(package, event)
        elif stage is Stage.IDENTIFIED:
            package.licence, package.confidence = event.data["licence"], event.data["confidence"]
        return package

    def fail(self, correlation_id: str, reason: str, time_us: int) -> Package | None:
        """Note that an agent gave up on a package: its event went to a dead-letter topic."""
        package = self.packages.get(correlation_id)
        if package is None or package.stage in ENDS:
            return None
        package.stage, package.reason, package.ended_us = Stage.FAILED, reason, time_us
        return package

    @staticmethod
    def _end(package: Package, event: Heard) -> None:
        package.ended_us = event.time_us
        package.licence = event.data.get("licence", package.licence)
        package.confidence = event.data.get("confidence", package.confidence)
        package.reason = event.data.get("reason") or event.data.get("problem") or ""

    @property
    def settled(self) -> bool:
        """Say whether nothing more will come."""
        return len(self.packages) == self.expected and all(package.settled for package in self.packages.values())

    def unsettled(self) -> list[Package]:
        """Return the packages that something is still to come for."""
        return [package for package in self.packages.values() if not package.settled]

    def counts(self) -> Counter[Stage]:
        """Count the packages by stage."""
        return Counter(package.stage for package in self.packages.values())


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run adds up to."""

    packages: int
    seconds: float
    outcomes: Mapping[Stage, int]
    declared: int
    """How many declare an SPDX expression of their own."""
    agreed: int
    disagreements: tuple[Package, ...]
    undone: int
    catalogue: Mapping[str, int]
    """Rows by state."""
    left_behind: tuple[str, ...]
    """Refused packages that the catalogue has still."""

    @property
    def rate(self) -> float:
        return self.packages / self.seconds if self.seconds else 0.0

    @property
    def good(self) -> bool:
        """Every package came to an end, and what was refused is gone."""
        ended = sum(self.outcomes.get(stage, 0) for stage in ENDS)
        return ended == self.packages and not self.outcomes.get(Stage.FAILED) and not self.left_behind

    def document(self) -> dict[str, Any]:
        """Return the summary as `demo --json` has it."""
        return {
            "packages": self.packages,
            "seconds": round(self.seconds, 3),
            "packages_per_second": round(self.rate, 1),
            "outcomes": {str(stage): self.outcomes.get(stage, 0) for stage in ENDS},
            "declared": self.declared,
            "agreed": self.agreed,
            "disagreements": [
                {"name": one.name, "declared": one.declared, "licence": one.judged, "confidence": one.confidence}
                for one in self.disagreements
            ],
            "undone": self.undone,
            "catalogue": dict(self.catalogue),
            "left_behind": [*self.left_behind],
        }


def summarise(board: Board, rows: Iterable[tuple[str, str]]) -> Summary:
    """Add up *board* and the catalogue's *rows* (workflow, state)."""
    packages = [*board.packages.values()]
    declared = [one for one in packages if one.agrees is not None]
    held = dict(rows)
    ends = [one.ended_us for one in packages if one.ended_us is not None]
    seconds = (max(ends) - min(one.started_us for one in packages)) / 1e6 if ends else 0.0
    return Summary(
        packages=len(packages),
        seconds=seconds,
        outcomes=board.counts(),
        declared=len(declared),
        agreed=sum(one.agrees is True for one in declared),
        disagreements=tuple(one for one in declared if not one.agrees),
        undone=sum(one.released for one in packages),
        catalogue=Counter(held.values()),
        left_behind=tuple(one.name for one in packages if one.stage is Stage.REFUSED and one.correlation_id in held),
    )
