"""The page of faults and the tests that show them say the same."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/reference/faults.md"


def rows() -> list[list[str]]:
    """Return the cells of every row, headings left out."""
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!id |bug )", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def written() -> list[str]:
    """Return every test there is, as `file.py::name`, below `tests/`."""
    return [
        f"{path.relative_to(ROOT / 'tests').as_posix()}::{node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    ]


def shown() -> dict[str, set[str]]:
    """Return by test the first cells of the rows that name it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for cells in rows():
        for test in re.findall(r"`([\w/]+\.py::\w+)`", cells[-1]):
            found[test].add(cells[0])
    return found


def test_every_fault_has_its_row() -> None:
    """Each number once, with a promise, and the tests that show it or the words that there are none."""
    numbered = [cells[0] for cells in rows() if re.fullmatch(r"F\d\d", cells[0])]
    assert numbered == [f"F{number:02}" for number in range(1, 35)]
    assert [cells for cells in rows() if not re.fullmatch(r"none yet|`.+`", cells[-1])] == []


def test_every_test_that_is_named_exists() -> None:
    """Where it is said to."""
    assert sorted(shown().keys() - set(written())) == []


def test_every_test_of_a_fault_is_named_in_its_row() -> None:
    """A test called `test_f06_...` stands in the row of F06; one in `tests/faults` that has no number, with the bugs."""
    named = shown()
    numbered = {test: f"F{number[1]}" for test in written() if (number := re.search(r"::test_f(\d\d)_", test))}
    assert {test: fault for test, fault in numbered.items() if fault not in named.get(test, ())} == {}
    others = [test for test in written() if test.startswith("faults/") and test not in numbered]
    assert [test for test in others if test not in named] == []
