"""A share of workflows. Which ones are in it their correlation ids alone decide, so that whoever asks gets the same answer.

A workflow's place is the first eight bytes of the SHA-256 of its correlation id,
as a big-endian number, modulo 10,000. It is in every share that is larger than
its place: a share that grows keeps what it had.
"""

from __future__ import annotations

import dataclasses
import re
from hashlib import sha256
from typing import Self

WHOLE = 10_000
"""Shares are counted in ten-thousandths, a hundredth of a percent."""

_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")


def place(correlation_id: str) -> int:
    """Return where a workflow stands among 10,000 places.

    >>> place("order-7"), place("order-8")
    (5383, 2488)
    """
    return int.from_bytes(sha256(correlation_id.encode()).digest()[:8]) % WHOLE


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Share:
    """So many ten-thousandths of all workflows."""

    ten_thousandths: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a percentage; raises `ValueError`, which says what was expected.

        >>> Share.parse("10%"), Share.parse("0.25%")
        (Share(ten_thousandths=1000), Share(ten_thousandths=25))
        """
        found = _PERCENT.fullmatch(text.strip())
        share = 0 if found is None else int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))
        if found is None or share > WHOLE:
            message = "a percentage from 0% to 100% with at most two decimals, such as 10% or 0.5%"
            raise ValueError(message)
        return cls(share)

    def __str__(self) -> str:
        """Return it as it is read.

        >>> str(Share(1000)), str(Share(25))
        ('10%', '0.25%')
        """
        return f"{self.ten_thousandths / 100:g}%"

    def takes(self, correlation_id: str) -> bool:
        """Say whether a workflow is in it."""
        return place(correlation_id) < self.ten_thousandths
