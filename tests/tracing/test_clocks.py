"""Clocks that disagree, by minutes too: causes stay before effects, and nothing is hidden of what was told."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.bus.activity import Activity
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.record import Record
from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import parse_time, to_headers
from antiphon.schemas.event import Event
from antiphon.schemas.store import MemoryStore
from antiphon.testing.story import START_US, Says, Story
from antiphon.tracing import Index, Search
from antiphon.tracing.clocks import TOLERANCE_US, Clock, ahead
from antiphon.tracing.document import at_right_times
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import Workflow, stitch
from tests.tracing.reading import Read, learn
from tests.tracing.test_index import content

MINUTE_US = 60_000_000
SECOND_US = 1_000_000


def told(story: Story, clocks: dict[str, int]) -> tuple[list[SeenEvent], list[Activity]]:
    """What *story* leaves where each agent's clock is ahead by so much, and that of the shop likewise."""
    makers = {
        emitted.id: activity.agent
        for activity in story.activity
        for handled in activity.deliveries
        for emitted in handled.emitted
    }
    events = [
        dataclasses.replace(
            event,
            envelope=dataclasses.replace(
                event.envelope, time_us=event.envelope.time_us + clocks.get(makers.get(event.id, "shop"), 0)
            ),
        )
        for event in story.events
    ]
    times = {event.id: event.envelope.time_us for event in events}
    activity: list[Activity] = []
    for one in story.activity:
        handled = [
            each.model_copy(
                update={
                    "started_us": (started := each.started_us + clocks.get(one.agent, 0)),
                    "queue_us": started - times[each.event_id],
                }
            )
            for each in one.deliveries
        ]
        activity.append(one.model_copy(update={"deliveries": handled}))
    return events, activity


def seen(story: Story, clocks: dict[str, int]) -> Workflow:
    events, activity = told(story, clocks)
    return stitch(events, activity, story.agents, now_us=START_US, correlation_id=story.root_id)


def drawn(chance: random.Random) -> Story:
    """A workflow of a few agents, who hear one another's events in whatever order, and join them now and then."""
    story = Story()
    events = [story.published("e0")]
    now_ms = 0.0
    for n in range(1, chance.randrange(3, 14)):
        now_ms += chance.choice((0, 0.2, 5, 700))
        cause, also = chance.choice(events), chance.sample(events, chance.choice((0, 0, 1)))
        said = [Says(f"e{n}")] if chance.random() < 0.8 else []
        agent = chance.choice("abcd")
        events += story.handled(agent, cause, *said, at_ms=now_ms, took_ms=chance.choice((0, 3)), also=also)
        now_ms = story.now_ms
        if chance.random() < 0.2:
            events.append(story.published(f"o{n}", id=f"o{n}", at_ms=now_ms))
    return story


clock = st.sampled_from((0, 0, 0, 3 * MINUTE_US, -7 * MINUTE_US, SECOND_US, -40_000, 3_000))


@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 1 << 32), offs=st.dictionaries(st.sampled_from(("a", "b", "c", "d", "shop")), clock))
def test_causes_come_first_whatever_clocks_say(seed: int, offs: dict[str, int]) -> None:
    """In the order that is shown, and by the times that are put right; the same events and deliveries are there as ever."""
    story = drawn(random.Random(seed))
    workflow, right = seen(story, offs), seen(story, {})
    place = {event.id: index for index, event in enumerate(workflow.events)}
    assert all(place[parent] < place[event.id] for event in workflow.events for parent in event.parents)
    document = at_right_times(workflow.document())
    times = {event["id"]: parse_time(event["time"]) for event in document["events"]}
    for event in document["events"]:
        for parent in (*event["causes"], *([event["parent_id"]] if event["parent_id"] else ())):
            assert times[event["id"]] >= times[parent] - TOLERANCE_US
    for delivery in document["deliveries"]:
        assert parse_time(delivery["started"]) >= times[delivery["event_id"]] - TOLERANCE_US
    assert workflow.state == right.state
    assert {*place} == {event.id for event in right.events}
    assert right.clocks == ()
    if len({offs.get(name, 0) for name in ("a", "b", "c", "d", "shop")}) == 1:
        assert workflow.clocks == ()


def order(n: int = 0) -> Story:
    """An order goes through three agents, and the shop hears of it and orders again."""
    story = Story(f"0199f2c1-0000-7000-8000-{n:012}")
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved"), at_ms=2, took_ms=10)
    [charged] = story.handled("card", reserved, Says("card.charged"), at_ms=14, took_ms=100)
    story.handled("ship", charged, at_ms=115, took_ms=5)
    story.handled("ship", placed, at_ms=121, took_ms=1)
    return story


