"""Silence while a mesh is made to fail on purpose, a thousand times."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator


@contextlib.contextmanager
def quiet(*, indeed: bool) -> Generator[None]:
    """Keep the mesh from telling of every mishap; with *indeed* false it tells."""
    log = logging.getLogger("antiphon")
    level = log.level
    if indeed:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
