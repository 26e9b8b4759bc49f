"""What is not as it was: each change that can be made to a result, and only that."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.replay.compare import EXACTLY, MISSING, Difference, Field, Kind, Raised, Result, Rules, Said, compare

ORDER = {"id": 7, "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}], "total": 10.5, "gift": False}
RESULT = Result(
    [Said("order.priced", ORDER), Said("stock.reserved", {"sku": "a"}), Said("stock.reserved", {"sku": "b"})]
)


def changed(path: str, value: object) -> Result:
    """Return the result with one field of its first event changed."""
    said = copy.deepcopy([*RESULT.said])
    at: Any = said[0].data
    *way, last = path.split(".")
    for part in way:
        at = at[int(part) if part.isdecimal() else part]
    at[int(last) if last.isdecimal() else last] = value
    return Result(said)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("id", 7, 8),
        ("lines.1.count", 2, 3),
        ("lines.0.sku", "a", "c"),
        ("total", 10.5, 10.6),
        ("gift", False, 0),
        ("total", 10.5, None),
        ("added", MISSING, 1),
    ],
)
def test_a_changed_field_is_told_by_its_path(path: str, before: object, after: object) -> None:
    """With what was recorded and what came; a boolean is no number."""
    assert compare(RESULT, changed(path, after)) == [
        Difference(Kind.CHANGED, "order.priced", (Field(path, before, after),))
    ]


def test_a_missing_event_is_told_once() -> None:
    """Those behind it are not taken for changed."""
    assert compare(RESULT, Result(RESULT.said[1:])) == [
        Difference(Kind.MISSING, "order.priced", (Field("", ORDER, MISSING),))
    ]


def test_an_added_event_is_told_once() -> None:
    """Wherever it stands."""
    more = Said("order.flagged", {"why": "dear"})
    assert compare(RESULT, Result([more, *RESULT.said])) == [
        Difference(Kind.ADDED, "order.flagged", (Field("", MISSING, more.data),))
    ]


def test_another_order_is_told_as_that() -> None:
    """Not as changes: each event came."""
    price, first, second = RESULT.said
    [difference] = compare(RESULT, Result([price, second, first]))

    assert difference.kind is Kind.ORDER


def test_another_branch_is_a_missing_and_an_added_event() -> None:
    """Of one type less and of another more."""
    kinds = [found.kind for found in compare(Result([Said("a.done", {})]), Result([Said("b.done", {})]))]
    assert kinds == [Kind.MISSING, Kind.ADDED]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, Raised("ValueError", "no"), Kind.OUTCOME),
        (Raised("ValueError", "no"), None, Kind.OUTCOME),
        (Raised("ValueError", "no"), Raised("KeyError", "no"), Kind.ERROR),
        (Raised("ValueError", "no"), Raised("ValueError", "yes"), Kind.ERROR),
    ],
)
def test_another_outcome_is_told_alone(before: Raised | None, after: Raised | None, kind: Kind) -> None:
    """What was not said because of it is no difference of its own."""
    recorded, got = (Result([] if raised else RESULT.said, raised) for raised in (before, after))
    assert [found.kind for found in compare(recorded, got)] == [kind]


def test_the_same_error_is_no_difference() -> None:
    """A failure that is reproduced is what was recorded."""
    assert compare(Result((), Raised("ValueError", "no")), Result((), Raised("ValueError", "no"))) == []


@pytest.mark.parametrize("pattern", ["lines.*.count", "lines.1.count", "order.priced:lines.1.count", "*"])
def test_an_ignored_path_does_not_matter(pattern: str) -> None:
    """With wildcards, and for one type alone where that is named."""
    assert compare(RESULT, changed("lines.1.count", 9), Rules(ignore=(pattern,))) == []
    assert compare(RESULT, changed("lines.1.count", 9), Rules(ignore=("stock.reserved:*",))) != []


def test_numbers_may_be_apart_by_the_tolerance() -> None:
    """Relative to the larger one; exactly where there is none."""
    assert compare(RESULT, changed("total", 10.5000001), Rules(tolerance=1e-6)) == []
    assert compare(RESULT, changed("total", 10.5000001), EXACTLY) != []


def test_a_judge_may_let_another_wording_pass() -> None:
    """It is asked of events of one type that differ, and of no others."""
    asked: list[tuple[str, str]] = []

    def judge(recorded: Said, got: Said) -> bool:
        asked.append((recorded.type, got.type))
        return True

    assert compare(RESULT, changed("total", 1), Rules(judge=judge)) == []
    assert asked == [("order.priced", "order.priced")]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
results = st.lists(st.builds(Said, st.sampled_from(["a.done", "b.done"]), values), max_size=5).map(Result)


@given(results)
def test_whatever_was_recorded_is_as_it_was(result: Result) -> None:
    """No result differs from itself."""
    assert compare(result, copy.deepcopy(result), EXACTLY) == []


@given(results, results)
def test_two_results_differ_in_both_directions_or_in_none(one: Result, other: Result) -> None:
    """What is missing the one way is added the other way."""
    there, back = compare(one, other, EXACTLY), compare(other, one, EXACTLY)
    count = {kind: [sum(found.kind is kind for found in way) for way in (there, back)] for kind in Kind}

    assert bool(there) == bool(back)
    assert count[Kind.MISSING] == count[Kind.ADDED][::-1]