def test_clocks_that_disagree_by_minutes() -> None:
    """Which one, by how much; how long it took is as if they agreed; times are as told, each that cannot be is flagged."""
    fast = seen(order(), {"card": 3 * MINUTE_US})
    assert fast.clocks == (Clock("card/card-1", 3 * MINUTE_US - 1_000),)
    document = fast.document()
    assert (document["duration_ms"], document["clocks"]) == (
        122.0,
        [{"producer": "card/card-1", "ahead_ms": 179_999.0}],
    )
    [charged] = [event for event in document["events"] if event["type"] == "card.charged"]
    assert parse_time(charged["time"]) == START_US + 114_000 + 3 * MINUTE_US
    assert [(kind.value, message) for kind, _, message in fast.warnings] == [
        (
            "CLOCK_SKEW",
            "ship on ship-1 began with card.charged 179999.000 ms before /agents/card made it: their clocks differ",
        )
    ]
    slow = seen(order(), {"card": -3 * MINUTE_US})
    assert slow.clocks == (Clock("card/card-1", -3 * MINUTE_US + 2_000),)
    assert slow.critical_path == seen(order(), {}).critical_path
    assert [kind.value for kind, _, _ in slow.warnings] == ["CLOCK_SKEW"]


def test_what_cannot_be_told_is_not_claimed() -> None:
    """An agent whose clock is ahead, and of which nobody else hears: a long queue looks the same."""
    story = Story()
    story.handled("a", story.published("order.placed"), at_ms=1)
    assert seen(story, {"a": MINUTE_US}).clocks == ()


def test_a_clock_that_was_set_meanwhile() -> None:
    """No number fits what contradicts itself; there is an answer all the same."""
    assert ahead({("a", "b"): -MINUTE_US, ("b", "a"): -MINUTE_US}) != {}
    ring = {(f"p{n}", f"p{(n + 1) % 50}"): -MINUTE_US for n in range(50)}
    assert {*ahead(ring)} <= {f"p{n}" for n in range(50)}


class OrderPlaced(Event):
    order: str = ""


async def records(codec: Codec, stories: Sequence[tuple[Story, dict[str, int]]]) -> list[Record]:
    """What stories leave on their topics."""
    await codec.announce([Activity, AgentSeen, OrderPlaced])
    value = codec.encode(OrderPlaced())
    found: list[Record] = []
    for story, clocks in stories:
        events, activity = told(story, clocks)
        for event in events:
            key = event.envelope.correlation_id.encode()
            found.append(Record(event.topic, 0, len(found), key, value, to_headers(event.envelope), 0))
        found += [
            Record("antiphon.activity", 0, len(found) + n, b"?", codec.encode(one), [], 0)
            for n, one in enumerate(activity)
        ]
    await learn(codec, found)
    return found


async def test_an_index_keeps_what_it_learned_of_clocks() -> None:
    """By producer; what one workflow shows puts right another that shows nothing; its order of reading does not matter."""
    assert schema_of(OrderPlaced)
    codec, off = Codec(MemoryStore()), {"card": 3 * MINUTE_US}
    short = Story("0199f2c1-0000-7000-8000-00000000ffff")
    short.handled("card", short.published("card.asked"), at_ms=1, took_ms=50)
    stored = await records(codec, [*((order(n), off) for n in range(20)), (short, off)])
    kept: list[object] = []
    for seed in range(4):
        random.Random(seed).shuffle(stored)
        read = Read(None, codec)
        for first in range(0, len(stored), 25):
            read.take(stored[first : first + 25])
            read.settle(START_US)
        index = Index(read.database)
        kept.append(content(read.database)["clocks"])
        assert index.clocks() == [Clock("card/card-1", 3 * MINUTE_US - 1_000)]
        listed = {one.correlation_id: one.duration_us for one in index.workflows(Search())}
        assert {listed[order(n).root_id] for n in range(20)} == {122_000}
        alone = index.workflow(short.root_id)
        assert alone is not None
        assert (alone.clocks, alone.document()["duration_ms"]) == (
            (Clock("card/card-1", 3 * MINUTE_US - 1_000),),
            52.0,
        )
    assert all(one == kept[0] for one in kept)


async def test_what_brokers_stamp_tells_of_a_clock_that_nobody_else_hears_of() -> None:
    """An agent cannot have done anything after the broker appended that it did."""
    codec, off = Codec(MemoryStore()), {"a": 3 * MINUTE_US}
    story = Story()
    story.handled("a", story.published("order.placed"), at_ms=1, took_ms=5)
    stored = [
        dataclasses.replace(record, timestamp_ms=START_US // 1_000 + 8, appended=True)
        for record in await records(codec, [(story, off)])
    ]
    read = Read(None, codec)
    read.take(stored)
    read.settle(START_US)
    workflow = Index(read.database).workflow(story.root_id)
    assert workflow is not None
    assert workflow.clocks == (Clock("a/a-1", 3 * MINUTE_US - 2_999),)
    assert workflow.document()["duration_ms"] == 8.999
