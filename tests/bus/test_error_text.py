"""How an error is told in logs, in a dead letter and in the activity record."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

import antiphon
from antiphon import Agent, Event, PermanentError
from antiphon.bus.error_text import traceback_of, users_own
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

OURS = f"{Path(antiphon.__file__).parent}/bus/runner.py"
LIBRARY, INSTALLED, USERS = asyncio.__file__, pydantic.__file__, "/srv/answer.py"


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


class Asked(Event):
    n: int


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ((OURS, OURS, USERS, OURS), ("  [2 frames of antiphon left out]", USERS, OURS)),
        ((OURS, USERS), ("  [1 frame of antiphon left out]", USERS)),
        ((OURS, LIBRARY, OURS, USERS, LIBRARY), ("  [3 frames of antiphon left out]", USERS, LIBRARY)),
        ((OURS, "<string>"), ("  [1 frame of antiphon left out]", "<string>")),
        ((OURS, OURS), (OURS, OURS)),
        ((OURS, INSTALLED, LIBRARY), (OURS, INSTALLED, LIBRARY)),
        ((USERS, OURS), (USERS, OURS)),
        ((LIBRARY, OURS, USERS), (LIBRARY, OURS, USERS)),
        ((), ()),
    ],
    ids=lambda files: " ".join(Path(file).name for file in files),
)
def test_what_leads_to_the_users_own_code_is_counted(files: tuple[str, ...], shown: tuple[str, ...]) -> None:
    """Up to its first frame, where we began; all is shown where none of it is there, or somebody else called us."""
    frames = [traceback.FrameSummary(file, 1, "f", lookup_line=False, line="") for file in files]

    found = [re.sub(r'  File "(.*)", line 1, in f', r"\1", line.rstrip()) for line in users_own(frames)]
    assert tuple(found) == shown


def _as_ours(source: str) -> Any:
    """What *source* defines as `run`, as if it stood in this package."""
    defined: dict[str, Any] = {}
    exec(compile(source, OURS, "exec"), defined)
    return defined["run"]


CATCH = """
def run(by):
    try:
        by()
    except Exception as error:
        return error
"""
RAISE = """
def run(by):
    try:
        try:
            by()
        except Exception as error:
            raise RuntimeError("ours") from error
    except RuntimeError as error:
        return error
"""


@pytest.mark.parametrize("by", [_stumble, _fall, _together, _remark, lambda: compile("1 +", "seats.py", "exec")])
def test_nothing_else_is_left_out(by: Callable[[], None]) -> None:
    """Chains, groups, notes and mistakes of syntax, where we called what raised them: the rest is as without us."""
    error = _as_ours(CATCH)(by)
    told = traceback_of(error)

    counted = re.findall(r"^(?:  \| )?  \[1 frame of antiphon left out\]\n", told, re.MULTILINE)
    assert len(counted) == 1
    assert told.replace(counted[0], "") == traceback_of(error.with_traceback(error.__traceback__.tb_next))


def test_an_error_of_ours_is_shown_whole_and_what_it_came_from_shortened() -> None:
    """Each part of a chain for itself."""
    first, _, second = traceback_of(_as_ours(RAISE)(_stumble)).partition("direct cause")

    assert ("1 frame of antiphon" in first, OURS in first, "in _stumble" in first) == (True, False, True)
    assert ("of antiphon left out" in second, OURS in second) == (False, True)


async def test_a_failed_attempt_begins_with_the_handler() -> None:
    """In what activity tells, of a coroutine and of a function that has a thread."""
    agents = [Agent("awaiting"), Agent("plain")]

    @agents[0].on(Asked)
    async def awaited(asked: Asked) -> None:
        raise PermanentError("no")

    @agents[1].on(Asked)
    def called(asked: Asked) -> None:
        raise PermanentError("no")

    mesh = MemoryMesh()
    async with mesh.running(*agents):
        await mesh.publish(Asked(n=1))

        async def both() -> bool:
            return len(await mesh.handled()) == 2

        await eventually(both, what="both to have failed")
    begins = re.compile(r"Traceback .*\n  \[\d+ frames of antiphon left out\]\n  File .* in (\w+)\n")
    told = [entry.error.traceback for entry in await mesh.handled() if entry.error is not None]
    assert sorted(begins.sub(r"in \1: ", text).splitlines()[0] for text in told) == [
        'in awaited:     raise PermanentError("no")',
        'in called:     raise PermanentError("no")',
    ]
