"""What follows from what in a workflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from antiphon.compensation.workflow import Node, Workflow


def ancestors(workflow: Workflow, ids: Iterable[str]) -> set[str]:
    """Return *ids* and all they follow from."""
    found: set[str] = set()
    ahead = [*ids]
    while ahead:
        id = ahead.pop()
        if id not in found:
            found.add(id)
            if id in workflow.events:
                ahead += workflow.events[id].parents
    return found


def _all(node: Node) -> bool:  # noqa: ARG001 - of any
    return True


def descendants(workflow: Workflow, id: str, through: Callable[[Node], bool] = _all) -> set[str]:
    """Return all that follows from *id* by way of events that *through* says yes to, and no other."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for child, node in workflow.events.items():
        if through(node):
            for parent in node.parents:
                children[parent].append(child)
    found: set[str] = set()
    ahead = [id]
    while ahead:
        new = [child for child in children[ahead.pop()] if child not in found]
        found.update(new)
        ahead += new
    return found
