"""What a broker leaves open: in which order partitions are served, and who goes on first.

With a seed all of it is drawn from one generator, so that the same seed gives
the same run again. Without, partitions are served in turn.
"""

from __future__ import annotations

import asyncio
import random

from antiphon.bus.record import Record

BATCH = 500
"""The most records one `take` gives."""


class Schedule:
    """The choices of one bus."""

    def __init__(self, seed: int | None = None) -> None:
        # Not for secrets: a simulation has to come again.
        self._random = None if seed is None else random.Random(seed)  # noqa: S311
        self._served = 0

    async def turn(self) -> None:
        """Let others go first: once, or as often as the seed says."""
        for _ in range(1 if self._random is None else self._random.randint(1, 4)):
            await asyncio.sleep(0)

    def shares(self, partitions: int) -> list[int]:
        """Return how many records each of *partitions* may give now; at least one, `BATCH` in all."""
        share = max(1, BATCH // partitions)
        if self._random is None:
            return [share] * partitions
        return [self._random.randint(1, share) for _ in range(partitions)]

    def merge(self, runs: list[list[Record]]) -> list[Record]:
        """Return the records of all *runs*, each run in its order."""
        if self._random is None:
            self._served += 1
            first = self._served % len(runs)
            return [record for run in runs[first:] + runs[:first] for record in run]
        rest = [run[::-1] for run in runs]
        merged: list[Record] = []
        while rest:
            run = self._random.choice(rest)
            merged.append(run.pop())
            if not run:
                rest.remove(run)
        return merged

    def partition(self, partitions: int) -> int:
        """Return where a record without a key goes."""
        if self._random is None:
            self._served += 1
            return self._served % partitions
        return self._random.randrange(partitions)
