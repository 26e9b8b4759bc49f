"""What comes from outside may be anything: it is read, or refused with the error that is documented for it."""

from __future__ import annotations

from pathlib import Path

from corpus import newest
from fuzz import spoil
from readers import World

# Each reader gets some of them; `make fuzz` hands out a million.
RECORDS = 6_000
NEVER_WHOLE = {"bundles"}
"""A hash stands over all of it."""


def test_f26_whatever_is_spoilt_is_read_or_refused(tmp_path: Path) -> None:
    """No other error, no reader that stalls, no memory without bound; and each had something to read, or it would show nothing."""
    outcome = spoil(1, range(RECORDS))
    assert [str(finding) for finding in outcome.findings] == []
    world = World(newest(), tmp_path)
    names = {reader.name for reader in world.readers()}
    world.close()
    assert (outcome.records, {*outcome.read}) == (RECORDS, names - NEVER_WHOLE)
