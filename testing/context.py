"""A context for calling a handler in a test: `await reserve(OrderPlaced(...), context())`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from antiphon.agents.context import Context
from antiphon.bus.delivery import Delivery, Usage
from antiphon.schemas.budget import Budget
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event
from antiphon.testing.delivery import MemoryServices, MemoryState, delivery_of


class Heard(Event, type="antiphon.test.heard"):
    """The event a test's context belongs to, where the test does not care."""


class RecordingContext(Context):
    """A context that shows afterwards what the handler said through it."""

    __slots__ = ("_services",)

    def __init__(self, delivery: Delivery, services: MemoryServices) -> None:
        super().__init__(delivery)
        self._services = services

    @property
    def effects(self) -> dict[str, Any]:
        """What `once` ran, and what came of it, by name."""
        return {**self._services.remembered(self._delivery)}

    @property
    def usage(self) -> list[Usage]:
        """What `spend` was told."""
        return self._delivery.usage

    @property
    def reported_confidence(self) -> float | None:
        """What `confidence` was told last."""
        return self._delivery.confidence


def context(  # noqa: PLR0913 - keyword-only, each a thing of its own
    *,
    id: str | None = None,
    correlation_id: str | None = None,
    parent_id: str | None = None,
    attempt: int = 1,
    deadline: datetime | None = None,
    budget: str | None = None,
    replaying: bool = False,
    state: Mapping[str, Any] | None = None,
    effects: Mapping[str, Any] | None = None,
    agent: str = "test",
) -> RecordingContext:
    """Make a context that needs no broker.

    *state* is what the agent remembers of this key from before; *effects* are
    side effects, by name, that ran in an earlier attempt, with their results.

    >>> made = context(state={"seen": 1}, effects={"charge": "receipt-7"})
    >>> made.state["seen"], made.effects
    (1, {'charge': 'receipt-7'})
    """
    envelope = dataclasses.replace(
        Envelope.root("antiphon.test.heard", source="/test", id=id, correlation_id=correlation_id),
        parent_id=parent_id,
        budget=None if budget is None else str(Budget.parse(budget)),
        deadline_us=None
        if deadline is None
        else (deadline - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1),
    )
    memory, services = MemoryState(), MemoryServices()
    delivery = delivery_of(
        Heard().sealed(envelope), agent=agent, attempt=attempt, replaying=replaying, state=memory, services=services
    )
    memory.mapping(delivery.state_key).update(state or {})
    if effects:
        services.effects[envelope.id] = {**effects}
    return RecordingContext(delivery, services)
