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
    if (seconds := _seconds(text)) is not None:
        return int((time.time() - seconds) * 1000)
    if (moment := _moment(text)) is not None:
        return int(moment.timestamp() * 1000)
    raise UsageError(
        f"expected {option} to be a duration or an ISO 8601 time, got {text!r}",
        f"try: {option} 10m",
        f"     {option} 2026-11-22T10:00:00Z",
    )


def seconds(text: str, *, option: str) -> float:
    """Read a duration.

    >>> seconds("1.5h", option="--keep")
    5400.0
    """
    found = _seconds(text)
    if found is None:
        raise UsageError(f"expected {option} to be a duration, got {text!r}", f"try: {option} 30d")
    return found


def later_us(from_us: int, *, by: str | None, until: str | None) -> int:
    """Read how much later than *from_us* (`10m`), or until when (an ISO 8601 time), as microseconds since 1970.

    >>> later_us(1_000_000, by="2s", until=None), later_us(0, by=None, until="1970-01-01T00:00:01Z")
    (3000000, 1000000)
    """
    if by is not None and until is None:
        if (seconds := _seconds(by)) is not None:
            return from_us + round(seconds * 1_000_000)
        raise UsageError(f"expected --by to be a duration, got {by!r}", "try: --by 10m")
    if until is not None and by is None:
        if (moment := _moment(until)) is not None:
            return round(moment.timestamp() * 1_000_000)
        raise UsageError(f"expected --until to be an ISO 8601 time, got {until!r}", "try: --until 2026-11-22T10:00:00Z")
    raise UsageError(f"expected one of --by and --until, got {'both' if by else 'neither'}", "try: --by 10m")


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text.strip())
    return None if found is None else float(found[1]) * _UNITS[found[2]]


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    # A time without an offset is the reader's own.
    return moment if moment.tzinfo else moment.astimezone()


def clock(us: int) -> str:
    """Write a moment for a person, in the reader's own time: without the day where that is today."""
    moment = datetime.fromtimestamp(us / 1_000_000).astimezone()
    today = datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")


def span(ms: float) -> str:
    """Write a duration for a person.

    >>> span(41.25), span(3_140), span(250_000)
    ('41 ms', '3.1 s', '4 min 10 s')
    """
    minutes, seconds = divmod(ms / 1_000, 60)
    if minutes:
        return f"{minutes:.0f} min {int(seconds)} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{ms:.0f} ms"
