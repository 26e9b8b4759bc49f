"""What agents read and write, and with which schemas: each worker tells it, so that whoever changes a schema can be told whom that breaks.

Heartbeats name the schemas by digest. The schemas stand on `antiphon.schemas`
beside those that name values, each once however many workers use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import cast

import orjson

from antiphon.bus.consumer import Consumer
from antiphon.bus.heartbeat import Named
from antiphon.bus.names import SCHEMAS, Names
from antiphon.bus.port import Bus
from antiphon.bus.record import Outgoing
from antiphon.bus.roll import between
from antiphon.bus.schema_digest import DIGEST_LENGTH, class_digest, digest_of
from antiphon.bus.subscriptions import Subscriptions
from antiphon.schemas.avro import schema_of
from antiphon.schemas.compatibility import Reader
from antiphon.schemas.event import Event
from antiphon.schemas.store import AvroSchema

_OWN = "antiphon."


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Contract:
    """One event type as one agent reads or writes it."""

    agent: str
    version: str
    type: str
    topic: str
    schema: Reader | None
    """Its class, or the schema of one that runs elsewhere; None: nobody told."""


@dataclasses.dataclass(frozen=True)
class Contracts:
    """What some agents read and write; the mesh's own events left out."""

    reads: tuple[Contract, ...]
    writes: tuple[Contract, ...]


def of_consumers(consumers: Iterable[Consumer]) -> Contracts:
    """Return what agents read and write, by their code."""
    known = [version for consumer in consumers for version in consumer.versions]
    return Contracts(
        reads=tuple(
            contract for one in known for event_class in one.hears.values() if (contract := _by_class(one, event_class))
        ),
        writes=tuple(
            contract for one in known for event_class in one.emits or () if (contract := _by_class(one, event_class))
        ),
    )


def _by_class(consumer: Consumer, event_class: type[Event]) -> Contract | None:
    said = event_class.__event__
    if said.type.startswith(_OWN):
        return None
    return Contract(agent=consumer.name, version=consumer.version, type=said.type, topic=said.topic, schema=event_class)


def of_workers(known: Subscriptions, schemas: Mapping[str, AvroSchema]) -> Contracts:
    """Return what the agents of a mesh read and write, as their heartbeats tell; *schemas* by digest.

    Those that are up speak for an agent; where none is, the last one that was: it may come back.
    """
    speaking = [
        (seen.agent, *version) for workers in known.agents.values() for seen in workers for version in seen.versions
    ]
    return Contracts(
        reads=_told(((agent, version, part) for agent, version, hears, _ in speaking for part in hears), schemas),
        writes=_told(((agent, version, part) for agent, version, _, emits in speaking for part in emits), schemas),
    )


def _told(parts: Iterable[tuple[str, str, Named]], schemas: Mapping[str, AvroSchema]) -> tuple[Contract, ...]:
    # Workers of one version tell the same.
    found = {
        (agent, version, part.type, part.topic, part.schema_digest): Contract(
            agent=agent,
            version=version,
            type=part.type,
            topic=part.topic,
            schema=schemas.get(part.schema_digest or ""),
        )
        for agent, version, part in parts
        if not part.type.startswith(_OWN)
    }
    return tuple(found.values())


async def read_schemas(bus: Bus, names: Names) -> dict[str, AvroSchema]:
    """Return the schemas that `antiphon.schemas` has by digest. Costs the topic, from end to end."""
    found: dict[str, AvroSchema] = {}
    async for record in between(bus, await bus.bounds([names.topic(SCHEMAS)])):
        key = (record.key or b"").decode(errors="replace")
        if len(key) != DIGEST_LENGTH or record.value is None:
            continue
        try:
            schema: object = orjson.loads(record.value)
        except ValueError:
            continue
        # Whoever may write there may write anything under any name.
        if isinstance(schema, dict) and digest_of(cast("AvroSchema", schema)) == key:
            found[key] = cast("AvroSchema", schema)
    return found


async def tell_schemas(bus: Bus, names: Names, classes: Iterable[type[Event]]) -> None:
    """Put the schemas of *classes* on `antiphon.schemas` by digest, those that are not there. Raises `BusError`."""
    wanted = {class_digest(one): one for one in classes if not one.__event__.type.startswith(_OWN)}
    lacking = wanted.keys() - (await read_schemas(bus, names)).keys() if wanted else ()
    if lacking:
        topic = names.topic(SCHEMAS)
        await bus.publish(
            [Outgoing(topic, key.encode(), orjson.dumps(schema_of(wanted[key])), []) for key in sorted(lacking)]
        )
