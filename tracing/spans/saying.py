"""What spans say: of an event, of an error, of how sure an agent was, of what failed a workflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from antiphon.bus.names import Names
from antiphon.tracing.delivered import SET_ASIDE, Delivered
from antiphon.tracing.index.search import FAILED
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.spans import names as n
from antiphon.tracing.spans.span import Moment, Value
from antiphon.tracing.state import State
from antiphon.tracing.workflow import Workflow

OUTSIDE = "outside"
"""Who did what nobody is named for."""
SUMMARY = 1_000
"""How much of an error's message a status has; the exception beside it has all."""


def messaging(operation: str, event: SeenEvent, names: Names) -> dict[str, Value]:
    """Return what is said of an event that is sent or processed."""
    envelope = event.envelope
    return {
        n.MESSAGING_SYSTEM: n.KAFKA,
        n.MESSAGING_OPERATION: operation,
        n.MESSAGING_OPERATION_TYPE: operation,
        n.MESSAGING_DESTINATION: names.topic(event.topic),
        n.MESSAGING_PARTITION: str(event.partition),
        n.MESSAGING_OFFSET: event.offset,
        n.MESSAGING_KEY: envelope.key or envelope.correlation_id,
        n.MESSAGING_ID: event.id,
        n.MESSAGING_CONVERSATION: envelope.correlation_id,
        n.EVENT_TYPE: envelope.type,
    }


def failure(workflow: Workflow) -> tuple[str, str] | None:
    """Return what failed the workflow, as a type and for a person; None where nothing has."""
    if not workflow.failures:
        return (workflow.state.value, workflow.state.value) if workflow.state in FAILED else None
    first = workflow.failures[0]
    who = workflow.failed_agent or OUTSIDE
    event = next((event for event in workflow.events if event.id == first), None)
    aside = next((d for d in workflow.deliveries if d.event_id == first and d.outcome in SET_ASIDE), None)
    if aside is not None and (event is None or event.envelope.type not in workflow.failing_types):
        if aside.error is None:
            return aside.outcome, f"{who}: {aside.outcome}"
        return aside.error.type, f"{who}: {aside.error.message[:SUMMARY]}"
    type = State.FAILED.value if event is None else event.envelope.type
    return type, f"{who}: {type}"


def exception(delivery: Delivered) -> tuple[Moment, ...]:
    """Return the error of a delivery, whole, if it has one."""
    error = delivery.error
    if error is None:
        return ()
    told: dict[str, Value] = {n.EXCEPTION_TYPE: error.type, n.EXCEPTION_MESSAGE: error.message}
    if error.traceback:
        told[n.EXCEPTION_STACKTRACE] = error.traceback
    return (Moment(n.EXCEPTION, delivery.ended_us, told),)


def confidence(delivery: Delivered) -> tuple[Moment, ...]:
    """Return how sure the agent was, if it said so."""
    if delivery.confidence is None:
        return ()
    told: dict[str, Value] = {n.GEN_AI_EVALUATION: n.CONFIDENCE, n.GEN_AI_SCORE: delivery.confidence}
    return (Moment(n.GEN_AI_EVALUATION_RESULT, delivery.ended_us, told),)


def messages(role: str, data: Iterable[Any]) -> str:
    """Write the data of events as the conventions write what goes into a model and comes out of it."""
    parts = [{"type": "text", "content": orjson.dumps(one).decode()} for one in data]
    return orjson.dumps([{"role": role, "parts": parts}]).decode()
