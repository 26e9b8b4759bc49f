"""A run on the model as the mesh would have told it: a stitched workflow, and its tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from antiphon.bus.activity import Activity
from antiphon.schemas.event import envelope_of
from antiphon.testing.model import WORKFLOW, Model, Position
from antiphon.testing.story import START_US
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import Workflow, stitch

Draw: TypeAlias = Callable[[Mapping[str, Any]], str]
"""Draws a workflow's document as text. The terminal's is found by its entry point, as the kit stands below the terminal."""

_DRAWINGS = "antiphon.drawings"
_STEP_US = 1_000


@cache
def drawing() -> Draw:
    """Return what draws a tree; where nothing is installed that does, what draws nothing."""
    for found in entry_points(group=_DRAWINGS, name="tree"):
        draw: Draw = found.load()
        return draw
    return lambda _: ""


def retold(model: Model, position: Position) -> Workflow:
    """Stitch what happened on the way to *position*; each step took a millisecond."""
    events: list[SeenEvent] = []
    activity: list[Activity] = []
    for number, step in enumerate(position.told()):
        at_us = START_US + number * _STEP_US
        for event in step.emitted:
            envelope = envelope_of(event)
            if envelope.correlation_id == WORKFLOW:
                timed = dataclasses.replace(envelope, time_us=at_us)
                topic = event.__event__.topic
                events.append(
                    SeenEvent(
                        envelope=timed, topic=topic, partition=0, offset=len(events), data=event.model_dump(mode="json")
                    )
                )
        if step.entry is not None:
            handled = [
                one.model_copy(update={"started_us": at_us - _STEP_US, "duration_us": _STEP_US})
                for one in step.entry.deliveries
            ]
            activity.append(step.entry.model_copy(update={"deliveries": handled}))
    return stitch(events, activity, model.crew.seen, now_us=START_US, correlation_id=WORKFLOW)


def story(model: Model, position: Position) -> Iterator[str]:
    """Yield what happened on the way to *position*, line by line, and the tree that came of it."""
    yield "what happened, in order:"
    yield from (f"  {number:>2}. {step.said}" for number, step in enumerate(position.told()))
    if tree := drawing()(retold(model, position).document()):
        yield "the workflow as it then was:"
        yield from (f"  {line}" for line in tree.splitlines())
