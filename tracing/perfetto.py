"""A workflow document in Chrome's trace event format, for ui.perfetto.dev and chrome://tracing.

A track for each agent, a slice for each delivery, an arrow from each delivery to
those of what it emitted. Deliveries of one agent that overlap get tracks beside
one another: the format knows only slices that hold one another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from antiphon.schemas.envelope import parse_time
from antiphon.tracing.document import at_right_times

Json: TypeAlias = Mapping[str, Any]

_OUTSIDE = 1
_SHOWN = (
    "event_id",
    "version",
    "instance",
    "attempt",
    "outcome",
    "queue_ms",
    "model_ms",
    "error",
    "usage",
    "confidence",
)


def perfetto(document: Json) -> dict[str, Any]:
    """Return the trace of *document*; times are microseconds since 1970, as right clocks would have them."""
    document = at_right_times(document)
    tracks, names = _tracks(document["deliveries"])
    return {
        "displayTimeUnit": "ms",
        "traceEvents": [
            _named("process_name", f"{document['type']} {document['correlation_id']}"),
            _named("thread_name", "from outside", tid=_OUTSIDE),
            *(_named("thread_name", name, tid=track) for track, name in names.items()),
            *_published(document),
            *_slices(document, tracks),
            *_arrows(document, tracks),
        ],
        "metadata": {"correlation_id": document["correlation_id"], "state": document["state"]},
    }


def _tracks(deliveries: Sequence[Json]) -> tuple[list[int], dict[int, str]]:
    """Give each delivery (by its place in the document) a track where no other runs at that time; and name the tracks."""
    busy_until: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    tracks: list[int] = []
    names: dict[int, str] = {}
    for delivery in deliveries:  # by start, as the document has them
        start, end = _span(delivery)
        lanes = busy_until[delivery["agent"]]
        lane = next((index for index, (until, _) in enumerate(lanes) if until <= start), len(lanes))
        if lane == len(lanes):
            track = _OUTSIDE + 1 + len(names)
            names[track] = delivery["agent"] if lane == 0 else f"{delivery['agent']} ({lane + 1})"
            lanes.append((end, track))
        else:
            lanes[lane] = (end, lanes[lane][1])
        tracks.append(lanes[lane][1])
    return tracks, names


def _published(document: Json) -> Iterator[dict[str, Any]]:
    emitted = {id for delivery in document["deliveries"] for id in delivery["emitted"]}
    for event in document["events"]:
        if event["id"] not in emitted:
            args = {"id": event["id"], "source": event["source"]}
            yield _entry("i", event["type"], _OUTSIDE, parse_time(event["time"]), s="t", args=args)


def _slices(document: Json, tracks: Sequence[int]) -> Iterator[dict[str, Any]]:
    types = {event["id"]: event["type"] for event in document["events"]}
    for delivery, track in zip(document["deliveries"], tracks, strict=True):
        start, end = _span(delivery)
        name = types.get(delivery["event_id"], delivery["event_id"])
        args = {key: delivery[key] for key in _SHOWN}
        yield _entry("X", name, track, start, cat=delivery["outcome"], dur=end - start, args=args)


def _arrows(document: Json, tracks: Sequence[int]) -> Iterator[dict[str, Any]]:
    handled: defaultdict[str, list[tuple[Json, int]]] = defaultdict(list)
    for delivery, track in zip(document["deliveries"], tracks, strict=True):
        handled[delivery["event_id"]].append((delivery, track))
    number = 0
    for delivery, track in zip(document["deliveries"], tracks, strict=True):
        for id in delivery["emitted"]:
            for effect, its_track in handled[id]:
                number += 1
                # An arrow binds to the slice around its end, so both ends must lie within theirs.
                yield _entry("s", "caused", track, _span(delivery)[1] - 1, cat="event", id=number)
                yield _entry("f", "caused", its_track, _span(effect)[0], cat="event", id=number, bp="e")


def _entry(phase: str, name: str, track: int, at_us: int, **more: Any) -> dict[str, Any]:
    return {"ph": phase, "name": name, "pid": 1, "tid": track, "ts": at_us, **more}


def _named(what: str, name: str, **more: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": 1, "args": {"name": name}, **more}


def _span(delivery: Json) -> tuple[int, int]:
    """Return start and end; a delivery that took no time gets the least that shows, and that an arrow fits in."""
    start = parse_time(delivery["started"])
    return start, start + max(round(delivery["duration_ms"] * 1_000), 2)
