"""Where writers' schemas are kept, so that readers find them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol, TypeAlias

from antiphon.schemas.canonical import fingerprint
from antiphon.schemas.nodes import attribute

AvroSchema: TypeAlias = Mapping[str, Any]
"""A record schema as JSON says it."""

Reference: TypeAlias = bytes | int
"""What a framed value names its writer's schema by: eight bytes of fingerprint, as they stand, or a registry's id."""


class Framing(Enum):
    """What stands in front of a value's Avro bytes."""

    SINGLE_OBJECT = b"\xc3\x01"
    """Then the CRC-64-AVRO fingerprint, eight bytes, little-endian (Avro specification, "Single-object encoding")."""
    CONFLUENT = b"\x00"
    """Then the registry's id, four bytes, big-endian (Confluent's wire format)."""


class SchemaStore(Protocol):
    """A schema registry, the topic `antiphon.schemas`, or a dictionary."""

    framing: Framing
    """How writers that use this store frame their values. Readers take both."""

    async def publish(self, topic: str, schema: AvroSchema) -> Reference:
        """Make *schema* known to every reader, and return what values will name it by. Doing it twice does no harm.

        *topic* is where its events go, as the cluster calls it.
        Raises `RegistryError` where a registry refuses or cannot be reached.
        """
        ...

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        """Return the schema that *reference* names, or None where nobody has published it."""
        ...

    async def latest(self, type: str) -> AvroSchema | None:
        """Return the newest schema of an event type, or None."""
        ...

    async def types(self) -> list[str]:
        """Return the event types this store knows schemas of, sorted."""
        ...


def type_of(schema: AvroSchema) -> str:
    """Return the event type that *schema* is of: what it says, or where somebody else wrote it, its name.

    >>> type_of({"type": "record", "name": "TicketOpened", "fields": [], "antiphon": {"type": "ticket.opened"}})
    'ticket.opened'
    """
    return str(attribute(schema.get("antiphon"), "type") or schema.get("name", "schema"))


class MemoryStore:
    """Schemas in a dictionary: for one process, and for tests. Values are framed as single objects."""

    framing = Framing.SINGLE_OBJECT

    def __init__(self) -> None:
        self._schemas: dict[Reference, AvroSchema] = {}
        self._latest: dict[str, AvroSchema] = {}

    async def publish(self, topic: str, schema: AvroSchema) -> Reference:  # noqa: ARG002 - the protocol's
        reference = fingerprint(schema)
        self._schemas[reference] = schema
        self._latest[type_of(schema)] = schema
        return reference

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        return self._schemas.get(reference)

    async def latest(self, type: str) -> AvroSchema | None:
        return self._latest.get(type)

    async def types(self) -> list[str]:
        return sorted(self._latest)
