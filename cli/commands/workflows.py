"""`antiphon workflows`: which there are, how they stand, and which of them are meant."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from antiphon.cli import output
from antiphon.cli.asking import From, Place, Source, asked
from antiphon.cli.options import given
from antiphon.cli.table import Cell, state, table
from antiphon.cli.tree import duration
from antiphon.cli.when import clock, moment_ms, seconds
from antiphon.schemas.condition import Condition
from antiphon.tracing.index.index import Durations
from antiphon.tracing.index.search import Listed, Search
from antiphon.tracing.state import State

_AGENTS_SHOWN = 4
_WIDE, _ID = 120, 23
_TOOK = ("type", "ended", "p50", "p95", "p99")


def workflows(  # noqa: PLR0913 - an option each
    *,
    states: Annotated[
        list[State] | None, typer.Option("--state", help="Only in this state; may be repeated.", metavar="STATE")
    ] = None,
    type: Annotated[
        str | None, typer.Option(help="Only those that began with this event type.", metavar="TYPE")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="Only those that this agent had to do with.", metavar="NAME")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(help="Only where this version handled something: of any agent, or of --agent.", metavar="VERSION"),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only those in which something failed, whatever became of it since.")
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only where an event's data fits, as in amount>100; may be repeated.", metavar="CONDITION"),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Begun since: 10m ago, or an ISO time.", metavar="WHEN")] = None,
    until: Annotated[str | None, typer.Option(help="Begun before.", metavar="WHEN")] = None,
    slow: Annotated[bool, typer.Option("--slow", help="The slowest first, and how long each type takes.")] = False,
    longer: Annotated[str | None, typer.Option(help="Only those that took longer.", metavar="TIME")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.", metavar="N")] = 20,
    source: Source = From.AUTO,
    index: Place = None,
) -> None:
    """List workflows, the newest first.

    Example:
      antiphon workflows --failed --since 1d
      antiphon workflows --failed --agent triage --version 2.1
      antiphon workflows --where customer.city=Oslo --json
    """
    since_us = None if since is None else moment_ms(since, option="--since") * 1_000
    wanted = Search(
        states=states or (),
        failed=failed,
        type=type,
        agent=agent,
        version=version,
        since_us=since_us,
        until_us=None if until is None else moment_ms(until, option="--until") * 1_000,
        longer_than_us=None if longer is None else round(seconds(longer, option="--longer") * 1_000_000),
        slowest_first=slow,
        where=[Condition.parse(text) for text in where or ()],
        limit=limit,
    )
    asyncio.run(_workflows(wanted, source, index))


async def _workflows(wanted: Search, source: From, place: str | None) -> None:
    async with asked(source, place, since_us=wanted.since_us) as index:
        found = [*index.workflows(wanted)]
        took = index.durations(since_us=wanted.since_us) if wanted.slowest_first else []
        strange = None if found or wanted.version is None else _strange(wanted.version, index.versions(wanted.agent))
    if given().json:
        output.document([one.document() for one in found])
        return
    if not found:
        output.remark("no such workflow")
        if strange is not None:
            output.remark(strange)
        return
    heads = ("workflow", "state", "because of", "type", "started", "took", "events", "cost", "agents")
    ids = _called([one.correlation_id for one in found], output.width() if output.is_terminal() else None)
    output.show(table(heads, map(_row, ids, found), right=("took", "events")))
    if len(found) == wanted.limit:
        output.remark(f"the first {wanted.limit}: --limit shows more")
    if took:
        output.result()
        output.show(table(_TOOK, map(_durations, took), right=_TOOK[1:]))
    _next(found)


def _strange(version: str, known: Sequence[str]) -> str | None:
    """Say which versions there are, where *version* is none of them."""
    if version in known:
        return None
    seen = ", ".join(known) or "none"
    return output.inert(f"version {version} handled nothing that was read; versions that did: {seen}")


def _called(ids: Sequence[str], columns: int | None) -> Sequence[str]:
    """Return *ids*, or where a terminal of so many *columns* has no room for them beginnings that tell them apart.

    >>> _called(["01a22a20-ddf7-72ec-8c84-7385bc0346a6", "order-7"], 80)
    ['01a22a20-ddf7-72ec-8c84', 'order-7']
    """
    short = [id[:_ID] for id in ids]
    return ids if columns is None or columns >= _WIDE or len({*short}) < len(ids) else short


def _row(id: str, one: Listed) -> Sequence[Cell]:
    shown = ", ".join(one.agents[:_AGENTS_SHOWN]) + (" …" if len(one.agents) > _AGENTS_SHOWN else "")
    because = Text(output.inert(one.failed_agent or ""), "red")
    if one.replay_of is not None and not one.failed_agent:
        because = Text(output.inert(f"replay of {one.replay_of}"), "dim")
    if one.unattended:
        because = Text(f"nobody runs {output.inert(', '.join(one.unattended))}", "yellow")
    return (
        id,
        state(one.state.value),
        because,
        one.type or "?",
        clock(one.begun_us),
        duration(one.duration_us),
        f"{one.events:,}",
        _cost(one),
        shown,
    )


def _cost(one: Listed) -> str:
    amounts = [spent for spent in one.cost.get("amounts", [one.cost]) if spent["amount"]]
    return " + ".join(f"{spent['amount']:.6g} {spent['currency']}" for spent in amounts)


def _durations(one: Durations) -> Sequence[Cell]:
    return (one.type, f"{one.workflows:,}", *(duration(round(us)) for us in (one.p50_us, one.p95_us, one.p99_us)))


def _next(found: Sequence[Listed]) -> None:
    worst = next((one for one in found if one.failed_agent or one.unattended), None)
    if worst is not None:
        output.remark(f"next: antiphon trace {output.inert(worst.correlation_id)}")
