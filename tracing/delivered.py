"""Deliveries, as activity records tell them: flat, each once, in a fixed order.

An attempt is known by what it says of itself, not by where that stands: a record
may be written twice, or copied to another cluster. A handler that really ran
twice did so at two times, or in two workers, and what it spent was spent twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from antiphon.bus.activity import Activity, Emitted, Failure, Handled, Logged, Spent
from antiphon.bus.delivery import Outcome

DONE = frozenset({Outcome.COMPLETED, Outcome.SKIPPED})
"""Outcomes after which the agent owes the event nothing more."""
SET_ASIDE = frozenset({Outcome.DEAD_LETTERED, Outcome.EXPIRED})
"""Outcomes after which nothing more comes unless a person acts."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One event handed to one agent once, and how that went."""

    event_id: str
    event_type: str
    agent: str
    version: str
    instance: str
    attempt: int
    outcome: str
    started_us: int
    duration_us: int
    queue_us: int
    emitted: tuple[Emitted, ...] = ()
    error: Failure | None = None
    usage: tuple[Spent, ...] = ()
    confidence: float | None = None
    logs: tuple[Logged, ...] = ()

    @property
    def ended_us(self) -> int:
        return self.started_us + self.duration_us

    @property
    def model_us(self) -> int | None:
        """For how long models were waited for, calls side by side counted once; None where no call's times are known."""
        spans = sorted(
            (one.started_us, one.started_us + one.duration_us)
            for one in self.usage
            if one.started_us is not None and one.duration_us is not None
        )
        if not spans:
            return None
        waited_us, until_us = 0, spans[0][0]
        for started_us, ended_us in spans:
            waited_us += max(0, ended_us - max(started_us, until_us))
            until_us = max(until_us, ended_us)
        return waited_us

    @property
    def pair(self) -> tuple[str, str]:
        """Who owed what: the event's id and the agent."""
        return (self.event_id, self.agent)

    @property
    def known_by(self) -> tuple[object, ...]:
        """What tells one attempt from every other."""
        return (self.event_id, self.agent, self.started_us, self.instance, self.attempt)

    def rank(self) -> tuple[object, ...]:
        """Return what deliveries are sorted by: time, agent, attempt, then whatever still tells two apart."""
        first = (self.started_us, self.agent, self.attempt, self.event_id, self.instance, self.version, self.outcome)
        said = tuple((emitted.id, emitted.type, emitted.fails) for emitted in self.emitted)
        error = () if self.error is None else (self.error.type, self.error.message, self.error.traceback)
        calls = tuple(
            (
                *(call.model, call.input_tokens, call.output_tokens, call.cost, call.currency),
                # None has no place among numbers.
                *map(str, (call.started_us, call.duration_us)),
            )
            for call in self.usage
        )
        return (*first, self.duration_us, self.queue_us, said, error, calls, str(self.confidence))


def deliveries_of(correlation_id: str, activity: Iterable[Activity]) -> list[Delivered]:
    """Return the deliveries of one workflow, each once however often its record was read, in order."""
    found = [
        _delivered(record, handled)
        for record in activity
        for handled in record.deliveries
        if handled.correlation_id == correlation_id
    ]
    found.sort(key=Delivered.rank)
    once: dict[tuple[object, ...], Delivered] = {}
    for delivery in found:
        once.setdefault(delivery.known_by, delivery)
    return [*once.values()]


def _delivered(record: Activity, handled: Handled) -> Delivered:
    return Delivered(
        event_id=handled.event_id,
        event_type=handled.event_type,
        agent=record.agent,
        version=record.version,
        instance=record.instance,
        attempt=handled.attempt,
        outcome=handled.outcome,
        started_us=handled.started_us,
        duration_us=handled.duration_us,
        queue_us=handled.queue_us,
        emitted=tuple(handled.emitted),
        error=handled.error,
        usage=tuple(handled.usage),
        confidence=handled.confidence,
        logs=tuple(handled.logs),
    )
