"""Which hops of a workflow are drawn, and the lines that join them.

A workflow may have ten thousand hops, in a chain or in a fan. What must be seen
is drawn; of the rest, as much as there is room for; what is left out is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

from antiphon.cli.hops import Hop


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line: a hop, or how many were left out here."""

    hop: Hop | None
    left_out: int
    guides: str
    """What stands before it."""
    below: str
    """What stands before more lines about it."""


def outline(tops: Sequence[Hop], *, limit: int | None, indent: int, first: Collection[str] = ()) -> Iterator[Row]:
    """Yield what to draw, in order.

    *limit* is how many hops at most; those that matter and those of the ids in
    *first* come before others, each with all that led to it. Guides are at most
    *indent* columns wide: of a deeper hop they show the last few levels.
    """
    parents, sizes = _measure(tops)
    drawn = _choose(parents, limit, first)
    stack: list[tuple[Hop | int, str, str]] = [(hop, "", "") for hop in reversed(_fitting(tops, drawn, sizes))]
    while stack:
        entry, guides, below = stack.pop()
        if isinstance(entry, int):
            yield Row(None, entry, guides, below)
            continue
        yield Row(entry, 0, _tail(guides, indent), _tail(below, indent) + ("│" if entry.children else " "))
        entries = _fitting(entry.children, drawn, sizes)
        for index in range(len(entries) - 1, -1, -1):
            last = index == len(entries) - 1
            trunk = _tail(below, indent)
            stack.append((entries[index], trunk + ("└─ " if last else "├─ "), trunk + ("   " if last else "│  ")))


def _measure(tops: Sequence[Hop]) -> tuple[dict[Hop, Hop | None], dict[Hop, int]]:
    """Return each hop's cause, causes first, and how many hops hang from each, itself counted."""
    parents: dict[Hop, Hop | None] = {}
    stack: list[tuple[Hop, Hop | None]] = [(hop, None) for hop in reversed(tops)]
    while stack:
        hop, parent = stack.pop()
        parents[hop] = parent
        stack.extend((child, hop) for child in reversed(hop.children))
    sizes = dict.fromkeys(parents, 1)
    for hop, parent in reversed(parents.items()):
        if parent is not None:
            sizes[parent] += sizes[hop]
    return parents, sizes


def _choose(parents: dict[Hop, Hop | None], limit: int | None, first: Collection[str]) -> set[Hop]:
    if limit is None or len(parents) <= limit:
        return set(parents)
    drawn: set[Hop] = set()
    for wanted in (
        (hop for hop in parents if hop.matters),
        (hop for hop in parents if hop.id in first),
        iter(parents),
    ):
        for hop in wanted:
            if len(drawn) >= limit:
                return drawn
            drawn.update(_way(hop, parents, drawn, room=limit - len(drawn)))
    return drawn


def _way(hop: Hop, parents: dict[Hop, Hop | None], drawn: set[Hop], *, room: int) -> list[Hop]:
    """Return what must be drawn so that *hop* can be; nothing where that is more than there is *room* for."""
    way: list[Hop] = []
    current: Hop | None = hop
    while current is not None and current not in drawn:
        way.append(current)
        if len(way) > room:
            return []
        current = parents[current]
    return way


def _fitting(hops: Sequence[Hop], drawn: set[Hop], sizes: dict[Hop, int]) -> list[Hop | int]:
    """Return the hops that are drawn, and as the last entry the count of what is not."""
    shown: list[Hop | int] = [hop for hop in hops if hop in drawn]
    left_out = sum(sizes[hop] for hop in hops if hop not in drawn)
    return [*shown, left_out] if left_out else shown


def _tail(guides: str, indent: int) -> str:
    return guides if len(guides) <= indent else "⋮" + guides[len(guides) - indent + 1 :]
