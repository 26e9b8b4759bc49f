"""What a workflow document says, whole; and that nothing but the set of records decides it."""

import dataclasses
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.bus.activity import Failure, Spent
from antiphon.schemas.envelope import Envelope
from antiphon.testing.story import START_US, Says, Story
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import stitch

ROOT = "0199f2c1-0000-7000-8000-000000000000"


def intake() -> Story:
    """A package is refused, and its reservation is undone."""
    story = Story()
    story.works("reader", hears=["package.submitted"], emits=["package.read"])
    story.works("catalogue", hears=["package.read"], emits=["package.reserved", "package.released"])
    story.works("licence", hears=["package.read"], emits=["licence.identified"])
    story.works("policy", hears=["package.reserved", "licence.identified"], fails=["package.refused"])
    story.works("compensation")
    submitted = story.published("package.submitted", {"name": "certifi", "version": "2026.1.4"})
    [read] = story.handled("reader", submitted, Says("package.read"), at_ms=2, took_ms=31)
    [reserved] = story.handled("catalogue", read, Says("package.reserved", undo=True), at_ms=35, took_ms=12)
    story.handled("policy", reserved, at_ms=50, took_ms=0.5)
    [identified] = story.handled("licence", read, Says("licence.identified"), at_ms=36, took_ms=88, confidence=0.97)
    [refused] = story.handled(
        "policy", identified, Says("package.refused", fails=True), at_ms=130, took_ms=4, also=[reserved]
    )
    asked = story.undo_asked(reserved, refused, at_ms=140)
    story.handled("catalogue", asked, Says("package.released"), at_ms=240, took_ms=8)
    return story


def test_the_whole_document() -> None:
    """The contract of every screen, export and script, in full."""
    story = Story()
    story.works("triage", hears=["ticket.opened"], emits=["ticket.triaged"])
    story.works("answer", hears=["ticket.triaged"])
    opened = story.published("ticket.opened", {"ticket_id": "T-7"})
    [triaged] = story.handled(
        "triage",
        opened,
        Says("ticket.triaged", {"queue": "billing"}),
        at_ms=1.5,
        took_ms=40,
        usage=[
            Spent(
                model="m",
                input_tokens=10,
                output_tokens=2,
                cost=0.1,
                started_us=START_US + 2_000,
                duration_us=30_000,
            )
        ],
        confidence=0.9,
    )
    late = Failure(type="TimeoutError", message="no answer", traceback="...")
    story.handled("answer", triaged, at_ms=50, took_ms=500, outcome="retried", error=late)
    story.handled("answer", triaged, at_ms=600, took_ms=500, attempt=2, outcome="dead_lettered", error=late)

    document = story.stitched().document()

    assert list(document) == [
        "correlation_id",
        "type",
        "state",
        "started",
        "ended",
        "duration_ms",
        "events",
        "deliveries",
        "outstanding",
        "critical_path",
        "cost",
        "warnings",
        "clocks",
        "replay_of",
    ]
    assert document == {
        "correlation_id": ROOT,
        "type": "ticket.opened",
        "state": "failed",
        "started": "2026-11-22T10:00:00.000000Z",
        "ended": "2026-11-22T10:00:01.100000Z",
        "duration_ms": 1100.0,
        "events": [
            {
                "id": ROOT,
                "type": "ticket.opened",
                "parent_id": None,
                "causes": [],
                "source": "/apps/shop",
                "time": "2026-11-22T10:00:00.000000Z",
                "topic": "ticket.opened",
                "partition": 2,
                "offset": 0,
                "key": ROOT,
                "data": {"ticket_id": "T-7"},
                "fails": False,
            },
            {
                "id": triaged.id,
                "type": "ticket.triaged",
                "parent_id": ROOT,
                "causes": [],
                "source": "/agents/triage",
                "time": "2026-11-22T10:00:00.041500Z",
                "topic": "ticket.triaged",
                "partition": 2,
                "offset": 1,
                "key": ROOT,
                "data": {"queue": "billing"},
                "fails": False,
            },
        ],
        "deliveries": [
            {
                "event_id": ROOT,
                "agent": "triage",
                "version": "1",
                "instance": "triage-1",
                "attempt": 1,
                "outcome": "completed",
                "started": "2026-11-22T10:00:00.001500Z",
                "duration_ms": 40.0,
                "queue_ms": 1.5,
                "model_ms": 30.0,
                "emitted": [triaged.id],
                "error": None,
                "usage": [
                    {
                        "model": "m",
                        "input_tokens": 10,
                        "output_tokens": 2,
                        "cost": 0.1,
                        "currency": "USD",
                        "started": "2026-11-22T10:00:00.002000Z",
                        "duration_ms": 30.0,
                    }
                ],
                "confidence": 0.9,
                "logs": [],
            },
            {
                "event_id": triaged.id,
                "agent": "answer",
                "version": "1",
                "instance": "answer-1",
                "attempt": 1,
                "outcome": "retried",
                "started": "2026-11-22T10:00:00.050000Z",
                "duration_ms": 500.0,
                "queue_ms": 8.5,
                "model_ms": None,
                "emitted": [],
                "error": {"type": "TimeoutError", "message": "no answer", "traceback": "..."},
                "usage": [],
                "confidence": None,
                "logs": [],
            },
            {
                "event_id": triaged.id,
                "agent": "answer",
                "version": "1",
                "instance": "answer-1",
                "attempt": 2,
                "outcome": "dead_lettered",
                "started": "2026-11-22T10:00:00.600000Z",
                "duration_ms": 500.0,
                "queue_ms": 558.5,
                "model_ms": None,
                "emitted": [],
                "error": {"type": "TimeoutError", "message": "no answer", "traceback": "..."},
                "usage": [],
                "confidence": None,
                "logs": [],
            },
        ],
        "outstanding": [],
        "critical_path": [ROOT, triaged.id],
        "cost": {"amount": 0.1, "currency": "USD"},
        "warnings": [],
        "clocks": [],
        "replay_of": None,
    }


