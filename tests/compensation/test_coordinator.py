"""The coordinator as a handler: activity in, requests out, state kept by workflow."""

from __future__ import annotations

import asyncio

from antiphon.bus.activity import Activity, Emitted, Failure, Handled
from antiphon.bus.alarms import TimeCame
from antiphon.bus.consumer import Lane
from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.undo import UndoRequested, undo_requested
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.workflow import undo_id
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event, envelope_of
from antiphon.testing.clock import FakeClock
from antiphon.testing.delivery import MemoryServices, MemoryState, delivery_of, hand
from antiphon.testing.facts import Hears

UNDO = UndoRequested.__event__.type
SHOP = Hears(reserved=["card"])


def handled(
    workflow: str,
    event: str,
    *emitted: Emitted,
    key: str | None = None,
    type: str = "some.event",
    error: Failure | None = None,
) -> Handled:
    return Handled(
        event_id=event,
        event_type=type,
        correlation_id=workflow,
        key=key,
        topic="t",
        partition=0,
        offset=0,
        attempt=1,
        outcome="dead_lettered" if error else "completed",
        started_us=0,
        duration_us=0,
        queue_us=0,
        emitted=[*emitted],
        error=error,
    )


def reserved(id: str) -> Emitted:
    return Emitted(id=id, type="reserved", undo=b"\x00value")


def refused(id: str) -> Emitted:
    return Emitted(id=id, type="refused", fails=True)


class Town:
    """A coordinator with its state and its clock."""

    def __init__(self, linger_s: float = 3_600) -> None:
        self.state = MemoryState()
        self.services = MemoryServices()
        self.clock = FakeClock()
        self._consumer = coordinator(clock_us=self.clock.now_us, mesh=SHOP, linger_s=linger_s)

    async def hears(self, *deliveries: Handled, agent: str = "card") -> list[Event]:
        """Tell it of *deliveries*, in one record; return what it says."""
        activity = Activity(agent=agent, version="1", instance="i", deliveries=[*deliveries])
        return await hand(self._consumer, delivery_of(activity, state=self.state, services=self.services))

    async def looks(self) -> list[Event]:
        """Have it look at what is due; return what it says."""
        return await hand(self._consumer, delivery_of(TimeCame(), state=self.state, services=self.services))

    async def told(self, said: SagaIntervened, workflow: str) -> list[Event]:
        """Have an operator say something about a workflow."""
        sealed = said.sealed(Envelope.root(said.__event__.type, source="/test", correlation_id=workflow))
        return await hand(self._consumer, delivery_of(sealed, state=self.state, services=self.services))


async def test_a_long_record_lets_others_run() -> None:
    """Of five hundred deliveries a few are judged at a time, whoever else waits for the loop: heartbeats, other partitions."""
    town, turns = Town(), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    try:
        await town.hears(*(handled(f"w{n}", f"r{n}", reserved(f"e{n}")) for n in range(500)))
    finally:
        counting.cancel()
    assert turns >= 500 // 50


async def test_one_record_tells_of_many_workflows() -> None:
    """Each is judged by itself; only what failed is undone, under the key its agent's state is kept by."""
    town = Town()
    [request] = await town.hears(
        handled("w1", "r1", reserved("e1")),
        handled("w2", "r2", reserved("e2"), key="order-2"),
        handled("w3", "r3"),
        handled("w2", "e2", refused("f2"), type="reserved"),
    )

    assert request == undo_requested("card")(
        agent="card", event_id="e2", event_type="reserved", value=b"\x00value", reason="refused, said by card"
    )
    assert request.__event__.topic == "card.undo"
    assert envelope_of(request) == Envelope(
        id=undo_id("e2"),
        type="antiphon.undo.requested",
        source="/agents/compensation",
        time_us=town.clock.now_us(),
        correlation_id="w2",
        parent_id="f2",
        key="order-2",
    )
    kept = {name: value for name, value in town.state.values.items() if not name.startswith("antiphon:")}
    assert kept.keys() == {"w1", "w2"}
    assert kept["w2"]["workflow"]["effects"]["e2"] == {
        "agent": "card",
        "type": "reserved",
        "value": "AHZhbHVl",
        "key": "order-2",
        "status": "asked",
    }


