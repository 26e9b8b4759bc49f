"""The chain of agents that led to an event: what to look at where agents answer one another in a circle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from antiphon.tracing.seen import AGENT_SOURCE

_FIRST, _LAST = 3, 12
"""How much of a chain in which nothing comes round again is written."""
_LONGEST_CIRCLE = 20


@dataclasses.dataclass(frozen=True)
class Link:
    """One event on the way, and who said it."""

    event_id: str
    type: str
    said_by: str
    """The agent's name; of an event from outside, its source."""


def chain_to(event_id: str, document: Mapping[str, Any]) -> list[Link]:
    """Return what led to an event, first cause first and the event itself last, as far as the workflow *document* tells.

    Of the several causes of a join the last to come counts. What is not seen any more begins the chain.
    """
    events: dict[str, Any] = {event["id"]: event for event in document["events"]}
    links: dict[str, Link] = {}
    current: str | None = event_id
    while current in events and current not in links:
        event = events[current]
        source: str = event["source"]
        links[current] = Link(current, event["type"], source.removeprefix(AGENT_SOURCE))
        current = event["parent_id"]
    return [*links.values()][::-1]


def in_words(chain: Sequence[Link]) -> str:
    """Write a chain on one line; what comes round again is written once, with how often.

    >>> there, back = Link("", "ball.served", "ada"), Link("", "ball.returned", "bob")
    >>> in_words([Link("", "match.begun", "/applications"), there, back, there, back, there])
    '/applications: match.begun → (ada: ball.served → bob: ball.returned) 2 times → ada: ball.served'
    """
    steps = [f"{link.said_by}: {link.type}" for link in chain]
    parts: list[str] = []
    place = 0
    while place < len(steps):
        length, times = _most_repeated(steps, place)
        circle = " → ".join(steps[place : place + length])
        parts.append(circle if times == 1 else f"({circle}) {times} times")
        place += length * times
    left_out = len(parts) - _FIRST - _LAST
    if left_out > 0:
        parts[_FIRST:-_LAST] = [f"({left_out} more)"]
    return " → ".join(parts)


def _most_repeated(steps: Sequence[str], place: int) -> tuple[int, int]:
    """Return how long the circle is that begins at *place* and covers most, and how often it goes round; (1, 1) for none."""
    best = (1, 1)
    for length in range(1, min(_LONGEST_CIRCLE, (len(steps) - place) // 2) + 1):
        circle, times = steps[place : place + length], 1
        while steps[place + length * times : place + length * (times + 1)] == circle:
            times += 1
        if times > 1 and length * times > best[0] * best[1]:
            best = (length, times)
    return best
