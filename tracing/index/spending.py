"""What model calls cost, from an index: each call once, added up by workflow, agent, its version, model or day."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from antiphon.tracing.index.database import Database
from antiphon.tracing.index.keys import id_of
from antiphon.tracing.index.tables import NO_REPLAY


class By(StrEnum):
    """What calls are added up by."""

    WORKFLOW = "workflow"
    AGENT = "agent"
    VERSION = "version"
    MODEL = "model"
    DAY = "day"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """What some calls cost together, in one currency."""

    of: str
    """The workflow's id, the agent, the agent with its version, the model, or the day (`2026-11-22`, UTC)."""
    calls: int
    input_tokens: int
    output_tokens: int
    amount: float
    currency: str

    def document(self, by: By) -> dict[str, Any]:
        """Return one item of what `antiphon cost --json` prints."""
        return {by.value: self.of, **{name: value for name, value in dataclasses.asdict(self).items() if name != "of"}}


_COLUMN = {
    By.WORKFLOW: "workflow",
    By.AGENT: "agent",
    By.VERSION: "agent || '/' || version",
    By.MODEL: "model",
    By.DAY: "started_us / 86400000000",
}


def spending(
    database: Database, names: Mapping[int, str], by: By, *, since_us: int | None = None, replays: bool = False
) -> list[Spending]:
    """Return what calls cost that were made at *since_us* or later, the dearest first; days in their order.

    Those of live replays only where *replays* are asked for.
    """
    # Added up here, and exactly: what the sum is must not depend on the order of the rows.
    amounts: defaultdict[tuple[Any, str], list[float]] = defaultdict(list)
    tokens: defaultdict[tuple[Any, str], list[int]] = defaultdict(lambda: [0, 0])
    statement = f"SELECT {_COLUMN[by]}, currency, cost, input_tokens, output_tokens FROM calls WHERE started_us >= ?"  # noqa: S608 - what comes from outside is bound
    values = [since_us if since_us is not None else -(1 << 62)]
    if not replays:
        statement += f" AND {NO_REPLAY}"
    for group, currency, cost, input_tokens, output_tokens in database.rows(statement, values):
        amounts[group, currency].append(cost)
        sums = tokens[group, currency]
        sums[0] += input_tokens
        sums[1] += output_tokens
    found = [
        Spending(
            of=_name(by, group, names),
            calls=len(costs),
            input_tokens=tokens[group, currency][0],
            output_tokens=tokens[group, currency][1],
            amount=round(math.fsum(costs), 9),
            currency=currency,
        )
        for (group, currency), costs in amounts.items()
    ]
    if by is By.DAY:
        return sorted(found, key=lambda one: (one.of, one.currency))
    return sorted(found, key=lambda one: (one.currency, -one.amount, one.of))


def _name(by: By, group: Any, names: Mapping[int, str]) -> str:
    match by:
        case By.WORKFLOW:
            return id_of(group)
        case By.VERSION:
            return " ".join(names[int(number)] for number in group.split("/"))
        case By.DAY:
            return datetime.fromtimestamp(group * 86_400, UTC).date().isoformat()
        case _:
            return names[group]
