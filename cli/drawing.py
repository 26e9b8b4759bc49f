"""A workflow document as a Mermaid diagram, and as a file for ui.perfetto.dev."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from antiphon.cli.output import inert

_ASIDE = {"dead_lettered", "expired"}


def mermaid(document: dict[str, Any]) -> str:
    """Draw who answered what: an arrow an event, labelled with the agent that caused it."""
    node = {event["id"]: f"e{number}" for number, event in enumerate(document["events"])}
    lines = ["flowchart TD"]
    for event in document["events"]:
        shape = f'{node[event["id"]]}["{_quoted(event["type"])}"]'
        lines.append(f"    {shape}{':::failed' if event.get('fails') else ''}")
        agent = _quoted(event["source"].removeprefix("/agents/"))
        causes = [cause for cause in dict.fromkeys((event["parent_id"], *event["causes"])) if cause in node]
        lines += [f'    {node[cause]} -->|"{agent}"| {node[event["id"]]}' for cause in causes]
    for number, delivery in enumerate(document["deliveries"]):
        if delivery["outcome"] in _ASIDE and delivery["event_id"] in node:
            what = _quoted(f"{delivery['agent']}: {delivery['outcome'].replace('_', '-')}")
            lines.append(f'    {node[delivery["event_id"]]} --x d{number}["{what}"]:::failed')
    lines.append("    classDef failed stroke:#c00,color:#c00")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return inert(text).replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def perfetto(document: dict[str, Any]) -> dict[str, Any]:
    """Return the deliveries as Chrome's trace event format: a track an agent, arrows from cause to effect."""
    return {"traceEvents": [*_tracks(document), *_slices(document)], "displayTimeUnit": "ms"}


def _tracks(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    title = f"{document['type']} {document['correlation_id']}"
    yield {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": title}}
    for agent, track in _numbers(document).items():
        yield {"ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": {"name": agent}}


def _slices(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    tracks = _numbers(document)
    types = {event["id"]: event["type"] for event in document["events"]}
    heard: dict[str, list[dict[str, Any]]] = {}
    for delivery in document["deliveries"]:
        heard.setdefault(delivery["event_id"], []).append(delivery)
    for delivery in document["deliveries"]:
        start, track = _us(delivery["started"]), tracks[delivery["agent"]]
        length = max(delivery["duration_ms"] * 1_000, 1)
        yield {
            "ph": "X",
            "pid": 1,
            "tid": track,
            "ts": start,
            "dur": length,
            "name": types.get(delivery["event_id"], delivery["event_id"]),
            "cat": delivery["outcome"],
            "args": {key: delivery[key] for key in ("event_id", "attempt", "outcome", "queue_ms", "error", "usage")},
        }
        for emitted in delivery["emitted"]:
            for effect in heard.get(emitted, []):
                arrow = {"pid": 1, "cat": "event", "name": types.get(emitted, ""), "id": f"{emitted}/{effect['agent']}"}
                yield {"ph": "s", "tid": track, "ts": start + length, **arrow}
                yield {"ph": "f", "bp": "e", "tid": tracks[effect["agent"]], "ts": _us(effect["started"]), **arrow}


def _numbers(document: dict[str, Any]) -> dict[str, int]:
    agents = dict.fromkeys(delivery["agent"] for delivery in document["deliveries"])
    return {agent: number for number, agent in enumerate(agents, start=1)}


def _us(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1_000_000)
