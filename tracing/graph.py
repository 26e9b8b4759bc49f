"""The causal order of events: causes before effects, whatever the clocks say.

No recursion, so that a chain may be as long as it likes.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

from antiphon.tracing.seen import SeenEvent


@dataclasses.dataclass(frozen=True)
class Graph:
    """Events by id, arranged by what caused what."""

    order: Sequence[str]
    """Every id once, after all of its parents; otherwise by time, then id."""
    parents: Mapping[str, tuple[str, ...]]
    """Parents that were seen, less those that would close a cycle."""
    missing: Mapping[str, tuple[str, ...]]
    """Parents that were not seen, of the events that name such."""
    cut: frozenset[str]
    """Events at which a cycle was cut: the earliest of each."""


def arrange(events: Mapping[str, SeenEvent]) -> Graph:
    """Arrange *events*. A cycle is cut at its earliest event, so that every event still has a place."""
    parents = {id: tuple(parent for parent in event.parents if parent in events) for id, event in events.items()}
    missing = {id: gone for id, event in events.items() if (gone := tuple(p for p in event.parents if p not in events))}
    order, cut = _sort({id: (event.envelope.time_us, id) for id, event in events.items()}, parents)
    kept = {id: tuple(p for p in parents[id] if p not in gone) for id, gone in cut.items()}
    return Graph(order, parents | kept, missing, frozenset(cut))


def _sort(
    rank: Mapping[str, tuple[int, str]], parents: Mapping[str, tuple[str, ...]]
) -> tuple[list[str], dict[str, set[str]]]:
    """Sort topologically (Kahn); return the order, and for each event at which a cycle was cut the causes given up."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for id, causes in parents.items():
        for cause in causes:
            children[cause].append(id)
    unmet = {id: set(causes) for id, causes in parents.items()}
    ready = [rank[id] for id, causes in unmet.items() if not causes]
    heapq.heapify(ready)
    order: list[str] = []
    cut: dict[str, set[str]] = {}
    placed: set[str] = set()
    earliest = iter(sorted(rank.values()))
    while len(order) < len(rank):
        if not ready:
            start = next(id for _, id in earliest if id not in placed)
            id = _on_cycle(start, unmet, rank)
            if id != start:
                earliest = iter(sorted(rank[left] for left in rank if left not in placed))
            cut[id], unmet[id] = unmet[id], set()
            heapq.heappush(ready, rank[id])
        _, id = heapq.heappop(ready)
        order.append(id)
        placed.add(id)
        for child in children[id]:
            if id in unmet[child]:
                unmet[child].remove(id)
                if not unmet[child]:
                    heapq.heappush(ready, rank[child])
    return order, cut


def _on_cycle(start: str, unmet: Mapping[str, set[str]], rank: Mapping[str, tuple[int, str]]) -> str:
    """Return the earliest event of a cycle that holds up *start*, found by walking from effect to cause."""
    path: dict[str, None] = {}
    current = start
    while current not in path:
        path[current] = None
        current = min(unmet[current], key=rank.__getitem__)
    walked = list(path)
    return min(walked[walked.index(current) :], key=rank.__getitem__)
