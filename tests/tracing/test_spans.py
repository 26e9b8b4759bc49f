"""A workflow as spans: each kind whole, and what holds of the spans of any workflow."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from antiphon.bus.activity import Failure, Spent
from antiphon.bus.names import Names
from antiphon.schemas.envelope import Envelope
from antiphon.testing.story import START_US, Says, Story
from antiphon.tracing.delivered import deliveries_of
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.spans.ids import Context, context_in, trace_id
from antiphon.tracing.spans.making import Relation, root_id, spans_of
from antiphon.tracing.spans.span import Kind, Moment, Service, Span, Value
from tests.tracing.workflows import ROOT, order, ticket

TRACE = "0199f2c1000070008000000000000000"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def test_the_whole_of_a_trace() -> None:
    """Every kind of span, in full: what other people's tools will show."""
    spans = spans_of(ticket().stitched(), names=Names("staging"))
    found = by_name(spans)
    root, opened, process, invoke, chat, triaged = (
        found[name]
        for name in (
            "invoke_workflow ticket.opened",
            "send staging.ticket.opened",
            "process staging.ticket.opened",
            "invoke_agent triage",
            "chat m-1",
            "send staging.ticket.triaged",
        )
    )
    triage = Service("triage", "1", "triage-1")
    about_opened: dict[str, Value] = {
        "messaging.system": "kafka",
        "messaging.destination.name": "staging.ticket.opened",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 0,
        "messaging.kafka.message.key": ROOT,
        "messaging.message.id": ROOT,
        "messaging.message.conversation_id": ROOT,
        "antiphon.event.type": "ticket.opened",
    }
    assert spans == [root, opened, triaged, process, invoke, chat]
    assert root == Span(
        context=Context(TRACE, root_id(ROOT)),
        parent=None,
        name="invoke_workflow ticket.opened",
        kind=Kind.INTERNAL,
        service=Service("shop"),
        start_us=START_US,
        end_us=START_US + 41_500,
        attributes={
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.conversation.id": ROOT,
            "antiphon.workflow.state": "completed",
            "antiphon.workflow.events": 2,
            "gen_ai.workflow.name": "ticket.opened",
        },
    )
    assert opened == Span(
        context=Context(TRACE, opened.id),
        parent=root.id,
        name="send staging.ticket.opened",
        kind=Kind.PRODUCER,
        service=Service("shop"),
        start_us=START_US,
        end_us=START_US,
        attributes={**about_opened, "messaging.operation.name": "send", "messaging.operation.type": "send"},
    )
    assert process == Span(
        context=Context(TRACE, process.id),
        parent=opened.id,
        name="process staging.ticket.opened",
        kind=Kind.CONSUMER,
        service=triage,
        start_us=START_US + 1_500,
        end_us=START_US + 41_500,
        attributes={
            **about_opened,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": "staging.triage",
            "antiphon.delivery.attempt": 1,
            "antiphon.delivery.outcome": "completed",
            "antiphon.delivery.queue_wait": 0.0015,
        },
        links=(opened.context,),
    )
    assert invoke == Span(
        context=Context(TRACE, invoke.id),
        parent=process.id,
        name="invoke_agent triage",
        kind=Kind.INTERNAL,
        service=triage,
        start_us=START_US + 1_500,
        end_us=START_US + 41_500,
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "triage",
            "gen_ai.conversation.id": ROOT,
            "gen_ai.agent.version": "1",
            "gen_ai.workflow.name": "ticket.opened",
        },
        moments=(
            Moment(
                "gen_ai.evaluation.result",
                START_US + 41_500,
                {"gen_ai.evaluation.name": "confidence", "gen_ai.evaluation.score.value": 0.9},
            ),
        ),
    )
    assert chat == Span(
        context=Context(TRACE, chat.id),
        parent=invoke.id,
        name="chat m-1",
        kind=Kind.CLIENT,
        service=triage,
        start_us=START_US + 2_000,
        end_us=START_US + 32_000,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m-1",
            "gen_ai.agent.name": "triage",
            "gen_ai.conversation.id": ROOT,
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.provider.name": "openai",
            "gen_ai.usage.cost.amount": 0.25,
            "gen_ai.usage.cost.currency": "EUR",
            "gen_ai.usage.cost.source": "reported",
        },
    )
    assert (triaged.parent, triaged.service, triaged.start_us) == (invoke.id, triage, START_US + 41_500)


def tree(spans: list[Span]) -> list[str]:
    """The spans as lines, indented by depth; with `!` where they failed, and what they are linked to beside."""
    names = {span.id: span.name for span in spans}
    lines: list[str] = []

    def show(parent: str | None, depth: int) -> None:
        for span in spans:
            if span.parent == parent:
                links = ", ".join(names.get(link.span_id, link.span_id) for link in span.links)
                lines.append(
                    "  " * depth + span.name + (" !" if span.error else "") + (f" <- {links}" if links else "")
                )
                show(span.id, depth + 1)

    show(None, 0)
    return lines


