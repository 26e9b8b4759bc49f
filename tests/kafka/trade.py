"""A shop whose agents do what an order says of them: refuse, hold, fail, die. Each attempt leaves a line in a file.

    trade.placed ─▶ stock ─▶ trade.reserved ─┬▶ card ─▶ trade.charged ─┬▶ parcel (a join)
                                             └▶ gift ─▶ trade.wrapped ─┘

Stock, card and gift can undo what they did. An order's moods are `card:holds`,
or `-card:dies` for the undo. Of `trade.ordered` a saga, *errands*, asks the same
agents for the same, by commands; of `trade.rung` another one, *tills*, asks the
till, which may be closed: then it can give back, and not take. The file is what a side effect outside Kafka is: at
least once. It is written in worker processes alone, where `TRADE_FOLDER` says where.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from antiphon import Agent, Context, Event, RetryPolicy, Saga, Step
from antiphon.testing.waiting import eventually


class Errand(Event):
    order: str
    moods: list[str] = []


class Placed(Errand, type="trade.placed"):
    pass


class Reserved(Errand, type="trade.reserved"):
    pass


class Charged(Errand, type="trade.charged"):
    pass


class Wrapped(Errand, type="trade.wrapped"):
    pass


class Sent(Errand, type="trade.sent"):
    pass


class Refused(Event, type="trade.refused", fails=True):
    order: str


class Undone(Event, type="trade.undone"):
    order: str
    what: str
    left: int
    """How often the agent did it for this order and has not undone it."""


class Ordered(Errand, type="trade.ordered"):
    pass


class StockWanted(Errand, type="trade.stock.wanted"):
    pass


class StockTaken(Errand, type="trade.stock.taken"):
    pass


class CardWanted(Errand, type="trade.card.wanted"):
    pass


class CardTaken(Errand, type="trade.card.taken"):
    pass


class GiftWanted(Errand, type="trade.gift.wanted"):
    pass


class GiftTaken(Errand, type="trade.gift.taken"):
    pass


class ParcelWanted(Errand, type="trade.parcel.wanted"):
    pass


class ParcelTaken(Errand, type="trade.parcel.taken"):
    pass


class Rung(Errand, type="trade.rung"):
    pass


class TillWanted(Errand, type="trade.till.wanted"):
    pass


class TillTaken(Errand, type="trade.till.taken"):
    pass


class TillUnwanted(Errand, type="trade.till.unwanted"):
    pass


_RETRY = RetryPolicy(attempts=3, base_s=0.05, cap_s=0.1)

stock, card, gift, parcel = (Agent(name, retry=_RETRY) for name in ("stock", "card", "gift", "parcel"))


@stock.on(Placed)
async def reserve(placed: Placed, context: Context) -> Reserved | Refused:
    if not await _act("stock", placed):
        return Refused(order=placed.order)
    return Reserved(order=placed.order, moods=_done(placed, context))


@stock.undoes(Reserved)
async def release(reserved: Reserved, context: Context) -> Undone:
    return await _undo("stock", reserved, context)


@card.on(Reserved)
async def charge(reserved: Reserved, context: Context) -> Charged | Refused:
    if not await _act("card", reserved):
        return Refused(order=reserved.order)
    return Charged(order=reserved.order, moods=_done(reserved, context))


@card.undoes(Charged)
async def refund(charged: Charged, context: Context) -> Undone:
    return await _undo("card", charged, context)


@gift.on(Reserved)
async def wrap(reserved: Reserved, context: Context) -> Wrapped | Refused:
    if not await _act("gift", reserved):
        return Refused(order=reserved.order)
    return Wrapped(order=reserved.order, moods=_done(reserved, context))


@gift.undoes(Wrapped)
async def unwrap(wrapped: Wrapped, context: Context) -> Undone:
    return await _undo("gift", wrapped, context)


@parcel.on(Charged, Wrapped, join=True)
async def send(charged: Charged, wrapped: Wrapped) -> Sent | Refused:
    return Sent(order=wrapped.order) if await _act("parcel", charged) else Refused(order=charged.order)


@stock.on(StockWanted)
async def take_stock(wanted: StockWanted, context: Context) -> StockTaken | Refused:
    if not await _act("stock", wanted):
        return Refused(order=wanted.order)
    return StockTaken(order=wanted.order, moods=_done(wanted, context))


@stock.undoes(StockTaken)
async def return_stock(taken: StockTaken, context: Context) -> Undone:
    return await _undo("stock", taken, context)


@card.on(CardWanted)
async def take_card(wanted: CardWanted, context: Context) -> CardTaken | Refused:
    if not await _act("card", wanted):
        return Refused(order=wanted.order)
    return CardTaken(order=wanted.order, moods=_done(wanted, context))


@card.undoes(CardTaken)
async def return_card(taken: CardTaken, context: Context) -> Undone:
    return await _undo("card", taken, context)


@gift.on(GiftWanted)
async def take_gift(wanted: GiftWanted, context: Context) -> GiftTaken | Refused:
    if not await _act("gift", wanted):
        return Refused(order=wanted.order)
    return GiftTaken(order=wanted.order, moods=_done(wanted, context))


@gift.undoes(GiftTaken)
async def return_gift(taken: GiftTaken, context: Context) -> Undone:
    return await _undo("gift", taken, context)


@parcel.on(ParcelWanted)
async def take_parcel(wanted: ParcelWanted) -> ParcelTaken | Refused:
    return ParcelTaken(**wanted.__dict__) if await _act("parcel", wanted) else Refused(order=wanted.order)


def want_stock(ordered: Ordered) -> StockWanted:
    return StockWanted(**ordered.__dict__)


def want_card(taken: StockTaken) -> CardWanted:
    return CardWanted(**taken.__dict__)


def want_gift(taken: StockTaken) -> GiftWanted:
    return GiftWanted(**taken.__dict__)


def want_parcel(card: CardTaken, gift: GiftTaken) -> ParcelWanted:
    return ParcelWanted(order=gift.order, moods=card.moods)


errands = Saga(
    "errands",
    version="1",
    starts=Ordered,
    steps=[
        Step("stock", action=want_stock, done=StockTaken, refused=Refused, kind="compensatable"),
        Step("card", action=want_card, done=CardTaken, refused=Refused, kind="compensatable"),
        Step("gift", action=want_gift, done=GiftTaken, refused=Refused, kind="compensatable"),
        Step("parcel", action=want_parcel, done=ParcelTaken, refused=Refused, kind="read_only"),
    ],
)

till = Agent("till", retry=_RETRY)

if "TRADE_CLOSED" not in os.environ:

    @till.on(TillWanted)
    async def take_till(wanted: TillWanted, context: Context) -> TillTaken:
        await _act("till", wanted)
        return TillTaken(order=wanted.order, moods=_done(wanted, context))


@till.on(TillUnwanted)
async def return_till(unwanted: TillUnwanted, context: Context) -> None:
    await _act("-till", unwanted)
    if context.state.get("done", 0):
        context.state["done"] -= 1


def want_till(rung: Rung) -> TillWanted:
    return TillWanted(**rung.__dict__)


def unwant_till(rung: Rung, taken: TillTaken | None) -> TillUnwanted:
    return TillUnwanted(**rung.__dict__)


tills = Saga(
    "tills",
    version="1",
    starts=Rung,
    steps=[
        Step(
            "till",
            action=want_till,
            done=TillTaken,
            undo=unwant_till,
            timeout=1.0,
            retry=RetryPolicy(attempts=1),
        )
    ],
)


def begun(folder: Path) -> list[str]:
    """Return what was begun, in order: the order, and what was done or undone for it."""
    path = folder / "begun"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _done(errand: Errand, context: Context) -> list[str]:
    context.state["done"] = context.state.get("done", 0) + 1
    return errand.moods


async def _undo(name: str, errand: Errand, context: Context) -> Undone:
    await _act(f"-{name}", errand)
    context.state["done"] = context.state.get("done", 0) - 1
    return Undone(order=errand.order, what=name, left=context.state["done"])


async def _act(name: str, errand: Errand) -> bool:
    """Do something, in the order's moods; says whether it was done."""
    folder = Path(os.environ["TRADE_FOLDER"])
    line = f"{errand.order} {name}"
    again = line in begun(folder)
    with (folder / "begun").open("a") as file:
        file.write(f"{line}\n")
    for mood in _moods(name, errand):
        match mood:
            case "refuses":
                return False
            case "holds":
                await eventually((folder / f"go {errand.order}").exists, 600.0, what="to be let go")
            case "fails" if not (folder / f"mended {errand.order}").exists():
                raise ConnectionError(name)
            case "dies" if not again:
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                pass
    return True


def _moods(name: str, errand: Errand) -> Iterator[str]:
    for mood in errand.moods:
        who, _, what = mood.partition(":")
        if who == name:
            yield what
