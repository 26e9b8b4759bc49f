"""How an error is told in a dead letter and in the activity record."""

from __future__ import annotations

import pytest

from antiphon.bus.dead_letter import formatted


def _look_up(seat: str) -> None:
    try:
        int(seat)
    except ValueError as error:
        raise LookupError("no such seat") from error


def test_an_error_is_told_with_what_it_came_from() -> None:
    """Every line that led to it, and the errors it was raised from; not where within a line."""
    with pytest.raises(LookupError) as raised:
        _look_up("seven")
    text = formatted(raised.value)

    assert "int(seat)" in text
    assert "ValueError: invalid literal for int() with base 10: 'seven'" in text
    assert "The above exception was the direct cause" in text
    assert text.endswith("LookupError: no such seat\n")
    assert "^" not in text
