"""An agent asked to undo what it emitted."""

from __future__ import annotations

import pytest

from antiphon import Agent, Context, Event
from antiphon.agents.errors import UnknownUndoError
from antiphon.bus.undo import undo_requested
from antiphon.schemas.event import envelope_of
from antiphon.testing.delivery import MemoryState, delivery_of, hand


class Placed(Event):
    n: int


class Reserved(Event):
    n: int


class Released(Event):
    n: int


stock = Agent("stock")


@stock.on(Placed)
async def reserve(order: Placed, context: Context) -> Reserved:
    context.state["shelf"] = order.n
    return Reserved(n=order.n)


@stock.undoes(Reserved)
async def release(reserved: Reserved, context: Context) -> Released | None:
    shelf = context.state.pop("shelf", None)
    return None if shelf is None else Released(n=shelf)


def request(event: Event) -> Event:
    return undo_requested("stock")(
        agent="stock",
        event_id="e",
        event_type=event.__event__.type,
        value=event.model_dump_json().encode(),
        reason="package.refused",
    )


async def test_undo_gets_the_event_and_meets_its_state() -> None:
    """The undo is handed what was emitted, and what it emits follows from the request."""
    state = MemoryState()
    placed = delivery_of(Placed(n=7), state=state)
    [reserved] = await hand(stock.consumer(), placed)
    undo = delivery_of(request(reserved).sealed(envelope_of(placed.event)), state=state)

    [released] = await hand(stock.consumer(), undo)

    assert released == Released(n=7)
    assert envelope_of(released).parent_id == undo.envelope.id
    assert state.values == {}


async def test_undo_of_something_else_is_set_aside() -> None:
    """An older version of the agent may meet a request for what only the newer one can undo."""
    with pytest.raises(UnknownUndoError) as caught:
        await hand(stock.consumer(), delivery_of(request(Placed(n=1))))
    assert str(caught.value) == (
        "agent 'stock' was asked to undo placed, but can undo reserved. "
        "Deploy a version that has the undo, then redrive this request."
    )


def test_the_consumer_says_what_it_undoes() -> None:
    """The engine listens on the undo topic of an agent that undoes anything; what undos emit is declared too."""
    consumer = stock.consumer()
    assert (consumer.undoes, consumer.emits, consumer.hears) == (
        {"reserved": Reserved},
        frozenset({Reserved, Released}),
        {"placed": Placed},
    )
