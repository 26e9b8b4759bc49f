"""Schemas on the mesh's own topic: published once, found by everybody."""

from __future__ import annotations

from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.names import Names
from antiphon.bus.record import Outgoing, TopicPartition
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
