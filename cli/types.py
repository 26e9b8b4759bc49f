"""Event types that are known only by the schemas that agents published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from antiphon.bus.names import undo_topic
from antiphon.cli.cluster import Cluster
from antiphon.cli.errors import UsageError, did_you_mean
from antiphon.schemas.event import Event
from antiphon.schemas.generate import class_from_schema
from antiphon.tracing.records import read_agents


async def class_of(cluster: Cluster, type: str) -> type[Event]:
    """Return a class for *type*, made from its newest schema; near names are suggested where there is none."""
    schema = await cluster.store.latest(type)
    if schema is None:
        known = await public_types(cluster)
        # An agent may have made it known between the two questions.
        schema = await cluster.store.latest(type) if type in known else None
        if schema is None:
            raise UsageError(
                f"no event type {type!r} on {cluster.settings.bootstrap_servers}",
                did_you_mean(type, known, what="event types"),
                "an agent makes its types known when it first starts: antiphon run MODULE",
            )
    return class_from_schema(schema)


async def public_types(cluster: Cluster) -> list[str]:
    """Return the event types that agents published schemas of, less the mesh's own."""
    return [type for type in await cluster.store.types() if not type.startswith("antiphon.")]


async def topics_of_types(cluster: Cluster) -> dict[str, str]:
    """Return the topic of each event type that was made known on the mesh: by a schema, or by an agent's heartbeat."""
    found: dict[str, str] = {}
    for worker in await read_agents(cluster.bus, cluster.names, cluster.codec()):
        found |= {part.type: part.topic for part in (*worker.hears, *worker.emits)}
        if worker.undoes:
            found[undo_topic(worker.agent)] = undo_topic(worker.agent)
    for type in set(await cluster.store.types()) - found.keys():
        schema = await cluster.store.latest(type)
        said: Any = (schema or {}).get("antiphon")
        if isinstance(said, Mapping) and isinstance(topic := cast("Mapping[str, Any]", said).get("topic"), str):
            found[type] = topic
    return {type: topic for type, topic in found.items() if not type.startswith("antiphon.")}
