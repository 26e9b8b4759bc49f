"""By when a workflow should have ended, and that it fails where it has not."""

from __future__ import annotations

from antiphon.bus.activity import Handled
from antiphon.compensation.workflow import Failure, Workflow
from antiphon.schemas.envelope import format_time


def noted(workflow: Workflow, delivery: Handled) -> Workflow:
    """Note what *delivery* tells of the deadline: of several the latest counts, so it is only ever put off."""
    if delivery.deadline_us is None:
        return workflow
    is_root = delivery.event_id == delivery.correlation_id
    return workflow._replace(
        deadline_us=max(delivery.deadline_us, workflow.deadline_us or 0),
        began_us=delivery.started_us - delivery.queue_us if is_root else workflow.began_us,
    )


def overran(workflow: Workflow, delivery: Handled) -> bool:
    """Say whether *delivery* did not end before the deadline, by the clock of the agent that made it."""
    return workflow.deadline_us is not None and delivery.started_us + delivery.duration_us >= workflow.deadline_us


def passed(workflow: Workflow, id: str) -> Workflow:
    """Return *workflow* as it is when its deadline has passed: failed, if it has not ended or failed before."""
    if workflow.deadline_us is None or workflow.failure is not None or workflow.ended:
        return workflow
    return workflow._replace(failure=Failure(event_id=id, reason=f"{_in_words(workflow)} passed"))


def extended(workflow: Workflow, until_us: int | None) -> Workflow:
    """Return *workflow* with its deadline put off to *until_us*; what is no later than it is changes nothing."""
    if workflow.deadline_us is None or until_us is None or until_us <= workflow.deadline_us:
        return workflow
    return workflow._replace(deadline_us=until_us)


def _in_words(workflow: Workflow) -> str:
    deadline_us = workflow.deadline_us or 0
    if workflow.began_us is None:
        return f"deadline of {format_time(deadline_us)}"
    return f"deadline of {round((deadline_us - workflow.began_us) / 1_000_000, 1):g} s"
