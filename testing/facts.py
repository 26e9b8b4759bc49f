"""What is told of a workflow, delivery by delivery, by hand: for tests of what is undone, and when.

An event is named as it is: with a "+" at its end its agent can undo it, with a
"!" it fails its workflow. Without these marks the name is its type too, up to a
"-", so that one type may happen several times.

>>> facts = [did("placed", "reserved+"), did("reserved+", "refused!", by="card")]
>>> workflow, asked = told(facts, Hears(reserved=["card"]))
>>> asked, workflow.phase.value
([[], ['reserved+']], 'compensating')
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import orjson

from antiphon.bus.activity import Emitted, Failure, Handled
from antiphon.bus.delivery import Outcome
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.undo import UndoRequested
from antiphon.compensation.advance import advance, intervene
from antiphon.compensation.kept import Kept, kept
from antiphon.compensation.workflow import Command, Fact, Mesh, Undo, Workflow, undo_id


class Hears:
    """Who hears what, by type; by saga, what starts it and what it asks for. Anything may lead to something undoable.

    Implements `compensation.workflow.Mesh`.
    """

    def __init__(
        self,
        *,
        joined: Collection[str] = (),
        harmless: Collection[str] = (),
        starts: Mapping[str, str] | None = None,
        asks: Mapping[str, Collection[str]] | None = None,
        **hears: Sequence[str],
    ) -> None:
        self._hears = hears
        self._joined = joined
        self._harmless = harmless
        self._starts = starts or {}
        self._asks = asks or {}

    def hearers(self, type: str, topic: str | None) -> list[str]:  # noqa: ARG002 - types have one topic here
        return [*self._hears.get(type, ())]

    def joins(self, agent: str, type: str) -> bool:  # noqa: ARG002 - one agent joins here
        return type in self._joined

    def leads_to_undoable(self, type: str) -> bool:
        return type not in self._harmless

    def starts(self, agent: str, type: str) -> bool:
        return type == self._starts.get(agent)

    def conducts(self, agent: str) -> bool:
        return agent in self._starts

    def asks(self, agent: str, type: str) -> bool:
        return type in self._asks.get(agent, ())


NOBODY = Hears()


def did(
    event: str,
    *emitted: str,
    by: str = "agent",
    causes: Sequence[str] = (),
    outcome: str = Outcome.COMPLETED,
    failing: Iterable[str] = (),
    queued_s: float = 0,
) -> Fact:
    """*by* handled *event*, and emitted others."""
    return _fact(event, type_of(event), emitted, by, causes, outcome, tuple(failing), 1, queued_s)


def undid(event: str, *emitted: str, by: str = "agent", outcome: str = Outcome.COMPLETED, attempt: int = 1) -> Fact:
    """*by* handled the request to undo *event*."""
    return _fact(undo_id(event), UndoRequested.__event__.type, emitted, by, (), outcome, (), attempt, 0)


def said(act: Act, event: str | None = None) -> SagaIntervened:
    """An operator says what to do."""
    return SagaIntervened(act=act, actor="ann", reason="she knows", event_id=event)


def told(
    facts: Iterable[Fact | SagaIntervened],
    mesh: Mesh = NOBODY,
    *,
    workflow: Workflow | None = None,
    past_stuck: bool = False,
) -> tuple[Workflow, list[list[str]]]:
    """Tell *facts* to a coordinator that restarts before each; return its state, and what it asked to undo after each."""
    workflow = workflow or Workflow()
    asked: list[list[str]] = []
    for fact in facts:
        workflow, commands = _step(restarted(workflow), fact, mesh, past_stuck=past_stuck)
        asked.append([command.event_id for command in commands if isinstance(command, Undo)])
    return workflow, asked


def restarted(workflow: Workflow) -> Workflow:
    """Return *workflow* as it is after a crash: read again from what was written."""
    return kept(orjson.loads(orjson.dumps(Kept(workflow).written()))).workflow


def type_of(event: str) -> str:
    """Return the type of the event of that name."""
    return event.rstrip("+!").partition("-")[0]


def _step(
    workflow: Workflow, fact: Fact | SagaIntervened, mesh: Mesh, *, past_stuck: bool
) -> tuple[Workflow, list[Command]]:
    if isinstance(fact, SagaIntervened):
        return intervene(workflow, fact, "intervention", mesh, past_stuck=past_stuck)
    return advance(workflow, fact, mesh, past_stuck=past_stuck)


def _fact(
    id: str,
    type: str,
    emitted: Iterable[str],
    by: str,
    causes: Sequence[str],
    outcome: str,
    failing: tuple[str, ...],
    attempt: int,
    queued_s: float,
) -> Fact:
    return Fact(
        by,
        Handled(
            event_id=id,
            event_type=type,
            correlation_id="w",
            topic="t",
            partition=0,
            offset=0,
            attempt=attempt,
            outcome=outcome,
            started_us=0,
            duration_us=0,
            queue_us=round(queued_s * 1_000_000),
            causes=[*causes],
            emitted=[
                Emitted(
                    id=name,
                    type=type_of(name),
                    fails=name.endswith("!"),
                    undo=name.encode() if name.endswith("+") else None,
                )
                for name in emitted
            ],
            error=Failure(type="ValueError", message="no such order") if outcome == Outcome.DEAD_LETTERED else None,
        ),
        failing,
    )
