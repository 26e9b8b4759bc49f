import json
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pydantic
import pytest
from pydantic import BaseModel, Field

from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.errors import DecodeError, EncodeError, IncompatibleSchemaError, UnknownSchemaError
from antiphon.schemas.event import Event, envelope_or_none
from antiphon.schemas.input import event_from_json
from antiphon.schemas.shape import As
from antiphon.schemas.store import AvroSchema, MemoryStore


class TicketOpened(Event):
    ticket_id: str
    urgent: bool = False


async def test_what_is_written_is_read() -> None:
    """The header names the schema; the same class needs to learn nothing."""
    codec = Codec(MemoryStore())
    await codec.announce([TicketOpened])
    opened = TicketOpened(ticket_id="7")

    read = Codec(MemoryStore()).decode(TicketOpened, codec.encode(opened))
    assert (read, envelope_or_none(read)) == (opened, None)


async def test_a_writer_s_schema_is_learned_once() -> None:
    """Until then the value is unknown, not wrong; nobody else's schema will do."""
    store = MemoryStore()
    writer, reader = Codec(store), Codec(store)

    class Older(Event, type="ticket.opened"):
        ticket_id: str

    await writer.announce([Older])
    value = writer.encode(Older(ticket_id="7"))
    with pytest.raises(UnknownSchemaError) as unknown:
        reader.decode(TicketOpened, value)
    reference = fingerprint(schema_of(Older))
    assert unknown.value.reference == reference
    assert str(unknown.value) == (
        f"expected a value whose schema is published, got one with fingerprint {reference.hex()}: "
        "this process has not learned it yet. "
        "It was written against another registry, or its schema was deleted; publish the schema again."
    )

    await reader.learn(reference)
    assert reader.decode(TicketOpened, value) == TicketOpened(ticket_id="7")
    with pytest.raises(UnknownSchemaError, match="the store has none of that name"):
        await Codec(MemoryStore()).learn(reference)


async def test_only_announced_classes_are_written() -> None:
    """Otherwise readers would wait for a schema that nobody published."""
    with pytest.raises(EncodeError) as unannounced:
        Codec(MemoryStore()).encode(TicketOpened(ticket_id="7"))
    assert str(unannounced.value) == (
        "ticket.opened: expected a class that was announced, got TicketOpened. Call announce with it first."
    )


async def test_the_store_hears_the_cluster_s_topic() -> None:
    """A namespace is the caller's business."""
    heard: list[str] = []

    class Listening(MemoryStore):
        async def publish(self, topic: str, schema: Any) -> Any:
            heard.append(topic)
            return await super().publish(topic, schema)

    codec = Codec(Listening())
    await codec.announce([TicketOpened], topic_of="staging.{}".format)
    await codec.announce([TicketOpened])
    assert heard == ["staging.ticket.opened"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "got an empty value"),
        (b'{"ticket_id": "7"}', "got 18 bytes that begin with 7b 22 74 69 (JSON text?)"),
        (b"\xc3\x01short", "got 7 bytes that begin with c3 01 73 68"),
        (b"\x00\x00", "got 2 bytes that begin with 00 00"),
        (b"Obj\x01 a file", "got 11 bytes that begin with 4f 62 6a 01"),
    ],
)
def test_a_value_without_a_header_is_none_of_ours(value: bytes, said: str) -> None:
    """What stands there is shown, so that its writer can be found."""
    with pytest.raises(DecodeError) as wrong:
        Codec(MemoryStore()).decode(TicketOpened, value)
    assert said in str(wrong.value)
    with pytest.raises(DecodeError):
        Codec(MemoryStore()).read(value)


class Level(Enum):
    LOW = 1
    HIGH = 2


class Inner(BaseModel):
    size: int = 0


def event_class(name: str, **fields: Any) -> Any:
    """Make an event class of fields that are known only when the test runs."""
    return pydantic.create_model(name, __base__=Event, **fields)


LOCAL = datetime(2026, 1, 1)  # noqa: DTZ001 - the point
MISFITS: list[tuple[Any, Any, str]] = [
    (datetime, LOCAL, "expected a datetime that says its zone, got datetime.datetime(2026, 1, 1, 0, 0). Give it one"),
    (int, 2**63, "expected an int of 64 bits, got 9223372036854775808. Send it as a Decimal, a str or bytes."),
    (str, "\ud800", "expected text that UTF-8 can say, got '\\ud800'."),
    (
        Decimal,
        Decimal("0.1234567891"),
        "expected at most 38 digits, 9 of them after the point, got Decimal('0.1234567891'). "
        "Round it, or give the field the max_digits and decimal_places it needs.",
    ),
    (Decimal, Decimal("1E+29"), "expected at most 38 digits, 9 of them after the point, got Decimal('1E+29')."),
    (Decimal, Decimal("1E+1000000"), "expected at most 38 digits"),
    (Decimal, Decimal("1E-1000000"), "expected at most 38 digits"),
    (time, time(1, tzinfo=UTC), "expected a time without a zone, which Avro's cannot have"),
    (Annotated[int, As("int")], 2**31, "expected an int of 32 bits, got 2147483648. Use a plain int, which is 64 bits"),
    (Annotated[float, As("float")], 1e39, "expected a float of 32 bits, got 1e+39."),
    (
        Annotated[bytes, As("fixed", name="Four", size=4)],
        b"abc",
        "expected 4 bytes, got b'abc'. Pad it, or cut it, to 4.",
    ),
    (
        Annotated[datetime, As("long", logicalType="timestamp-millis")],
        datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        "expected whole milliseconds, got datetime.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=datetime.timezone.utc).",
    ),
    (
        Annotated[datetime, As("long", logicalType="local-timestamp-micros")],
        datetime(2026, 1, 1, tzinfo=UTC),
        "expected a local datetime, without a zone",
    ),
]


