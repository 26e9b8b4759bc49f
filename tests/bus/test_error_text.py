"""How an error is told in logs, in a dead letter and in the activity record."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest

from antiphon.bus.error_text import traceback_of


def _look_up(seat: str) -> None:
    try:
        int(seat)
    except ValueError as error:
        raise LookupError("no such seat") from error


def _stumble() -> None:
    try:
        _look_up("seven")
    except LookupError:
        raise KeyError("while looking") from None


def _fall() -> None:
    try:
        _look_up("seven")
    except LookupError:
        _stumble()


def _together() -> None:
    try:
        _fall()
    except KeyError as error:
        raise ExceptionGroup("both", [error, ValueError("this one was never raised")]) from error


def _remark() -> None:
    error = TypeError("two\nlines")
    error.add_note("and a note")
    raise error


class _SeatError(Exception):
    """One of a module, as most are."""


class _SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("and this one cannot say what it is")


def _name() -> None:
    raise _SeatError("seat 7")


def _say_nothing() -> None:
    raise _SeatError


def _fail_to_say() -> None:
    raise _SpeechlessError


def _misspell() -> None:
    getattr(_raised, "__dooc__")  # noqa: B009 - as if it were spelt out


def _for_ever(depth: int = 0) -> None:
    _for_ever(depth + 1)


def _raised(by: Callable[[], None]) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - any: what is looked at is how it is told
        by()
    return raised.value


def test_an_error_is_told_with_what_it_came_from() -> None:
    """Every line that led to it, and the errors it was raised from; not where within a line."""
    text = traceback_of(_raised(lambda: _look_up("seven")))

    assert "int(seat)" in text
    assert "ValueError: invalid literal for int() with base 10: 'seven'" in text
    assert "The above exception was the direct cause" in text
    assert text.endswith("LookupError: no such seat\n")
    assert "^" not in text


@pytest.mark.parametrize(
    "by",
    [
        _stumble,
        _fall,
        _together,
        _remark,
        _name,
        _say_nothing,
        _fail_to_say,
        _misspell,
        lambda: compile("1 +", "seats.py", "exec"),
    ],
)
def test_it_reads_as_the_interpreter_has_it(by: Callable[[], None]) -> None:
    """Chains, groups, notes and mistakes of syntax: line by line what `traceback` prints, its marks left out."""
    error = _raised(by)

    theirs = [line for line in "".join(traceback.format_exception(error)).splitlines() if set(line) - set(" |~^")]
    assert [line for line in traceback_of(error).splitlines() if set(line) - set(" |^")] == theirs


def test_one_that_came_from_itself_is_told_once() -> None:
    """A circle of causes ends."""
    error = _raised(lambda: _look_up("seven"))
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error

    assert traceback_of(error).count("LookupError: no such seat") == 1


def test_a_way_of_a_thousand_calls_is_short() -> None:
    """What repeats is counted; of what is still too long, the end is kept."""
    text = traceback_of(_raised(_for_ever))

    assert "Previous line repeated" in text
    assert text.rstrip().splitlines()[-1].startswith("RecursionError")
    assert len(traceback_of(ValueError("x" * 100_000))) == 16_384
