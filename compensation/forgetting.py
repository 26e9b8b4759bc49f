"""What a workflow's state may let go of, and what of it is kept for what comes late."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from antiphon.compensation.saga import Mesh, Node, Saga
from antiphon.compensation.scopes import failures
from antiphon.compensation.waiting import is_open

MOST_EVENTS = 200
"""A workflow of more events forgets those that ended; what follows from what is kept all the same."""


def remainder(saga: Saga) -> Saga:
    """Return what is kept of a workflow that has ended: nothing, unless it did something that can be undone, or failed.

    To one that completed somebody may add a failure later, a person who was asked
    for instance: then its effects are undone. To one that was undone an effect
    may come late: it is undone when it comes, the others not again, and what
    undoing led to never.
    """
    if saga.failure is None and not saga.effects and not saga.scopes:
        return Saga()
    scopes = {failure.scope for failure in failures(saga)}

    def kept(id: str, node: Node) -> bool:
        # A saga that was told of a failure may yet say what is to be undone.
        return bool(id in scopes or node.by or node.sagas)

    return saga.model_copy(update={"events": _contracted(saga, kept), "ended": True})


def pruned(saga: Saga, mesh: Mesh) -> Saga:
    """Return *saga* with no more events than it must have, once they are many. What is forgotten leaves no gap."""
    if len(saga.events) <= MOST_EVENTS:
        return saga
    scopes = {failure.scope for failure in failures(saga)}
    events = _contracted(
        saga, lambda id, node: bool(node.held or node.by or node.sagas or id in scopes or is_open(node, mesh))
    )
    return saga.model_copy(update={"events": events, "forgetful": True})


def _contracted(saga: Saga, needed: Callable[[str, Node], bool]) -> dict[str, Node]:
    """Return the nodes that stay; each follows directly from those it followed from by way of what is let go.

    Effects stay, aftermath, and what nobody is known to have caused: it may yet turn out who did.
    """
    kept = {
        id: node
        for id, node in saga.events.items()
        if id in saga.effects or node.aftermath or not node.parents or needed(id, node)
    }
    return {
        id: node.model_copy(update={"parents": _nearest(saga.events, id, kept)}) if node.parents else node
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
