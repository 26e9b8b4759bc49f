"""Lanes: order within a key, freedom between keys.

Everything that must be handled one after the other stands in one lane. A lane
is ready when it has work and nobody is at it. `take` hands out a ready lane;
whoever took it says `done` (or holds it, for a retry) when its first job is
through. Pure bookkeeping: no clock, no tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

J = TypeVar("J")


class LaneQueue(Generic[J]):
    """The jobs of one lane, in order: the one being worked on, and those behind it."""

    __slots__ = ("behind", "first", "key")

    def __init__(self, key: Hashable, first: J) -> None:
        self.key = key
        self.first: J | None = first
        """None: nothing is left of it."""
        self.behind: deque[J] | None = None
        """None where nothing ever was: most lanes have one job, and an empty deque takes as much memory as all else of it."""

    @property
    def jobs(self) -> list[J]:
        """All of them."""
        return [] if self.first is None else [self.first, *(self.behind or ())]


class Lanes(Generic[J]):
    """All lanes of one worker."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, LaneQueue[J]] = {}
        self.ready: deque[LaneQueue[J]] = deque()
        """Lanes that could be worked on now; for others to look whether there are any, and how many."""

    def __len__(self) -> int:
        """The number of lanes with work."""
        return len(self._lanes)

    def add(self, key: Hashable, job: J) -> None:
        """Put *job* at the end of its lane."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = LaneQueue(key, job)
            self.ready.append(lane)
        elif lane.behind is None:
            lane.behind = deque((job,))
        else:
            lane.behind.append(job)

    def take(self) -> LaneQueue[J]:
        """Take a ready lane; nobody else gets it until it is `done` or `release`d."""
        return self.ready.popleft()

    def done(self, lane: LaneQueue[J]) -> None:
        """The lane's first job is through; the next may start."""
        if lane.behind:
            lane.first = lane.behind.popleft()
            self.ready.append(lane)
        else:
            lane.first = None
            # Unless it was dropped meanwhile, and another one began.
            if self._lanes.get(lane.key) is lane:
                del self._lanes[lane.key]

    def release(self, lane: LaneQueue[J]) -> None:
        """Make a lane that was taken ready again, its first job still first."""
        if lane.first is not None:
            self.ready.append(lane)

    def drop(self, gone: Callable[[J], bool], *, running: Callable[[J], bool]) -> list[J]:
        """Remove and return the jobs that are *gone*, but for a *running* first one: its worker says `done` later."""
        dropped: list[J] = []
        for key, lane in list(self._lanes.items()):
            kept: deque[J] = deque()
            for job in lane.jobs:
                if gone(job) and not running(job):
                    dropped.append(job)
                else:
                    kept.append(job)
            lane.first = kept.popleft() if kept else None
            lane.behind = kept
            if lane.first is None:
                del self._lanes[key]
        self.ready = deque(lane for lane in self.ready if lane.first is not None)
        return dropped
