"""Reading workflows from a mesh that really ran: agents, engine, coordinator, bus in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from antiphon.agents.agent import Agent
from antiphon.bus.names import Names
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing
from antiphon.compensation.coordinator import coordinator
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.event import Event
from antiphon.testing.mesh import MemoryMesh
from antiphon.tracing.finding import find_workflows
from antiphon.tracing.reading import follow, read_workflow
from antiphon.tracing.workflow import Workflow


class OrderPlaced(Event):
    order: str


class StockReserved(Event):
    order: str


class StockReleased(Event):
    order: str


class CardDeclined(Event, fails=True):
    order: str


class ParcelSent(Event, key="carrier"):
    carrier: str


stock = Agent("stock")
card = Agent("card")
ship = Agent("ship")
count = Agent("count")


@stock.on(OrderPlaced)
async def reserve(order: OrderPlaced) -> StockReserved:
    return StockReserved(order=order.order)


@stock.undoes(StockReserved)
async def release(reserved: StockReserved) -> StockReleased:
    return StockReleased(order=reserved.order)


@card.on(StockReserved)
async def charge(reserved: StockReserved) -> CardDeclined:
    return CardDeclined(order=reserved.order)


@ship.on(OrderPlaced)
async def send(order: OrderPlaced) -> list[ParcelSent]:
    return [ParcelSent(carrier=carrier) for carrier in ("ups", "dhl", "post", "bike")]


@count.on(ParcelSent)
async def counted(parcel: ParcelSent) -> None:
    """A carrier's parcels are counted one after the other."""


def tree(workflow: Workflow) -> list[tuple[str, str | None]]:
    """Each event's type, with the type of what caused it."""
    types = {event.id: event.envelope.type for event in workflow.events}
    return [(event.envelope.type, types.get(event.envelope.parent_id or "")) for event in workflow.events]


async def last(workflows: AsyncIterator[Workflow]) -> Workflow:
    """The last word of somebody who follows."""
    async with asyncio.timeout(20):
        [*_, workflow] = [workflow async for workflow in workflows]
    return workflow


async def place(mesh: MemoryMesh, *orders: str) -> list[str]:
    published = await mesh.publisher.publish([OrderPlaced(order=order) for order in orders])
    return [one.correlation_id for one in published]


async def test_a_workflow_that_was_undone() -> None:
    """Followed from its beginning to its end, among others, and read once more afterwards."""
    mesh = MemoryMesh()
    async with mesh.running(stock.consumer(), card.consumer(), coordinator()):
        _, id, _ = await place(mesh, "1", "2", "3")
        followed = await last(follow(mesh.bus, mesh.names, mesh.codec, id, every_s=0.01))
        read = await read_workflow(mesh.bus, mesh.names, mesh.codec, id)

    assert followed.state.value == "compensated"
    assert tree(followed) == [
        ("order.placed", None),
        ("stock.reserved", "order.placed"),
        ("card.declined", "stock.reserved"),
        ("antiphon.undo.requested", "card.declined"),
        ("stock.released", "antiphon.undo.requested"),
    ]
    assert [event.data for event in followed.events if not event.is_undo_request] == [{"order": "2"}] * 4
    assert followed.warnings == ()
    assert read is not None
    assert read.document() == followed.document()


async def test_nothing_is_known_of_it() -> None:
    """Neither on an empty cluster nor on one where others work."""
    mesh = MemoryMesh()
    assert await read_workflow(mesh.bus, mesh.names, mesh.codec, "0199f2c1-0000-7000-8000-000000000000") is None
    await mesh.prepare(stock.consumer())
    await place(mesh, "1")
    assert await read_workflow(mesh.bus, mesh.names, mesh.codec, "0199f2c1-0000-7000-8000-000000000000") is None


async def test_events_with_keys_of_their_own() -> None:
    """They stand on other partitions, and belong all the same."""
    mesh = MemoryMesh(partitions=8)
    async with mesh.running(ship.consumer(), count.consumer()):
        [id] = await place(mesh, "1")
        workflow = await last(follow(mesh.bus, mesh.names, mesh.codec, id, every_s=0.01))

    assert sorted(event.data["carrier"] for event in workflow.events[1:]) == ["bike", "dhl", "post", "ups"]
    assert len({event.partition for event in workflow.events}) > 1
    assert (workflow.state.value, workflow.warnings) == ("completed", ())


