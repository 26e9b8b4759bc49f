"""What is odd about a workflow is said in a closed set of words."""

import dataclasses

from antiphon.schemas.envelope import Envelope
from antiphon.testing.story import START_US, Says, Story

ROOT = "0199f2c1-0000-7000-8000-000000000000"


def envelope(id: str, parent_id: str | None, *, at_us: int = 1_000, causes: tuple[str, ...] = ()) -> Envelope:
    return Envelope(
        id=id,
        type=f"{id}.done",
        source=f"/agents/{id}",
        time_us=START_US + at_us,
        correlation_id=ROOT,
        parent_id=parent_id,
        causes=causes,
    )


def warnings(story: Story) -> list[tuple[str, str, str]]:
    return [(kind.value, id, message) for kind, id, message in story.stitched().warnings]


def test_a_parent_never_seen() -> None:
    """The gap is named at the event that points to it."""
    story = Story()
    story.published("a.done")
    story.seen(envelope("b", "lost", causes=(ROOT,)))
    assert warnings(story) == [("MISSING_PARENT", "b", "b.done was caused by lost, which was not seen")]
    assert story.stitched().state.value == "incomplete"


def test_an_event_only_activity_knows() -> None:
    """Its topic may keep events for a shorter time than activity is kept."""
    story = Story()
    [gone] = story.handled("b", story.published("a.done"), Says("b.done"))
    story.events.remove(gone)
    assert warnings(story) == [
        ("MISSING_EVENT", gone.id, f"activity names b.done {gone.id}, but no topic holds it; it may have expired")
    ]


def test_causes_in_a_circle() -> None:
    """Every event of it is still shown, each once; the earliest stands as a root."""
    story = Story()
    for id, parent, at_us in (("x", "z", 30), ("y", "x", 20), ("z", "y", 10), ("after", "x", 40), ("own", "own", 50)):
        story.seen(envelope(id, parent, at_us=at_us))
    workflow = story.stitched()
    assert [event.id for event in workflow.events] == ["z", "x", "y", "after", "own"]
    cycles = [id for kind, id, _ in workflow.warnings if kind == "CYCLE"]
    assert cycles == ["z", "own"]


def test_many_circles() -> None:
    """Each is cut by itself, and what hangs between them is not taken for part of one."""
    story = Story()
    for n in range(300):
        story.seen(envelope(f"a{n:03}", f"b{n:03}", at_us=n + 5))
        story.seen(envelope(f"b{n:03}", f"a{n:03}", at_us=n + 9))
    story.seen(envelope("between", "a007", at_us=0))
    story.seen(envelope("c", "d", causes=("between",)))
    story.seen(envelope("d", "c"))
    workflow = story.stitched()
    assert len(workflow.events) == 603
    assert {id for kind, id, _ in workflow.warnings if kind == "CYCLE"} == {*(f"a{n:03}" for n in range(300)), "c"}


def test_two_events_of_one_id() -> None:
    """The first is kept. The same event made again a little later is no conflict."""
    story = Story()
    first = story.published("a.done", {"n": 1})
    story.seen(dataclasses.replace(first.envelope, time_us=START_US + 7), {"n": 1}, topic="a.done")
    assert warnings(story) == []
    story.seen(first.envelope, {"n": 2})
    workflow = story.stitched()
    assert warnings(story) == [
        ("ID_CONFLICT", ROOT, "a.done[2]@2 holds another event of this id; the one at a.done[2]@0 is shown")
    ]
    assert [event.data for event in workflow.events] == [{"n": 1}]


def test_a_type_its_agent_does_not_declare() -> None:
    """What counts is what that version declared; an agent that never said a word is not accused."""
    story = Story()
    root = story.published("a.done")
    story.works("b", emits=["b.done"], version="2")
    story.works("b", emits=["c.done"], version="1", instance="b-old", stopped=True)
    [emitted] = story.handled("b", root, Says("c.done"), version="2")
    story.handled("b", emitted, Says("c.done"), version="1")
    story.handled("unknown", root, Says("d.done"))
    assert warnings(story) == [("UNDECLARED_EVENT", emitted.id, "b emitted c.done, but declares b.done")]


def test_an_effect_before_its_cause() -> None:
    """Shown with both machines named; the order is causal all the same."""
    story = Story()
    story.published("a.done")
    story.seen(envelope("b", ROOT, at_us=-1_500))
    assert [event.id for event in story.stitched().events] == [ROOT, "b"]
    assert warnings(story) == [
        (
            "CLOCK_SKEW",
            "b",
            "b.done from /agents/b is 1.500 ms earlier than its cause a.done from /apps/shop: their clocks differ",
        )
    ]


def test_made_after_the_deadline() -> None:
    """A success that comes too late is told apart."""
    story = Story()
    root = story.published("a.done", deadline_ms=100)
    [late] = story.handled("b", root, Says("b.done"), at_ms=50, took_ms=60)
    assert warnings(story) == [
        ("LATE", late.id, "b.done was made 10.000 ms after its deadline, 2026-11-22T10:00:00.100000Z")
    ]


def test_data_that_cannot_be_read() -> None:
    """The event keeps its place; only its data is missing."""
    story = Story()
    event = story.published("a.done")
    story.events = [dataclasses.replace(event, data=None, problem="no schema with id 17")]
    assert warnings(story) == [("UNDECODABLE", ROOT, "the data of a.done could not be read: no schema with id 17")]
    assert story.stitched().document()["events"][0]["data"] is None
