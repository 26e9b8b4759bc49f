"""A clock that stands still until it is told to go on."""

from __future__ import annotations

_START_US = 1_763_805_600_000_000  # 2025-11-22T10:00:00Z


class FakeClock:
    """Stands in for `antiphon.schemas.envelope.now_us`.

    >>> clock = FakeClock()
    >>> before = clock.now_us()
    >>> clock.advance(1.5)
    >>> clock.now_us() - before
    1500000
    """

    def __init__(self, start_us: int = _START_US) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass. Less than none is a clock set back, which clocks are."""
        self._now_us += round(seconds * 1_000_000)
