"""An order that is paid for, and ways to get its undoing wrong: the world in which workflows are explored in these tests.

order.placed ─▶ stock ─▶ stock.reserved ─▶ card ─▶ card.charged ─▶ parcel ─▶ parcel.sent ─▶ mail
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from antiphon import Agent, Context, Event


class OrderPlaced(Event):
    order: str
    total: int


class StockReserved(Event):
    order: str
    total: int


class CardCharged(Event):
    order: str
    total: int


class CardRefunded(Event):
    order: str
    total: int


class ParcelSent(Event):
    order: str


class ParcelRefused(Event, fails=True):
    order: str


PLACED = OrderPlaced(order="A", total=41)
REFUSED = OrderPlaced(order="nowhere", total=41)


@dataclasses.dataclass
class Bank:
    """A bank that takes an idempotency key, as banks do: the same key pays once."""

    payments: dict[str, int] = dataclasses.field(default_factory=dict[str, int])

    def pay(self, key: str, amount: int) -> str:
        """Pay *amount*, less than nothing for a refund."""
        self.payments.setdefault(key, amount)
        return key

    @property
    def balance(self) -> int:
        return sum(self.payments.values())


class Shop:
    """The agents, the bank, and how a card is refunded: a test hands in another way to do it wrong."""

    def __init__(self, refund: Callable[[Shop, CardCharged, Context], None] | None = None) -> None:
        self.bank = Bank()
        self.refund = refund or Shop.refunds
        self.agents = [self._stock(), self._card(), self._parcel(), self._mail()]

    def refunds(self, charged: CardCharged, context: Context) -> None:
        self.bank.pay(context.id, -charged.total)

    def _stock(self) -> Agent:
        stock = Agent("stock")

        @stock.on(OrderPlaced)
        async def reserve(placed: OrderPlaced, context: Context) -> StockReserved:
            context.state["reserved"] = True
            return StockReserved(order=placed.order, total=placed.total)

        @stock.undoes(StockReserved)
        async def release(reserved: StockReserved, context: Context) -> None:
            context.state.pop("reserved", None)

        return stock

    def _card(self) -> Agent:
        card = Agent("card")

        @card.on(StockReserved)
        async def charge(reserved: StockReserved, context: Context) -> CardCharged:
            self.bank.pay(context.id, reserved.total)
            return CardCharged(order=reserved.order, total=reserved.total)

        @card.undoes(CardCharged)
        async def refund(charged: CardCharged, context: Context) -> CardRefunded:
            self.refund(self, charged, context)
            return CardRefunded(order=charged.order, total=charged.total)

        return card

    def _parcel(self) -> Agent:
        parcel = Agent("parcel")

        @parcel.on(CardCharged)
        async def send(charged: CardCharged) -> ParcelSent | ParcelRefused:
            refused = charged.order == "nowhere"
            return ParcelRefused(order=charged.order) if refused else ParcelSent(order=charged.order)

        return parcel

    def _mail(self) -> Agent:
        mail = Agent("mail")

        @mail.on(ParcelSent)
        async def tell(sent: ParcelSent) -> None: ...

        return mail
