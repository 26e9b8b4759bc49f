"""Who decides: what is kept beside whatever a person decided at a terminal."""

from __future__ import annotations

import getpass
import platform


def actor() -> str:
    """Return the user and the machine, as in an address."""
    return f"{getpass.getuser()}@{platform.node()}"
