"""The lock and pyproject.toml agree, and the check that says so can tell when they do not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PYPROJECT = """
[build-system]
requires = ["hatchling"]
[project]
dependencies = ["Some_Thing>=2"]
optional-dependencies.dev = ["extra"]
[dependency-groups]
dev = ["pytest"]
"""
PINS = {"hatchling": "1.0", "some-thing": "2.1", "extra": "0.1", "pytest": "9.0"}


def check(*files: Path) -> tuple[int, list[str]]:
    """Run the check; return its exit code and what it complains about."""
    command = [sys.executable, str(ROOT / "requirements/check.py"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()[1:-1]


def lock(pins: dict[str, str]) -> str:
    return "".join(f"{name}=={version} \\\n    --hash=sha256:00\n" for name, version in pins.items())


def test_they_agree() -> None:
    """In this repository."""
    assert check() == (0, [])


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        (lock(PINS), []),
        (lock({**PINS, "some-thing": "1.9"}), ["expected Some_Thing>=2, got 1.9"]),
        (lock({name: pin for name, pin in PINS.items() if name != "extra"}), ["expected extra, got nothing"]),
        (lock(PINS).replace("    --hash=sha256:00\n", "", 1), ["expected a hash for every pin, got some without"]),
        (
            "--index-url example\n" + lock(PINS),
            ["expected no address, so that any index serves, got --index-url example"],
        ),
    ],
)
def test_what_does_not_agree_is_named(tmp_path: Path, text: str, complaints: list[str]) -> None:
    """Each with what was expected and what came."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "dev.txt").write_text(text)
    assert check(tmp_path / "pyproject.toml", tmp_path / "dev.txt") == (1 if complaints else 0, complaints)
