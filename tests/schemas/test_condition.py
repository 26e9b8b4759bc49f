"""Conditions on an event's data, as people type them."""

from __future__ import annotations

import pytest

from antiphon.schemas.condition import Condition
from antiphon.schemas.errors import ConditionError


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("amount=3", True),
        ("amount!=3", False),
        ("amount > 2", True),
        ("amount<=2", False),
        ("customer.country=DE", True),
        ("customer.country~D", True),
        ("lines.1=b", True),
        ("lines.2=b", False),
        ("nothing=1", False),
        ("nothing!=1", True),
        ("amount>text", False),
        ('amount="3"', False),
        ("ticket=7", True),
        ('ticket="7"', True),
        ("ticket!=7", False),
        ("orders.city=Bergen", True),
        ("orders.city!=Bergen", False),
    ],
)
def test_a_condition_compares_a_field(text: str, fits: bool) -> None:
    """By path, with JSON or plain text; of a list one item is enough; what cannot be compared does not fit."""
    data: dict[str, object] = {"amount": 3, "customer": {"country": "DE"}, "lines": ["a", "b"], "ticket": "7"}
    data["orders"] = [{"city": "Oslo"}, {"city": "Bergen"}]

    assert Condition.parse(text).holds(data) is fits


def test_a_condition_without_a_comparison_is_refused() -> None:
    """The error shows what one looks like."""
    with pytest.raises(ConditionError, match="amount>100"):
        Condition.parse("amount")
