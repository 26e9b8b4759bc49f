"""What of a workflow is to be undone: all of it, or what follows from where a saga began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from antiphon.compensation.descent import ancestors, descendants
from antiphon.compensation.saga import SETTLED, Effect, Failure, Node, Saga, Status


def failures(saga: Saga) -> list[Failure]:
    """Return every reason for which something is undone; of the workflow itself first."""
    return [*([saga.failure] if saga.failure else []), *saga.scopes.values()]


def condemned(saga: Saga) -> Mapping[str, Failure]:
    """Return the effects that are to be undone, and why."""
    found: dict[str, Failure] = {}
    for failure in failures(saga):
        if failure.scope is None:
            return dict.fromkeys(saga.effects, failure)
        below = descendants(saga, failure.scope)
        for id, effect in saga.effects.items():
            if id in below or (id == failure.scope and effect.agent == failure.saga):
                found.setdefault(id, failure)
    return found


def reason_for(saga: Saga, ids: Iterable[str]) -> Failure | None:
    """Return why what follows from *ids* is to be undone; None where it is not."""
    found = failures(saga)
    above = ancestors(saga, ids) if found else set[str]()
    return next((failure for failure in found if failure.scope is None or failure.scope in above), None)


def unsettled(saga: Saga) -> bool:
    """Say whether something that is to be undone is not, and nobody has said to leave it."""
    return any(saga.effects[id].status not in SETTLED for id in condemned(saga))


def judge_of(saga: Saga, ids: Iterable[str]) -> tuple[str, Node] | None:
    """Return the command that *ids* are or follow from most closely: what fails there is its saga's to judge."""
    seen: set[str] = set()
    ahead = [*ids]
    while ahead:
        for id in ahead:
            if id in saga.events and saga.events[id].by:
                return id, saga.events[id]
        seen.update(ahead)
        parents = (parent for id in ahead if id in saga.events for parent in saga.events[id].parents)
        ahead = [*dict.fromkeys(parent for parent in parents if parent not in seen)]
    return None


def without_undo(saga: Saga, commands: Iterable[str]) -> dict[str, Effect]:
    """Return, for those of *commands* that nobody can undo anything of, an effect that waits for a person."""
    found: dict[str, Effect] = {}
    for id in commands:
        node = saga.events.get(id)
        if node is not None and id not in saga.effects and descendants(saga, id).isdisjoint(saga.effects):
            problem = f"step does not say its kind, and nobody can undo {node.type}"
            found[id] = Effect(agent=node.by, type=node.type, value="", status=Status.STUCK, problem=problem)
    return found
