"""What is still outstanding in a workflow, and what may not be undone before something else is."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from antiphon.compensation.descent import ancestors
from antiphon.compensation.scopes import unsettled
from antiphon.compensation.workflow import SETTLED, Mesh, Node, Status, Workflow


def is_open(node: Node, mesh: Mesh) -> bool:
    """Say whether some agent still has to handle an event, as far as is known who hears it."""
    return not node.past and any(agent not in node.done for agent in mesh.hearers(node.type, None))


def newest_first(workflow: Workflow) -> Iterable[Node]:
    """Return the events in the order in which one that is open is found soonest."""
    return reversed([*workflow.events.values()])


def has_ended(workflow: Workflow, condemned: Iterable[str], mesh: Mesh) -> bool:
    """Say whether nothing is outstanding: every event handled by all who hear it, every effect of a failure settled."""
    if unsettled(workflow, condemned):
        return False
    return workflow.forced or not any(is_open(node, mesh) for node in newest_first(workflow))


def ready(workflow: Workflow, condemned: Collection[str], mesh: Mesh, *, past_stuck: bool) -> list[str]:
    """Return those of the *condemned* effects whose undo has nothing left to wait for, the latest first.

    An effect waits for every effect that followed from it, and for whatever may
    still bring one: an event that is not handled yet, or that a join holds while
    something else is on its way. What does not follow from it does not matter.
    """
    done = [id for id in condemned if workflow.effects[id].status is Status.DONE]
    if not done:
        return []
    over = SETTLED | {Status.STUCK} if past_stuck else SETTLED
    # What goes on without an optional step may follow from what that did, and is not undone with it.
    waited_for = [id for id in condemned if workflow.effects[id].status not in over]
    waiting = ancestors(workflow, (parent for id in waited_for for parent in workflow.events[id].parents))
    if not workflow.forced:
        waiting |= ancestors(workflow, _may_bring_more(workflow, mesh))
    return [id for id in reversed(done) if id not in waiting]


def _may_bring_more(workflow: Workflow, mesh: Mesh) -> list[str]:
    """Return the events of which, sooner or later, an effect may come."""
    ahead = [
        (id, node) for id, node in workflow.events.items() if not node.aftermath and mesh.leads_to_undoable(node.type)
    ]
    running = [id for id, node in ahead if is_open(node, mesh)]
    # A join that holds one of its events can fire only while another may come.
    return running + [id for id, node in ahead if node.held] if running else []
