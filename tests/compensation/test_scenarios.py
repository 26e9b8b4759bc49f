"""The table of scenarios in the reference says which test shows which, and what none shows."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
KAFKA = HERE.parent / "kafka/test_undoing_killed.py"
KILLED = {f"S{number:02}" for number in (2, 12, 15, 21, 22, 29, 30, 31, 32, 33, 46, 48, 50)}
PAGE = HERE.parent.parent / "docs/reference/sagas.md"


def test_the_table_lists_the_tests_there_are() -> None:
    """All 52 scenarios, each with its tests, and one without any says that it is not built."""
    table = dict(re.findall(r"^\| (S\d\d) \| .*? \| (.*?) \|$", PAGE.read_text(), re.MULTILINE))
    found: defaultdict[str, list[str]] = defaultdict(list)
    for page in [*sorted(HERE.glob("test_*.py")), KAFKA]:
        place = "kafka/test_undoing_killed.py::" if page == KAFKA else ""
        for name in re.findall(r"^(?:async )?def (test_s\d\d_\w+)\(", page.read_text(), re.MULTILINE):
            for number in re.findall(r"s(\d\d)_", name):
                found[f"S{number}"].append(f"`{place}{name}`")
    assert table == {f"S{number:02}": ", ".join(found[f"S{number:02}"]) or "not built" for number in range(1, 53)}


def test_scenarios_that_are_about_killed_processes_run_on_kafka() -> None:
    """Each of those that a process has to die for is told on Apache Kafka too, and all but these in memory."""
    table = dict(re.findall(r"^\| (S\d\d) \| .*? \| (.*?) \|$", PAGE.read_text(), re.MULTILINE))
    on_kafka = {id for id, tests in table.items() if "kafka/" in tests}
    in_memory = {id for id, tests in table.items() if re.search(r"`test_", tests)}
    assert (KILLED - on_kafka, table.keys() - in_memory) == (set(), set())
