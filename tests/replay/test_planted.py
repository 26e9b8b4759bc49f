"""Changes planted into an agent, each shown, and only that; and ten thousand events of one that did not change, none shown."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import BaseModel

from antiphon import Agent, Context, Event, RetryPolicy
from antiphon.replay.choice import Choice
from antiphon.replay.compare import Kind
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.reading import read_recording
from antiphon.replay.recording import Recording
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.codec import Codec
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

EVENTS = 10_000
_ONCE = RetryPolicy(attempts=1)
_AT_ONCE = 1_000


class Line(BaseModel):
    sku: str
    count: int
    price: Decimal


class OrderPlaced(Event):
    order: str
    fails: str = ""


class OrderPriced(Event):
    order: str
    total: float
    gift: bool
    note: str | None
    due: datetime
    lines: list[Line]
    taxes: dict[str, int]


class PartReserved(Event):
    part: str


class LabelPrinted(Event):
    text: str


class OrderFlagged(Event):
    why: str


Said = list[Event]
Told = tuple[Kind, str, tuple[str, ...]]
"""Kind, event type, and paths of a difference."""


class Planted(NamedTuple):
    """A change to what is said, and the differences that it has to show as."""

    name: str
    change: Callable[[Said], Said]
    shown: Sequence[Told]
    fails: str = ""
    """The order that it is planted into: one that failed then, or none."""


def usual(order: str, at: datetime) -> Said:
    """What the agent says of an order."""
    lines = [Line(sku="a", count=1, price=Decimal("9.50")), Line(sku="b", count=2, price=Decimal("0.50"))]
    priced = OrderPriced(
        order=order, total=10.5, gift=False, note=None, due=at, lines=lines, taxes={"at": 20, "de": 19}
    )
    return [priced, PartReserved(part="a"), PartReserved(part="b"), LabelPrinted(text=order)]


def fields() -> Iterator[Planted]:
    """Each field of an event and what is in it, changed to something else of its type, to nothing, to more or to less."""
    changes: list[tuple[str, dict[str, Any]]] = [
        ("order", {"order": "other"}),
        ("order", {"order": ""}),
        ("total", {"total": 10.6}),
        ("total", {"total": -10.5}),
        ("total", {"total": 0.0}),
        ("gift", {"gift": True}),
        ("note", {"note": ""}),
        ("note", {"note": "None"}),
        ("total", {"total": 1e300}),
        ("lines", {"lines": [Line(sku="a", count=1, price=Decimal("9.50"))]}),
        ("taxes.at", {"taxes": {"at": -20, "de": 19}}),
        ("note", {"note": "ring twice"}),
        ("due", {"due": datetime.fromisoformat("2026-11-22T10:00:00Z")}),
        ("lines", {"lines": []}),
        ("taxes.at", {"taxes": {"at": 21, "de": 19}}),
        ("taxes.de", {"taxes": {"at": 20}}),
        ("taxes.fr", {"taxes": {"at": 20, "de": 19, "fr": 20}}),
    ]
    for path, update in changes:
        yield Planted(
            f"{path} of {next(iter(update.values()))!r}", _updated(0, update), [(Kind.CHANGED, "order.priced", (path,))]
        )
    parts: list[tuple[str, Any]] = [("sku", "z"), ("count", 9), ("price", Decimal("9.51"))]
    for number, (name, value) in itertools.product(range(2), parts):

        def change(said: Said, number: int = number, name: str = name, value: Any = value) -> Said:
            lines = [*_priced(said).lines]
            lines[number] = lines[number].model_copy(update={name: value})
            return _updated(0, {"lines": lines})(said)

        yield Planted(f"lines.{number}.{name}", change, [(Kind.CHANGED, "order.priced", (f"lines.{number}.{name}",))])
    yield Planted(
        "two fields", _updated(0, {"total": 1.0, "gift": True}), [(Kind.CHANGED, "order.priced", ("total", "gift"))]
    )
    yield Planted("one part", _updated(2, {"part": "c"}), [(Kind.CHANGED, "part.reserved", ("part",))])


def _priced(said: Said) -> OrderPriced:
    assert isinstance(said[0], OrderPriced)
    return said[0]


def _updated(place: int, update: dict[str, Any]) -> Callable[[Said], Said]:
    return lambda said: [*said[:place], said[place].model_copy(update=update), *said[place + 1 :]]


TYPES = [event.__event__.type for event in usual("", datetime.fromisoformat("2026-11-22T10:00:00Z"))]


def _without(place: int) -> Callable[[Said], Said]:
    return lambda said: [*said[:place], *said[place + 1 :]]


def _with(place: int, *, instead: bool = False) -> Callable[[Said], Said]:
    return lambda said: [*said[:place], OrderFlagged(why="dear"), *said[place + instead :]]


def _part(first: int, end: int) -> Callable[[Said], Said]:
    return lambda said: said[first:end]


def _backwards(said: Said) -> Said:
    return said[::-1]


def _last_twice(said: Said) -> Said:
    return [*said, copy.copy(said[-1])]


def _swapped(place: int) -> Callable[[Said], Said]:
    return lambda said: [*said[:place], said[place + 1], said[place], *said[place + 2 :]]


def missing() -> Iterator[Planted]:
    """Each event alone, the ends, and all."""
    for place, type in enumerate(TYPES):
        yield Planted(f"without {place}", _without(place), [_lacks(type)])
    yield Planted("nothing", _part(0, 0), [_lacks(type) for type in TYPES])
    yield Planted("the first alone", _part(0, 1), [_lacks(type) for type in TYPES[1:]])


def added() -> Iterator[Planted]:
    """An event more, at each place, and one that was said already."""
    for place in range(len(TYPES) + 1):
        yield Planted(
            f"more at {place}",
            _with(place),
            [(Kind.ADDED, "order.flagged", ("",))],
        )
    yield Planted("the last one twice", _last_twice, [(Kind.ADDED, "label.printed", ("",))])


def branches() -> Iterator[Planted]:
    """Another event in the place of each."""
    for place, type in enumerate(TYPES):
        yield Planted(
            f"another at {place}",
            _with(place, instead=True),
            [_lacks(type), (Kind.ADDED, "order.flagged", ("",))],
        )


def orders() -> Iterator[Planted]:
    """Every two neighbours, and all of them, the other way round."""
    for place in range(len(TYPES) - 1):
        yield Planted(
            f"{place} behind {place + 1}",
            _swapped(place),
            [(Kind.ORDER, "", ("",))],
        )
    yield Planted("backwards", _backwards, [(Kind.ORDER, "", ("",))])


def errors() -> Iterator[Planted]:
    """Raised where nothing was, something else where something was, and nothing any more."""
    raised: list[Exception] = [ValueError("no"), KeyError("x"), TimeoutError(), AssertionError("never")]
    for error in raised:
        yield Planted(f"raises {error!r}", _raising(error), [(Kind.OUTCOME, "", ("",))])
    others: list[Exception] = [ValueError("other"), LookupError("no")]
    for error in others:
        yield Planted(f"raises {error!r} instead", _raising(error), [(Kind.ERROR, "", ("",))], fails="no")
    yield Planted("raises no more", _part(0, 9), [(Kind.OUTCOME, "", ("",))], fails="no")


def _raising(error: Exception) -> Callable[[Said], Said]:
    def change(said: Said) -> Said:
        raise error

    return change


def _lacks(type: str) -> Told:
    return (Kind.MISSING, type, ("",))


PLANTED = [*itertools.chain(fields(), missing(), added(), branches(), orders(), errors())]


handled = Counter[str]()


def pricer(change: Callable[[Said], Said] | None = None) -> Agent:
    """The agent as it is, or with a change in it."""
    found = Agent("pricer", retry=_ONCE)

    @found.on(OrderPlaced)
    async def price(
        placed: OrderPlaced, context: Context
    ) -> list[OrderPriced | PartReserved | LabelPrinted | OrderFlagged]:
        seen = context.state["seen"] = context.state.get("seen", 0) + 1
        due = await context.once("due", lambda: f"2026-11-{21 + seen}T10:00:00Z")
        handled["pricer"] += 1
        if change is None and placed.fails:
            raise ValueError(placed.fails)
        said: Any = usual(placed.order, max(context.now(), datetime.fromisoformat(due)))
        return said if change is None else change(said)  # type: ignore[return-value]

    return found


async def recorded(*orders: OrderPlaced) -> tuple[MemoryMesh, Recording]:
    mesh = MemoryMesh(partitions=2)
    handled.clear()
    async with mesh.running(pricer()):
        for first in range(0, len(orders), _AT_ONCE):
            await mesh.publisher.publish(orders[first : first + _AT_ONCE])

        # What is handled is committed when the worker has drained.
        await eventually(lambda: handled["pricer"] == len(orders), 240, what="all to be handled")
    return mesh, await read_recording(mesh.bus, mesh.names, mesh.codec, Choice())


async def differences(mesh: MemoryMesh, recording: Recording, agent: Agent, chosen: Choice) -> list[Told]:
    replay = HandlerReplay(recording, [agent.consumer()], Codec(KeptSchemas(behind=mesh.store)))
    return [
        (one.kind, one.type, tuple(field.path for field in one.fields))
        async for compared in replay.run(chosen.of(recording.handlings))
        for one in compared.differences
    ]


def test_there_are_fifty_of_them() -> None:
    """Each under a name of its own."""
    assert (len(PLANTED) >= 50, len({one.name for one in PLANTED})) == (True, len(PLANTED))


async def test_each_planted_change_is_shown_and_nothing_else() -> None:
    """Of an order that was handled, or of one that failed; the same agent beside it shows nothing."""
    mesh, recording = await recorded(OrderPlaced(order="o"), OrderPlaced(order="p", fails="no"))
    by_failure = {one.entry.error is not None: one.entry.event_id for one in recording.handlings}
    wrong: list[tuple[str, list[Told], Sequence[Told]]] = []
    for one in PLANTED:
        chosen = Choice(event=by_failure[bool(one.fails)])
        shown = await differences(mesh, recording, pricer(one.change), chosen)
        if shown != [*one.shown]:
            wrong.append((one.name, shown, one.shown))

    assert (wrong, await differences(mesh, recording, pricer(), Choice())) == ([], [])


async def test_ten_thousand_events_of_an_agent_that_did_not_change_show_no_difference() -> None:
    """State, effects and the clock included; some of them failed, and fail again."""
    orders = [OrderPlaced(order=f"o{n}", fails="no" if n % 100 == 0 else "") for n in range(EVENTS)]
    mesh, recording = await recorded(*orders)
    compared = HandlerReplay(recording, [pricer().consumer()], Codec(KeptSchemas(behind=mesh.store)))
    counts = [0, 0, 0, 0]
    async for one in compared.run(Choice().of(recording.handlings)):
        counts[0] += 1
        counts[1] += len(one.differences)
        counts[2] += one.skipped is not None or not one.state_known
        counts[3] += one.raised is not None

    assert counts == [EVENTS, 0, 0, EVENTS // 100]
