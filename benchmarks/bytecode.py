"""Interpreters that keep what they have compiled, as those of a user do, in a folder of their own: whatever this process was told."""

from __future__ import annotations

import os
from pathlib import Path


def keeping_in(folder: Path) -> dict[str, str]:
    """Return an environment in which compiled modules are kept in *folder*, and found there the next time."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": str(folder)}
