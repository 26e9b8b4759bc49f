"""How much of a known licence a text is: pairs of neighbouring words, counted.

The measure is Dice's coefficient: twice the pairs that both texts have, by the
pairs of either. It is 1 for the same words in the same order, whatever the
line breaks, and 0 where no two words follow each other in both. The texts to
compare with are the SPDX ones that the package `identify` carries.
"""

import dataclasses
import itertools
import re
from collections import Counter

from identify.vendor.licenses import LICENSES

Pairs = Counter[tuple[str, str]]

_WORD = re.compile(r"[a-z0-9]+")
# Whose it is says nothing about which it is.
_COPYRIGHT = re.compile(r"^\W*(copyright|\(c\)|©|all rights reserved).*$", re.IGNORECASE | re.MULTILINE)

LIKE = 0.5
"""Below this a text is not a licence we know, and the nearest name would only mislead."""


@dataclasses.dataclass(frozen=True)
class Match:
    """The known licence a text is most like."""

    licence: str | None
    similarity: float
    opening: bool = False
    """The text begins with that licence and goes on with something else."""


def identify(text: str) -> Match:
    """Find the licence that *text* is, or begins with.

    >>> identify("Permission to use, copy, modify, and drink this software").licence is None
    True
    """
    words = _words(text)
    pairs = _pairs(words)
    best = Match(None, 0.0)
    for licence, (size, known) in sorted(KNOWN.items(), key=lambda item: -_ceiling(len(words), item[1][0])):
        if _ceiling(len(words), size) > best.similarity:
            best = max(best, Match(licence, _dice(pairs, known)), key=lambda match: match.similarity)
        # Some files hold the texts of vendored code behind their own.
        if len(words) > 1.1 * size and _shared(pairs, known) > 0.8 * known.total():
            begins = _pairs(words[: round(1.02 * size) + 1])
            best = max(best, Match(licence, _dice(begins, known), opening=True), key=lambda match: match.similarity)
    return best if best.similarity >= LIKE else Match(None, best.similarity)


def _words(text: str) -> list[str]:
    return _WORD.findall(_COPYRIGHT.sub("", text).lower())


def _pairs(words: list[str]) -> Pairs:
    return Counter(itertools.pairwise(words))


def _shared(one: Pairs, other: Pairs) -> int:
    few, many = sorted((one, other), key=len)
    return sum(min(count, many[pair]) for pair, count in few.items() if pair in many)


def _dice(one: Pairs, other: Pairs) -> float:
    return 2 * _shared(one, other) / max(1, one.total() + other.total())


def _ceiling(words: int, others: int) -> float:
    """Return what the similarity of two texts of these lengths can be at most."""
    return 2 * min(words, others) / max(1, words + others)


# Once, when the agent starts: its threads would each begin to do it.
KNOWN = {licence: (len(words), _pairs(words)) for licence, text in LICENSES if (words := _words(text))}
