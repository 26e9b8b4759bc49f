"""The benchmark suite starts, refuses what makes no sense, and its reference lists the very rows it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import suite
from table import BEGIN, END, Figure, Row, Unit, lines, put_into

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/reference/performance.md"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/suite.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_starts_and_lists_what_can_be_measured_alone() -> None:
    """Every name that the table's first column has."""
    done = run("--help")
    listed = re.search(r"--only \{([^}]*)\}", done.stdout)
    assert listed is not None
    assert set(listed[1].split(",")) == {figure.experiment for figure in suite.figures()} | set(suite.SCRIPTS)


def test_a_part_is_not_saved_over_the_whole() -> None:
    """The page would lose the other rows."""
    done = run("--save", "--only", "hop")
    assert (done.returncode, done.stderr.splitlines()[-1].partition("error: ")[2]) == (
        2,
        "expected --save with all figures, got --only too: the page would lose the others",
    )


def test_the_reference_lists_the_rows_that_are_printed() -> None:
    """In their order, under their own words."""
    listed = re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert listed == [(figure.experiment, figure.says) for figure in suite.figures()]


def test_a_row_has_the_median_of_the_ratios_and_their_range() -> None:
    """Not the ratio of the medians; a difference is one; what was not measured says why."""
    hop = Figure("hop", "a hop", Unit.RATE, "0.8")
    takeover = Figure("takeover", "a takeover", Unit.SECONDS, "1 s", beyond=True)
    rows = [
        Row(hop, [(900, 1_000), (3_000, 1_500), (1_100, 1_000)]),
        Row(takeover, [(4.5, 4)]),
        Row(hop, why="no Java"),
    ]
    assert [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines(rows)[2:]] == [
        ["hop", "a hop", "1,100/s", "1,000/s", "1.10", "0.90 to 2.00", "0.8"],
        ["takeover", "a takeover", "4.50 s", "4.00 s", "+0.50 s", "+0.50 s to +0.50 s", "1 s"],
        ["hop", "a hop", "-", "-", "-", "not measured: no Java", "0.8"],
    ]


def test_the_table_takes_the_place_of_the_last_one() -> None:
    """And nothing else of the page; the page in the repository has its place."""
    assert put_into(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert put_into(PAGE.read_text(), "new") != PAGE.read_text()
    with pytest.raises(ValueError, match="expected a page with"):
        put_into("no markers", "new")
