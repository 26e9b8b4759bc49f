"""The budget: how much money a workflow may still spend from one event on, as `ce_budget` says it.

Nobody knows what a whole workflow has spent while it runs, so it is counted
along the path of causes: an event carries what was left when it was said, the
spending of its own delivery taken off. Branches do not know of one another.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from decimal import Decimal

# Fifteen digits before the point, twelve behind: no number in a header is too dear to reckon with.
_SAID = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,12})?)(?: ([A-Za-z]{1,16}))?")
_FINEST = Decimal("1e-12")
_MOST = Decimal("1e15")
USD = "USD"


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """An amount of one currency. 0 or less: nothing may be spent any more."""

    amount: Decimal
    currency: str = USD

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget as it stands in a header; raises `ValueError`. US dollars where no currency is named.

        >>> Budget.parse("1.50 EUR"), Budget.parse("2")
        (Budget(amount=Decimal('1.50'), currency='EUR'), Budget(amount=Decimal('2'), currency='USD'))
        """
        found = _SAID.fullmatch(text)
        if found is None:
            message = f"expected a budget as an amount and a currency, such as '1.50 USD', got {text[:60]!r}"
            raise ValueError(message)
        return cls(Decimal(found[1]), found[2] or USD)

    def __str__(self) -> str:
        """Write it as a header says it.

        >>> str(Budget(Decimal("0.10")).less([(0.03, "USD"), (9.0, "EUR")]))
        '0.07 USD'
        """
        text = f"{self.amount:f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {self.currency}"

    @property
    def is_spent(self) -> bool:
        """Say whether nothing is left."""
        return self.amount <= 0

    def less(self, spent: Iterable[tuple[float, str]]) -> Budget:
        """Return what is left after *spent*, amounts with their currencies; another currency's are not counted."""
        left = self.amount
        for cost, currency in spent:
            if currency == self.currency:
                # By its digits: what a float is exactly would make a header of fifty.
                left -= Decimal(repr(cost)) if cost < _MOST else _MOST
        return Budget(max(left.quantize(_FINEST), 1 - _MOST), self.currency)


def least(budgets: Iterable[str | None]) -> str | None:
    """Return the smallest of what several causes had left, so that a join spends no more than any of its branches could.

    Of several currencies the first one's counts; what cannot be read counts before all, as it stands, and whoever hears it says so.

    >>> least(["2 USD", None, "0.50 USD", "1 EUR"])
    '0.50 USD'
    """
    said = [budget for budget in budgets if budget is not None]
    read: list[tuple[Budget, str]] = []
    for text in said:
        try:
            read.append((Budget.parse(text), text))
        except ValueError:
            return text
    alike = [(budget.amount, text) for budget, text in read if budget.currency == read[0][0].currency]
    return min(alike)[1] if alike else None
