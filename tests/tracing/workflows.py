"""Two workflows for whatever exports workflows: one that goes well, and one in which all that can be odd is."""

from __future__ import annotations

from antiphon.bus.activity import Failure, Spent
from antiphon.schemas.envelope import Envelope
from antiphon.testing.story import START_US, Says, Story

ROOT = "0199f2c1-0000-7000-8000-000000000000"


def ticket() -> Story:
    """A ticket is triaged by a model that is sure of it."""
    story = Story()
    opened = story.published("ticket.opened", {"ticket_id": "T-7"})
    story.handled(
        "triage",
        opened,
        Says("ticket.triaged", {"queue": "billing"}),
        at_ms=1.5,
        took_ms=40,
        usage=[
            Spent(
                model="openai/m-1",
                input_tokens=10,
                output_tokens=2,
                cost=0.25,
                currency="EUR",
                started_us=START_US + 2_000,
                duration_us=30_000,
            )
        ],
        confidence=0.9,
    )
    return story


def order() -> Story:
    """An order with a join, a failure, an undo, a dead letter and a gap."""
    story = Story()
    story.works("mail", hears=["stock.reserved"])
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True), at_ms=1, took_ms=20)
    [charged] = story.handled("card", placed, Says("card.charged"), at_ms=5, took_ms=4)
    [lost] = story.handled("ship", charged, Says("parcel.lost", fails=True), at_ms=22, also=[reserved])
    story.handled("audit", lost, outcome="retried", error=Failure(type="TimeoutError", message="no answer"))
    story.handled("audit", lost, attempt=2, outcome="dead_lettered")
    story.undo_asked(reserved, lost)
    story.seen(Envelope(id="b", type="b.done", source="/kcat", time_us=START_US, correlation_id=ROOT, parent_id="gone"))
    return story
