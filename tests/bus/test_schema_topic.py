"""Schemas on the mesh's own topic: published once, found by everybody."""

from __future__ import annotations

import logging

import orjson
import pytest

from antiphon.bus.contracts import read_schemas
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.names import Names
from antiphon.bus.record import Outgoing, TopicPartition
from antiphon.bus.schema_digest import digest_of
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.event import Event


class First(Event, type="thing.seen"):
    """The first version of a type."""

    a: int


class Second(Event, type="thing.seen"):
    """The next one."""

    a: int
    b: str = ""


class Other(Event, type="other.seen"):
    """Another type."""

    b: int


def store(bus: MemoryBus) -> TopicStore:
    return TopicStore(bus, Names(), partitions=4)


async def test_what_one_process_publishes_another_finds() -> None:
    """By its fingerprint, without having seen the class."""
    bus = MemoryBus()
    writer, reader = Codec(store(bus)), Codec(store(bus))
    await writer.announce([First])
    value = writer.encode(First(a=7))

    await reader.learn(value[2:10])

    assert reader.to_json(value) == {"a": 7}


async def test_a_schema_is_published_once() -> None:
    """A hundred workers that start with the same classes leave one record."""
    bus = MemoryBus()
    for _ in range(3):
        await Codec(store(bus)).announce([First])
    bounds = await bus.bounds(["antiphon.schemas"])
    [record] = [record async for record in bus.read(dict.fromkeys(bounds, 0), {tp: e for tp, (_, e) in bounds.items()})]
    assert record.key == fingerprint(schema_of(First)).hex().encode()


async def test_the_newest_schema_of_a_type_is_the_one_published_last() -> None:
    """Also when an older one is published again after it: that is a rollback."""
    bus = MemoryBus(now_us=iter(range(0, 10**9, 10**6)).__next__)
    reader = store(bus)
    seen: list[bytes] = []
    for event_class in (First, Second, First):
        await Codec(store(bus)).announce([event_class])
        latest = await reader.latest("thing.seen")
        assert latest is not None
        seen.append(fingerprint(latest))
    assert seen == [fingerprint(schema_of(event_class)) for event_class in (First, Second, First)]
    assert await reader.types() == ["thing.seen"]


async def test_a_record_that_is_no_schema_harms_nobody() -> None:
    """The topic is open to all; what is not understood is passed over."""
    bus = MemoryBus()
    await store(bus).publish("thing.seen", schema_of(First))
    for key, value in [(b"xyz", b"{}"), (b"00" * 8, b"not json"), (b"11" * 8, b"[]"), (None, b"{}")]:
        await bus.publish([Outgoing("antiphon.schemas", key, value, [])])
    assert await store(bus).types() == ["thing.seen"]
    assert TopicPartition("antiphon.schemas", 0) in await bus.bounds(["antiphon.schemas"])


async def test_a_schema_under_anothers_name_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever wrote it last: what stands there under its own name counts, and of any number one is told of."""
    bus = MemoryBus()
    right, wrong = schema_of(First), schema_of(Second)
    await store(bus).publish("thing.seen", right)
    reference, other = fingerprint(right), fingerprint(schema_of(Other))
    nested: dict[str, object] = {}
    for _ in range(100):
        nested = {"type": "array", "items": nested}
    liars: list[tuple[bytes, object]] = [
        (reference, wrong),
        (reference, {}),
        (other, wrong),
        (other, {"type": "record"}),
        (other, nested),
    ]
    await bus.publish([Outgoing("antiphon.schemas", key.hex().encode(), orjson.dumps(one), []) for key, one in liars])

    reader = store(bus)
    with caplog.at_level(logging.WARNING):
        found = await reader.fetch(reference), await reader.fetch(other), await reader.latest("thing.seen")
    assert (*found, await reader.types()) == (right, None, right, ["thing.seen"])
    [told] = [record for record in caplog.records if "is not the one that its key names" in record.message]
    assert told.__dict__["key"] == reference.hex()


async def test_what_a_key_names_in_full_is_not_believed_either() -> None:
    """Beside fingerprints stand digests of all that a schema says."""
    bus = MemoryBus()
    right, wrong = schema_of(First), schema_of(Second)
    await store(bus).publish("thing.seen", right)
    keys = [(digest_of(right), right), (digest_of(wrong), right)]
    await bus.publish([Outgoing("antiphon.schemas", key.encode(), orjson.dumps(one), []) for key, one in keys])
    assert await read_schemas(bus, Names()) == {digest_of(right): right}
