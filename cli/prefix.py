"""From the beginning of a workflow's id to the workflow, as git does it for commits."""

from __future__ import annotations

import re

from antiphon.bus.record import TopicPartition
from antiphon.cli.cluster import Cluster
from antiphon.cli.sightings import topics_of_types
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import NotAnEventError

_WHOLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIMED = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4})?")
_SKEW_MS = 600_000
"""How far the clock of whoever made an id, and the broker's, may lie apart."""


def is_whole(id: str) -> bool:
    """Say whether *id* is a UUID in full, and so no prefix."""
    return _WHOLE.fullmatch(id) is not None


async def candidates(cluster: Cluster, prefix: str) -> list[str]:
    """Return the correlation ids that begin with *prefix*, sorted.

    Reads headers only, and first only around the time that the beginning of a
    UUIDv7 says; everything where nothing is found there.
    """
    bounds = await cluster.bus.bounds(
        cluster.names.topic(topic) for topic in set((await topics_of_types(cluster)).values())
    )
    begin = {place: first for place, (first, _) in bounds.items()}
    end = {place: last for place, (_, last) in bounds.items()}
    window = _window_ms(prefix)
    if window is not None:
        start = await cluster.bus.offsets_at(bounds, window[0])
        stop = await cluster.bus.offsets_at(bounds, window[1])
        if found := await _scan(cluster, prefix, start, stop):
            return found
    return await _scan(cluster, prefix, begin, end)


def _window_ms(prefix: str) -> tuple[int, int] | None:
    if _TIMED.match(prefix) is None:
        return None
    digits = prefix.replace("-", "")[:12]
    low, high = int(digits.ljust(12, "0"), 16), int(digits.ljust(12, "f"), 16)
    return max(0, low - _SKEW_MS), high + _SKEW_MS


async def _scan(
    cluster: Cluster, prefix: str, start: dict[TopicPartition, int], stop: dict[TopicPartition, int]
) -> list[str]:
    places = {place: offset for place, offset in start.items() if offset < stop[place]}
    found: set[str] = set()
    if not places:
        return []
    async for record in cluster.bus.read(places, {place: stop[place] for place in places}):
        try:
            envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        except NotAnEventError:
            continue
        if envelope.correlation_id.startswith(prefix):
            found.add(envelope.correlation_id)
    return sorted(found)
