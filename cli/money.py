"""Amounts of money, as people type them."""

from __future__ import annotations

from antiphon.cli.errors import UsageError
from antiphon.schemas.budget import Budget


def amount(text: str) -> str:
    """Read a budget that somebody typed, and return it as a header says it.

    >>> amount("1.50"), amount("2 EUR")
    ('1.5 USD', '2 EUR')
    """
    try:
        budget = Budget.parse(text)
    except ValueError as error:
        raise UsageError(f"{error}, for --budget") from None
    if budget.is_spent:
        raise UsageError(f"expected an amount above 0 for --budget, got {text!r}", "without one nothing is counted")
    return str(budget)
