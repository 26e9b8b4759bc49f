"""With which schemas the events were written that stand on topics: those that a new reader will meet."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from antiphon.bus.claims import Claims
from antiphon.bus.errors import ClaimError, ClaimStoreError
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.record import Record
from antiphon.schemas.codec import reference_of
from antiphon.schemas.errors import DecodeError
from antiphon.schemas.store import AvroSchema, Reference, SchemaStore

log = logging.getLogger(__name__)

_LAST = 32
"""Offsets looked at from each partition's end; ends of transactions are among them."""


async def written_schemas(
    bus: Bus,
    names: Names,
    store: SchemaStore,
    topics: Mapping[str, Collection[str]],
    *,
    every: bool = False,
    claims: Claims | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, list[AvroSchema]]:
    """Return the schemas of the events on *topics*, by event type, each once: of the newest of each partition, or of *every* one.

    *topics* has plain names, each with the event types that are looked for on
    it. Costs the ends of the topics, or all of them; *progress* is told how far
    that is. Raises `BusError` and `RegistryError`.
    """
    plain = {names.topic(topic): types for topic, types in topics.items()}
    bounds = await bus.bounds(plain)
    start = {
        place: first if every else max(first, end - _LAST) for place, (first, end) in bounds.items() if first < end
    }
    seen: defaultdict[str, dict[Reference, None]] = defaultdict(dict)
    if start:
        stop = {place: bounds[place][1] for place in start}
        done, whole = 0, sum(stop[place] - start[place] for place in start)
        async for batch in bus.read_batches(start, stop):
            for record in batch:
                await _note(record, plain, claims or Claims(), seen)
            done += len(batch)
            progress(done, whole)
    found: dict[str, list[AvroSchema]] = {}
    for type, references in seen.items():
        schemas = [await store.fetch(reference) for reference in references]
        found[type] = [schema for schema in schemas if schema is not None]
        if lost := sum(schema is None for schema in schemas):
            log.warning("events were written with schemas that are gone", extra={"type": type, "schemas": lost})
    return found


async def _note(
    record: Record, topics: Mapping[str, Collection[str]], claims: Claims, seen: dict[str, dict[Reference, None]]
) -> None:
    said: dict[str, Any] = dict(record.headers)
    type = (said.get("ce_type") or b"").decode(errors="replace")
    if type not in topics.get(record.topic, ()):
        return
    try:
        seen[type].setdefault(reference_of(record.value or await claims.value_of(record), type))
    except (DecodeError, ClaimError, ClaimStoreError) as error:
        log.debug("an event cannot be read by anybody", extra={"topic": record.topic, "reason": str(error)})
