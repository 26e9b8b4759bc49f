"""How much a worker takes in hand before it asks for no more: decisions over counts and bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from antiphon.bus.job import Owned
from antiphon.bus.record import TopicPartition
from antiphon.bus.stopped import Stopped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much may be in hand, taken and not finished, before partitions are paused; they are resumed at the half.

    What is on its way when a bound is reached still comes: a few hundred small records, or some megabytes.
    """

    most_pending: int = 2_000
    """Records of one partition; at least four times the concurrency, so that none of it idles when half is through."""
    most_pending_bytes: int = 32 * 1024 * 1024
    """Of one partition. A value that is kept by reference counts in full."""
    most_in_hand: int = 20_000
    """Records of all partitions; at least four times the concurrency."""
    most_in_hand_bytes: int = 128 * 1024 * 1024
    activity_logs: int = 0
    """Bytes of log lines that an attempt takes along in its activity record; 0: none."""


class Pressure:
    """Says which of the *owned* partitions to pause, and which to resume. *stopped* ones are not its to resume."""

    def __init__(
        self, bounds: Bounds, *, concurrency: int, owned: Mapping[TopicPartition, Owned], stopped: Stopped
    ) -> None:
        self._bounds = dataclasses.replace(
            bounds,
            most_pending=max(bounds.most_pending, 4 * concurrency),
            most_in_hand=max(bounds.most_in_hand, 4 * concurrency),
        )
        self._owned = owned
        self._stopped = stopped
        self._crowded = False
        """Too much is in hand of all partitions together; none is resumed until half of it is finished."""

    def too_much(self) -> list[TopicPartition]:
        """Return the partitions to pause now, marked as such."""
        self._crowded = self._crowded or self._exceeds(1)
        paused: list[TopicPartition] = []
        for tp, owned in self._owned.items():
            # Past any limit a partition waits: memory, and what the commit's metadata can say.
            if not owned.paused and (self._crowded or owned.progress.full or self._is_full(owned, 1)):
                owned.paused = True
                paused.append(tp)
        return paused

    def has_room(self, owned: Owned) -> bool:
        """Say whether a paused partition is to be resumed, and mark it so."""
        if not owned.paused or self._crowded or self._is_full(owned, 2) or owned.progress.full:
            return False
        if self._owned.get(owned.tp) is not owned or owned.tp in self._stopped:
            return False
        owned.paused = False
        return True

    def relieved(self) -> list[TopicPartition]:
        """Return the partitions to resume because what was too much of all together is half through."""
        if not self._crowded or self._exceeds(2):
            return []
        self._crowded = False
        return [tp for tp, owned in self._owned.items() if self.has_room(owned)]

    def _exceeds(self, share: int) -> bool:
        """Say whether more is in hand than one *share*-th of what may be, of all partitions together."""
        all_owned = self._owned.values()
        return (
            sum(owned.pending for owned in all_owned) * share >= self._bounds.most_in_hand
            or sum(owned.progress.size for owned in all_owned) * share >= self._bounds.most_in_hand_bytes
        )

    def _is_full(self, owned: Owned, share: int) -> bool:
        """Say whether more of *owned* is in hand than one *share*-th of what may be."""
        return (
            owned.pending * share >= self._bounds.most_pending
            or owned.progress.size * share >= self._bounds.most_pending_bytes
        )
