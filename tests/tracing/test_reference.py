"""The reference names what the code knows, all of it and nothing else."""

import re
from pathlib import Path

from antiphon.tracing.state import State
from antiphon.tracing.warning import Kind

PAGE = Path(__file__).parents[2] / "docs/reference/tracing.md"


def named(heading: str) -> set[str]:
    """The words in the first column of the table under *heading*."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_every_state_is_in_the_reference() -> None:
    """And in no other words."""
    assert named("State") == {state.value for state in State}


def test_every_warning_is_in_the_reference() -> None:
    """And in no other words."""
    assert named("Warnings") == {kind.value for kind in Kind}
