"""An order: stock is reserved, the card charged, the parcel sent; and all of it undone where one of them refuses."""

from antiphon import Agent, Context, Event
from partners import bank, carrier, warehouse


class OrderPlaced(Event):
    """Somebody wants something."""

    order: str
    item: str
    price: int
    city: str


class StockReserved(Event):
    """It lies ready. `hold` is what the warehouse has it under."""

    order: str
    price: int
    city: str
    hold: str


class StockMissing(Event, fails=True):
    """There is none."""

    order: str


class StockReleased(Event):
    """It may be sold to others."""

    order: str


class CardCharged(Event):
    """It is paid for."""

    order: str
    price: int
    city: str


class CardRefunded(Event):
    """The money is back."""

    order: str
    price: int


class ParcelSent(Event):
    """It is on its way: nothing undoes that."""

    order: str


class ParcelRefused(Event, fails=True):
    """The carrier does not go there."""

    order: str
    city: str


stock, card, parcel = Agent("stock"), Agent("card"), Agent("parcel")


@stock.on(OrderPlaced)
async def reserve(placed: OrderPlaced, context: Context) -> StockReserved | StockMissing:
    """Have the warehouse hold it back. The event's id is the key: asked twice, it holds one back."""
    if not warehouse.hold(context.id, placed.item):
        return StockMissing(order=placed.order)
    return StockReserved(order=placed.order, price=placed.price, city=placed.city, hold=context.id)


@stock.undoes(StockReserved)
async def release(reserved: StockReserved) -> StockReleased:
    """Put it back. What the undo must know stands in the event."""
    warehouse.free(reserved.hold)
    return StockReleased(order=reserved.order)


@card.on(StockReserved)
async def charge(reserved: StockReserved, context: Context) -> CardCharged:
    """Take the money."""
    bank.move(context.id, reserved.price)
    return CardCharged(order=reserved.order, price=reserved.price, city=reserved.city)


@card.undoes(CardCharged)
async def refund(charged: CardCharged, context: Context) -> CardRefunded:
    """Give it back, by a second move. The request's id is the same however often it comes."""
    bank.move(context.id, -charged.price)
    return CardRefunded(order=charged.order, price=charged.price)


@parcel.on(CardCharged)
async def send(charged: CardCharged, context: Context) -> ParcelSent | ParcelRefused:
    """Last, since it cannot be undone."""
    if not carrier.send(context.id, charged.city):
        return ParcelRefused(order=charged.order, city=charged.city)
    return ParcelSent(order=charged.order)
