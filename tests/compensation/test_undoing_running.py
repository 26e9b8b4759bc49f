"""Whole workflows that fail and are undone: agents and coordinator as they run on Kafka, on the bus in memory."""

from __future__ import annotations

from antiphon import Agent, Context, Event, PermanentError, RetryPolicy, agent
from antiphon.agents.agent import agent_of
from antiphon.bus.consumer import Consumer
from antiphon.bus.undo import UndoRequested, undo_requested
from antiphon.compensation.coordinator import coordinator
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually


class OrderPlaced(Event):
    order: str


class StockReserved(Event):
    order: str
    shelf: int


class CardCharged(Event):
    order: str


class ParcelShipped(Event):
    order: str


class ParcelRefused(Event, fails=True):
    order: str
    reason: str


class StockReleased(Event):
    order: str
    shelf: int


class CardRefunded(Event):
    order: str


class Shop:
    """Three agents and what the world outside looks like: an order is reserved, charged, and shipped or not."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @property
    def consumers(self) -> list[Consumer]:
        return [self.stock(), self.card(), self.parcel(), coordinator()]

    def stock(self) -> Consumer:
        stock = Agent("stock")

        @stock.on(OrderPlaced)
        async def reserve(order: OrderPlaced, context: Context) -> StockReserved:
            context.state["shelf"] = 7
            self.log.append(f"reserve {order.order}")
            return StockReserved(order=order.order, shelf=7)

        @stock.undoes(StockReserved)
        async def release(reserved: StockReserved, context: Context) -> StockReleased:
            self.log.append(f"release {reserved.order}")
            return StockReleased(order=reserved.order, shelf=context.state.pop("shelf"))

        return stock.consumer()

    def card(self) -> Consumer:
        card = Agent("card")

        @card.on(StockReserved)
        async def charge(reserved: StockReserved) -> CardCharged:
            self.log.append(f"charge {reserved.order}")
            return CardCharged(order=reserved.order)

        @card.undoes(CardCharged)
        def refund(charged: CardCharged) -> CardRefunded:
            self.log.append(f"refund {charged.order}")
            return CardRefunded(order=charged.order)

        return card.consumer()

    def parcel(self) -> Consumer:
        @agent(retry=RetryPolicy(attempts=2, base_s=0.001))
        async def parcel(charged: CardCharged) -> ParcelShipped | ParcelRefused:
            match charged.order:
                case "too heavy":
                    return ParcelRefused(order=charged.order, reason="40 kg")
                case "nowhere":
                    message = "no such street"
                    raise PermanentError(message)
                case "unlucky":
                    raise ConnectionError
                case _:
                    return ParcelShipped(order=charged.order)

        owner = agent_of(parcel)
        assert owner is not None
        return owner.consumer()


async def test_s02_a_refused_parcel_gives_money_and_stock_back() -> None:
    """Last done, first undone; the undo meets the state its action left, and nothing undoes the undoing."""
    mesh, shop = MemoryMesh(), Shop()
    async with mesh.running(*shop.consumers):
        await mesh.publish(OrderPlaced(order="too heavy"))
        [released] = await mesh.eventually(StockReleased, count=1)

    assert released == StockReleased(order="too heavy", shelf=7)
    assert shop.log == ["reserve too heavy", "charge too heavy", "refund too heavy", "release too heavy"]
    [(refused, _)] = await mesh.events(ParcelRefused)
    requests = [*await mesh.events(undo_requested("card")), *await mesh.events(undo_requested("stock"))]
    assert [
        (request.agent, request.event_type, request.reason, envelope.correlation_id, envelope.parent_id)
        for envelope, request in requests
    ] == [
        (agent, type, "parcel.refused, said by parcel", refused.correlation_id, refused.id)
        for agent, type in (("card", "card.charged"), ("stock", "stock.reserved"))
    ]


async def test_s09_what_cannot_be_handled_fails_its_workflow() -> None:
    """Given up at once, or after the last attempt: either way what was done is undone. The others go on."""
    mesh, shop = MemoryMesh(), Shop()
    async with mesh.running(*shop.consumers):
        await mesh.publish(*(OrderPlaced(order=order) for order in ("nowhere", "fine", "unlucky")))
        released = await mesh.eventually(StockReleased, count=2)
        shipped = await mesh.eventually(ParcelShipped, count=1)

    assert sorted(event.order for event in released) == ["nowhere", "unlucky"]
    assert shipped == [ParcelShipped(order="fine")]
    assert sorted(event.order for _, event in await mesh.events(CardRefunded)) == ["nowhere", "unlucky"]
    assert sorted({request.reason for _, request in await mesh.events(undo_requested("stock"))}) == [
        "parcel could not handle card.charged: ConnectionError: ",
        "parcel could not handle card.charged: PermanentError: no such street",
    ]


async def test_s29_a_coordinator_that_was_down_catches_up() -> None:
    """What failed meanwhile is undone when it is back, and once: a second start asks for nothing more."""
    mesh, shop = MemoryMesh(), Shop()
    *agents, coordinating = shop.consumers
    async with mesh.running(*agents):
        await mesh.publish(OrderPlaced(order="too heavy"))
        await mesh.eventually(ParcelRefused, count=1)
    assert shop.log == ["reserve too heavy", "charge too heavy"]

    async with mesh.running(*shop.consumers):
        await mesh.eventually(StockReleased, count=1)
    async with mesh.running(coordinating):
        await mesh.publish(OrderPlaced(order="fine"))

    assert [len(await mesh.events(undo_requested(name))) for name in ("card", "stock")] == [1, 1]


class SeatTaken(Event, key="flight"):
    flight: str


class SeatHeld(Event, key="flight"):
    flight: str


class SeatRefused(Event, fails=True):
    flight: str


async def test_an_undo_meets_the_state_of_its_key() -> None:
    """Events keyed by a field of theirs: three workflows share one flight's state, and only one gives its seat back."""
    seats, check = Agent("seats"), Agent("check")
    free: list[int] = []

    @seats.on(SeatTaken)
    async def hold(taken: SeatTaken, context: Context) -> SeatHeld:
        context.state["held"] = context.state.get("held", 0) + 1
        free.append(context.state["held"])
        return SeatHeld(flight=taken.flight)

    @seats.undoes(SeatHeld)
    async def give_back(held: SeatHeld, context: Context) -> None:
        context.state["held"] -= 1
        free.append(context.state["held"])

    @check.on(SeatHeld)
    async def overbooked(held: SeatHeld, context: Context) -> SeatRefused | None:
        context.state["seen"] = context.state.get("seen", 0) + 1
        return SeatRefused(flight=held.flight) if context.state["seen"] == 3 else None

    mesh = MemoryMesh()
    async with mesh.running(seats.consumer(), check.consumer(), coordinator()):
        await mesh.publish(*(SeatTaken(flight="LH 1") for _ in range(3)))
        await eventually(lambda: len(free) == 4)

    assert free == [1, 2, 3, 2]


async def test_requests_are_read_by_whoever_knows_only_their_shape() -> None:
    """All undo topics carry one schema; a reader needs no agent's code."""
    mesh, shop = MemoryMesh(), Shop()
    async with mesh.running(*shop.consumers):
        await mesh.publish(OrderPlaced(order="too heavy"))
        await mesh.eventually(CardRefunded, count=1)
    [record] = await mesh.records("card.undo")
    assert mesh.codec.decode(UndoRequested, record.value or b"").event_type == "card.charged"
