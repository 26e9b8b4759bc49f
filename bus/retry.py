"""When to try again, and when to stop trying."""

from __future__ import annotations

import dataclasses
import random


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015)."""

    attempts: int = 5
    base_s: float = 0.2
    cap_s: float = 30.0
    jitter: bool = True
    retry_on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        """Raise `ValueError` where a figure makes no sense."""
        for name, least in (("attempts", 1), ("base_s", 0), ("cap_s", 0)):
            if not (got := getattr(self, name)) >= least:
                message = f"expected {name} of a RetryPolicy to be at least {least}, got {got!r}"
                raise ValueError(message)

    def delay_s(self, attempt: int, random: random.Random) -> float:
        """Return how long to wait after the *attempt*-th failure (1 is the first)."""
        ceiling = min(self.cap_s, self.base_s * 2 ** min(attempt - 1, 32))
        return random.uniform(0, ceiling) if self.jitter else ceiling

    def gives_up(self, attempt: int, error: BaseException) -> bool:
        """Say whether *error* on the *attempt*-th try is the last word."""
        return attempt >= self.attempts or not isinstance(error, self.retry_on)