@pytest.mark.parametrize(
    ("calls", "waited_us"),
    [
        ([], None),
        ([(None, None)], None),
        ([(0, 40)], 40),
        ([(0, 40), (100, 20)], 60),
        ([(100, 20), (0, 40), (10, 60), (20, 10)], 90),
        ([(0, 0)], 0),
        ([(5, 10), (None, None)], 10),
    ],
)
def test_how_long_models_were_waited_for(calls: list[tuple[int | None, int | None]], waited_us: int | None) -> None:
    """What the calls cover together, in whatever order they are told; nothing where no call tells when it was."""
    story = Story()
    usage = [Spent(model="m", started_us=started_us, duration_us=took_us) for started_us, took_us in calls]
    story.handled("a", story.published("asked"), usage=usage)
    [delivery] = story.stitched().deliveries
    assert delivery.model_us == waited_us


def test_a_refused_package_is_compensated() -> None:
    """The critical path is the work's, not the undoing's; the join waited for the later of its two inputs."""
    document = intake().stitched().document()

    types = {event["id"]: event["type"] for event in document["events"]}
    assert (document["state"], document["duration_ms"], document["outstanding"], document["warnings"]) == (
        "compensated",
        248.0,
        [],
        [],
    )
    assert [types[id] for id in document["critical_path"]] == [
        "package.submitted",
        "package.read",
        "licence.identified",
        "package.refused",
    ]
    assert [event["type"] for event in document["events"] if event["fails"]] == ["package.refused"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_neither_order_nor_repetition_shows(data: st.DataObject) -> None:
    """Topics are read in parallel and deliveries repeat; the same records always make the same workflow."""
    story = intake()
    stray = Envelope(
        id="stray", type="t", source="/x", time_us=START_US + 5, correlation_id=ROOT, parent_id="never", causes=(ROOT,)
    )
    story.seen(stray)
    story.seen(dataclasses.replace(stray, time_us=START_US + 9))
    story.seen(dataclasses.replace(stray, type="u"))
    story.seen(dataclasses.replace(stray, id="a", parent_id="b", causes=()))
    story.seen(dataclasses.replace(stray, id="b", parent_id="a", causes=()))
    expected = story.stitched().document()

    shuffled = Story()
    for name in ("events", "activity", "agents"):
        told = getattr(story, name)
        again = data.draw(st.lists(st.sampled_from(told), max_size=6))
        setattr(shuffled, name, data.draw(st.permutations([*told, *again])))
    shuffled.now_ms = story.now_ms

    assert shuffled.stitched().document() == expected


def chain(length: int) -> list[SeenEvent]:
    return [
        SeenEvent(
            envelope=Envelope(
                id=f"{n:05}",
                type="step.done",
                source="/agents/step",
                time_us=START_US + n,
                correlation_id="00000",
                parent_id=f"{n - 1:05}" if n else None,
            ),
            topic="step.done",
            partition=0,
            offset=n,
            data={"n": n},
        )
        for n in range(length)
    ]


def test_ten_thousand_deep() -> None:
    """No recursion: a chain is as long as the work takes."""
    began = time.perf_counter()
    document = stitch(reversed(chain(10_000)), [], [], now_us=START_US).document()

    assert [event["id"] for event in document["events"]] == document["critical_path"]
    assert len(document["critical_path"]) == 10_000
    assert time.perf_counter() - began < 15


def test_ten_thousand_wide() -> None:
    """One event may lead to as many as its agent likes."""
    deep = chain(10_000)
    wide = [
        dataclasses.replace(event, envelope=dataclasses.replace(event.envelope, parent_id="00000"))
        for event in deep[1:]
    ]
    began = time.perf_counter()
    document = stitch([*reversed(wide), deep[0]], [], [], now_us=START_US).document()

    assert len(document["events"]) == 10_000
    assert document["critical_path"] == ["00000", "09999"]
    assert time.perf_counter() - began < 15


def test_calls_are_counted_once() -> None:
    """An activity record that is read twice tells of one call."""
    story = Story()
    opened = story.published("ticket.opened")
    story.handled("a", opened, usage=[Spent(model="m", cost=0.1), Spent(model="m", cost=0.2)])
    story.activity *= 2
    assert story.stitched().document()["cost"] == {"amount": 0.3, "currency": "USD"}


def test_currencies_are_not_added_up() -> None:
    """A reader that knows of one currency only finds nothing, rather than a sum that means nothing."""
    story = Story()
    opened = story.published("ticket.opened")
    story.handled(
        "a", opened, usage=[Spent(model="m", cost=1, currency="USD"), Spent(model="n", cost=2, currency="EUR")]
    )
    assert story.stitched().document()["cost"] == {
        "amount": None,
        "currency": None,
        "amounts": [{"amount": 2, "currency": "EUR"}, {"amount": 1, "currency": "USD"}],
    }


def test_events_of_two_workflows_are_refused() -> None:
    """One correlation id, one workflow."""
    mine, other = Story().published("a"), Story("other").published("b")
    with pytest.raises(ValueError, match="expected events of one workflow, got 2 correlation ids"):
        stitch([mine, other], [], [], now_us=0)


def test_a_later_root_joins_the_workflow() -> None:
    """A person's answer is published from outside; it has no parent and is no gap."""
    story = Story()
    story.published("review.given", id="0199f2c1-0000-7000-8000-000000000001", at_ms=5)
    story.published("review.requested")
    document = story.stitched().document()
    assert (document["type"], document["state"], document["warnings"]) == ("review.requested", "completed", [])
