"""What every experiment is given: a broker, names that nobody has used, and somewhere to say how far it is."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.names import Names
from table import Figure, Pair

PARTITIONS = 4


class NotMeasuredError(Exception):
    """A figure cannot be had on this machine, or not now; the text says why."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One run of the suite."""

    bootstrap: str
    bus: KafkaBus
    folder: Path
    """For logs; gone afterwards."""
    long: bool = False
    """Whether a figure may take minutes."""
    _numbers: itertools.count[int] = dataclasses.field(default_factory=itertools.count)

    def names(self, what: str) -> Names:
        """Return a namespace of its own: nothing that ran before is in its topics."""
        return Names(f"bench-{os.getpid()}-{next(self._numbers)}-{what}")

    def say(self, progress: str) -> None:
        """Show how far it is, where somebody looks on."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{progress:78.78}\r")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Figures that come from the same runs. What is compared is measured within one round, in turns."""

    figures: tuple[Figure, ...]
    round: Callable[[Stage], Awaitable[Mapping[Figure, Pair]]]
    """Measure once. May raise `NotMeasuredError`."""

    @property
    def name(self) -> str:
        return self.figures[0].experiment
