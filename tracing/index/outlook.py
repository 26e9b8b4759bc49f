"""How some workflows stand, in an index, for whoever waits until there is something to do about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from antiphon.tracing.index.database import Database, Row
from antiphon.tracing.state import State

_AT_ONCE = 500
_TOUCHED = "SELECT workflow FROM touched WHERE workflow IN ({})"
_STANDING = "SELECT workflow, state, begun_us, last_us, owing, cost FROM workflows WHERE workflow IN ({})"
_UNSURE = """
SELECT workflow, min(confidence) FROM deliveries WHERE workflow IN ({}) AND confidence IS NOT NULL GROUP BY workflow
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outlook:
    """One workflow, without a look at its events."""

    state: State
    """As if somebody were live to do what is outstanding."""
    ended: bool
    begun_us: int
    last_us: int
    cost: Mapping[str, float]
    """By currency."""
    confidence: float | None
    """Of the least sure answer."""


def outlooks(database: Database, workflows: Sequence[bytes]) -> dict[bytes, Outlook | None]:
    """Return how *workflows* stand: None where more was read than it has been said of, nothing where it has none of it."""
    found: dict[bytes, Outlook | None] = {}
    for start in range(0, len(workflows), _AT_ONCE):
        some = workflows[start : start + _AT_ONCE]
        found |= dict(_stand(database, some))
        found |= {workflow: None for (workflow,) in _rows(database, _TOUCHED, some)}
    return found


def _stand(database: Database, some: Sequence[bytes]) -> Iterator[tuple[bytes, Outlook]]:
    unsure = {workflow: confidence for workflow, confidence in _rows(database, _UNSURE, some)}  # noqa: C416 - rows are of any length
    for workflow, state, begun_us, last_us, owing, cost in _rows(database, _STANDING, some):
        yield (
            workflow,
            Outlook(
                state=State(state),
                ended=owing == "[]",
                begun_us=begun_us,
                last_us=last_us,
                cost=_amounts(orjson.loads(cost)),
                confidence=unsure.get(workflow),
            ),
        )


def _rows(database: Database, statement: str, some: Sequence[bytes]) -> Iterator[Row]:
    return database.rows(statement.format(", ".join("?" * len(some))), some)


def _amounts(cost: Mapping[str, Any]) -> dict[str, float]:
    return {one["currency"]: one["amount"] for one in cost.get("amounts", [cost])}
