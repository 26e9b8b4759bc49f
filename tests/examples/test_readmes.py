"""The examples' READMEs: what stands after a `$` is run, and must print what stands below it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


class Session(NamedTuple):
    """One command of a README, and what the README says it prints."""

    example: str
    command: str
    expected: str


def sessions() -> list[Session]:
    found: list[Session] = []
    for readme in sorted(EXAMPLES.glob("*/README.md")):
        for block in re.findall(r"^```console\n(.*?)^```", readme.read_text(), flags=re.DOTALL | re.MULTILINE):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                found.append(Session(readme.parent.name, command, expected))
    return found


def normalised(output: str) -> list[str]:
    """Leave out of *output* what is different each time: how long things took, and what depends on that.

    Of a join's two parents the tree hangs it under the one that came last, so the order of lines and the branches
    drawn before them go too.
    """
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("slowest: ")]
    return sorted(_without_times(line) for line in lines)


def _without_times(line: str) -> str:
    line = re.sub(r"[│├└─▓]", " ", line)
    line = re.sub(r"\(also needed [^)]*\)", "", line)
    line = re.sub(r"\d+(\.\d+)? (ms|s)\b( later)?", "TIME", line)
    line = re.sub(r"\d+\.\d+s\b", "TIME", line)
    # Versions are the environment's, and so are confidences.
    line = re.sub(r"\b\d+(\.\d+)+\b", "N", line)
    return " ".join(line.split())


@pytest.mark.parametrize("session", sessions(), ids=lambda session: f"{session.example}: {session.command}")
def test_a_command_prints_what_the_readme_says(session: Session, tmp_path: Path) -> None:
    """In a copy of the example's folder, with nothing set."""
    folder = shutil.copytree(EXAMPLES / session.example, tmp_path / session.example)
    scripts = Path(sys.executable).parent
    ran = subprocess.run(
        ["/bin/sh", "-c", session.command],
        cwd=folder,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert normalised(ran.stdout) == normalised(session.expected), ran.stderr


def test_every_example_shows_commands_and_what_they_print() -> None:
    """An example without them would be tested by nobody."""
    shown = {session.example for session in sessions() if session.expected.strip()}
    assert shown == {readme.parent.name for readme in EXAMPLES.glob("*/README.md")}