async def test_it_goes_on_where_it_was() -> None:
    """The next record finds the state of the last one; a record that comes again asks for nothing again."""
    town = Town()
    first = handled("w", "r", reserved("e1"))
    second = handled("w", "e1", reserved("e2"), type="reserved")
    third = handled("w", "e2", refused("f"), type="reserved")
    undone = handled("w", undo_id("e2"), type=UNDO)

    said = [await town.hears(known) for known in (first, second, third, third, undone, undone, first)]

    assert [[request.event_id for request in requests if isinstance(request, UndoRequested)] for requests in said] == [
        [],
        [],
        ["e2"],
        [],
        ["e1"],
        [],
        [],
    ]


async def test_it_tells_when_a_person_is_needed_and_hears_what_he_says() -> None:
    """An undo that was given up is an event of its own; a retry asks for the same one again."""
    town = Town()
    await town.hears(handled("w", "r", reserved("e1")), handled("w", "e1", refused("f"), type="reserved"))
    problem = Failure(type="ValueError", message="no such shelf")
    [parked] = await town.hears(handled("w", undo_id("e1"), type=UNDO, error=problem))
    assert parked == SagaParked(agent="card", event_id="e1", event_type="reserved", problem="ValueError: no such shelf")
    assert (envelope_of(parked).correlation_id, envelope_of(parked).parent_id) == ("w", undo_id("e1"))

    [again] = await town.told(SagaIntervened(act=Act.RETRY, actor="ann", reason="mended"), "w")
    assert envelope_of(again).id == undo_id("e1")


async def test_what_it_does_itself_is_no_news_to_it() -> None:
    """It handles operators' words, and that stands in the activity that it hears."""
    town = Town()
    await town.hears(handled("w", "said", type="antiphon.saga.intervened"), agent="compensation")
    assert town.state.values == {}


async def test_state_goes_when_its_time_is_over() -> None:
    """Workflows that have ended are kept for a while, since somebody may add to them; then nothing of them is left."""
    town = Town(linger_s=3_600)
    for number in range(250):
        await town.hears(
            handled(f"done-{number}", "r", reserved("e")),
            handled(f"done-{number}", "e", type="reserved"),
            handled(f"failed-{number}", "r", reserved("e")),
            handled(f"failed-{number}", "e", refused("f"), type="reserved"),
            handled(f"failed-{number}", undo_id("e"), type=UNDO),
            handled(f"plain-{number}", "r"),
        )
    assert sum(not key.startswith("antiphon:") for key in town.state.values) == 500
    town.clock.advance(61)
    assert await town.looks() == []
    town.clock.advance(3_700)
    assert await town.looks() == []
    assert town.state.values == {}


async def test_what_still_runs_is_kept_while_somebody_is_at_it() -> None:
    """A handler takes an hour, and fails: what was done before it is undone, however short workflows that have ended are kept."""
    town = Town(linger_s=60)
    await town.hears(handled("w", "r", reserved("e1")))
    for _ in range(6):
        town.clock.advance(600)
        assert await town.looks() == []
    asked = await town.hears(handled("w", "e1", refused("f"), type="reserved"))
    assert [request.event_id for request in asked if isinstance(request, UndoRequested)] == ["e1"]


async def test_what_nobody_ends_is_given_up_after_a_month() -> None:
    """Its events are gone from their topics by then: nobody will handle them any more."""
    town = Town(linger_s=60)
    await town.hears(handled("w", "r", reserved("e1")))
    town.clock.advance(29 * 86_400)
    await town.looks()
    assert "w" in town.state.values
    town.clock.advance(2 * 86_400)
    await town.looks()
    assert town.state.values == {}


async def test_what_is_not_undone_is_kept_however_long_it_takes() -> None:
    """A parked workflow waits for a person."""
    town = Town(linger_s=60)
    await town.hears(handled("w", "r", reserved("e1")), handled("w", "e1", refused("f"), type="reserved"))
    for _ in range(5):
        town.clock.advance(600)
        assert await town.looks() == []
    assert "w" in town.state.values


def test_the_consumer() -> None:
    """It hears activity and operators, partition by partition, since its state spans keys; and looks when it is time."""
    consumer = coordinator()
    assert (consumer.name, consumer.topics, consumer.lane, consumer.wakes, consumer.emits) == (
        "compensation",
        ("antiphon.activity", "antiphon.lock.events", "antiphon.saga.events"),
        Lane.PARTITION,
        True,
        None,
    )
