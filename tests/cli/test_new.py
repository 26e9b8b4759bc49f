"""`antiphon new`: a project that works."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Antiphon


def test_a_project_is_made_and_what_it_says_to_do_next_works(antiphon: Antiphon, folder: Path) -> None:
    """The first three commands a newcomer types are ours, so they had better work."""
    code, out, _ = antiphon("new", "help-desk", "--json")
    made = orjson.loads(out)

    assert code == 0
    assert made["made"] == [
        "help-desk/help_desk.py",
        "help-desk/test_help_desk.py",
        "help-desk/pyproject.toml",
        "help-desk/Dockerfile",
        "help-desk/README.md",
    ]
    enter, try_it, test_it = made["next"]
    assert enter == "cd help-desk"
    for command in (try_it, test_it):
        words = shlex.split(command)
        words[:1] = [sys.executable, "-m", "antiphon.cli"] if words[0] == "antiphon" else [sys.executable]
        ended = subprocess.run(words, cwd=folder / "help-desk", capture_output=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_nothing_is_left_to_fill_in(antiphon: Antiphon, folder: Path) -> None:
    """Every placeholder of the templates is filled."""
    antiphon("new", "desk")

    assert [path for path in (folder / "desk").iterdir() if "{{" in path.read_text()] == []


def test_an_existing_folder_is_left_alone(antiphon: Antiphon, folder: Path) -> None:
    """It may be somebody's work."""
    (folder / "desk").mkdir()

    assert antiphon("new", "desk") == (
        2,
        "",
        "error: expected no folder 'desk' here, got one\n  give another name, or remove it first\n",
    )
    assert [*(folder / "desk").iterdir()] == []


@pytest.mark.parametrize("name", ["Help Desk", "9lives", "-x", "a/b", "", "ünder"])
def test_a_name_that_cannot_be_is_refused(antiphon: Antiphon, folder: Path, name: str) -> None:
    """With one that can."""
    code, out, err = antiphon("new", "--", name)

    assert (code, out) == (2, "")
    assert err.startswith("error: expected a name of lower-case letters")
    assert "try: antiphon new " in err
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("name", ["json", "class", "pydantic"])
def test_a_name_that_would_hide_a_module_is_refused(antiphon: Antiphon, name: str) -> None:
    """A file json.py breaks every program started beside it."""
    code, _, err = antiphon("new", name)

    assert code == 2
    assert err.startswith(f"error: expected a name that no module has, got '{name}'\n")
