"""What the demo shows: lines in a pipe, a table on a terminal, the summary."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from antiphon.cli.demo.board import Board, Package, Stage, Summary
from antiphon.cli.demo.screen import Lines, LiveTable, summary_lines, table

APPROVED = Package("rich", "15.0.0", "w1", 0, Stage.APPROVED, 500_000, "MIT", 0.99, "permissive (MIT)")
REFUSED = Package(
    "orjson", "3.13.0", "w2", 0, Stage.REFUSED, 1_250_000, "MPL-2.0", 1.0, "weak copyleft (MPL-2.0)", released=True
)
REVIEW = Package("odd", "1", "w3", 0, Stage.REVIEW, 600_000, None, 0.1, "LICENSE is no licence text we know")
BROKEN = Package("ghost", "1", "w4", 0, Stage.UNREADABLE, 100_000, None, None, "no METADATA")
ON_THE_WAY = Package("slow", "1", "w5", 0, Stage.READ)
ALL = [APPROVED, REFUSED, REVIEW, BROKEN, ON_THE_WAY]


def console(*, width: int = 120, terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=24, force_terminal=terminal, color_system=None, soft_wrap=not terminal
    )


def written(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return "\n".join(line.rstrip() for line in made.file.getvalue().splitlines())


def board(*packages: Package) -> Board:
    made = Board(len(packages))
    made.packages = {package.correlation_id: package for package in packages}
    return made


def test_in_a_pipe_a_package_has_a_line_when_it_has_its_outcome() -> None:
    """And another when it is undone; what is being waited for goes to stderr."""
    results, remarks = console(), console()
    with Lines(results, remarks) as screen:
        screen.say("starting")
        for package in (ON_THE_WAY, APPROVED, REFUSED, REFUSED, BROKEN):
            screen.show(board(package), package)
    assert written(remarks) == "starting"
    assert written(results).splitlines() == [
        "approved        rich 15.0.0  MIT 0.99  permissive (MIT)  (0.50 s)",
        "refused         orjson 3.13.0  MPL-2.0 1.00  weak copyleft (MPL-2.0)  (1.25 s)",
        "undone          orjson 3.13.0",
        "unreadable      ghost 1  -   no METADATA  (0.10 s)",
    ]


def test_what_is_undone_before_it_is_known_why_has_both_lines_too() -> None:
    """They stand on two topics, which are read side by side."""
    results = console()
    with Lines(results, console()) as screen:
        for package in (dataclasses.replace(REFUSED, stage=Stage.IDENTIFIED), REFUSED):
            screen.show(board(package), package)
    assert [line.split()[0] for line in written(results).splitlines()] == ["undone", "refused"]


def test_the_table_has_a_row_a_package() -> None:
    """Why a licence is allowed goes without saying; why a package is not taken, does not."""
    made = console()
    made.print(table(ALL, 120))
    assert written(made).splitlines() == [
        "package  version  licence  confidence  outcome                                               time",
        "rich     15.0.0   MIT            0.99  approved                                            0.50 s",
        "orjson   3.13.0   MPL-2.0        1.00  refused, undone: weak copyleft (MPL-2.0)            1.25 s",
        "odd      1        -              0.10  needs a person: LICENSE is no licence text we know  0.60 s",
        "ghost    1        -                    unreadable: no METADATA                             0.10 s",
        "slow     1        -                    read",
    ]


def test_on_a_narrow_terminal_the_table_still_has_every_column() -> None:
    """80 columns are what many have."""
    made = console(width=80, terminal=True)
    long = Package("a-name-that-goes-on-and-on", "2026.1.2.3", "w", 0, Stage.REVIEW, 1, "Apache-2.0", 0.5, "why " * 30)
    made.print(table([*ALL, long], 80))
    heads = written(made).splitlines()[0].split()
    assert heads == ["package", "version", "licence", "confidence", "outcome", "time"]
    assert max(map(len, written(made).splitlines())) <= 80


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    """Names, versions and licences come from files nobody here has checked."""
    made = console()
    made.print(table([Package("a\x1b[31mb", "\x07", "w", 0, Stage.FAILED, 1, "x\n", 0.1, "\x1b]0;owned")], 120))
    assert "\x1b[31m" not in written(made)
    assert "\x07" not in written(made)
    assert "\x1b]" not in written(made)


def test_on_a_terminal_all_rows_stand_there_at_the_end() -> None:
    """While it runs only the last few do."""
    made = console(terminal=True)
    with LiveTable(made) as screen:
        screen.say("starting")
        for package in ALL:
            screen.show(board(*ALL), package)
    rows = [line for line in written(made).rpartition("package ")[2].splitlines() if line.strip()]
    assert [row.split()[0] for row in rows[1:]] == ["ghost", "odd", "orjson", "rich", "slow"]


def test_the_summary_says_what_it_adds_up_to() -> None:
    """How fast, how sure, and whether the catalogue is clean."""
    summary = Summary(
        packages=4,
        seconds=2.0,
        outcomes={Stage.APPROVED: 1, Stage.REFUSED: 1, Stage.REVIEW: 1, Stage.UNREADABLE: 1},
        declared=2,
        agreed=1,
        disagreements=(Package("cffi", "2", "w", 0, declared="MIT-0", judged="MIT", confidence=0.824, file="LICENSE"),),
        undone=1,
        catalogue={"approved": 1, "provisional": 1},
        left_behind=(),
    )
    assert summary.good
    assert summary_lines(summary) == [
        "4 packages in 2.0 s, 2.0 a second: 1 approved, 1 refused, 1 needs a person, 1 unreadable",
        "licences: 1 of 2 that declare an SPDX expression agree with their text",
        "  cffi declares MIT-0, but LICENSE looks like MIT (0.82)",
        "undone: 1 of 1 refused; the catalogue holds 2 packages (1 approved, 1 provisional)",
    ]
