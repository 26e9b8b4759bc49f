"""Something that is not known yet: no news at first, and worth a warning when it lasts."""

from __future__ import annotations

import logging

_PATIENCE_S = 10.0


class Lasting:
    """Since when something lasts, if it does."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def still(self, now_s: float) -> tuple[int, float]:
        """Note that it is so; returns the level at which to say it, and for how long it has lasted.

        >>> lasting = Lasting()
        >>> [lasting.still(now_s) for now_s in (100.0, 108.0, 110.0)]
        [(20, 0.0), (20, 8.0), (30, 10.0)]
        >>> lasting.over()
        >>> lasting.still(200.0)
        (20, 0.0)
        """
        if self._since_s is None:
            self._since_s = now_s
        lasted_s = now_s - self._since_s
        return logging.WARNING if lasted_s >= _PATIENCE_S else logging.INFO, lasted_s

    def over(self) -> None:
        """Note that it is so no more."""
        self._since_s = None
