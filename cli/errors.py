"""What a command says when it cannot do what was asked, and with which exit code.

    CommandError            a text, what to do about it, and the exit code
    ├── UsageError          2: what was typed, or a file it names, is wrong
    ├── AnswerIsNoError     1: the question was understood, and the answer is no
    └── UnreachableError    3: the broker or the registry cannot be reached

Exit codes: 0 done; 1 the answer is no; 2 wrong usage; 3 broker or registry
unreachable; 70 a fault of antiphon's own; 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

DONE = 0
NO = 1
USAGE = 2
UNREACHABLE = 3
OUR_FAULT = 70
INTERRUPTED = 130

_NEAR = 0.6
_AS_NEAR = 0.1


class CommandError(Exception):
    """An error a person can do something about: one line of what is wrong, then lines of what to do."""

    exit_code = USAGE

    def __init__(self, problem: str, *remedies: str) -> None:
        self.problem = problem
        self.remedies = remedies
        super().__init__("\n".join([problem, *remedies]))


class UsageError(CommandError):
    """What was typed, or a file it names, is wrong."""


class AnswerIsNoError(CommandError):
    """The question was understood, and the answer is no."""

    exit_code = NO


class UnreachableError(CommandError):
    """The broker or the registry cannot be reached."""

    exit_code = UNREACHABLE


def near(name: str, known: Collection[str], *, count: int = 3) -> list[str]:
    """Return the names in *known* that somebody who typed *name* may have meant, the likeliest first.

    >>> near("tiket.opened", ["order.placed", "ticket.opened"])
    ['ticket.opened']
    """
    found = difflib.get_close_matches(name, sorted(known), n=count, cutoff=_NEAR)
    if not found:
        return [one for one in sorted(known) if name and name.lower() in one.lower()][:count]
    # Names here share words with one another: only those nearly as near as the nearest are meant.
    best = difflib.SequenceMatcher(None, name, found[0]).ratio()
    return [one for one in found if difflib.SequenceMatcher(None, name, one).ratio() > best - _AS_NEAR]


def did_you_mean(name: str, known: Collection[str], *, what: str) -> str:
    """Return a remedy line for an unknown *name*: near ones, or else all, or that there are none.

    >>> did_you_mean("opend", ["opened"], what="event types")
    'did you mean opened?'
    >>> did_you_mean("x", [], what="event types")
    'there are no event types here'
    """
    if likely := near(name, known):
        return f"did you mean {' or '.join(likely)}?"
    if not known:
        return f"there are no {what} here"
    return f"{what} here: {listed(sorted(known))}"


def listed(names: Iterable[str], *, at_most: int = 12) -> str:
    """Join *names*, and say how many are left out of a long list.

    >>> listed(["a", "b", "c"], at_most=2)
    'a, b, and 1 more'
    """
    every = [*names]
    shown = ", ".join(every[:at_most])
    return shown if len(every) <= at_most else f"{shown}, and {len(every) - at_most} more"


def render(problem: str, remedies: Sequence[str]) -> str:
    r"""Write an error as every command does: `error:`, then what to do, indented.

    >>> render("no such file", ["look again"])
    'error: no such file\n  look again'
    """
    lines = [line for text in remedies for line in text.splitlines()]
    return "\n".join([f"error: {problem}", *(f"  {line}".rstrip() for line in lines)])
