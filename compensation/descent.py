"""What follows from what in a workflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from antiphon.compensation.workflow import Workflow


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


def descendants(workflow: Workflow, id: str) -> set[str]:
    """Return all that follows from *id*."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for child, node in workflow.events.items():
        for parent in node.parents:
            children[parent].append(child)
    found: set[str] = set()
    ahead = [id]
    while ahead:
        new = [child for child in children[ahead.pop()] if child not in found]
        found.update(new)
        ahead += new
    return found