def test_a_join_a_failure_and_a_gap() -> None:
    """The last event of a join is the parent, the others are links; whoever left no activity hangs on what it answers."""
    assert tree(spans_of(order().stitched())) == [
        "invoke_workflow order.placed !",
        "  send order.placed",
        "    process order.placed <- send order.placed",
        "      invoke_agent stock",
        "        send stock.reserved",
        "    process order.placed <- send order.placed",
        "      invoke_agent card",
        "        send card.charged",
        "          process card.charged <- send card.charged, send stock.reserved",
        "            invoke_agent ship",
        "              send parcel.lost",
        "                send stock.undo",
        "                process parcel.lost ! <- send parcel.lost",
        "                  invoke_agent audit !",
        "                process parcel.lost ! <- send parcel.lost",
        "                  invoke_agent audit !",
        "  send b.done",
    ]


@pytest.mark.parametrize(
    ("relation", "hangs_on", "links"),
    [
        (Relation.PARENT, "send card.charged", ["send stock.reserved"]),
        (Relation.LINK, "invoke_workflow order.placed", ["send card.charged", "send stock.reserved"]),
        (Relation.BOTH, "send card.charged", ["send card.charged", "send stock.reserved"]),
    ],
)
def test_what_handling_hangs_on(relation: Relation, hangs_on: str, links: list[str]) -> None:
    """By parent, by link, or by both; the other events of a join always by link."""
    spans = spans_of(order().stitched(), relation=relation)
    names = {span.id: span.name for span in spans}
    process = by_name(spans)["process card.charged"]
    assert (names[process.parent or ""], [names[link.span_id] for link in process.links]) == (hangs_on, links)


def test_what_failed_says_why() -> None:
    """The attempt has its error's type and traceback, the workflow what failed it first."""
    story = Story()
    opened = story.published("ticket.opened")
    late = Failure(type="TimeoutError", message="no answer", traceback="File answer.py")
    story.handled("answer", opened, at_ms=1, took_ms=2, outcome="dead_lettered", error=late)
    root, _, process, invoke = spans_of(story.stitched())
    told = {
        "exception.type": "TimeoutError",
        "exception.message": "no answer",
        "exception.stacktrace": "File answer.py",
    }
    assert [(span.error, span.attributes["error.type"]) for span in (root, process, invoke)] == [
        ("answer: no answer", "TimeoutError"),
        ("no answer", "TimeoutError"),
        ("no answer", "TimeoutError"),
    ]
    assert (process.moments, invoke.moments) == ((), (Moment("exception", START_US + 3_000, told),))
    [refused, *_] = spans_of(order().stitched())
    assert (refused.error, refused.attributes["error.type"]) == ("ship: parcel.lost", "parcel.lost")


def test_what_was_not_started_invoked_nobody() -> None:
    """An event past its deadline, or passed over, has a delivery and no handling."""
    story = Story()
    opened = story.published("ticket.opened")
    story.handled("answer", opened, at_ms=1, outcome="expired")
    story.handled("audit", opened, at_ms=2, outcome="skipped")
    spans = spans_of(story.stitched())
    assert [(span.name, span.attributes.get("error.type")) for span in spans[2:]] == [
        ("process ticket.opened", "expired"),
        ("process ticket.opened", None),
    ]


def test_content_goes_along_only_when_asked_for() -> None:
    """As it is shown: what is marked is masked before it gets here."""
    workflow = ticket().stitched()
    assert "billing" not in repr(spans_of(workflow))
    invoke = by_name(spans_of(workflow, content=True))["invoke_agent triage"]
    messages: list[Any] = [
        orjson.loads(str(invoke.attributes[name])) for name in ("gen_ai.input.messages", "gen_ai.output.messages")
    ]
    assert messages == [
        [{"role": "user", "parts": [{"type": "text", "content": '{"ticket_id":"T-7"}'}]}],
        [{"role": "assistant", "parts": [{"type": "text", "content": '{"queue":"billing"}'}]}],
    ]


def joined_to(traceparent: str) -> Story:
    """A ticket that an application opened in a trace of its own, and another event that it added in a second one."""
    story = ticket()
    first = story.events[0]
    story.events[:] = [
        dataclasses.replace(event, envelope=dataclasses.replace(event.envelope, traceparent=traceparent))
        for event in story.events
    ]
    added = dataclasses.replace(
        first.envelope, id="added", type="ticket.chased", traceparent=PARENT.replace("4bf", "5bf")
    )
    story.seen(added)
    return story


