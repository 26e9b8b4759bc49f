"""Moments and durations, as people type them."""

from __future__ import annotations

import re
import time
from datetime import datetime

from antiphon.cli.errors import UsageError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def moment_ms(text: str, *, option: str) -> int:
    """Read a moment as milliseconds since 1970: `10m` ago, or an ISO 8601 time.

    >>> moment_ms("1970-01-01T00:00:01Z", option="--since")
    1000
    """
    if found := _DURATION.fullmatch(text.strip()):
        return int((time.time() - float(found[1]) * _UNITS[found[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"expected {option} to be a duration or an ISO 8601 time, got {text!r}",
            f"try: {option} 10m",
            f"     {option} 2026-11-22T10:00:00Z",
        ) from None
    # A time without an offset is the reader's own.
    return int((moment if moment.tzinfo else moment.astimezone()).timestamp() * 1000)


def span(ms: float) -> str:
    """Write a duration for a person.

    >>> span(41.25), span(3_140), span(250_000)
    ('41 ms', '3.1 s', '4 min 10 s')
    """
    minutes, seconds = divmod(ms / 1_000, 60)
    if minutes:
        return f"{minutes:.0f} min {int(seconds)} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{ms:.0f} ms"
