"""From the beginning of an id to the workflows it may mean, as git does it for commits."""

from __future__ import annotations

import re
from collections.abc import Mapping

from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.record import TopicPartition
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import NotAnEventError
from antiphon.tracing.candidate import Candidate
from antiphon.tracing.records import between, may_hold_events

SKEW_MS = 3_600_000
"""How far the clock of whoever made a root's id may be off from the clocks of whoever wrote its workflow's records."""
# A UUIDv7, or as much of one as there is.
_TIMED_ID = re.compile(r"[0-9a-f]{1,8}|[0-9a-f]{8}-[0-9a-f]{0,4}|[0-9a-f]{8}-[0-9a-f]{4}-(7[0-9a-f-]{0,22})?")


async def find_workflows(bus: Bus, names: Names, prefix: str) -> list[Candidate]:
    """Return the workflows whose correlation id begins with *prefix*, the newest last.

    Where there is none: those that have an event whose id begins so. Reads the
    headers of every event topic, all partitions; first only of the time that
    the prefix of a UUIDv7 tells (eight digits: about a minute, and an hour to
    either side), and of all time where nothing is found there.
    """
    places = await bus.bounds([topic for topic in await bus.topics() if may_hold_events(names, topic)])
    window = window_ms(prefix)
    if window is not None:
        start = await bus.offsets_at(places, window[0])
        stop = await bus.offsets_at(places, window[1])
        if found := await _candidates(bus, {place: (start[place], stop[place]) for place in places}, prefix):
            return found
    return await _candidates(bus, places, prefix)


async def _candidates(bus: Bus, places: Mapping[TopicPartition, tuple[int, int]], prefix: str) -> list[Candidate]:
    by_workflow: dict[str, Candidate] = {}
    by_event: dict[str, Candidate] = {}
    async for record in between(bus, places):
        try:
            envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        except NotAnEventError:
            continue
        found = by_workflow if envelope.correlation_id.startswith(prefix) else by_event
        if found is by_workflow or envelope.id.startswith(prefix):
            candidate = Candidate(envelope.correlation_id, envelope.type, envelope.time_us)
            known = found.setdefault(envelope.correlation_id, candidate)
            found[envelope.correlation_id] = min(known, candidate, key=lambda one: one.time_us)
    return sorted((by_workflow or by_event).values(), key=lambda one: (one.time_us, one.correlation_id))


def window_ms(id: str) -> tuple[int, int] | None:
    """Return when an id that begins so was made, give or take `SKEW_MS`; None where it does not tell.

    >>> window_ms("0199f2c1-0000-7000-8000-000000000000")
    (1760710758784, 1760717958784)
    >>> window_ms("order-7") is window_ms("0199f2c1-0000-4000-8000-000000000000") is None
    True
    """
    if not _TIMED_ID.fullmatch(id):
        return None
    digits = id.replace("-", "")[:12]
    low, high = int(digits.ljust(12, "0"), 16), int(digits.ljust(12, "f"), 16)
    return max(0, low - SKEW_MS), high + SKEW_MS
