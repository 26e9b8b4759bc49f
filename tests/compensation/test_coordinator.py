"""The coordinator as a handler: activity in, requests out, state kept by workflow."""

from __future__ import annotations

from antiphon.bus.activity import Activity, Emitted, Handled
from antiphon.bus.consumer import Lane
from antiphon.bus.undo import UndoRequested, undo_requested
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.saga import undo_id
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event, envelope_of
from antiphon.testing.delivery import MemoryState, delivery_of, hand


def handled(workflow: str, event: str, *emitted: Emitted, key: str | None = None, type: str = "some.event") -> Handled:
    return Handled(
        event_id=event,
        event_type=type,
        correlation_id=workflow,
        key=key,
        topic="t",
        partition=0,
        offset=0,
        attempt=1,
        outcome="completed",
        started_us=0,
        duration_us=0,
        queue_us=0,
        emitted=[*emitted],
    )


def reserved(id: str) -> Emitted:
    return Emitted(id=id, type="reserved", undo=b"\x00value")


def refused(id: str) -> Emitted:
    return Emitted(id=id, type="refused", fails=True)


async def coordinate(state: MemoryState, *deliveries: Handled, agent: str = "stock") -> list[Event]:
    activity = Activity(agent=agent, version="1", instance="i", deliveries=[*deliveries])
    return await hand(coordinator(clock_us=lambda: 7), delivery_of(activity, state=state))


async def test_one_record_tells_of_many_workflows() -> None:
    """Each has its own saga; only what failed is undone, under the key its agent's state is kept by."""
    state = MemoryState()
    [request] = await coordinate(
        state,
        handled("w1", "r1", reserved("e1")),
        handled("w2", "r2", reserved("e2"), key="order-2"),
        handled("w3", "r3"),
        handled("w2", "e2", refused("f2")),
    )

    assert request == undo_requested("stock")(
        agent="stock", event_id="e2", event_type="reserved", value=b"\x00value", reason="refused, said by stock"
    )
    assert request.__event__.topic == "stock.undo"
    assert envelope_of(request) == Envelope(
        id=undo_id("e2"),
        type="antiphon.undo.requested",
        source="/agents/compensation",
        time_us=7,
        correlation_id="w2",
        parent_id="f2",
        key="order-2",
    )
    effect = {"agent": "stock", "type": "reserved", "value": "AHZhbHVl"}
    assert state.values == {
        "w1": {"effects": {"e1": effect}},
        "w2": {
            "failure": {"event_id": "f2", "reason": "refused, said by stock"},
            "effects": {"e2": {**effect, "key": "order-2", "status": "asked"}},
            "follows": {"f2": ["e2"]},
        },
    }


async def test_it_goes_on_where_it_was() -> None:
    """The next record finds the state of the last one; a record that comes again asks for nothing again."""
    state = MemoryState()
    first = handled("w", "r", reserved("e1"))
    second = handled("w", "e1", reserved("e2"), refused("f"))
    undone = handled("w", undo_id("e2"), type=UndoRequested.__event__.type)

    said = [await coordinate(state, known) for known in (first, second, second, undone, undone, first)]

    assert [[request.event_id for request in requests if isinstance(request, UndoRequested)] for requests in said] == [
        [],
        ["e2"],
        [],
        ["e1"],
        [],
        [],
    ]


def test_the_consumer() -> None:
    """It hears activity alone, partition by partition, since its state spans keys."""
    consumer = coordinator()
    assert (consumer.name, consumer.topics, consumer.lane, consumer.emits) == (
        "compensation",
        ("antiphon.activity",),
        Lane.PARTITION,
        None,
    )
