"""Constraints of two sides of a field: which of the reader's the writer's do not promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {
    "gt": "above",
    "ge": "at least",
    "lt": "below",
    "le": "at most",
    "multiple_of": "a multiple of",
    "min_length": "of a length of at least",
    "max_length": "of a length of at most",
    "pattern": "like",
}


def tighter(written: Mapping[str, Any], read: Mapping[str, Any], *, whole: bool = False) -> Iterator[str]:
    """Yield in words each constraint of *read* that values under *written* may break. *whole*: they are whole numbers.

    >>> [*tighter({"ge": 1}, {"gt": 0})], [*tighter({}, {"max_length": 5})]
    ([], ['only what is of a length of at most 5 is read, and anything is written'])
    """
    for name, bound in read.items():
        if name in _WORDS and not _is_promised(name, bound, written, whole=whole):
            yield f"only what is {_WORDS[name]} {bound} is read, and {_said(name, written)} is written"


def _is_promised(name: str, bound: Any, written: Mapping[str, Any], *, whole: bool) -> bool:
    match name:
        case "gt" | "ge":
            least, is_left_out = _end(name, bound, 1, whole=whole)
            ends = [_end(word, written[word], 1, whole=whole) for word in ("gt", "ge") if word in written]
            return any(end > least or (end == least and (out or not is_left_out)) for end, out in ends)
        case "lt" | "le":
            most, is_left_out = _end(name, bound, -1, whole=whole)
            ends = [_end(word, written[word], -1, whole=whole) for word in ("lt", "le") if word in written]
            return any(end < most or (end == most and (out or not is_left_out)) for end, out in ends)
        case "multiple_of":
            step = written.get("multiple_of")
            return step is not None and bound != 0 and bool(step % bound == 0)
        case "min_length":
            return bool(bound <= 0 or written.get("min_length", 0) >= bound)
        case "max_length":
            return "max_length" in written and bool(written["max_length"] <= bound)
        case _:
            return bool(written.get(name) == bound)


def _end(name: str, bound: Any, step: int, *, whole: bool) -> tuple[Any, bool]:
    """Return where a range ends, and whether that is left out itself; of whole numbers the next one is where it ends."""
    if name in ("ge", "le"):
        return bound, False
    return (bound + step, False) if whole and isinstance(bound, int) else (bound, True)


def _said(name: str, written: Mapping[str, Any]) -> str:
    alike = {"gt": ("gt", "ge"), "ge": ("gt", "ge"), "lt": ("lt", "le"), "le": ("lt", "le")}.get(name, (name,))
    found = [f"what is {_WORDS[other]} {written[other]}" for other in alike if other in written]
    return found[0] if found else "anything"
