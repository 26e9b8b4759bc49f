"""What an engine tells of its own work, for whoever counts; by default nobody does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from antiphon.bus.delivery import Delivery, Outcome
from antiphon.bus.record import TopicPartition

if TYPE_CHECKING:
    from antiphon.bus.job import Job


class Telemetry:
    """Hears of every attempt and every transaction, and does nothing about it; a subclass counts.

    Called on the event loop, once for each attempt: a method returns at once,
    and never raises. What is told of an attempt is how it ended, not that it was
    committed: where a transaction fails its attempts are made again, and told again.
    """

    def attempted(self, agent: str, job: Job, delivery: Delivery | None, outcome: Outcome, duration_us: int) -> None:
        """An attempt at an event is over, after *duration_us*. No *delivery*: its handler was not called."""

    def unreadable(self, agent: str) -> None:
        """A record that is no event was set aside."""

    def jumped(self, agent: str) -> None:
        """A partition goes on elsewhere than where the agent had come to: what stood between is gone."""

    def committed(self, agent: str, duration_s: float) -> None:
        """A transaction is visible."""

    def not_committed(self, agent: str, duration_s: float) -> None:
        """A transaction failed, or nobody knows."""


SILENT = Telemetry()
"""Tells nobody."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One number that a consumer tells of its own, for /metrics."""

    name: str
    """Without `antiphon_`, and without `_total`."""
    meaning: str
    value: float
    _: dataclasses.KW_ONLY
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    counts: bool = False
    """It only ever grows while the process lives."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How one engine stands at this moment."""

    agent: str
    ready: bool
    """It has partitions, with their state restored; or it stands by, as the group gave it none."""
    draining: bool
    partitions: int
    paused: int
    """Partitions that wait because too much of them is in hand."""
    in_flight: int
    """Events whose handlers are running."""
    lanes: int
    """Lanes with work: keys whose events are being handled, wait for a retry, or wait for a turn."""
    stopped: int
    """Partitions that stand still because their dead letters are refused."""
    in_hand_bytes: int
    """Bytes of the records taken and not finished."""
    lag: Mapping[TopicPartition, int] | None = None
    """Events of each owned partition that are not handled, as of the last time somebody asked; None: nobody has."""
    restored: int = 0
    """Records of state read from the changelog since it began."""
    to_restore: int = 0
    """Offsets of the changelog that are still to be read before partitions that were assigned are ready."""
    state_bytes: int = 0
    """Bytes of memory that state takes."""
    figures: tuple[Figure, ...] = ()
    """What the consumer tells of its own."""
