"""What two bundles, or two reports, differ in."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from antiphon.replay.bundle import MOST
from antiphon.replay.came import came_of, differences
from antiphon.replay.compare import Rules
from antiphon.replay.compared import Compared
from antiphon.replay.errors import NoReportError
from antiphon.replay.recording import Handling, Recording
from antiphon.replay.report import Report
from antiphon.schemas.codec import Codec

_OF_A_REPORT = ("workflows", "same", "different", "differences", "skipped")
_GONE = "an event that it emitted is gone from its topic"


# Of reports.


def read_report(path: str | Path) -> Mapping[str, Any]:
    """Read what `antiphon replay run --json` wrote. Raises `NoReportError`."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST + 1)
        if len(content) > MOST:
            raise NoReportError(str(path), f"more than {MOST:,} bytes")
        document: Any = orjson.loads(content)
    except OSError as error:
        raise NoReportError(str(path), error.strerror or "nothing") from None
    except orjson.JSONDecodeError as error:
        raise NoReportError(str(path), f"no JSON ({error})") from None
    if not isinstance(document, dict) or any(name not in document for name in _OF_A_REPORT):
        raise NoReportError(str(path), "another JSON document")
    report = cast("Mapping[str, Any]", document)
    for name in ("differences", "skipped"):
        if not isinstance(report[name], list):
            raise NoReportError(str(path), f"another JSON document: {name} is no list")
    try:
        orjson.dumps(report)
    except TypeError as error:
        raise NoReportError(str(path), f"JSON that nests too deep ({error})") from None
    return report


def of_reports(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return which differences, and which handlings that could not be run, are in one report and not in the other.

    >>> one = {"event_id": "e", "agent": "a", "kind": "missing", "type": "t", "fields": []}
    >>> found = of_reports({"differences": [one], "skipped": []}, {"differences": [], "skipped": []})
    >>> found["gone"] == [one], found["new"], found["kept"]
    (True, [], 0)
    """
    then, now = (_keyed((*one["differences"], *one["skipped"])) for one in (before, after))
    return {
        "new": [item for key, item in now.items() if key not in then],
        "gone": [item for key, item in then.items() if key not in now],
        "kept": len(then.keys() & now.keys()),
    }


def _keyed(items: Iterable[Any]) -> dict[bytes, Any]:
    return {orjson.dumps(item, option=orjson.OPT_SORT_KEYS): item for item in items}


# Of bundles.


@dataclasses.dataclass(frozen=True)
class BundleDiff:
    """What two recordings differ in."""

    report: Report
    """What both have, the earlier one as what was recorded."""
    only_before: Sequence[Handling]
    only_after: Sequence[Handling]
    by_order: bool
    """They have no event in common, as those of a live replay and of what it replayed: the nth of each agent and type belong together."""

    @property
    def differs(self) -> bool:
        return self.report.differs or bool(self.only_before or self.only_after)

    def document(self) -> dict[str, Any]:
        """Return it as JSON says it, its keys in the promised order."""
        return {
            **self.report.document(),
            "matched_by": "order" if self.by_order else "id",
            "only_before": [_named(one) for one in self.only_before],
            "only_after": [_named(one) for one in self.only_after],
        }


async def of_recordings(before: tuple[Recording, Codec], after: tuple[Recording, Codec], rules: Rules) -> BundleDiff:
    """Compare what two recordings tell of the same handlings. Each is read with its own codec."""
    then, now = before[0].handlings, after[0].handlings
    by_order = not {one.pair for one in then} & {one.pair for one in now}
    places = [dict(_placed(some, by_order=by_order)) for some in (then, now)]
    compared = [
        await _compared(before, after, one, places[1][key], rules) for key, one in places[0].items() if key in places[1]
    ]
    return BundleDiff(
        Report(compared),
        [one for key, one in places[0].items() if key not in places[1]],
        [one for key, one in places[1].items() if key not in places[0]],
        by_order,
    )


def _placed(handlings: Sequence[Handling], *, by_order: bool) -> Iterator[tuple[object, Handling]]:
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for one in handlings:
        kind = (one.agent, one.entry.event_type)
        counts[kind] += 1
        yield ((*kind, counts[kind]) if by_order else one.pair), one


async def _compared(
    before: tuple[Recording, Codec], after: tuple[Recording, Codec], then: Handling, now: Handling, rules: Rules
) -> Compared:
    recorded, got = came_of(before[0], then), came_of(after[0], now)
    if recorded is None or got is None:
        return Compared(handling=then, skipped=_GONE)
    error = now.entry.error
    return Compared(
        handling=then,
        differences=await differences(before[1], recorded, got, rules, codec_of_got=after[1]),
        raised=got.raised,
        traceback="" if error is None else error.traceback,
        duration_us=now.entry.duration_us,
        usage=now.entry.usage,
        confidence=now.entry.confidence,
    )


def _named(handling: Handling) -> dict[str, str]:
    return {"event_id": handling.entry.event_id, "agent": handling.agent, "type": handling.entry.event_type}
