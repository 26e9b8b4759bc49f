"""A workflow for other people's tools."""

import json
import re
from collections import defaultdict
from itertools import pairwise
from typing import Any

from antiphon.schemas.envelope import Envelope
from antiphon.testing.story import START_US, Says, Story
from antiphon.tracing.mermaid import mermaid
from antiphon.tracing.perfetto import perfetto

ROOT = "0199f2c1-0000-7000-8000-000000000000"


def order() -> dict[str, Any]:
    """An order that is half done, half failed, and half undone."""
    story = Story()
    story.works("mail", hears=["stock.reserved"])
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True), at_ms=1, took_ms=20)
    [charged] = story.handled("card", placed, Says("card.charged"), at_ms=5, took_ms=4)
    [lost] = story.handled("ship", charged, Says("parcel.lost", fails=True), at_ms=22, also=[reserved])
    story.handled("audit", lost, outcome="dead_lettered")
    story.undo_asked(reserved, lost)
    story.seen(Envelope(id="b", type="b.done", source="/kcat", time_us=START_US, correlation_id=ROOT, parent_id="gone"))
    return story.stitched().document()


def test_mermaid() -> None:
    """Arrows from cause to effect, joins with several; gaps, dead letters and what is still to come."""
    assert mermaid(order()).splitlines() == [
        "flowchart TD",
        '    e0["order.placed"]',
        '    e1["b.done"]',
        '    e2["card.charged"]',
        '    e0 -->|"card 4 ms"| e2',
        '    e3["stock.reserved"]',
        '    e0 -->|"stock 20 ms"| e3',
        '    e4["parcel.lost"]:::failed',
        '    e2 -->|"ship 1 ms"| e4',
        '    e3 -->|"ship 1 ms"| e4',
        '    e5["antiphon.undo.requested"]:::undo',
        '    e4 -->|"compensation"| e5',
        '    m0["gone was not seen"]:::unseen',
        "    m0 --> e1",
        '    e4 --x d3["audit: dead-lettered"]:::failed',
        '    e3 -.-> o0["mail: not yet"]:::owed',
        '    e5 -.-> o1["stock: not yet"]:::owed',
        "    classDef failed stroke:#c00,color:#c00",
        "    classDef undo stroke-dasharray:4",
        "    classDef owed stroke:#a60,color:#a60,stroke-dasharray:4",
        "    classDef unseen stroke-dasharray:2",
    ]


def test_names_are_no_syntax() -> None:
    """Neither a page's nor Mermaid's, nor a line break."""
    evil = 'x"]; click e0 "javascript:alert(1)"\n<script>%%{init}%%#quot;|'
    story = Story()
    opened = story.published(evil)
    story.handled(evil, opened, Says(evil))
    story.handled(evil, opened, outcome="dead_lettered")
    story.seen(Envelope(id="b", type="b", source=evil, time_us=START_US, correlation_id=ROOT, parent_id=evil))
    for line in mermaid(story.stitched().document()).splitlines()[1:-4]:
        bare = re.sub(r'"[\w .:/@+#;-]*"', '""', line)
        assert re.fullmatch(r'    \w+(\[""\](:::\w+)?| (-->|--x|-\.->)(\|""\|)? \w+(\[""\]:::\w+)?)', bare), line


def test_perfetto() -> None:
    """Loads as JSON; every slice has its track, every track its name, every arrow two ends in time."""
    document = order()
    trace = json.loads(json.dumps(perfetto(document)))
    by_phase: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in trace["traceEvents"]:
        by_phase[entry["ph"]].append(entry)

    assert {phase: len(entries) for phase, entries in by_phase.items()} == {"M": 6, "i": 3, "X": 4, "s": 2, "f": 2}
    assert by_phase["X"][0] == {
        "ph": "X",
        "name": "order.placed",
        "pid": 1,
        "tid": 2,
        "ts": START_US + 1_000,
        "dur": 20_000,
        "cat": "completed",
        "args": {
            "event_id": ROOT,
            "version": "1",
            "instance": "stock-1",
            "attempt": 1,
            "outcome": "completed",
            "queue_ms": 1.0,
            "model_ms": None,
            "error": None,
            "usage": [],
            "confidence": None,
        },
    }
    named = {entry["tid"]: entry["args"]["name"] for entry in by_phase["M"] if entry["name"] == "thread_name"}
    assert named == {1: "from outside", 2: "stock", 3: "card", 4: "ship", 5: "audit"}
    assert {entry["tid"] for entry in trace["traceEvents"] if "tid" in entry} <= named.keys()
    for start, end in zip(by_phase["s"], by_phase["f"], strict=True):
        assert (start["id"], start["ts"] <= end["ts"], end["bp"]) == (end["id"], True, "e")


def test_deliveries_that_overlap_have_tracks_of_their_own() -> None:
    """The format would draw one inside the other."""
    story = Story()
    root = story.published("batch.read")
    items = story.handled("split", root, *[Says("item.found", {"n": n}) for n in range(20)])
    for n, item in enumerate(items):
        story.handled("check", item, at_ms=2 + n, took_ms=4.5)
    story.now_ms = 100
    slices = [entry for entry in perfetto(story.stitched().document())["traceEvents"] if entry["ph"] == "X"]

    tracks: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in slices:
        tracks[entry["tid"]].append(entry)
    assert len(slices) == 21
    assert len(tracks) == 6
    assert all(
        before["ts"] + before["dur"] <= after["ts"] for lane in tracks.values() for before, after in pairwise(lane)
    )