@pytest.mark.parametrize(("annotation", "value", "said"), MISFITS)
async def test_what_the_schema_cannot_hold_is_refused_by_field(annotation: Any, value: Any, said: str) -> None:
    """Never rounded, never cut: field, expected, got and remedy."""

    Bad = event_class("Bad", before=(int, 1), value=(annotation, ...))  # noqa: N806 - a class
    codec = Codec(MemoryStore())
    await codec.announce([Bad])
    # Not by the constructor: pydantic refuses some of these itself.
    whole = Bad.model_construct(before=1, value=value)
    with pytest.raises(EncodeError) as refused:
        codec.encode(whole)
    assert str(refused.value).startswith(f"bad, field 'value': {said}")


async def test_the_place_inside_is_named() -> None:
    """Down to the item."""

    class Bad(Event):
        deep: list[dict[str, list[Inner | datetime]]]

    codec = Codec(MemoryStore())
    await codec.announce([Bad])
    for value, place in ((LOCAL, "deep[1]['x'][1]"), (Inner(size=2**70), "deep[1]['x'][1].size")):
        with pytest.raises(EncodeError) as refused:
            codec.encode(Bad(deep=[{}, {"x": [Inner(), value]}]))
        assert refused.value.field == place


async def test_zones_are_kept_as_moments() -> None:
    """10:00 in Berlin is read as 09:00 UTC: the same moment."""

    class Met(Event):
        at: datetime

    codec = Codec(MemoryStore())
    await codec.announce([Met])
    berlin = datetime(2026, 1, 1, 10, tzinfo=timezone(timedelta(hours=1)))
    read = codec.decode(Met, codec.encode(Met(at=berlin)))
    assert (read.at, read.at.utcoffset()) == (berlin, timedelta(0))


async def test_the_bytes_of_a_set_do_not_depend_on_the_process() -> None:
    """A replay is compared byte by byte; hashes of text differ from process to process."""

    class Tagged(Event):
        tags: set[str]

    codec = Codec(MemoryStore())
    await codec.announce([Tagged])
    tags = [f"t{number}" for number in range(50)]
    assert codec.encode(Tagged(tags={*tags})) == codec.encode(Tagged(tags={*reversed(tags)}))
    assert codec.read(codec.encode(Tagged(tags={*tags})))[1]["tags"] == sorted(tags)


async def test_any_value_is_read_without_a_class() -> None:
    """For screens: the schema and plain data, and their JSON."""

    class Seen(Event):
        at: datetime
        cost: Decimal = Field(max_digits=5, decimal_places=2)
        raw: bytes
        level: Level
        by: UUID
        wait: timedelta
        who: Inner | str | None = None

    codec = Codec(MemoryStore())
    await codec.announce([Seen])
    seen = Seen(
        at=datetime(2026, 11, 22, 10, tzinfo=UTC),
        cost=Decimal("1.5"),
        raw=b"ok",
        level=Level.HIGH,
        by=UUID("0199f2c1-0000-7000-8000-000000000000"),
        wait=timedelta(seconds=1.5),
        who=Inner(size=3),
    )
    schema, data = codec.read(codec.encode(seen))

    assert schema == schema_of(Seen)
    document = {
        "at": "2026-11-22T10:00:00Z",
        "cost": "1.50",
        "raw": "b2s=",
        "level": "HIGH",
        "by": "0199f2c1-0000-7000-8000-000000000000",
        "wait": 1.5,
        "who": {"size": 3},
    }
    assert to_json(data) == document
    assert to_json(seen) == {**document, "cost": "1.5", "level": 2}


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (timedelta(seconds=1.5), 1.5),
        (timedelta(days=99_421, microseconds=1), "P99421DT0.000001S"),
        (-timedelta(days=99_421, hours=1, microseconds=1), "-P99421DT3600.000001S"),
    ],
)
def test_a_duration_in_json_keeps_its_microseconds(length: timedelta, told: object) -> None:
    """As a number of seconds where there is room for them, and as ISO 8601 has it where there is not."""

    class Waited(Event):
        wait: timedelta

    waited = Waited(wait=length)
    assert to_json(waited) == {"wait": told}
    assert event_from_json(Waited, json.dumps(to_json(waited))) == waited


async def test_a_schema_that_is_no_record_cannot_be_read_as_an_event() -> None:
    """Somebody else's topic, perhaps."""
    store = MemoryStore()
    reference = await store.publish("x", {"type": "enum", "name": "E", "symbols": ["a"]})
    codec = Codec(store)
    await codec.learn(reference)
    assert isinstance(reference, bytes)
    with pytest.raises(IncompatibleSchemaError, match=r"ticket\.opened: it was not written as a record"):
        codec.decode(TicketOpened, b"\xc3\x01" + reference + b"\0")


async def test_memory_store_knows_the_newest_of_a_type() -> None:
    """By what the schema says its type is; by its name where it does not say."""
    store = MemoryStore()
    await store.publish("ticket.opened", schema_of(TicketOpened))
    foreign: AvroSchema = {"type": "record", "name": "Payment", "fields": []}
    await store.publish("payments", foreign)

    assert await store.types() == ["Payment", "ticket.opened"]
    assert await store.latest("ticket.opened") == schema_of(TicketOpened)
    assert (await store.latest("Payment"), await store.latest("nothing")) == (foreign, None)


def test_fingerprints_are_avro_s() -> None:
    """The specification's own example, little-endian as it stands in a header."""
    assert fingerprint({"type": "null"}).hex() == "8a8f25cce724dd63"
