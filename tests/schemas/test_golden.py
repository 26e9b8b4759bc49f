"""The wire, byte by byte. What these records hold is kept between neighbouring releases.

A change here is a change of the wire: agents are deployed one at a time, and
the old ones would not read what the new ones write.
"""

import dataclasses
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import avro.io
import avro.schema
import fastavro
import pytest
from pydantic import BaseModel, Field

from antiphon.schemas.avro import canonical_form, fingerprint, schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, from_headers, to_headers
from antiphon.schemas.event import Event
from antiphon.schemas.registry import RegistryStore
from antiphon.schemas.store import MemoryStore
from antiphon.testing.registry import RegistryServer

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "order_placed.json").read_text())


class Priority(Enum):
    LOW = 1
    HIGH = 2


class Line(BaseModel):
    """One article."""

    article: str
    count: int = Field(ge=1)
    parts: list["Line"] = []


class OrderPlaced(Event, key="order_id"):
    """Somebody ordered something."""

    order_id: str = Field(description="What the customer calls it.")
    number: int
    weight: float
    express: bool
    label: bytes
    total: Decimal = Field(max_digits=10, decimal_places=2)
    exact: Decimal
    placed: datetime
    due: date
    until: time
    patience: timedelta
    customer: UUID
    priority: Priority
    channel: Literal["web", "phone"] = "web"
    note: str | None = None
    lines: list[Line]
    tags: set[str]
    counts: dict[str, int]
    reference: int | str | Line


ORDER = OrderPlaced(
    order_id="A-7",
    number=-2,
    weight=1.5,
    express=True,
    label=b"\x00\xff",
    total=Decimal("-19.90"),
    exact=Decimal("0.000000001"),
    placed=datetime(2026, 11, 22, 10, 0, 0, 123, tzinfo=UTC),
    due=date(2026, 12, 24),
    until=time(17, 30, 0, 5),
    patience=timedelta(hours=1, microseconds=1),
    customer=UUID("0199f2c1-0000-7000-8000-000000000000"),
    priority=Priority.HIGH,
    channel="phone",
    note="ring twice",
    lines=[Line(article="box", count=2, parts=[Line(article="lid", count=1)])],
    tags={"b", "a"},
    counts={"x": 1},
    reference=Line(article="r", count=9),
)
ENVELOPE = Envelope(
    id="0199f2c1-0000-8f07-a5e0-8e8fda58e838",
    type="order.placed",
    source="/agents/shop",
    time_us=1_763_805_600_000_123,
    correlation_id="0199f2c1-0000-7000-8000-000000000000",
    parent_id="0199f2c1-0000-7000-8000-000000000001",
    causes=("0199f2c1-0000-7000-8000-000000000002", "0199f2c1-0000-7000-8000-000000000003"),
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    deadline_us=1_763_805_660_000_000,
    hops=2,
    budget="1.50 USD",
    tenant="acme",
    replay_of="0199f2c1-0000-7000-8000-000000000009",
    undoes="0199f2c1-0000-7000-8000-00000000000a",
    key="A-7",
)


def test_the_schema_is_what_it_was() -> None:
    """Docs and attributes may change; this form, and with it the fingerprint, must not."""
    assert canonical_form(schema_of(OrderPlaced)) == canonical_form(GOLDEN["schema"])
    assert schema_of(OrderPlaced) == GOLDEN["schema"]
    assert fingerprint(GOLDEN["schema"]).hex() == GOLDEN["fingerprint"]


async def test_single_object_framing_is_what_it_was() -> None:
    """C3 01, the fingerprint, Avro."""
    codec = Codec(MemoryStore())
    await codec.announce([OrderPlaced])

    assert codec.encode(ORDER).hex() == GOLDEN["single_object"]
    assert codec.decode(OrderPlaced, bytes.fromhex(GOLDEN["single_object"])) == ORDER


async def test_confluent_framing_is_what_it_was() -> None:
    """00, the registry's id, Avro."""
    with RegistryServer() as registry:
        store = RegistryStore(registry.url)
        codec = Codec(store)
        await codec.announce([OrderPlaced])
        store.close()

        assert codec.encode(ORDER).hex() == GOLDEN["confluent"]
        assert codec.decode(OrderPlaced, bytes.fromhex(GOLDEN["confluent"])) == ORDER


