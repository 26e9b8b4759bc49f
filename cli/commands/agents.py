"""`antiphon agents`: who is up, and what each is working on since when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.subscriptions import is_live
from antiphon.cli import output
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.options import given
from antiphon.cli.table import Cell, table
from antiphon.cli.tree import duration
from antiphon.schemas.envelope import now_us
from antiphon.tracing.records import read_agents

_EVERY_S = 1.0
_SHOWN = 3
_LONG_US = 60_000_000


def agents(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Workers that have stopped or gone silent too.")] = False,
) -> None:
    """Show the agents by their workers' heartbeats. Agents of which nobody is up are shown as such.

    Example:
      antiphon agents
      antiphon agents --watch
    """
    asyncio.run(_watch(all=all) if watch else _once(all=all))


async def _once(*, all: bool) -> None:
    async with opened() as cluster:
        workers = await _workers(cluster)
    if given().json:
        output.document(document(workers, at_us=now_us(), all=all))
    elif workers:
        output.show(_drawn(workers, all=all))
    else:
        output.remark("no agent was ever seen; start one: antiphon run MODULE")


async def _watch(*, all: bool) -> None:
    async with opened() as cluster:
        while given().json or not output.is_terminal():
            found = await _workers(cluster)
            if given().json:
                output.line(document(found, at_us=now_us(), all=all))
            else:
                output.show(_drawn(found, all=all))
                output.flush()
            await asyncio.sleep(_EVERY_S)
        from rich.live import Live  # noqa: PLC0415 - 0.1 s that only --watch needs

        with Live(console=output.console(), auto_refresh=False, screen=False) as live:
            while True:
                live.update(_drawn(await _workers(cluster), all=all), refresh=True)
                await asyncio.sleep(_EVERY_S)


async def _workers(cluster: Cluster) -> list[AgentSeen]:
    return await read_agents(cluster.bus, cluster.names, cluster.codec())


def document(workers: Sequence[AgentSeen], *, at_us: int, all: bool) -> list[dict[str, Any]]:
    """Return what `antiphon agents --json` prints: the agents by name, with the workers that are up (*all*: were)."""
    by_agent: dict[str, list[AgentSeen]] = {}
    for seen in sorted(workers, key=lambda one: (one.agent, one.instance)):
        by_agent.setdefault(seen.agent, []).append(seen)
    return [_agent(agent, some, at_us=at_us, all=all) for agent, some in by_agent.items()]


def _agent(agent: str, workers: Sequence[AgentSeen], *, at_us: int, all: bool) -> dict[str, Any]:
    newest = max(workers, key=lambda one: (is_live(one, now_us=at_us), one.time_us))
    shown = [one for one in workers if all or is_live(one, now_us=at_us)]
    return {
        "agent": agent,
        "version": newest.version,
        "subscribes": [heard.type for heard in newest.hears],
        "emits": [said.type for said in newest.emits],
        "undoes": [*newest.undoes],
        "live": any(is_live(one, now_us=at_us) for one in workers),
        "instances": [
            {
                "instance": one.instance,
                "version": one.version,
                "state": "stopped" if one.stopped else "up" if is_live(one, now_us=at_us) else "silent",
                "age_s": _since_s(one.time_us, at_us),
                "capacity": one.capacity,
                "in_flight": [
                    {"event_id": event.event_id, "type": event.type, "since_s": _since_s(event.since_us, at_us)}
                    for event in one.in_flight
                ],
                "lag": one.lag,
            }
            for one in shown
        ],
    }


def _since_s(us: int, at_us: int) -> float:
    return round(max(0, at_us - us) / 1_000_000, 3)


def _drawn(workers: Sequence[AgentSeen], *, all: bool) -> RenderableType:
    found = document(workers, at_us=now_us(), all=all)
    heads = ("agent", "version", "worker", "state", "heard", "busy", "lag", "working on")
    return table(heads, [row for agent in found for row in _rows(agent)], right=("heard", "busy", "lag"))


def _rows(agent: dict[str, Any]) -> Iterator[Sequence[Cell]]:
    if not agent["instances"]:
        yield (agent["agent"], agent["version"], "-", Text("nobody is up", "bold yellow"), "", "", "", "")
    for one in agent["instances"]:
        states = {"up": Text("up", "green"), "stopped": Text("stopped", "dim"), "silent": Text("silent", "bold yellow")}
        yield (
            agent["agent"],
            one["version"],
            one["instance"],
            states[one["state"]],
            f"{duration(round(one['age_s'] * 1_000_000))} ago",
            f"{len(one['in_flight'])}/{one['capacity']}",
            "?" if one["lag"] is None else f"{one['lag']:,}",
            _work(one["in_flight"]),
        )


def _work(in_flight: Sequence[dict[str, Any]]) -> Text:
    text = Text()
    for event in sorted(in_flight, key=lambda one: -one["since_s"])[:_SHOWN]:
        since_us = round(event["since_s"] * 1_000_000)
        said = f"{output.inert(event['type'])} for {duration(since_us)}"
        text.append(", " if text.plain else "").append(said, "yellow" if since_us > _LONG_US else "")
    rest = len(in_flight) - _SHOWN
    return text.append(f" and {rest} more") if rest > 0 else text
