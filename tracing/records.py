"""What stands in records, for readers that belong to no group: events, heartbeats, and the topics they stand on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from antiphon.bus.claim import reference_in
from antiphon.bus.claims import Claims
from antiphon.bus.errors import ClaimStoreError
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names, sandbox_of, undo_topic
from antiphon.bus.record import Record
from antiphon.bus.redrive import origin_of
from antiphon.bus.roll import between, decoded, read_agents
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import NotAnEventError, SchemaError, UnknownSchemaError
from antiphon.tracing.seen import SeenEvent

__all__ = ["belongs", "between", "decoded", "event_in", "event_topics", "may_hold_events", "read_agents"]

# The mesh's own topics, agents' state and dead letters, the broker's own.
_NO_EVENTS = re.compile(r"(^|\.)antiphon\.[^.]+$|\.(state|dead)$|^__")


def event_topics(agents: Iterable[AgentSeen]) -> set[str]:
    """Return the plain names of the topics on which events of a mesh stand, as its agents tell."""
    topics: set[str] = set()
    for seen in agents:
        topics |= {heard.topic for heard in seen.hears} | {said.topic for said in seen.emits}
        if seen.undoes:
            topics.add(undo_topic(seen.agent))
    return {topic for topic in topics if not _NO_EVENTS.search(topic)}


def may_hold_events(names: Names, topic: str) -> bool:
    """Say whether a topic, as the cluster calls it, may be one of events; without a namespace, of any namespace's.

    What stands in a sandbox happened before, and is no event of anybody's.
    """
    inside = not names.namespace or topic.startswith(f"{names.namespace}.")
    plain = names.plain(topic)
    return inside and not _NO_EVENTS.search(plain) and sandbox_of(plain) is None


def belongs(record: Record, correlation_id: str) -> bool:
    """Say whether the headers name the workflow: as its correlation, or without one as its root."""
    wanted = correlation_id.encode()
    found = {name: value for name, value in record.headers if name in ("ce_correlationid", "ce_id")}
    return found.get("ce_correlationid", found.get("ce_id")) == wanted


async def event_in(record: Record, names: Names, codec: Codec, claims: Claims | None = None) -> SeenEvent | None:
    """Return the event that *record* holds, or None where it holds none.

    A large value is fetched from where *claims* says; without, it counts as one that cannot be read.
    """
    try:
        envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
    except NotAnEventError:
        return None
    data, problem = await _json(codec, record, claims or Claims())
    # What was redriven as it was is the event that everybody else heard, where they heard it.
    topic, partition, offset = origin_of(record) or (record.topic, record.partition, record.offset)
    return SeenEvent(
        envelope=envelope,
        topic=names.plain(topic),
        partition=partition,
        offset=offset,
        data=data,
        problem=problem,
    )


async def _json(codec: Codec, record: Record, claims: Claims) -> tuple[Any, str | None]:
    """Return the data as JSON, or why there is none: an event whose data cannot be read is still an event."""
    if record.value is None and reference_in(record) is None:
        return None, "the record has no value"
    try:
        value = await claims.value_of(record)
        try:
            return to_json(codec.shown(value)), None
        except UnknownSchemaError as error:
            await codec.learn(error.reference)
            return to_json(codec.shown(value)), None
    except (SchemaError, ClaimStoreError) as error:
        return None, str(error)
