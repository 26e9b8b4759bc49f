"""Activity that is read by hand: the same rows as from what fastavro reads, or the same refusal."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.bus import entry
from antiphon.bus.activity import Activity, Emitted, Handled, Spent
from antiphon.bus.record import Record
from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.primitives import END, array, long, text
from antiphon.schemas.store import MemoryStore, Reference
from antiphon.tracing.index import entries
from antiphon.tracing.index.recurring import Numbers
from antiphon.tracing.index.rows import Holds, Reader, Rows, Source
from tests.bus.test_entry import handled, written

US = 1_763_805_600_000_000
IDS = st.uuids().map(str) | st.sampled_from(["order-7", "ff" * 18, "x" * 36, "0199F2C1-0000-7000-8000-000000000000"])
NAMES = st.sampled_from(["order.placed", "paid", "", "ü", "n" * 63, "n" * 64])
plain = st.builds(
    Handled,
    event_id=IDS,
    event_type=NAMES,
    correlation_id=IDS,
    key=st.none() | NAMES,
    topic=NAMES,
    partition=st.integers(0, 300),
    offset=st.integers(0, 2**62),
    attempt=st.integers(-1, 200),
    outcome=st.sampled_from(["completed", "retried"]),
    started_us=st.integers(US, US + 10**9) | st.sampled_from([0, -1, 1 << 54, 1 << 55, 1 << 59, 1 << 60, -(1 << 63)]),
    duration_us=st.integers(0, 10**9),
    queue_us=st.integers(-(10**6), 10**9),
    emitted=st.lists(st.builds(Emitted, id=IDS, type=NAMES, fails=st.booleans()), max_size=2),
    confidence=st.none() | st.floats(allow_nan=False),
    deadline_us=st.none() | st.integers(0, US),
    changed=st.booleans(),
)


@cache
def known() -> tuple[Codec, bytes]:
    """A codec that knows activity's schema, and the header that names it."""
    codec = Codec(MemoryStore())
    asyncio.run(codec.announce([Activity]))
    header = codec.encode(Activity(agent="a", version="1", instance="i", deliveries=[]))[:10]
    asyncio.run(codec.learn(header[2:]))
    return codec, header


def rows_of(value: bytes, *, by_hand: bool, codec: Codec | None = None) -> tuple[Rows, dict[str, int]]:
    """What a record of activity comes to; and the numbers that names have then, where it could be read."""
    numbers = Numbers({})
    reader = Reader(codec or known()[0], {"antiphon.activity": Source(1, Holds.ACTIVITY)}, numbers)
    if not by_hand:
        reader = dataclasses.replace(reader, _ours={value[2:10]: False})
    rows = reader.rows([Record("antiphon.activity", 0, 7, b"k", value, [], US // 1_000, appended=True)])
    return rows, {} if rows.unreadable else dict(numbers)


def told(deliveries: Sequence[Handled], failing: Sequence[str] = ()) -> bytes:
    """A record of activity as a worker writes it."""
    return known()[1] + entry.activity("stock", "1.2.0", "stock-1", failing, [written(one) for one in deliveries])


@settings(deadline=None)
@given(st.lists(plain | handled, max_size=7), st.lists(NAMES, max_size=3))
def test_the_same_rows(deliveries: list[Handled], failing: list[str]) -> None:
    """Of entries that are plain and of others, in any mixture, of any ids and names, at any time."""
    value = told(deliveries, failing)
    assert rows_of(value, by_hand=True) == rows_of(value, by_hand=False)


@settings(deadline=None, max_examples=400)
@given(st.lists(plain | handled, min_size=1, max_size=5), st.data())
def test_the_same_of_damaged_ones(deliveries: list[Handled], data: st.DataObject) -> None:
    """Bytes that are others, lack or are too many: what is read is what fastavro reads, and what it refuses is refused."""
    value = bytearray(told(deliveries))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(10, len(value) - 1))
        length = data.draw(st.sampled_from([0, 1, 2, 40]))
        value[at : at + length] = data.draw(st.binary(max_size=3))
    assert rows_of(bytes(value), by_hand=True) == rows_of(bytes(value), by_hand=False)


def one(**fields: object) -> Handled:
    """A plain delivery, but for *fields*."""
    id = "0199f2c1-0000-7000-8000-000000000000"
    plain: dict[str, object] = {
        "event_id": id,
        "event_type": "paid",
        "correlation_id": id,
        "topic": "paid",
        "partition": 3,
        "offset": 300,
        "attempt": 1,
        "outcome": "completed",
        "started_us": US,
        "duration_us": 250,
        "queue_us": 200,
        "emitted": [Emitted(id=id, type="shipped")],
    }
    return Handled.model_validate(plain | fields)


def test_what_is_found_without_fastavro() -> None:
    """Plain entries; one with what a model cost is asked of fastavro, and where the first are so the record is."""
    spent = one(usage=[Spent(model="m-1")])

    def kinds(*deliveries: Handled) -> list[str] | None:
        found = entries.found_in(told(deliveries), 10)
        return None if found is None else [type(entry).__name__ for entry in found.entries]

    assert kinds(one(), spent, one(confidence=0.5), one(deadline_us=US)) == ["tuple", "dict", "tuple", "tuple"]
    assert kinds(*[one()] * 300) == ["tuple"] * 300
    assert (kinds(*[spent] * 4), kinds(*[spent] * 5)) == (["dict"] * 4, None)


def test_deliveries_in_blocks_of_which_the_size_is_told() -> None:
    """As other writers of Avro do it: fastavro reads those."""
    head = b"".join([known()[1], text("stock"), text("1"), text("i"), END])
    both = written(one()) * 2
    sized = head + long(-2) + long(len(both)) + both + END
    twice = head + array([written(one())])[:-1] + array([written(one())])
    for value in (sized, twice):
        assert entries.found_in(value, 10) is None
        assert len(rows_of(value, by_hand=True)[0].deliveries) == 2


def test_activity_of_another_release() -> None:
    """Its schema is another one, whatever its bytes look like: only fastavro knows what they say."""
    schema = {**schema_of(Activity), "fields": [*schema_of(Activity)["fields"], {"name": "mood", "type": "long"}]}
    store = MemoryStore()
    codec = Codec(store)

    async def learn() -> Reference:
        reference = await store.publish("antiphon.activity", schema)
        await codec.learn(reference)
        return reference

    reference = asyncio.run(learn())
    assert isinstance(reference, bytes)
    value = b"\xc3\x01" + reference + told([one()])[10:] + long(7)
    assert (entries.is_ours(codec, reference), entries.is_ours(known()[0], known()[1][2:])) == (False, True)
    assert rows_of(value, by_hand=True, codec=codec) == rows_of(told([one()]), by_hand=False)


@pytest.mark.parametrize("number", [0, 1, -1, 63, 64, -65, 8_191, 8_192, 1 << 20, US, -US, (1 << 55) - 1])
def test_numbers_and_times(number: int) -> None:
    """Read as they are written, the first time and when they are known."""
    longs, moments, at = entries.Longs(), entries.Moments(), long(number)
    assert {entries.number_in(at), longs[at], longs[at], moments.of(at), moments.of(at)} == {number}
