"""What a workflow's state may let go of, and what of it is kept for what comes late."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from antiphon.compensation.scopes import failures
from antiphon.compensation.waiting import is_open
from antiphon.compensation.workflow import Mesh, Node, Workflow

MOST_EVENTS = 200
"""A workflow of more events forgets those that ended; what follows from what is kept all the same."""


def remainder(workflow: Workflow) -> Workflow:
    """Return what is kept of a workflow that has ended: nothing, unless it did something that can be undone, began a saga, or failed.

    To one that completed somebody may add a failure later, a person who was asked
    for instance: then its effects are undone. To one that was undone an effect
    may come late: it is undone when it comes, the others not again, and what
    undoing led to never. And a saga may wait for what nobody else knows of.
    """
    if not failures(workflow) and not workflow.effects and not conducts(workflow):
        return Workflow()
    scopes = {failure.scope for failure in failures(workflow)}

    def kept(id: str, node: Node) -> bool:
        # A saga that was told of a failure may yet say what is to be undone.
        return bool(id in scopes or node.by or node.ends or node.sagas)

    return workflow._replace(events=_contracted(workflow, kept), ended=True)


def conducts(workflow: Workflow) -> bool:
    """Say whether a saga was begun in the workflow: it may yet say that it failed, and is told then what became of that."""
    return any(node.sagas for node in workflow.events.values())


def pruned(workflow: Workflow, mesh: Mesh) -> Workflow:
    """Return *workflow* with no more events than it must have, once they are many. What is forgotten leaves no gap."""
    if len(workflow.events) <= MOST_EVENTS:
        return workflow
    scopes = {failure.scope for failure in failures(workflow)}
    events = _contracted(
        workflow,
        lambda id, node: bool(
            node.held
            or node.by
            or node.ends
            or node.sagas
            or id in workflow.wants
            or id in scopes
            or is_open(node, mesh)
        ),
    )
    return workflow._replace(events=events, forgetful=True)


def _contracted(workflow: Workflow, needed: Callable[[str, Node], bool]) -> dict[str, Node]:
    """Return the nodes that stay; each follows directly from those it followed from by way of what is let go.

    Effects stay, aftermath, and what nobody is known to have caused: it may yet turn out who did.
    """
    kept = {
        id: node
        for id, node in workflow.events.items()
        if id in workflow.effects or node.aftermath or not node.parents or needed(id, node)
    }
    if len(kept) == len(workflow.events):
        return kept
    return {
        id: node._replace(parents=_nearest(workflow.events, id, kept)) if node.parents else node
        for id, node in kept.items()
    }


def _nearest(events: Mapping[str, Node], id: str, keep: Collection[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    seen: set[str] = set()
    ahead = [*events[id].parents]
    while ahead:
        parent = ahead.pop()
        if parent in keep:
            found[parent] = None
        elif parent in events and parent not in seen:
            seen.add(parent)
            ahead += events[parent].parents
    return tuple(found)
