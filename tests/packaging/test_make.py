"""`make` says what is wrong where it cannot work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def make(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run make on a copy of the Makefile, so that no .venv is found or made here."""
    for name in ("Makefile", "pyproject.toml"):
        (cwd / name).write_bytes((ROOT / name).read_bytes())
    (cwd / "requirements").mkdir()
    (cwd / "requirements/dev.txt").touch()
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHON", "MAKEFLAGS"}}
    return subprocess.run(["make", *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_an_older_python_is_named(tmp_path: Path) -> None:
    """With what to type instead."""
    old = tmp_path / "old-python"
    pretend = "import sys; sys.version_info, sys.version = (3, 9, 2), '3.9.2 (main)'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{pretend}" "$@"\n')
    old.chmod(0o755)
    done = make("setup", f"PYTHON={old}", cwd=tmp_path)
    assert done.stderr.splitlines()[0] == (
        "expected python3 >= 3.11, got 3.9.2; say which one: make setup PYTHON=python3.12"
    )


def test_no_python_is_said_so(tmp_path: Path) -> None:
    """Not a shell's riddle."""
    done = make("setup", "PYTHON=python-that-is-not-there", cwd=tmp_path)
    assert done.stderr.splitlines()[0] == (
        "expected python3 >= 3.11, got no python-that-is-not-there; say which one: make setup PYTHON=/path/to/python3"
    )


@pytest.mark.parametrize(
    "word", ["setup", "check", "fix", "test", "demo", "kafka", "mesh", "soak", "interop", "bench", "docs", "clean"]
)
def test_every_word_is_listed(tmp_path: Path, word: str) -> None:
    """`make` alone says what can be made."""
    assert f"  make {word} " in make(cwd=tmp_path).stdout
