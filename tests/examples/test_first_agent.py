"""The first agent is what `antiphon new` makes."""

from __future__ import annotations

from pathlib import Path

from antiphon.cli.commands.new import write

EXAMPLE = Path(__file__).parents[2] / "examples" / "1-first-agent"


def test_new_makes_the_first_agent(tmp_path: Path) -> None:
    """So whoever follows the documentation and whoever types `antiphon new` see the same code."""
    made = {path.name: path.read_text() for path in write(tmp_path / "support", "support")}
    for name in ("support.py", "test_support.py"):
        assert made[name] == (EXAMPLE / name).read_text()