async def test_keyed_events_that_nobody_hears() -> None:
    """Activity names them without a place; they are looked for."""
    mesh = MemoryMesh(partitions=8)
    async with mesh.running(ship.consumer()):
        [id] = await place(mesh, "1")
        workflow = await last(follow(mesh.bus, mesh.names, mesh.codec, id, every_s=0.01))
    assert (len(workflow.events), workflow.state.value, workflow.warnings) == (5, "completed", ())


def record(envelope: Envelope, value: bytes | None, *, partition: int, topic: str = "order.placed") -> Outgoing:
    return Outgoing(topic, None, value, to_headers(envelope), partition=partition)


async def unhandled(mesh: MemoryMesh, id: str) -> list[Workflow | None]:
    """A client of another make puts the start of workflow *id* on every partition in turn; each time, it is read."""
    await mesh.bus.create([TopicSpec("order.placed", mesh.partitions)])
    await mesh.codec.announce([OrderPlaced])
    found: list[Workflow | None] = []
    for partition in range(mesh.partitions):
        envelope = Envelope.root("order.placed", source="/kcat", id=f"{id}{partition}")
        await mesh.bus.publish([record(envelope, mesh.codec.encode(OrderPlaced(order="1")), partition=partition)])
        found.append(await read_workflow(mesh.bus, mesh.names, mesh.codec, envelope.id))
    return found


async def test_a_root_from_a_client_with_ideas_of_its_own() -> None:
    """Any partition, any kind of id, and no agent has ever said that it is there."""
    for id in ("order-", "0199f2c1-0000-4000-8000-00000000000", "ff99f2c1-0000-7000-8000-00000000000"):
        found = await unhandled(MemoryMesh(), id)
        assert [workflow and (tree(workflow), workflow.state.value) for workflow in found] == [
            ([("order.placed", None)], "completed")
        ] * 4


async def test_data_that_cannot_be_read() -> None:
    """An event of a schema nobody has, one of no Avro at all, and one of nothing are events all the same."""
    mesh = MemoryMesh()
    await mesh.bus.create([TopicSpec("order.placed", 4)])
    values: Iterable[bytes | None] = (b"\xc3\x01" + b"12345678" + b"x", b"{}", None)
    for number, value in enumerate(values):
        envelope = Envelope.root("order.placed", source="/kcat", id=f"n{number}", correlation_id="order-7")
        await mesh.bus.publish([record(envelope, value, partition=0)])

    workflow = await read_workflow(mesh.bus, mesh.names, mesh.codec, "order-7")

    assert workflow is not None
    assert [(event.id, event.data) for event in workflow.events] == [("n0", None), ("n1", None), ("n2", None)]
    assert [(kind.value, id) for kind, id, _ in workflow.warnings] == [
        ("UNDECODABLE", "n0"),
        ("UNDECODABLE", "n1"),
        ("UNDECODABLE", "n2"),
    ]


async def test_a_namespace_of_its_own() -> None:
    """Topics are called by their plain names in the document."""
    mesh = MemoryMesh()
    mesh.names = Names("staging")
    mesh.publisher = type(mesh.publisher)(mesh.bus, mesh.codec, mesh.names)
    async with mesh.running(stock.consumer()):
        [id] = await place(mesh, "1")
        workflow = await last(follow(mesh.bus, mesh.names, mesh.codec, id, every_s=0.01))
    assert {event.topic for event in workflow.events} == {"order.placed", "stock.reserved"}


async def test_beginnings_of_ids() -> None:
    """A workflow is found by the beginning of its id, or else of one of its events' ids."""
    mesh = MemoryMesh()
    async with mesh.running(stock.consumer()):
        ids = await place(mesh, "1", "2")
        workflow = await last(follow(mesh.bus, mesh.names, mesh.codec, ids[0], every_s=0.01))
        await last(follow(mesh.bus, mesh.names, mesh.codec, ids[1], every_s=0.01))
    reserved = workflow.events[1].id
    envelope = Envelope.root("order.placed", source="/kcat", id="order-7")
    await mesh.bus.publish([record(envelope, b"", partition=0)])

    async def found(prefix: str) -> list[tuple[str, str]]:
        return [(one.correlation_id, one.type) for one in await find_workflows(mesh.bus, mesh.names, prefix)]

    assert await found(ids[0]) == [(ids[0], "order.placed")]
    assert sorted(await found(ids[0][:6])) == sorted((id, "order.placed") for id in ids)
    assert await found("order") == [("order-7", "order.placed")]
    assert await found(reserved) == [(ids[0], "stock.reserved")]
    assert await found("ffff") == []
