"""A tour that a saga conducts and a bank pays, and ways to get it wrong: the world in which sagas are explored in these tests.

tour.planned ─▶ (saga) ─▶ take.seat ─▶ train ─▶ (saga) ─▶ take.room ─▶ hotel ─▶ (saga) ─▶ take.money ─▶ card ─▶ (saga) ─▶ send.tickets ─▶ post

Train and hotel can undo what they did. Card cannot: the saga asks it to give the money back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from paying import Bank

from antiphon import Agent, Context, Event, RetryPolicy, Saga, Step

FARE, RENT, PRICE = 30, 50, 90


class TourPlanned(Event):
    to: str


class TakeSeat(Event):
    to: str


class SeatTaken(Event):
    seat: str


class SeatAsked(Event):
    """The railway says that it takes its time."""


class TakeRoom(Event):
    to: str


class RoomTaken(Event):
    room: str


class TakeMoney(Event):
    to: str


class MoneyTaken(Event):
    amount: int


class MoneyRefused(Event):
    why: str


class ReturnMoney(Event):
    amount: int | None
    """None: whether it was taken is not known."""


class SendTickets(Event):
    to: str


class TicketsSent(Event):
    number: str


Undo: TypeAlias = Callable[["Tour", SeatTaken, Context], None]
Charge: TypeAlias = Callable[["Tour", TakeMoney, Context], None]
Refund: TypeAlias = Callable[["Tour", ReturnMoney, Context], None]

PLANNED = TourPlanned(to="Rome")
REFUSED = TourPlanned(to="nowhere")


def seat(planned: TourPlanned) -> TakeSeat:
    return TakeSeat(to=planned.to)


def room(planned: TourPlanned, taken: SeatTaken) -> TakeRoom:
    return TakeRoom(to=planned.to)


def money(planned: TourPlanned, taken: SeatTaken, room: RoomTaken) -> TakeMoney:
    return TakeMoney(to=planned.to)


def money_back(taken: MoneyTaken | None) -> ReturnMoney:
    return ReturnMoney(amount=taken.amount if taken else None)


def tickets(planned: TourPlanned, taken: MoneyTaken) -> SendTickets:
    return SendTickets(to=planned.to)


class Tour:
    """The agents, the bank, and how each is done: a test hands in another way to do it wrong."""

    def __init__(self, unseat: Undo | None = None, charge: Charge | None = None, refund: Refund | None = None) -> None:
        self.bank = Bank()
        self.unseat = unseat or Tour.gives_back_the_fare
        self.charge = charge or Tour.takes_the_price
        self.refund = refund or Tour.gives_back_what_it_took
        self.agents = [self._train(), self._hotel(), self._card(), self._post()]

    def gives_back_the_fare(self, taken: SeatTaken, context: Context) -> None:
        self.bank.pay(context.id, -FARE)

    def takes_the_price(self, asked: TakeMoney, context: Context) -> None:
        self.bank.pay(context.id, PRICE)

    def gives_back_what_it_took(self, asked: ReturnMoney, context: Context) -> None:
        # Before it was taken nothing is noted under the key: it may have been when this runs again. And once it is given back, it is.
        if taken := context.state.get("taken"):
            self.bank.pay(context.id, -taken)
            context.state["taken"] = 0

    def _train(self) -> Agent:
        train = Agent("train")

        @train.on(TakeSeat)
        async def take(asked: TakeSeat, context: Context) -> SeatTaken:
            self.bank.pay(context.id, FARE)
            return SeatTaken(seat="12A")

        @train.undoes(SeatTaken)
        async def give_back(taken: SeatTaken, context: Context) -> None:
            self.unseat(self, taken, context)

        return train

    def _hotel(self) -> Agent:
        hotel = Agent("hotel")

        @hotel.on(TakeRoom)
        async def take(asked: TakeRoom, context: Context) -> RoomTaken:
            self.bank.pay(context.id, RENT)
            return RoomTaken(room="7")

        @hotel.undoes(RoomTaken)
        async def give_back(taken: RoomTaken, context: Context) -> None:
            self.bank.pay(context.id, -RENT)

        return hotel

    def _card(self) -> Agent:
        card = Agent("card")

        @card.on(TakeMoney)
        async def take(asked: TakeMoney, context: Context) -> MoneyTaken | MoneyRefused:
            if asked.to == "nowhere":
                return MoneyRefused(why="no money")
            self.charge(self, asked, context)
            context.state.setdefault("taken", PRICE)
            return MoneyTaken(amount=PRICE)

        @card.on(ReturnMoney)
        async def give_back(asked: ReturnMoney, context: Context) -> None:
            self.refund(self, asked, context)

        return card

    def _post(self) -> Agent:
        post = Agent("post")

        @post.on(SendTickets)
        async def send(asked: SendTickets) -> TicketsSent:
            return TicketsSent(number="1")

        return post


def tour(*, steps: int = 4, timeout: float | None = 60.0, attempts: int = 1) -> Saga:
    """Return the saga, or its first *steps*; each asks *attempts* times, and waits for *timeout* seconds."""
    retry = RetryPolicy(attempts=attempts)
    all_steps = [
        Step(
            "seat", action=seat, done=SeatTaken, working=SeatAsked, kind="compensatable", timeout=timeout, retry=retry
        ),
        Step("room", action=room, done=RoomTaken, kind="compensatable", timeout=timeout, retry=retry),
        Step(
            "money", action=money, done=MoneyTaken, refused=MoneyRefused, undo=money_back, timeout=timeout, retry=retry
        ),
        Step("tickets", action=tickets, done=TicketsSent, kind="read_only", timeout=timeout, retry=retry),
    ]
    return Saga("tour", version="1", starts=TourPlanned, steps=all_steps[:steps])
