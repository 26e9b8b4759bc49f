"""What follows from heartbeats about who hears what."""

from __future__ import annotations

from antiphon.bus.subscriptions import Subscriptions, subscriptions
from antiphon.testing.story import Story


def shop() -> Subscriptions:
    story = Story()
    story.works("stock", hears=["order.placed"], emits=["stock.reserved"], undoes=["stock.reserved"])
    story.works("desk", hears=["mail.sent"], emits=["order.placed"])
    story.works("report", hears=["stock.reserved", "day.ended"], emits=["report.written"])
    return subscriptions(story.agents, now_us=0)


def test_what_may_lead_to_something_undoable() -> None:
    """At any distance; what only reports does not."""
    types = ["mail.sent", "order.placed", "stock.reserved", "day.ended", "unheard.of"]
    assert [type for type in types if shop().leads_to_undoable(type)] == ["mail.sent", "order.placed"]


def test_a_loop_is_walked_once() -> None:
    """A type may lead to itself."""
    story = Story()
    story.works("stock", hears=["a"], emits=["a", "b"], undoes=["b"])
    assert subscriptions(story.agents, now_us=0).leads_to_undoable("a")
