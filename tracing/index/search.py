"""Searching an index for workflows: what may be asked, and what a list shows of each that is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

import orjson

from antiphon.schemas.condition import Condition
from antiphon.schemas.envelope import format_time
from antiphon.tracing.document import milliseconds
from antiphon.tracing.index.contents import Contents
from antiphon.tracing.index.database import Database, Row
from antiphon.tracing.index.keys import id_of
from antiphon.tracing.index.tables import NO_REPLAY
from antiphon.tracing.state import State

_COLUMNS = "workflow, state, type, begun_us, last_us, events, agents, failed_agent, owing, cost"
_HANDLED = "EXISTS (SELECT 1 FROM deliveries d WHERE d.workflow = workflows.workflow AND d.version = ?"
# A workflow's deliveries lie together. By an index of their own every one that is written would cost a half more.
_HANDLED_BY = {1: f"{_HANDLED})", 2: f"{_HANDLED} AND d.agent = ?)"}
STALLS = frozenset({State.RUNNING, State.COMPENSATING})
"""States of workflows that stall where nobody is live to do what is outstanding."""
FAILED = frozenset({State.FAILED, State.PARKED, State.COMPENSATING, State.COMPENSATED})
"""States of workflows in which something failed, whatever became of it since. One that stalled while it was undone is among them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """Which workflows are wanted; what is left out does not matter."""

    states: Collection[State] = ()
    failed: bool = False
    """Only those in which something failed, whatever became of it since."""
    type: str | None = None
    """The type of the event that it began with."""
    agent: str | None = None
    """An agent that handled something of it, or still has to."""
    version: str | None = None
    """A version that handled something of it, whatever came of that; with *agent*, that agent's."""
    since_us: int | None = None
    """Begun then or later."""
    until_us: int | None = None
    """Begun before."""
    longer_than_us: int | None = None
    slowest_first: bool = False
    """Otherwise the newest first."""
    replays: bool = True
    """Those that a live replay published once more too."""
    where: Collection[Condition] = ()
    """Each of these holds for the data of some event of it. Costs a look into the data of all that fit otherwise."""
    limit: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """A workflow, as a list shows it."""

    correlation_id: str
    type: str | None
    state: State
    begun_us: int
    last_us: int
    """When the last thing that was seen of it happened."""
    events: int
    agents: tuple[str, ...]
    failed_agent: str | None
    owing: tuple[str, ...]
    """The agents that owe something."""
    unattended: tuple[str, ...]
    """Those of them of which nobody is live."""
    cost: dict[str, Any]
    replay_of: str | None = None
    """The event that it began with again; None: it is no replay."""

    @property
    def duration_us(self) -> int:
        return self.last_us - self.begun_us

    def document(self) -> dict[str, Any]:
        """Return one item of what `antiphon workflows --json` prints."""
        return {
            "correlation_id": self.correlation_id,
            "type": self.type,
            "state": self.state.value,
            "started": format_time(self.begun_us),
            "duration_ms": milliseconds(self.duration_us),
            "events": self.events,
            "agents": [*self.agents],
            "failed_agent": self.failed_agent,
            "outstanding": [*self.owing],
            "unattended": [*self.unattended],
            "cost": self.cost,
            "replay_of": self.replay_of,
        }


def search(database: Database, contents: Contents, wanted: Search, live: Collection[str]) -> Iterator[Listed]:
    """Yield the workflows that are *wanted*; *live* are the agents of which somebody is there."""
    where, values = _conditions(wanted)
    if wanted.version is not None:
        numbers = _numbers(database, wanted)
        if numbers is None:
            return
        where += f" AND {_HANDLED_BY[len(numbers)]}"
        values += numbers
    order = "last_us - begun_us DESC" if wanted.slowest_first else "begun_us DESC"
    found = 0
    statement = f"SELECT {_COLUMNS} FROM workflows WHERE {where} ORDER BY {order}, workflow"  # noqa: S608 - what comes from outside is bound
    anyhow = wanted.agent if wanted.version is None else None
    if wanted.limit is not None and not (wanted.states or anyhow or wanted.where):
        # Nothing that is found is left out below.
        statement += f" LIMIT {int(wanted.limit)}"
    for row in database.rows(statement, values):
        listed = _listed(row, live)
        if wanted.states and listed.state not in wanted.states:
            continue
        if anyhow is not None and anyhow not in (*listed.agents, *listed.owing):
            continue
        if wanted.where and not _has(contents, row[0], wanted.where):
            continue
        yield dataclasses.replace(listed, replay_of=contents.replay_of(row[0]))
        found += 1
        if found == wanted.limit:
            return


def _numbers(database: Database, wanted: Search) -> list[int] | None:
    """Return what stands for the version that is wanted, and for the agent; None where nobody was ever called so."""
    names = (wanted.version,) if wanted.agent is None else (wanted.version, wanted.agent)
    found = [*(no for name in names for (no,) in database.rows("SELECT no FROM names WHERE name = ?", (name,)))]
    return found if len(found) == len(names) else None


def _conditions(wanted: Search) -> tuple[str, list[Any]]:
    parts, values = ["1 = 1"], list[Any]()
    if wanted.states:
        states = {*wanted.states}
        if State.STALLED in states:
            # Which of these nobody works on is known only when somebody asks.
            states = states - {State.STALLED} | STALLS
        parts.append(f"state IN ({', '.join('?' * len(states))})")
        values += sorted(states)
    if wanted.failed:
        parts.append(f"state IN ({', '.join('?' * len(FAILED))})")
        values += sorted(FAILED)
    if not wanted.replays:
        parts.append(NO_REPLAY)
    if wanted.agent is not None and wanted.version is None:
        # Which of them it is says the list itself: this leaves most of the others unread.
        parts.append("(agents LIKE ? ESCAPE '\\' OR owing LIKE ? ESCAPE '\\')")
        values += [_listing(wanted.agent)] * 2
    for condition, value in (
        ("type = ?", wanted.type),
        ("begun_us >= ?", wanted.since_us),
        ("begun_us < ?", wanted.until_us),
        ("last_us - begun_us > ?", wanted.longer_than_us),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    return " AND ".join(parts), values


def _listing(agent: str) -> str:
    """Return a pattern for lists, as JSON, that *agent* is in.

    >>> _listing('a_"1"')
    '%"a\\\\_\\\\\\\\"1\\\\\\\\""%'
    """
    text = orjson.dumps(agent).decode()
    for sign in "\\%_":
        text = text.replace(sign, f"\\{sign}")
    return f"%{text}%"


def _listed(row: Row, live: Collection[str]) -> Listed:
    workflow, state, type, begun_us, last_us, events, agents, failed_agent, owing, cost = row
    owed = tuple(orjson.loads(owing))
    unattended = tuple(agent for agent in owed if agent not in live)
    if unattended and state in STALLS:
        state = State.STALLED
    return Listed(
        correlation_id=id_of(workflow),
        type=type,
        state=State(state),
        begun_us=begun_us,
        last_us=last_us,
        events=events,
        agents=tuple(orjson.loads(agents)),
        failed_agent=failed_agent,
        owing=owed,
        unattended=unattended,
        cost=orjson.loads(cost),
    )


def _has(contents: Contents, workflow: bytes, where: Collection[Condition]) -> bool:
    wanted = {*where}
    for data in contents.data(workflow):
        wanted -= {condition for condition in wanted if condition.holds(data)}
        if not wanted:
            return True
    return False
