"""Schemas for a replay: those that were recorded, and its own, which nobody else ever sees."""

from __future__ import annotations

from collections.abc import Mapping

from antiphon.schemas.avro import fingerprint
from antiphon.schemas.store import AvroSchema, Framing, Reference, SchemaStore, type_of


class KeptSchemas:
    """A `SchemaStore` that keeps what is published to it, and asks *behind* for what it has not. It publishes nothing."""

    framing = Framing.SINGLE_OBJECT

    def __init__(
        self, schemas: Mapping[Reference, AvroSchema] | None = None, behind: SchemaStore | None = None
    ) -> None:
        self._schemas = dict(schemas or {})
        self._behind = behind

    async def publish(self, topic: str, schema: AvroSchema) -> Reference:  # noqa: ARG002 - the protocol's
        reference = fingerprint(schema)
        self._schemas[reference] = schema
        return reference

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        if reference not in self._schemas and self._behind is not None:
            return await self._behind.fetch(reference)
        return self._schemas.get(reference)

    async def latest(self, type: str) -> AvroSchema | None:
        own = [schema for schema in self._schemas.values() if type_of(schema) == type]
        if own or self._behind is None:
            return own[-1] if own else None
        return await self._behind.latest(type)

    async def types(self) -> list[str]:
        return sorted({type_of(schema) for schema in self._schemas.values()})
