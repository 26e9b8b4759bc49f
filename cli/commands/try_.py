"""`antiphon try`: run a file's agents in process, without a broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import Counter
from typing import Annotated

import typer

from antiphon.bus.consumer import Consumer
from antiphon.cli import output
from antiphon.cli.data import fit, items
from antiphon.cli.errors import NO, UsageError, did_you_mean
from antiphon.cli.loading import Loaded, event_classes, load
from antiphon.cli.options import given
from antiphon.cli.sandbox import running
from antiphon.cli.tree import render
from antiphon.compensation.coordinator import coordinator
from antiphon.schemas.event import Event
from antiphon.tracing.state import State
from antiphon.tracing.workflow import Workflow

_WELL = {State.COMPLETED, State.WAITING}


def try_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Python file (or MOD:AGENT) with the agents.")],
    type: Annotated[str, typer.Argument(metavar="TYPE", help="Event type to publish.")],
    *,
    data: Annotated[str | None, typer.Option(help="The event's data.", metavar="JSON")] = None,
    lines: Annotated[
        str | None,
        typer.Option("--file", help="One JSON object a line: a workflow each; `-` is stdin.", metavar="F.jsonl"),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the end.", metavar="S")] = 30.0,
) -> None:
    """Run a file's agents in process, without a broker: publish, wait for the end, show the outcome.

    What the agents print goes to stderr. Exits with 1 where a workflow failed
    or did not end in time.

    Example:
      antiphon try support.py ticket.opened --data '{"ticket_id": "7", "body": "refund?"}'
    """
    logging.basicConfig(
        level=logging.INFO if given().verbose else logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    if not given().verbose:
        # What goes wrong in a handler stands in the tree.
        logging.getLogger("antiphon").setLevel(logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr):
        loaded = load(file)
        event_class = _class(loaded, file, type)
        events = [fit(event_class, item) for item in items(data, lines)]
        workflows = asyncio.run(_run(_consumers(loaded), events, timeout_s=timeout))
    _show(workflows, as_list=lines is not None)
    if not all(workflow.settled and workflow.state in _WELL for workflow in workflows):
        raise typer.Exit(NO)


def _class(loaded: Loaded, file: str, type: str) -> type[Event]:
    classes = event_classes(loaded.module, loaded.agents)
    if type not in classes:
        by_name = {event_class.__name__: known for known, event_class in classes.items()}
        if type in by_name:
            raise UsageError(f"no event type {type!r} in {file}", f"did you mean {by_name[type]}, the type of {type}?")
        raise UsageError(f"no event type {type!r} in {file}", did_you_mean(type, [*classes], what="event types"))
    return classes[type]


def _consumers(loaded: Loaded) -> list[Consumer]:
    consumers = [agent.consumer() for agent in loaded.agents]
    return consumers + ([coordinator()] if any(consumer.undoes for consumer in consumers) else [])


async def _run(consumers: list[Consumer], events: list[Event], *, timeout_s: float) -> list[Workflow]:
    async with running(consumers) as sandbox:
        roots = await sandbox.publish(events)
        return await sandbox.outcome(roots, timeout_s=timeout_s)


def _show(workflows: list[Workflow], *, as_list: bool) -> None:
    documents = [workflow.document() for workflow in workflows]
    if given().json:
        output.document(documents if as_list else documents[0])
        return
    for document in documents:
        output.show(render(document, width=output.width(), next_steps=()))
    if as_list:
        states = Counter(workflow.state.value for workflow in workflows)
        output.result(
            f"{len(workflows)} workflows: " + ", ".join(f"{count} {state}" for state, count in states.items())
        )
    for workflow in workflows:
        if not workflow.settled:
            owed = ", ".join(sorted({pair.agent for pair in workflow.outstanding}))
            output.remark(f"not ended in time: {owed} still at work; --timeout gives it longer")
