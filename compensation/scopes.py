"""What of a workflow is to be undone: all of it, or what follows from where a saga began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from antiphon.compensation.descent import descendants
from antiphon.compensation.workflow import SETTLED, Effect, Failure, Node, Status, Workflow


def failures(workflow: Workflow) -> list[Failure]:
    """Return every reason for which something is undone; of the workflow itself first."""
    return [*([workflow.failure] if workflow.failure else []), *workflow.scopes.values()]


def condemned(workflow: Workflow) -> Mapping[str, Failure]:
    """Return the effects that are to be undone, and why."""
    found: dict[str, Failure] = {}
    for failure in failures(workflow):
        if failure.scope is None:
            return dict.fromkeys(workflow.effects, failure)
        below = _below(workflow, failure.scope)
        for id, effect in workflow.effects.items():
            if id in below or (id == failure.scope and effect.agent == failure.saga):
                found.setdefault(id, failure)
    return found


def reason_for(workflow: Workflow, ids: Iterable[str]) -> Failure | None:
    """Return why what follows from *ids* is to be undone; None where it is not."""
    among = {*ids}
    for failure in failures(workflow):
        if failure.scope is None or failure.scope in among or not among.isdisjoint(_below(workflow, failure.scope)):
            return failure
    return None


def _below(workflow: Workflow, scope: str) -> set[str]:
    """Return what is undone with *scope*.

    Of an optional step that is what came of it: not what its saga asked for next,
    or ended with, though it did so on hearing of it.
    """
    above = workflow.events.get(scope)
    if above is None or not above.by or above.by in above.sagas:
        return descendants(workflow, scope)
    return descendants(workflow, scope, lambda node: above.by not in (node.by, node.ends))


def unsettled(workflow: Workflow, condemned: Iterable[str]) -> bool:
    """Say whether something that is *condemned* is not undone, and nobody has said to leave it."""
    return any(workflow.effects[id].status not in SETTLED for id in condemned)


def judge_of(workflow: Workflow, ids: Iterable[str]) -> tuple[str, Node] | None:
    """Return the command that *ids* are or follow from most closely: what fails there is its saga's to judge."""
    seen: set[str] = set()
    ahead = [*ids]
    while ahead:
        for id in ahead:
            if id in workflow.events and workflow.events[id].by:
                return id, workflow.events[id]
        seen.update(ahead)
        parents = (parent for id in ahead if id in workflow.events for parent in workflow.events[id].parents)
        ahead = [*dict.fromkeys(parent for parent in parents if parent not in seen)]
    return None


def without_undo(workflow: Workflow, commands: Iterable[str]) -> dict[str, Effect]:
    """Return, for those of *commands* that nobody can undo anything of, an effect that waits for a person."""
    found: dict[str, Effect] = {}
    for id in commands:
        node = workflow.events.get(id)
        if node is not None and id not in workflow.effects and descendants(workflow, id).isdisjoint(workflow.effects):
            problem = f"step does not say its kind, and nobody can undo {node.type}"
            found[id] = Effect(agent=node.by, type=node.type, value="", status=Status.STUCK, problem=problem)
    return found
