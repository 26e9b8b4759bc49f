"""A library whose agents say something on every topic that a mesh has: what they write is kept, and read by later releases.

book.wanted ─┬▶ desk (holds the book) ─▶ book.lent ──┬▶ clerk (a join) ─▶ loan.noted ─▶ archive
             └▶ cards ─▶ card.stamped, card.seen ────┘               └▶ loan.refused, which fails the workflow

move.wanted ─▶ (saga) ─▶ take.van ─▶ mover ─▶ (saga) ─▶ take.boxes ─▶ packer ─▶ (saga) ─▶ move.ended

Only what users import is used here: the same file is run by two releases.
"""

from __future__ import annotations

from antiphon import Agent, Context, Event, PermanentError, Saga, Step


class BookWanted(Event):
    book: str
    member: str
    pages: str = ""


class BookLent(Event):
    book: str
    member: str
    receipt: str


class BookReturned(Event):
    book: str


class CardStamped(Event, key="member"):
    member: str


class CardSeen(Event):
    member: str


class StampCounted(Event, key="member"):
    member: str
    count: int


class LoanNoted(Event):
    book: str
    pages: str = ""


class LoanRefused(Event, fails=True):
    member: str


class LoanFiled(Event):
    book: str


class MoveWanted(Event):
    to: str


class TakeVan(Event):
    to: str


class VanTaken(Event):
    plate: str


class VanReturned(Event):
    plate: str


class TakeBoxes(Event):
    to: str


class BoxesTaken(Event):
    count: int


class BoxesRefused(Event):
    why: str


class ReturnBoxes(Event):
    count: int | None


class MoveEnded(Event):
    to: str


desk, cards, counter = Agent("desk"), Agent("cards"), Agent("counter")
clerk, archive, mover, packer = Agent("clerk"), Agent("archive"), Agent("mover"), Agent("packer")


@desk.on(BookWanted, holds="book")
async def lend(wanted: BookWanted, context: Context) -> BookLent:
    """Lend it, and leave all that an activity record can say."""

    async def receipt() -> str:
        return f"receipt of {wanted.book}"

    context.state["lent"] = wanted.book
    context.confidence(0.5)
    context.spend(model="m", input_tokens=3, output_tokens=5, cost=0.25)
    context.log.info("lent", book=wanted.book)
    return BookLent(book=wanted.book, member=wanted.member, receipt=await context.once("receipt", receipt))


@desk.undoes(BookLent)
async def take_back(lent: BookLent, context: Context) -> BookReturned:
    context.state.pop("lent", None)
    return BookReturned(book=lent.book)


@cards.on(BookWanted)
async def stamp(wanted: BookWanted) -> list[CardStamped | CardSeen]:
    return [CardStamped(member=wanted.member), CardSeen(member=wanted.member)]


@counter.on(CardStamped)
async def count(stamped: CardStamped, context: Context) -> StampCounted:
    context.state["count"] = context.state.get("count", 0) + 1
    return StampCounted(member=stamped.member, count=context.state["count"])


@clerk.on(BookLent, CardSeen, join=True)
async def note(lent: BookLent, seen: CardSeen) -> LoanNoted | LoanRefused:
    if seen.member == "barred":
        return LoanRefused(member=seen.member)
    return LoanNoted(book=lent.book)


@archive.on(LoanNoted)
async def file(noted: LoanNoted) -> LoanFiled:
    if noted.book.startswith("torn"):
        raise PermanentError(f"{noted.book} cannot be filed")
    return LoanFiled(book=noted.book)


@mover.on(TakeVan)
async def take_van(asked: TakeVan) -> VanTaken:
    return VanTaken(plate=f"van to {asked.to}")


@mover.undoes(VanTaken)
async def return_van(taken: VanTaken) -> VanReturned:
    return VanReturned(plate=taken.plate)


@packer.on(TakeBoxes)
async def take_boxes(asked: TakeBoxes) -> BoxesTaken | BoxesRefused:
    return BoxesRefused(why="too far") if asked.to == "nowhere" else BoxesTaken(count=7)


@packer.on(ReturnBoxes)
async def return_boxes(asked: ReturnBoxes) -> None:
    """Take them back."""


def van_for(wanted: MoveWanted) -> TakeVan:
    return TakeVan(to=wanted.to)


def boxes_for(wanted: MoveWanted, van: VanTaken) -> TakeBoxes:
    return TakeBoxes(to=wanted.to)


def boxes_back(boxes: BoxesTaken | None) -> ReturnBoxes:
    return ReturnBoxes(count=boxes.count if boxes else None)


def ended(wanted: MoveWanted, boxes: BoxesTaken) -> MoveEnded:
    return MoveEnded(to=wanted.to)


moving = Saga(
    "moving",
    version="1",
    starts=MoveWanted,
    steps=[
        Step("van", action=van_for, done=VanTaken, kind="compensatable", timeout=3_600.0),
        Step("boxes", action=boxes_for, done=BoxesTaken, refused=BoxesRefused, undo=boxes_back, timeout=3_600.0),
    ],
    ends=ended,
)

AGENTS = (desk, cards, counter, clerk, archive, mover, packer)
