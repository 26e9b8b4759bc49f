"""The guards that travel with an event, so that no circle of agents goes on for ever, nor at any price.

Every worker asks before it calls a handler. What the mesh says to itself is let
through: a workflow that was ended by a guard must still be undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from antiphon.bus.delivery import Delivery, Usage
from antiphon.bus.errors import BudgetSpentError, BudgetUnreadableError, GuardError, HopLimitError
from antiphon.schemas.budget import Budget, least
from antiphon.schemas.envelope import Envelope

MAX_HOPS = 100
"""How many agents may lead to an event, one after the other, unless the settings say otherwise."""

GUARD_ERRORS = frozenset(
    error.__name__ for error in (GuardError, HopLimitError, BudgetSpentError, BudgetUnreadableError)
)
"""What activity says went wrong where a guard set an event aside: no handler was called with it then."""

_OWN = "antiphon."


class Unreadable(StrEnum):
    """What becomes of events that agents of the mesh could not read."""

    REFUSE = "refuse"
    """They are not published: `BreaksReadersError`."""
    WARN = "warn"
    PUBLISH = "publish"
    """Nobody is asked."""


def over_limit(envelope: Envelope, spent: Iterable[Usage], *, max_hops: int) -> GuardError | None:
    """Return why no handler may be called with the event in *envelope*, after earlier attempts *spent* something; None: one may."""
    if envelope.type.startswith(_OWN):
        return None
    if envelope.hops >= max_hops:
        return HopLimitError(envelope.type, envelope.source, envelope.hops, max_hops)
    if envelope.budget is None:
        return None
    try:
        left = Budget.parse(envelope.budget).less(_costs(spent))
    except ValueError as error:
        return BudgetUnreadableError(str(error))
    return BudgetSpentError(envelope.type, str(left)) if left.is_spent else None


def budget_left(budget: str | None, delivery: Delivery) -> str | None:
    """Return what events may spend that *delivery* emits: what its own event might, less what was spent on handling it."""
    if budget is None and not delivery.budgets:
        return None
    left = least((budget, *delivery.budgets))
    if left is None or not (delivery.usage or delivery.spent_before):
        return left
    try:
        return str(Budget.parse(left).less(_costs((*delivery.spent_before, *delivery.usage))))
    except ValueError:
        return left  # handed on as it came: whoever hears it says so


def _costs(usage: Iterable[Usage]) -> Iterable[tuple[float, str]]:
    return ((spent.cost, spent.currency) for spent in usage)
