"""What an index holds depends on what was read alone, and is what reading the topics would say."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon import Agent, Context, Event, PermanentError, RetryPolicy
from antiphon.bus.activity import Activity
from antiphon.bus.heartbeat import AgentSeen, Heard
from antiphon.bus.record import Record
from antiphon.bus.redrive import FROM
from antiphon.compensation.coordinator import coordinator
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import from_headers, now_us
from antiphon.schemas.errors import NotAnEventError
from antiphon.schemas.store import MemoryStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing import Index, Search
from antiphon.tracing.index.contents import Contents
from antiphon.tracing.index.database import Database
from antiphon.tracing.index.emitted import emitted_in
from antiphon.tracing.index.rows import worker_in
from antiphon.tracing.reading import read_workflow
from tests.tracing.reading import Read, learn, relevant


class OrderPlaced(Event):
    order: str


class StockReserved(Event):
    order: str


class StockReleased(Event):
    order: str


class CardCharged(Event):
    order: str


class CardDeclined(Event, fails=True):
    order: str


class OrderPacked(Event):
    order: str


class ParcelSent(Event, key="carrier"):
    carrier: str


stock = Agent("stock", version="2")
card = Agent("card", retry=RetryPolicy(attempts=2, base_s=0.001))
pack = Agent("pack")
ship = Agent("ship")


@stock.on(OrderPlaced)
async def reserve(order: OrderPlaced) -> StockReserved:
    return StockReserved(order=order.order)


@stock.undoes(StockReserved)
async def release(reserved: StockReserved) -> StockReleased:
    return StockReleased(order=reserved.order)


@card.on(OrderPlaced)
async def charge(order: OrderPlaced, context: Context) -> CardCharged | CardDeclined:
    context.spend(model="m-1", input_tokens=10, output_tokens=2, cost=0.01)
    context.confidence(0.9 if order.order != "unsure" else 0.2)
    if order.order == "broken":
        raise PermanentError("no such card")
    if order.order == "flaky" and context.attempt == 1:
        raise TimeoutError("the bank did not answer")
    return CardDeclined(order=order.order) if order.order == "declined" else CardCharged(order=order.order)


@pack.on(StockReserved, CardCharged, join=True)
async def packed(reserved: StockReserved, charged: CardCharged) -> OrderPacked:
    return OrderPacked(order=reserved.order)


@ship.on(OrderPacked)
async def send(order: OrderPacked) -> list[ParcelSent]:
    return [ParcelSent(carrier=carrier) for carrier in ("ups", "dhl")]


ORDERS = ("fine", "unsure", "flaky", "broken", "declined", "fine too")


@cache
def corpus() -> tuple[MemoryMesh, dict[str, str], tuple[Record, ...]]:
    """A mesh on which orders went well and ill; their ids; and every record that it left."""
    return asyncio.run(_corpus())


async def _corpus() -> tuple[MemoryMesh, dict[str, str], tuple[Record, ...]]:
    mesh = MemoryMesh()
    async with mesh.running(stock, card, pack, ship, coordinator()):
        published = await mesh.publisher.publish([OrderPlaced(order=order) for order in ORDERS])
        ids = {order: one.correlation_id for order, one in zip(ORDERS, published, strict=True)}

        async def ended() -> bool:
            found = [await read_workflow(mesh.bus, mesh.names, mesh.codec, id) for id in ids.values()]
            return all(one is not None and one.ended and len(one.deliveries) > 1 for one in found)

        await eventually(ended, 30, what="every order to end")
    records: list[Record] = []
    for topic in await mesh.bus.topics():
        records += await mesh.records(topic)
    for event_class in (Activity, AgentSeen):
        await mesh.codec.announce([event_class])
    records = [*_odder(mesh.codec, records)]
    await learn(mesh.codec, records)
    return mesh, ids, tuple(records)


def _odder(codec: Codec, records: Sequence[Record]) -> Iterator[Record]:
    """Make a mesh's records as odd as a real one's: an event that expired, one that stands twice, others that are none."""
    packed = [record for record in records if record.topic == "order.packed"]
    yield from (record for record in records if record is not packed[0])
    yield dataclasses.replace(packed[1], offset=1_000)
    yield dataclasses.replace(packed[2], offset=1_001, value=b"\xc3\x01" + b"?" * 20)
    yield dataclasses.replace(packed[2], offset=1_002, headers=[("ce_id", b"1")])
    yield dataclasses.replace(packed[2], offset=1_003, headers=[*packed[2].headers, ("traceparent", b"00-1-2-01")])
    again = ("ce_replayof", b"0199f2c1-0000-7000-8000-000000000009")
    sent = next(record for record in records if record.topic == "parcel.sent")
    another = [*sent.headers, ("ce_id", b"0199f2c1-0000-7000-8000-00000000000a"), again]
    yield dataclasses.replace(sent, offset=1_004, headers=another)
    [letter] = [record for record in records if record.topic == "card.dead"][:1]
    first = next(record for record in records if record.topic == "order.placed" and record.key == letter.key)
    place = f"{first.topic}[{first.partition}]@{first.offset}".encode()
    yield dataclasses.replace(first, topic="card.redrive", offset=7, headers=[*first.headers, (FROM, place)])
    # A worker of an agent that comes later hears of what is long done, and one of another version hears nothing.
    seen = AgentSeen(agent="audit", version="1", instance="a", started_us=0, time_us=AT_US, interval_s=1, capacity=1)
    audit = seen.model_copy(update={"hears": [Heard(type="parcel.sent", topic="parcel.sent")]})
    for offset, (key, worker) in enumerate(
        [("audit/a", audit), ("audit/b", seen.model_copy(update={"instance": "b"}))]
    ):
        yield Record("antiphon.agents", 9, offset, key.encode(), codec.encode(worker), [], 0)
    yield Record("antiphon.agents", 9, 5, b"gone/1", codec.encode(seen), [], 0)
    yield Record("antiphon.agents", 9, 6, b"gone/1", None, [], 0)
    yield Record("antiphon.activity", 0, 99_999, b"?", b"\xc3\x01no activity", [], 0)


AT_US = now_us() + 10_000_000


def content(database: Database) -> dict[str, list[Any]]:
    """Every row of an index, with the numbers that stand for text spelt out."""
    names: Any = dict(database.rows("SELECT no, name FROM names")).__getitem__
    sources: Any = dict(database.rows("SELECT no, topic FROM sources")).__getitem__

    def emitted(packed: bytes | None) -> Any:
        return packed and [(key, names(type), marks) for key, type, marks in emitted_in(packed)]

    found: dict[str, list[Any]] = {}
    spelt = {
        "events": {1: sources, 5: names, 6: names},
        "payloads": {1: sources},
        "deliveries": {2: names, 4: names, 6: names, 7: names, 8: names, 12: emitted},
        "calls": {2: names, 4: names, 7: names, 8: names},
        "clocks": {0: names, 1: names},
        "positions": {0: sources},
        "workers": {1: sources},
        "workflows": {},
        "replays": {},
        "schemas": {},
        "touched": {},
        "notes": {},
    }
    for table, columns in spelt.items():
        rows = [
            tuple(columns[at](value) if at in columns else value for at, value in enumerate(row))
            for row in database.rows(f"SELECT * FROM {table}")
        ]
        found[table] = sorted(rows, key=repr)
    return found


def in_order() -> dict[str, list[Any]]:
    """What an index holds that read every record once, in order, in one go."""
    mesh, _, records = corpus()
    read = Read(None, mesh.codec)
    read.take(relevant(records))
    read.settle(AT_US)
    return content(read.database)


@pytest.mark.parametrize("seed", range(25))
def test_any_order_and_any_repeats_give_the_same_index(seed: int, tmp_path: Path) -> None:
    """Shuffled, repeated, cut into batches, settled now and then, stopped and opened again: every row is the same."""
    mesh, _, records = corpus()
    chance = random.Random(seed)
    some = relevant(records)
    some += chance.sample(some, chance.randrange(len(some)))
    chance.shuffle(some)
    read = Read(tmp_path / "index", mesh.codec)
    while some:
        size = chance.choice((1, 3, 20, 1_000))
        batch, some = some[:size], some[size:]
        read.take(batch)
        if chance.random() < 0.3:
            read.settle(AT_US - chance.choice((0, 60_000_000)))
        if chance.random() < 0.3:
            read.database.close()
            read = Read(tmp_path / "index", mesh.codec)
    read.settle(AT_US)
    found, expected = content(read.database), in_order()
    read.database.close()
    assert found == expected


def states(index: Index) -> dict[str, str]:
    """What a list says of each order."""
    _, ids, _ = corpus()
    found = {one.correlation_id: one.state.value for one in index.workflows(Search(), at_us=AT_US)}
    return {order: found[id] for order, id in ids.items()}


def test_a_list_says_what_stitching_says() -> None:
    """State, failing agent, span, agents, cost: the same whether it was found the short way or the long one."""
    mesh, ids, records = corpus()
    read = Read(None, mesh.codec)
    read.take(relevant(records))
    read.settle(AT_US)
    index = Index(read.database)
    listed = {one.correlation_id: one.document() for one in index.workflows(Search(), at_us=AT_US)}
    for id in ids.values():
        workflow = index.workflow(id, at_us=AT_US)
        assert workflow is not None
        document = workflow.document()
        assert listed[id] == {
            **{name: document[name] for name in ("correlation_id", "type", "state", "started", "duration_ms", "cost")},
            "events": len(document["events"]),
            "agents": sorted({delivery["agent"] for delivery in document["deliveries"]}),
            "failed_agent": workflow.failed_agent,
            "outstanding": sorted({owed["agent"] for owed in document["outstanding"]}),
            "unattended": [],
            "replay_of": document["replay_of"],
        }
        assert not [
            warning
            for warning in document["warnings"]
            if warning["kind"] == "ID_CONFLICT" and "redrive" in str(warning)
        ]
    assert sorted(states(index).values()) == ["compensated"] * 2 + ["running"] * 4


def test_what_comes_after_it_was_forgotten() -> None:
    """Begins the workflow anew: what was read before counts no more, also where it was remembered."""
    mesh, ids, records = corpus()
    read = Read(None, mesh.codec)
    read.take(relevant(records))
    read.settle(AT_US)
    while read.writer.forget(most_bytes=0):
        pass
    read.take([one for one in records if one.topic == "order.placed"])
    read.settle(AT_US)
    found = {one.correlation_id: (one.events, one.agents) for one in Index(read.database).workflows(Search())}
    assert found == dict.fromkeys(ids.values(), (1, ()))


TEXT = st.one_of(
    st.just(b""), st.sampled_from([b"0199f2c1-0000-7000-8000-000000000000", b"order-7", b"\xff", b"ff" * 18])
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "ce_id": TEXT,
        "ce_type": TEXT,
        "ce_source": TEXT,
        "ce_correlationid": TEXT,
        "ce_causationid": TEXT | st.none(),
        "ce_time": st.sampled_from([b"2026-11-22T10:00:00.000123Z", b"2026-11-22T10:00:00+01:00", b"soon", None]),
        "ce_hops": st.sampled_from([b"3", b"many", None]),
        "ce_causes": TEXT,
        "ce_deadline": st.just(b"2026-11-22T10:00:00Z"),
        "traceparent": TEXT,
    },
)


@settings(deadline=None)
@given(headers=HEADERS, key=TEXT | st.none())
def test_headers_read_by_hand_say_what_the_envelope_says(headers: dict[str, bytes | None], key: bytes | None) -> None:
    """Whatever stands in them: the same event, or none."""
    read = Read(None, Codec(MemoryStore()))
    record = Record("any", 3, 7, key, None, [*headers.items()], 1_000)
    try:
        expected = from_headers(record.headers, key=key, timestamp_ms=1_000)
    except NotAnEventError:
        expected = None
    read.take([record])
    keys = [row[0] for row in read.database.rows("SELECT DISTINCT workflow FROM events")]
    found = [event.envelope for workflow in keys for event in Contents(read.database).events(workflow)]
    assert found == ([] if expected is None else [expected])


def test_a_worker_of_which_a_newer_tracer_knew_more() -> None:
    """A command of this release reads what a tracer of the next one wrote of heartbeats; what it does not know it passes over."""
    heard = Heard(type="order.placed", topic="order.placed", join=False)
    seen = AgentSeen(
        agent="stock", version="1", instance="a", started_us=1, time_us=2, interval_s=5, hears=[heard], capacity=9
    )
    newer = orjson.loads(seen.model_dump_json())
    newer |= {"mood": "fine", "hears": [newer["hears"][0] | {"likes": True}]}

    assert worker_in(orjson.dumps(newer).decode()) == seen
