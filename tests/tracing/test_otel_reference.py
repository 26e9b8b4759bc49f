"""The reference of what is exported lists what is exported, all of it and nothing else."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from antiphon.bus.activity import Failure, Spent
from antiphon.schemas.envelope import Envelope
from antiphon.testing.story import START_US, Says, Story
from antiphon.tracing.spans.making import spans_of
from antiphon.tracing.spans.span import Span
from tests.tracing.exporting import METRICS
from tests.tracing.workflows import order, ticket

PAGE = Path(__file__).parents[2] / "docs/reference/opentelemetry.md"


def exported() -> list[Span]:
    """Spans of workflows in which all happens that the reference speaks of."""
    story = Story()
    opened = story.published("ticket.opened")
    failure = Failure(type="TimeoutError", message="no answer", traceback="File answer.py")
    story.handled("answer", opened, outcome="dead_lettered", error=failure, usage=[Spent(model="m")])
    story.handled("audit", opened, Says("ticket.noted"), outcome="expired", error=failure)
    workflows = [ticket().stitched(), order().stitched(), story.stitched()]
    again = Story()
    again.seen(
        Envelope(
            id=again.root_id,
            type="ticket.opened",
            source="/replays",
            time_us=START_US,
            correlation_id=again.root_id,
            replay_of="0199f2c1-0000-7000-8000-000000000009",
        )
    )
    workflows.append(again.stitched())
    return [span for workflow in workflows for span in spans_of(workflow, content=True)]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below *heading*, a row each."""
    table = PAGE.read_text().split(heading)[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def words(cell: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)[^`]*`", cell))


def test_every_span_is_listed_with_its_kind() -> None:
    """By the word that its name begins with."""
    assert {(words(name).pop(), kind) for name, kind, *_ in rows("| span | kind |")} == {
        (span.name.partition(" ")[0], span.kind.name) for span in exported()
    }


def test_every_attribute_is_listed_with_the_spans_that_have_it() -> None:
    """And no span has one that is not listed for it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for span in exported():
        for name in span.attributes:
            found[name].add(span.name.partition(" ")[0])
    assert {words(name).pop(): words(on) for name, on, _ in rows("| attribute | on |")} == found


def test_every_event_of_a_span_is_listed() -> None:
    """With what it has."""
    found: defaultdict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for span in exported():
        for moment in span.moments:
            spans, attributes = found[moment.name]
            spans.add(span.name.partition(" ")[0])
            attributes.update(moment.attributes)
    listed = rows("| span event | on |")
    assert {words(name).pop(): words(on) for name, on, _ in listed} == {name: one for name, (one, _) in found.items()}
    assert all(
        attributes <= words(has) for (_, attributes), has in ((found[words(n).pop()], has) for n, _, has in listed)
    )


def test_every_metric_is_listed() -> None:
    """With its kind and its unit; another test holds that list to the bytes."""
    listed = {words(name).pop(): (kind, unit.strip("`")) for name, kind, unit, *_ in rows("| metric | kind |")}
    assert listed == {name: (kind, unit or "none") for name, (kind, unit) in METRICS.items()}
