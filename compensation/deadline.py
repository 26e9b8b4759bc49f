"""By when a workflow should have ended, and that it fails where it has not."""

from __future__ import annotations

from antiphon.bus.activity import Handled
from antiphon.compensation.saga import Failure, Saga
from antiphon.schemas.envelope import format_time


def noted(saga: Saga, delivery: Handled) -> Saga:
    """Note what *delivery* tells of the deadline: of several the latest counts, so it is only ever put off."""
    if delivery.deadline_us is None:
        return saga
    known = {"deadline_us": saga.deadline_us, "began_us": saga.began_us}
    told = {**known, "deadline_us": max(delivery.deadline_us, saga.deadline_us or 0)}
    if delivery.event_id == delivery.correlation_id:
        told["began_us"] = delivery.started_us - delivery.queue_us
    return saga if told == known else saga.model_copy(update=told)


def overran(saga: Saga, delivery: Handled) -> bool:
    """Say whether *delivery* did not end before the deadline, by the clock of the agent that made it."""
    return saga.deadline_us is not None and delivery.started_us + delivery.duration_us >= saga.deadline_us


def passed(saga: Saga, workflow: str) -> Saga:
    """Return *saga* as it is when its deadline has passed: failed, if it has not ended or failed before."""
    if saga.deadline_us is None or saga.failure is not None or saga.ended:
        return saga
    return saga.model_copy(update={"failure": Failure(event_id=workflow, reason=f"{_in_words(saga)} passed")})


def extended(saga: Saga, until_us: int | None) -> Saga:
    """Return *saga* with its deadline put off to *until_us*; what is no later than it is changes nothing."""
    if saga.deadline_us is None or until_us is None or until_us <= saga.deadline_us:
        return saga
    return saga.model_copy(update={"deadline_us": until_us})


def _in_words(saga: Saga) -> str:
    deadline_us = saga.deadline_us or 0
    if saga.began_us is None:
        return f"deadline of {format_time(deadline_us)}"
    return f"deadline of {round((deadline_us - saga.began_us) / 1_000_000, 1):g} s"
