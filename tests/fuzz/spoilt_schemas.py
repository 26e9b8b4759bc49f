"""Readers of schemas: from the topic, from a registry, by the gate and as classes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import orjson
from corpus import Standing
from ground import NAMES, Ground, Reader
from mutator import Mutator
from troupe import BookWanted

from antiphon.bus.contracts import read_schemas
from antiphon.bus.record import Record
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.compatibility import mismatches
from antiphon.schemas.difference import differences
from antiphon.schemas.errors import RegistryError, SchemaError, UnsupportedSchemaError
from antiphon.schemas.generate import class_from_schema
from antiphon.schemas.registry import RegistryStore
from antiphon.schemas.store import AvroSchema, Framing, Reference
from antiphon.testing.registry import RegistryServer


class Schemas:
    """Everything that takes somebody else's schema."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._registry: RegistryServer | None = None

    def close(self) -> None:
        if self._registry is not None:
            self._registry.close()

    @cached_property
    def registry(self) -> RegistryServer:
        self._registry = RegistryServer()
        return self._registry

    def readers(self) -> list[Reader]:
        """Return this part of the table."""
        some, schema = self._ground.some, self._schema
        return [
            Reader("records of schemas", some("antiphon.schemas"), self.schema_topic, (), 3),
            Reader("schemas, as writers'", schema, self.schema, (SchemaError,), 5),
            Reader("schemas, by the gate", schema, self.gate, (UnsupportedSchemaError,), 2),
            Reader("schemas, as classes", schema, self.generated, (SchemaError,), 1),
            Reader("answers of a registry", self.answer, self.registered, (RegistryError,), 1),
        ]

    def _schema(self, mutator: Mutator) -> AvroSchema:
        found: AvroSchema = mutator.json(mutator.draw.choice(self._ground.corpus.schemas))
        return found

    async def schema_topic(self, records: Sequence[Record]) -> None:
        bus = Standing(records).bus
        store = TopicStore(bus, NAMES, partitions=1)
        for type in await store.types():
            await store.latest(type)
        await read_schemas(bus, NAMES)
        codec = Codec(store)
        for record in records:
            with contextlib.suppress(SchemaError, ValueError):
                await codec.learn(bytes.fromhex((record.key or b"").decode()))

    async def schema(self, schema: AvroSchema) -> None:
        """Learn it as a registry's, and read with it what was written with another."""
        codec = Codec(_One(schema))
        await codec.learn(1)
        for record in self._ground.corpus.events[:3]:
            value = b"\x00\x00\x00\x00\x01" + (record.value or b"")[10:]
            with contextlib.suppress(SchemaError):
                orjson.dumps(to_json(codec.shown(value)))
            with contextlib.suppress(SchemaError):
                codec.read_raw(value)
            with contextlib.suppress(SchemaError):
                orjson.dumps(to_json(codec.decode(BookWanted, value)))

    async def gate(self, schema: AvroSchema) -> None:
        if not isinstance(schema, dict):
            return  # the topic of schemas, and a registry, let no other through
        mismatches(schema, BookWanted)
        mismatches(self._ground.corpus.schemas[0], schema)
        differences(self._ground.corpus.schemas[0], schema)

    async def generated(self, schema: AvroSchema) -> None:
        if isinstance(schema, dict):
            class_from_schema(schema)

    def answer(self, mutator: Mutator) -> tuple[int, bytes]:
        schema = json.dumps(mutator.draw.choice(self._ground.corpus.schemas))
        body: Any = {
            "subject": "a-value",
            "version": 1,
            "id": 7,
            "schema": schema,
            "schemaType": "AVRO",
            "references": [],
        }
        body = mutator.draw.choice((body, ["a-value", "b-value"], {"error_code": 40403, "message": "not found"}))
        text = json.dumps(mutator.json(body)).encode()
        return mutator.draw.choice((200, 200, 200, 404, 409, 422)), mutator.content(
            text
        ) if mutator.draw.random() < 0.3 else text

    async def registered(self, answer: tuple[int, bytes]) -> None:
        self.registry.answer = answer
        store = RegistryStore(self.registry.url, timeout_s=5)
        try:
            for ask in (
                lambda: store.fetch(7),
                lambda: store.latest("a"),
                store.types,
                lambda: store.publish("a", self._ground.corpus.schemas[0]),
            ):
                with contextlib.suppress(RegistryError):
                    await ask()
        finally:
            store.close()


class _One:
    """A store that has one schema, whatever it is asked for."""

    framing = Framing.CONFLUENT

    def __init__(self, schema: AvroSchema) -> None:
        self._schema = schema

    async def publish(self, topic: str, schema: AvroSchema) -> Reference:
        return 1

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        # Whoever fetches has seen to it that it is an object.
        return self._schema if isinstance(self._schema, dict) else None

    async def latest(self, type: str) -> AvroSchema | None:
        return None

    async def types(self) -> list[str]:
        return []
