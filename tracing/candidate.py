"""A workflow that the beginning of an id may mean."""

from __future__ import annotations

from typing import NamedTuple


class Candidate(NamedTuple):
    """A workflow whose id, or one of whose events' ids, begins as was asked for."""

    correlation_id: str
    type: str
    """Of its earliest event that was seen."""
    time_us: int
