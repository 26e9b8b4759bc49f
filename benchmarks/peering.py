"""The environment of the frameworks that one hop is compared with: theirs alone, made when first needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stage import NotMeasuredError

HERE = Path(__file__).parent
SCRIPTS = HERE / "peers"
_PINS = HERE / "peers.txt"
_FOLDER = HERE / ".peers"
_MADE_FROM = _FOLDER / "made-from.txt"


def interpreter() -> Path:
    """Return the Python that has the frameworks; raises `NotMeasuredError` where they cannot be installed."""
    python = _FOLDER / "bin/python"
    pins = _PINS.read_text()
    if not (python.exists() and _MADE_FROM.exists() and _MADE_FROM.read_text() == pins):
        sys.stderr.write("installing what one hop is compared with (once, about a minute) ...\n")
        _run(sys.executable, "-m", "venv", "--clear", str(_FOLDER))
        install = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install")
        _run(str(python), *install, "--require-hashes", "--no-deps", "--requirement", str(_PINS))
        _MADE_FROM.write_text(pins)
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise NotMeasuredError(f"their environment could not be made: {' '.join(last)[:200]}")
