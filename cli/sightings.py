"""Events as they stand on their topics, read by nobody's group."""

from __future__ import annotations

from antiphon.tracing.seen import SeenEvent

from antiphon.bus.names import Names, undo_topic
from antiphon.bus.record import Record
from antiphon.cli.cluster import Cluster
from antiphon.cli.live import heartbeats
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import NotAnEventError, SchemaError, UnknownSchemaError


async def topics_of_types(cluster: Cluster) -> dict[str, str]:
    """Return the topic of each event type that was made known on the mesh: by a schema, or by an agent's heartbeat."""
    found: dict[str, str] = {}
    for worker in await heartbeats(cluster.bus, cluster.names, cluster.codec()):
        found |= {part.type: part.topic for part in (*worker.hears, *worker.emits)}
        if worker.undoes:
            found[undo_topic(worker.agent)] = undo_topic(worker.agent)
    for type in set(await cluster.store.types()) - found.keys():
        schema = await cluster.store.latest(type)
        said = (schema or {}).get("antiphon")
        if isinstance(said, dict) and isinstance(topic := said.get("topic"), str):
            found[type] = topic
    return {type: topic for type, topic in found.items() if not type.startswith("antiphon.")}


async def sighting(record: Record, names: Names, codec: Codec) -> SeenEvent | None:
    """Return the event that *record* holds; None where it holds none. Data that cannot be read is said so in the event."""
    try:
        envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
    except NotAnEventError:
        return None
    data: object = None
    problem: str | None = None
    try:
        data = await _json(codec, record.value or b"")
    except SchemaError as error:
        problem = str(error)
    return SeenEvent(
        envelope=envelope,
        topic=names.plain(record.topic),
        partition=record.partition,
        offset=record.offset,
        data=data,
        problem=problem,
    )


async def _json(codec: Codec, value: bytes) -> object:
    try:
        return codec.to_json(value)
    except UnknownSchemaError as error:
        await codec.learn(error.reference)
        return codec.to_json(value)
