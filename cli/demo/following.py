"""Following the demo's packages through the topics, as anybody could: in no group, moving nobody's offsets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

from antiphon.bus.activity import Activity
from antiphon.bus.delivery import Outcome
from antiphon.bus.names import ACTIVITY
from antiphon.bus.record import Record, TopicPartition
from antiphon.cli.cluster import Cluster
from antiphon.cli.demo.board import Board, Heard, Package
from antiphon.tracing.records import decoded, event_in

TYPES = (
    "package.submitted",
    "package.read",
    "package.unreadable",
    "package.released",
    "licence.identified",
    "package.approved",
    "package.refused",
    "review.requested",
)
_GIVEN_UP = (Outcome.DEAD_LETTERED, Outcome.EXPIRED)


class Follower:
    """Puts what stands on the topics on a board. Made before anything is published, so that nothing is missed."""

    def __init__(self, cluster: Cluster, board: Board, start: Mapping[TopicPartition, int]) -> None:
        self._cluster = cluster
        self._board = board
        self._start = start
        self._codec = cluster.codec()

    @classmethod
    async def at_the_end(cls, cluster: Cluster, board: Board) -> Follower:
        """Return a follower of what will be written from now on."""
        topics = [cluster.names.topic(name) for name in (*TYPES, ACTIVITY)]
        bounds = await cluster.bus.bounds(topics)
        return cls(cluster, board, {partition: end for partition, (_, end) in bounds.items()})

    async def changes(self) -> AsyncGenerator[Package]:
        """Yield each package when it is further than it was; never ends."""
        activity = self._cluster.names.topic(ACTIVITY)
        async for record in self._cluster.bus.read(self._start):
            changed = await (self._failures(record) if record.topic == activity else self._events(record))
            for package in changed:
                yield package

    async def _events(self, record: Record) -> list[Package]:
        seen = await event_in(record, self._cluster.names, self._codec, self._cluster.claims)
        if seen is None or not isinstance(seen.data, dict):
            return []
        envelope, data = seen.envelope, cast("dict[str, Any]", seen.data)
        changed = self._board.hear(Heard(envelope.type, envelope.correlation_id, envelope.time_us, data))
        return [] if changed is None else [changed]

    async def _failures(self, record: Record) -> list[Package]:
        activity = await decoded(self._codec, Activity, record)
        changed: list[Package] = []
        if activity is None:
            return changed
        for handled in activity.deliveries:
            if handled.outcome in _GIVEN_UP:
                error = f"{handled.error.type}: {handled.error.message}" if handled.error else handled.outcome
                ended_us = handled.started_us + handled.duration_us
                package = self._board.fail(handled.correlation_id, f"{activity.agent}: {error}", ended_us)
                changed += [] if package is None else [package]
        return changed
