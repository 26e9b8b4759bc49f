"""What a replay came to: counts, differences, and what it took beside what it took then."""

from __future__ import annotations

import dataclasses
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from antiphon.replay.compared import Compared

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True)
class Report:
    """All that was run again, in order."""

    compared: Sequence[Compared]

    @property
    def differs(self) -> bool:
        """Whether anything came out differently, or could not be run: then nobody can say that nothing did."""
        return any(one.differences or one.skipped for one in self.compared)

    def by_workflow(self) -> dict[str, list[Compared]]:
        """Return what was run again by workflow, in order."""
        found: defaultdict[str, list[Compared]] = defaultdict(list)
        for one in self.compared:
            found[one.handling.entry.correlation_id].append(one)
        return dict(found)

    def document(self) -> dict[str, Any]:
        """Return it as JSON says it, its keys in the promised order."""
        workflows = self.by_workflow()
        different = sum(any(one.differences for one in of) for of in workflows.values())
        skipped = [one for one in self.compared if one.skipped is not None]
        ran = [one for one in self.compared if one.skipped is None]
        return {
            "workflows": len(workflows),
            "same": sum(not any(one.differences or one.skipped for one in of) for of in workflows.values()),
            "different": different,
            "handlings": len(ran),
            "differences": [
                {
                    "event_id": one.handling.entry.event_id,
                    "agent": one.handling.agent,
                    "kind": difference.kind.value,
                    "type": difference.type,
                    "fields": [field._asdict() for field in difference.fields],
                }
                for one in ran
                for difference in one.differences
            ],
            "skipped": [
                {"event_id": one.handling.entry.event_id, "agent": one.handling.agent, "why": one.skipped}
                for one in skipped
            ],
            "state_unknown": sum(not one.state_known for one in ran),
            "latency_ms": _beside(
                (one.handling.entry.duration_us / 1_000 for one in ran), (one.duration_us / 1_000 for one in ran)
            ),
            "cost": _costs(ran),
            "confidence": _beside(
                (c for one in ran if (c := one.handling.entry.confidence) is not None),
                (c for one in ran if (c := one.confidence) is not None),
            ),
        }


def _beside(recorded: Iterable[float], got: Iterable[float]) -> dict[str, float | None]:
    """Return the means, side by side."""
    return {"recorded": _mean([*recorded]), "got": _mean([*got])}


def _mean(figures: Sequence[float]) -> float | None:
    return round(math.fsum(figures) / len(figures), 3) if figures else None


def _costs(ran: Sequence[Compared]) -> dict[str, dict[str, float]]:
    """Return the sums by currency, side by side."""
    recorded, got = Counter[str](), Counter[str]()
    for one in ran:
        for spent in one.handling.entry.usage:
            recorded[spent.currency] += spent.cost  # type: ignore[assignment]  # a counter counts anything
        for usage in one.usage:
            got[usage.currency] += usage.cost  # type: ignore[assignment]  # as above
    return {
        side: {currency: round(amount, 9) for currency, amount in sorted(costs.items())}
        for side, costs in (("recorded", recorded), ("got", got))
    }


def junit(report: Report) -> str:
    """Return the report as JUnit's XML: a case for each workflow, as CI systems show tests."""
    workflows = report.by_workflow()
    document = report.document()
    suite = ET.Element(
        "testsuite",
        name="antiphon replay",
        tests=str(len(workflows)),
        failures=str(document["different"]),
        skipped=str(sum(not any(one.differences for one in of) and _skips(of) for of in workflows.values())),
    )
    for id, of in workflows.items():
        took_s = sum(one.duration_us for one in of) / 1e6
        case = ET.SubElement(suite, "testcase", classname="replay", name=_plain(id), time=f"{took_s:.6f}")
        told = [line for one in of for line in lines(one)]
        if any(one.differences for one in of):
            ET.SubElement(case, "failure", message=_plain(told[0])).text = _plain("\n".join(told))
        elif _skips(of):
            ET.SubElement(case, "skipped", message=_plain(told[0]))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _skips(of: Sequence[Compared]) -> bool:
    return any(one.skipped is not None for one in of)


def _plain(text: str) -> str:
    """Leave out what XML cannot hold: what an event says must not break the report."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def lines(one: Compared) -> list[str]:
    """Say for a person what is different in one handling."""
    entry = one.handling.entry
    head = f"{one.handling.agent}  {entry.event_type} {entry.event_id}"
    if one.skipped is not None:
        return [f"{head}: not run, {one.skipped}"]
    return [f"{head}: {text}" for difference in one.differences for text in _told(difference)]


def _told(difference: Any) -> list[str]:
    what = f"{difference.kind.value} {difference.type}".rstrip()
    return [
        f"{what}{' ' + field.path if field.path else ''}: {_short(field.recorded)} -> {_short(field.got)}"
        for field in difference.fields
    ] or [what]


def _short(value: object, most: int = 200) -> str:
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
