"""What is committed speaks of Antiphon, not of the machine it was written on."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

# Put together here, so that this file does not contain them itself.
_FORBIDDEN = re.compile(
    "|".join(
        [
            r"(?<![\w.-])/wo" + "rk/",  # folders of one machine
            r"(?<![\w.-])/r" + "oot/",
            r"/tmp/la" + "b",
            r"https?://(?:files\.)?py" + r"pi\.|pythonho" + "sted",  # a lock or a script that knows one index only
            r"(?:extra-)?index-u" + r"rl\s*=?\s*h",
            r"noreply\.b-se" + "ed",
            r"BRI" + r"EF\.md|\.\./sha" + "red/",
            r"TO" + r"DO|FIX" + "ME|XX" + "X",
        ]
    )
)


def tracked() -> list[str]:
    """Return the names of all committed and staged files; the lock's hashes spell anything, in time."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_nothing_of_one_machine_is_committed() -> None:
    """No paths, no hosts of an index, no notes to oneself."""
    found: list[str] = []
    for name in tracked():
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := _FORBIDDEN.search(line):
                found.append(f"{name}:{number}: {match[0]}")
    assert found == []


def test_nothing_large_is_committed() -> None:
    """Jars, logs and databases are made, not kept."""
    assert [name for name in tracked() if (ROOT / name).stat().st_size > 500_000] == []
