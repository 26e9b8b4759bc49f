"""What the tests of the examples read: everything that is installed in this environment."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path


def distributions() -> list[Path]:
    """Return the `.dist-info` directory of everything that is installed here."""
    files = [file for one in importlib.metadata.distributions() for file in one.files or [] if file.name == "METADATA"]
    return [Path(str(file.locate())).parent for file in files]
