"""Schemas on the mesh's own compacted topic, for clusters without a registry.

The key is the fingerprint's eight bytes as they stand in a value's header, in
hex; the value is the schema as JSON. Anyone can read it with any Kafka client,
and whoever may write there may write anything: a schema that its key does not
name is believed by nobody.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import orjson

from antiphon.bus.errors import BusError
from antiphon.bus.names import SCHEMAS, Names
from antiphon.bus.port import Bus, TopicSpec
from antiphon.bus.record import Outgoing, TopicPartition
from antiphon.bus.schema_digest import DIGEST_LENGTH
from antiphon.bus.topics import partitions_of_mesh
from antiphon.schemas.avro import fingerprint
from antiphon.schemas.errors import RegistryError
from antiphon.schemas.limits import Limits, measure_schema
from antiphon.schemas.store import AvroSchema, Framing, Reference, type_of

log = logging.getLogger(__name__)

_LIMITS = Limits()


class TopicStore:
    """A `SchemaStore` over the topic `antiphon.schemas`. Keeps what it has read; reads on when asked for more.

    *partitions*: what the topic gets, where nothing on the cluster says how many the mesh's have.
    """

    framing = Framing.SINGLE_OBJECT

    def __init__(self, bus: Bus, names: Names, *, partitions: int | None) -> None:
        self._bus = bus
        self._names = names
        self._topic = names.topic(SCHEMAS)
        self._partitions = partitions
        self._schemas: dict[bytes, AvroSchema] = {}
        self._newest: dict[str, bytes] = {}
        self._unproved: dict[str, list[tuple[bytes, AvroSchema]]] = {}
        """By type, oldest first, what was read and not compared with its name yet: that costs more than reading it."""
        self._types: dict[bytes, set[str]] = {}
        """The types of those, by name."""
        self._warned = False
        self._read: dict[TopicPartition, int] = {}
        self._reading = asyncio.Lock()

    async def publish(self, topic: str, schema: AvroSchema) -> Reference:  # noqa: ARG002 - a registry needs it
        reference = fingerprint(schema)
        await self._catch_up()
        self._prove(type_of(schema))
        if self._newest.get(type_of(schema)) == reference:
            return reference
        try:
            # Here and not where it is read: whoever only looks must not change a cluster.
            width = partitions_of_mesh(await self._bus.topics(), self._names, self._partitions)
            await self._bus.create([TopicSpec(self._topic, width, compact=True)])
            await self._bus.publish([Outgoing(self._topic, reference.hex().encode(), orjson.dumps(schema), [])])
        except BusError as error:
            raise self._unreachable(error) from error
        self._add(reference, schema)
        return reference

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        if isinstance(reference, int):
            return None
        if reference not in self._schemas:
            await self._catch_up()
            for type in self._types.pop(reference, ()):
                self._prove(type)
        return self._schemas.get(reference)

    async def latest(self, type: str) -> AvroSchema | None:
        await self._catch_up()
        self._prove(type)
        reference = self._newest.get(type)
        return None if reference is None else self._schemas[reference]

    async def types(self) -> list[str]:
        await self._catch_up()
        for type in [*self._unproved]:
            self._prove(type)
        return sorted(self._newest)

    def _unreachable(self, error: BusError) -> RegistryError:
        return RegistryError(f"the schemas on topic {self._topic}", f"none: {error}", "'antiphon doctor' looks closer")

    async def _catch_up(self) -> None:
        async with self._reading:
            try:
                await self._read_on()
            except BusError as error:
                raise self._unreachable(error) from error

    async def _read_on(self) -> None:
        bounds = await self._bus.bounds([self._topic])
        start = {tp: max(first, self._read.get(tp, 0)) for tp, (first, _) in bounds.items()}
        stop = {tp: end for tp, (_, end) in bounds.items() if start[tp] < end}
        if not stop:
            return
        found = [record async for record in self._bus.read({tp: start[tp] for tp in stop}, stop)]
        # A type's schemas lie on several partitions: the broker's time says which is newest.
        for record in sorted(found, key=lambda record: record.timestamp_ms):
            if record.key is not None and record.value is not None:
                self._learn(record.key, record.value)
        self._read.update(stop)

    def _learn(self, key: bytes, value: bytes) -> None:
        if len(key) == DIGEST_LENGTH:
            return  # named by all that it says: for who asks whom a change would break
        try:
            reference = bytes.fromhex(key.decode())
            schema: object = orjson.loads(value)
        except ValueError as error:
            log.warning("a record on the schema topic is no schema", extra={"key": key, "reason": str(error)})
            return
        if isinstance(schema, dict):
            schema = cast("AvroSchema", schema)
            self._unproved.setdefault(type_of(schema), []).append((reference, schema))
            self._types.setdefault(reference, set()).add(type_of(schema))

    def _prove(self, type: str) -> None:
        """Take over the schemas of *type* that are what their records' keys name; the others are passed over."""
        for reference, schema in self._unproved.pop(type, ()):
            problem = _problem(reference, schema)
            if problem is None:
                self._add(reference, schema)
            else:
                # Of many the first: whoever wrote it may write as much as he likes.
                log.log(
                    logging.DEBUG if self._warned else logging.WARNING,
                    "a schema is not the one that its key names, and is passed over",
                    extra={"topic": self._topic, "key": reference.hex(), "type": type, "reason": problem},
                )
                self._warned = True

    def _add(self, reference: bytes, schema: AvroSchema) -> None:
        self._schemas[reference] = schema
        self._newest[type_of(schema)] = reference


def _problem(reference: bytes, schema: AvroSchema) -> str | None:
    """Return what is wrong with a schema that stands under *reference*; None: it is the one of that name."""
    try:
        measure_schema(schema, _LIMITS, type_of(schema))
        found = fingerprint(schema)
    except Exception as error:  # whatever fastavro trips over
        return f"no Avro schema: {error}"
    return None if found == reference else f"expected the schema of that fingerprint, got one of {found.hex()}"