async def test_readers_take_both_framings() -> None:
    """A mesh may move to a registry, or away from one, while it runs."""
    store = MemoryStore()
    reference = await store.publish("order.placed", schema_of(OrderPlaced))
    reader = Codec(store)
    await reader.learn(reference)

    assert reader.decode(OrderPlaced, bytes.fromhex(GOLDEN["single_object"])) == ORDER
    with RegistryServer() as registry:
        registry_store = RegistryStore(registry.url)
        await registry_store.publish("order.placed", schema_of(OrderPlaced))
        reader = Codec(registry_store)
        await reader.learn(1)
        registry_store.close()
        assert reader.decode(OrderPlaced, bytes.fromhex(GOLDEN["confluent"])) == ORDER


def test_headers_are_what_they_were() -> None:
    """CloudEvents 1.0, the Kafka binding's binary mode."""
    assert {name: (value or b"").decode() for name, value in to_headers(ENVELOPE)} == GOLDEN["headers"]

    headers = [(name, value.encode()) for name, value in GOLDEN["headers"].items()]
    assert from_headers(headers, key=b"A-7", timestamp_ms=0) == ENVELOPE


# What any Avro library must find in the golden record. Only logical types of Avro's own are known elsewhere.
PLAIN: dict[str, Any] = {
    "order_id": "A-7",
    "number": -2,
    "weight": 1.5,
    "express": True,
    "label": b"\x00\xff",
    "total": Decimal("-19.90"),
    "exact": Decimal("0.000000001"),
    "placed": datetime(2026, 11, 22, 10, 0, 0, 123, tzinfo=UTC),
    "due": date(2026, 12, 24),
    "until": time(17, 30, 0, 5),
    "customer": UUID("0199f2c1-0000-7000-8000-000000000000"),
    "priority": "HIGH",
    "channel": "phone",
    "note": "ring twice",
    "lines": [{"article": "box", "count": 2, "parts": [{"article": "lid", "count": 1, "parts": []}]}],
    "tags": ["a", "b"],
    "counts": {"x": 1},
    "reference": {"article": "r", "count": 9, "parts": []},
}


# To Apache Avro a duration is a long, and a UUID text.
APACHE: dict[str, Any] = {**PLAIN, "patience": 3_600_000_001, "customer": str(PLAIN["customer"])}

# The one logical type of ours. Apache Avro says so, and reads a long.
knows_no_duration = pytest.mark.filterwarnings("ignore:Unknown duration-micros, using long")


@knows_no_duration
@pytest.mark.parametrize(("framing", "header"), [("single_object", 10), ("confluent", 5)])
def test_apache_avro_reads_it(framing: str, header: int) -> None:
    """The reference implementation, which shares no code with ours."""
    stream = BytesIO(bytes.fromhex(GOLDEN[framing])[header:])
    reader = avro.io.DatumReader(avro.schema.parse(json.dumps(GOLDEN["schema"])))

    assert reader.read(avro.io.BinaryDecoder(stream)) == APACHE
    assert stream.read() == b""


@pytest.mark.parametrize(("framing", "header"), [("single_object", 10), ("confluent", 5)])
def test_fastavro_reads_it(framing: str, header: int) -> None:
    """As any Python client would, given the schema alone."""
    schema = {**GOLDEN["schema"], "fields": [_without_duration(field) for field in GOLDEN["schema"]["fields"]]}
    stream = BytesIO(bytes.fromhex(GOLDEN[framing])[header:])

    read: Any = fastavro.schemaless_reader(stream, schema, None)  # pyright: ignore[reportUnknownMemberType] - half typed
    assert read == {**PLAIN, "patience": 3_600_000_001}


def _without_duration(field: dict[str, Any]) -> dict[str, Any]:
    return {**field, "type": "long"} if field["name"] == "patience" else field


@knows_no_duration
async def test_somebody_else_s_bytes_are_read() -> None:
    """Written by Apache Avro from the schema alone, framed by hand."""
    stream = BytesIO()
    writer = avro.io.DatumWriter(avro.schema.parse(json.dumps(GOLDEN["schema"])))
    writer.write(APACHE, avro.io.BinaryEncoder(stream))
    value = b"\xc3\x01" + bytes.fromhex(GOLDEN["fingerprint"]) + stream.getvalue()

    assert Codec(MemoryStore()).decode(OrderPlaced, value) == ORDER


def test_an_envelope_s_fields_are_all_in_the_golden_headers() -> None:
    """A field that is added later is added here too."""
    empty = Envelope(id="", type="", source="", time_us=0, correlation_id="")
    for field in dataclasses.fields(Envelope):
        assert getattr(ENVELOPE, field.name) != getattr(empty, field.name), field.name
