import json
from io import BytesIO
from typing import Any

import fastavro
import pytest
from pydantic import BaseModel, Field

from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import DecodeError, EncodeError, LimitError
from antiphon.schemas.event import Event
from antiphon.schemas.limits import Limits
from antiphon.schemas.store import AvroSchema, MemoryStore


class Node(BaseModel):
    next: "Node | None" = None
    children: list["Node"] = Field(default=[])


class Grown(Event):
    root: Node


class Listed(Event):
    names: list[str]
    flags: list[bool] = Field(default=[])


def framed(schema: AvroSchema, avro: bytes) -> bytes:
    return b"\xc3\x01" + fingerprint(schema) + avro


def zigzag(number: int) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, "long", number)  # pyright: ignore[reportUnknownMemberType] - half typed
    return stream.getvalue()


async def codec_knowing(schema: AvroSchema, limits: Limits | None = None) -> Codec:
    store = MemoryStore()
    codec = Codec(store, limits=limits or Limits())
    await codec.learn(await store.publish("hostile", schema))
    return codec


HUGE = zigzag(2**60)


@pytest.mark.parametrize(
    "avro",
    [
        HUGE,
        HUGE + b"\x02a" * 1000,
        zigzag(-(2**60)) + HUGE,
        zigzag(-(2**63)) + zigzag(-(2**63)),
        b"\x02" + HUGE + b"a",
        b"\x02" + zigzag(-5) + b"a",
        b"\x00" + HUGE,
        b"",
        b"\xff" * 50,
    ],
    ids=[
        "no items",
        "few items",
        "block with a size",
        "least long",
        "long text",
        "negative text",
        "flags",
        "empty",
        "no end",
    ],
)
async def test_bytes_that_claim_more_than_there_is(avro: bytes) -> None:
    """2^60 items, a text of 2^60 bytes: refused for what is missing, before anything of that size is made."""
    with pytest.raises(DecodeError):
        Codec(MemoryStore()).decode(Listed, framed(schema_of(Listed), avro))


async def test_depth_is_counted_before_the_stack_is() -> None:
    """fastavro would recurse in C, where 100,000 levels end the process."""
    for one in (b"\x02", b"\x00\x02"):
        with pytest.raises(LimitError) as deep:
            Codec(MemoryStore()).decode(Grown, framed(schema_of(Grown), one * 100_000))
    assert str(deep.value) == (
        "grown: expected at most 64 levels of nesting, got more. "
        "Send less in one event, or read it with a Codec of larger Limits."
    )


async def test_items_are_counted_in_all_collections_together() -> None:
    """A long value is scanned first; a short one cannot hold so many."""
    limits = Limits(items=10)
    writer = Codec(MemoryStore())
    await writer.announce([Listed])
    reader = Codec(MemoryStore(), limits=limits)

    within = Listed(names=["a"] * 5, flags=[True] * 5)
    assert reader.decode(Listed, writer.encode(within)) == within
    with pytest.raises(LimitError, match="expected at most 10 items in its collections, got at least 11"):
        reader.decode(Listed, writer.encode(Listed(names=["a"] * 5, flags=[True] * 6)))


async def test_size_is_looked_at_first() -> None:
    """Not a byte of an oversized value is read."""
    value = framed(schema_of(Listed), b"\xff" * 200)
    with pytest.raises(LimitError, match="listed: expected at most 100 bytes in a value, got 210"):
        Codec(MemoryStore(), limits=Limits(size=100)).decode(Listed, value)


async def test_what_no_reader_takes_is_not_written() -> None:
    """The writer hears of it, not every reader."""
    codec = Codec(MemoryStore(), limits=Limits(size=100, depth=8, items=20))
    await codec.announce([Listed, Grown])
    node = Node()
    for _ in range(10):
        node = Node(next=node)

    with pytest.raises(EncodeError, match="listed: expected at most 100 bytes in a value"):
        codec.encode(Listed(names=["a" * 100]))
    with pytest.raises(EncodeError, match="listed: expected at most 20 items in its collections"):
        codec.encode(Listed(names=[""] * 30))
    with pytest.raises(EncodeError, match="grown: expected at most 8 levels of nesting"):
        codec.encode(Grown(root=node))


async def test_a_broken_value_is_told_by_field() -> None:
    """Whoever looks for the fault starts at the right place."""
    avro = zigzag(1) + zigzag(5)
    with pytest.raises(DecodeError) as broken:
        Codec(MemoryStore()).decode(Grown, framed(schema_of(Grown), avro))
    assert str(broken.value) == (
        "grown: field 'root.next.next': branch 5 of a union that has 2. Whoever wrote this record must mend it."
    )
    with pytest.raises(DecodeError, match="3 bytes are left over behind the value"):
        Codec(MemoryStore()).decode(Listed, framed(schema_of(Listed), b"\0\0abc"))


def record(*types: Any, name: str = "Hostile") -> dict[str, Any]:
    fields = [{"name": f"f{place}", "type": type} for place, type in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields}


def laughing(levels: int) -> dict[str, Any]:
    """A billion laughs: each level is twice the one before it, and all of it takes no bytes."""
    types: list[Any] = [record(name="R0")]
    types += [record(f"R{level - 1}", f"R{level - 1}", name=f"R{level}") for level in range(1, levels)]
    return record(*types)


def nested(levels: int) -> Any:
    schema: Any = "long"
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (record({"type": "array", "items": "null"}), "items of no bytes in a list"),
        (record({"type": "array", "items": record(name="Empty")}), "items of no bytes in a list"),
        (laughing(60), "empty values in one value of the schema"),
        (record(record("Hostile", name="Inner")), "record .* always holds another one of itself"),
        (record(nested(100)), "levels of nesting in the schema"),
        (record(nested(2_000)), "levels of nesting in the schema's JSON"),
        (record(*(record(name=f"N{number}") for number in range(1_001))), "named types in the schema"),
        ({**record("long"), "doc": "x" * 600_000}, "characters in the schema"),
        (record("longer"), "expected an Avro schema, got one that does not parse"),
    ],
    ids=["nulls", "empties", "laughs", "endless", "deep", "very deep", "many", "long", "unknown type"],
)
async def test_a_hostile_schema_is_refused_when_it_is_learned(schema: AvroSchema, said: str) -> None:
    """A schema from outside can cost more than its values; none is used before it is weighed."""

    class Hostile(MemoryStore):
        async def fetch(self, reference: Any) -> AvroSchema | None:
            return schema

    with pytest.raises(DecodeError, match=said):
        await Codec(Hostile()).learn(1)


async def test_weightless_values_count_as_items() -> None:
    """A union's branch of many nulls costs one byte to ask for."""
    heavy = record({"type": "array", "items": ["long", record(*["null"] * 50, name="Heavy")]})
    codec = await codec_knowing(heavy, Limits(items=1_000))

    with pytest.raises(LimitError, match="items in its collections"):
        codec.read(framed(heavy, zigzag(100) + b"\x02" * 100 + b"\0"))


async def test_values_of_a_recursive_schema_are_read_within_the_limit() -> None:
    """The scan refuses nothing that is in order."""
    codec = Codec(MemoryStore())
    await codec.announce([Grown])
    grown = Grown(root=Node(next=Node(children=[Node(), Node(next=Node())])))

    assert codec.decode(Grown, codec.encode(grown)) == grown
    assert json.loads(json.dumps(codec.read(codec.encode(grown))[1])) == grown.model_dump()
