"""What is marked is masked for whoever looks, at any depth, and for nobody else."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel

from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.event import Event
from antiphon.schemas.redaction import MASK, REDACT
from antiphon.schemas.store import MemoryStore


class Card(BaseModel):
    brand: str
    number: Annotated[str, REDACT]


class Cash(BaseModel):
    amount: int


class Node(BaseModel):
    secret: Annotated[str | None, REDACT] = None
    below: list["Node"] = []  # noqa: UP037 - it refers to itself


class OrderPlaced(Event):
    order: str
    email: Annotated[str, REDACT] | None
    paid: Card | Cash
    others: dict[str, list[Card]]
    tree: Node = Node()


async def shown(event: Event) -> object:
    """What whoever looks at *event*'s record sees of it."""
    codec = Codec(MemoryStore())
    await codec.announce([type(event)])
    return to_json(codec.shown(codec.encode(event)))


async def test_what_is_marked_is_masked_at_any_depth() -> None:
    """In records, unions, lists and maps; what is not there stays not there."""
    card = Card(brand="visa", number="4111")
    tree = Node(secret="a", below=[Node(), Node(secret="b")])
    event = OrderPlaced(order="7", email="me@example.org", paid=card, others={"spare": [card]}, tree=tree)
    assert await shown(event) == {
        "order": "7",
        "email": MASK,
        "paid": {"brand": "visa", "number": MASK},
        "others": {"spare": [{"brand": "visa", "number": MASK}]},
        "tree": {"secret": MASK, "below": [{"secret": None, "below": []}, {"secret": MASK, "below": []}]},
    }


async def test_handlers_get_it_as_it_is() -> None:
    """It is hidden from those who look on, not from those who work with it."""
    codec = Codec(MemoryStore())
    await codec.announce([OrderPlaced])
    event = OrderPlaced(order="7", email=None, paid=Cash(amount=3), others={})
    assert codec.decode(OrderPlaced, codec.encode(event)) == event
    assert await shown(event) == {**event.model_dump(), "email": None}


@pytest.mark.parametrize("annotation", [str, str | None, list[str]])
async def test_a_schema_without_a_mark_hides_nothing(annotation: type) -> None:
    """Its data is shown as it is, and nobody pays for looking."""

    class Noted(Event):
        text: annotation  # type: ignore[valid-type]

    codec = Codec(MemoryStore())
    await codec.announce([Noted])
    value = codec.encode(Noted(text=["a"] if annotation not in (str, str | None) else "a"))
    assert codec.shown(value) == codec.read(value)[1]
    assert not codec.hides(value[2:10])
