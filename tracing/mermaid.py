"""A workflow document as a Mermaid flowchart: events, and what led from one to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from antiphon.bus.undo import UndoRequested

Json: TypeAlias = Mapping[str, Any]

_UNDO_REQUESTED = UndoRequested.__event__.type
_SET_ASIDE = {"dead_lettered": "dead-lettered", "expired": "expired"}
_STYLES = (
    "classDef failed stroke:#c00,color:#c00",
    "classDef undo stroke-dasharray:4",
    "classDef owed stroke:#a60,color:#a60,stroke-dasharray:4",
    "classDef unseen stroke-dasharray:2",
)
# Whatever else a type or an agent's name may hold would be Mermaid's syntax, or a page's.
_NOT_PLAIN = re.compile(r"[^\w .:/@+-]")


def mermaid(document: Json) -> str:
    """Draw *document*. Names that others chose cannot be mistaken for syntax."""
    nodes = {event["id"]: f"e{number}" for number, event in enumerate(document["events"])}
    lines = [*_events(document, nodes), *_unseen(document, nodes), *_ends(document, nodes), *_STYLES]
    return "\n".join(["flowchart TD", *(f"    {line}" for line in lines)]) + "\n"


def escaped(text: str) -> str:
    """Write *text* so that Mermaid shows it and obeys nothing in it.

    >>> escaped('say "hi" #1 <b>')
    'say #34;hi#34; #35;1 #60;b#62;'
    """
    return _NOT_PLAIN.sub(lambda found: f"#{ord(found[0])};", text)


def _events(document: Json, nodes: Mapping[str, str]) -> Iterator[str]:
    makers = {id: delivery for delivery in document["deliveries"] for id in delivery["emitted"]}
    for event in document["events"]:
        id, maker = event["id"], makers.get(event["id"])
        style = ":::failed" if event["fails"] else ":::undo" if event["type"] == _UNDO_REQUESTED else ""
        yield f'{nodes[id]}["{escaped(event["type"])}"]{style}'
        agent = maker["agent"] if maker else event["source"].removeprefix("/agents/")
        took = f" {maker['duration_ms']:g} ms" if maker else ""
        for cause in dict.fromkeys((event["parent_id"], *event["causes"])):
            if cause in nodes:
                yield f'{nodes[cause]} -->|"{escaped(agent + took)}"| {nodes[id]}'


def _unseen(document: Json, nodes: Mapping[str, str]) -> Iterator[str]:
    """Draw the gaps: causes that were not seen."""
    gaps: dict[str, str] = {}
    for event in document["events"]:
        for cause in (event["parent_id"], *event["causes"]):
            if cause is None or cause in nodes:
                continue
            if cause not in gaps:
                gaps[cause] = f"m{len(gaps)}"
                yield f'{gaps[cause]}["{escaped(cause)} was not seen"]:::unseen'
            yield f"{gaps[cause]} --> {nodes[event['id']]}"


def _ends(document: Json, nodes: Mapping[str, str]) -> Iterator[str]:
    """Draw what was set aside, and what is still to be handled."""
    for number, delivery in enumerate(document["deliveries"]):
        if delivery["outcome"] in _SET_ASIDE and delivery["event_id"] in nodes:
            what = escaped(f"{delivery['agent']}: {_SET_ASIDE[delivery['outcome']]}")
            yield f'{nodes[delivery["event_id"]]} --x d{number}["{what}"]:::failed'
    for number, owed in enumerate(document["outstanding"]):
        if owed["event_id"] in nodes:
            yield f'{nodes[owed["event_id"]]} -.-> o{number}["{escaped(owed["agent"])}: not yet"]:::owed'