def test_it_joins_the_trace_that_it_was_started_in() -> None:
    """Its root is below the application's span; what came later from another trace is linked to that."""
    spans = spans_of(joined_to(PARENT).stitched())
    assert {span.context.trace_id for span in spans} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert spans[0].parent == "00f067aa0ba902b7"
    assert [span.links for span in spans if span.name == "send ticket.chased"] == [
        (Context("5bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),)
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00-1-2-01",
        PARENT.upper(),
        PARENT + "-more",
        "ff" + PARENT[2:],
        PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        PARENT.replace("00f067aa0ba902b7", "0" * 16),
    ],
)
def test_what_is_no_traceparent_joins_nothing(wrong: str) -> None:
    """The workflow has a trace of its own, as if nothing stood there."""
    assert context_in(wrong) is None
    story = ticket()
    story.events[0].envelope.traceparent = wrong
    assert spans_of(story.stitched())[0].context.trace_id == TRACE


def test_a_version_to_come_is_read_as_far_as_it_is_known() -> None:
    """W3C asks for that."""
    assert context_in("cc" + PARENT[2:] + "-more") == context_in(PARENT)


def test_a_workflows_trace_is_found_by_its_id() -> None:
    """A UUID is the trace's id as it stands; another id, and one that is no legal trace, is hashed."""
    assert trace_id(ROOT) == TRACE
    others = [trace_id(id) for id in ("order-7", "order-8", "00000000-0000-0000-0000-000000000000", ROOT.upper())]
    assert len({*others}) == 4
    assert all(len(one) == 32 and one.strip("0") for one in others)


AGENTS, OUTCOMES = "abcd", ("completed", "retried", "dead_lettered", "expired", "skipped", "timed_out", "cancelled")


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Any workflow: with joins, repeats, gaps, cycles, and what nobody left activity of."""
    story = Story()
    events: list[SeenEvent] = []
    if draw(st.booleans()):
        events.append(story.published("t.0"))
    for number in range(draw(st.integers(1, 12))):
        if not events or draw(st.integers(0, 9)) == 0:
            parent, id = draw(st.sampled_from([None, "gone", "x3", "x5"])), draw(st.sampled_from([f"x{number}", "x3"]))
            envelope = Envelope(
                id=id, type="t.x", source="/apps/x", time_us=START_US + number, correlation_id=ROOT, parent_id=parent
            )
            events.append(story.seen(envelope))
            continue
        heard = draw(st.sampled_from(events))
        also = [
            other
            for other in draw(st.lists(st.sampled_from(events), max_size=2, unique_by=lambda e: e.id))
            if other.id != heard.id
        ]
        events += story.handled(
            draw(st.sampled_from(AGENTS)),
            heard,
            *[Says(f"t.{n}") for n in range(draw(st.integers(0, 2)))],
            at_ms=draw(st.integers(0, 3)),
            took_ms=draw(st.integers(0, 3)),
            attempt=draw(st.integers(1, 2)),
            outcome=draw(st.sampled_from(OUTCOMES)),
            also=also,
            usage=[Spent(model="m")] * draw(st.integers(0, 2)),
            confidence=draw(st.none() | st.just(0.5)),
        )
    lost = draw(st.sets(st.integers(0, len(story.events) - 1), max_size=3))
    story.events[:] = [event for place, event in enumerate(story.events) if place not in lost]
    lost = draw(st.sets(st.integers(0, 12), max_size=2))
    story.activity[:] = [record for place, record in enumerate(story.activity) if place not in lost]
    return story


@given(stories(), st.randoms(use_true_random=False), st.sampled_from(Relation))
@settings(max_examples=150, deadline=None)
def test_of_any_workflow_the_spans_are_one_tree(story: Story, shuffle: random.Random, relation: Relation) -> None:
    """Whatever the order of the records: the same spans, no two with one id, one root, and every other's parent is there."""
    spans = spans_of(story.stitched(), relation=relation)
    again = Story()
    again.events = [*story.events, *story.events]
    again.activity = [*story.activity, *story.activity]
    shuffle.shuffle(again.events)
    shuffle.shuffle(again.activity)
    assert spans_of(again.stitched(), relation=relation) == spans
    if not spans:
        assert (story.events, story.activity) == ([], [])
        return
    parents = {span.id: span.parent for span in spans}
    assert len(parents) == len(spans)
    assert [span.name.partition(" ")[0] for span in spans if span.parent is None] == ["invoke_workflow"]
    for span in spans:
        steps, above = 0, span.parent
        while above is not None:
            steps, above = steps + 1, parents[above]
            assert steps < len(spans), "parents go round in a circle"
        assert span.start_us <= span.end_us
        assert {link.span_id for link in span.links} <= parents.keys()


@given(stories(), st.data())
@settings(max_examples=60, deadline=None)
def test_of_a_workflow_that_came_further_they_are_the_same_and_more(story: Story, data: st.DataObject) -> None:
    """What was sent of it while it went on stays as it was: only the span that is the whole of it has changed."""
    told = {delivery for one in story.activity for delivery in deliveries_of(ROOT, [one])}
    assume(len({delivery.known_by for delivery in told}) == len(told))  # nobody tells one attempt in two ways
    before = Story()
    before.events = story.events
    before.activity = story.activity[: data.draw(st.integers(0, len(story.activity)))]
    root = root_id(ROOT)
    earlier = {span.id for span in spans_of(before.stitched())} - {root}
    assert earlier <= {span.id for span in spans_of(story.stitched())}
