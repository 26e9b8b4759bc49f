"""`antiphon agents`: who is up, what each is working on since when, and taking one out of the mesh for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from antiphon.bus.canary import uneven
from antiphon.bus.connect import kafka_config
from antiphon.bus.errors import BrokerUnreachableError, BusError
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.kafka.cluster import ClusterAdministration
from antiphon.bus.names import AGENTS
from antiphon.bus.record import Outgoing
from antiphon.bus.share import WHOLE
from antiphon.bus.subscriptions import is_live
from antiphon.cli import output
from antiphon.cli.checks import UNEVEN_REMEDY, told
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import NO, UsageError, did_you_mean
from antiphon.cli.group import Command, Group
from antiphon.cli.options import given
from antiphon.cli.retiring import Standing, deserted, going_on, own_topics, undoing, waiting
from antiphon.cli.table import Cell, table
from antiphon.cli.tree import duration
from antiphon.cli.unhandled import unhandled
from antiphon.compensation.reading import read_locks, read_workflows
from antiphon.replay.letters import read_letters
from antiphon.schemas.envelope import now_us
from antiphon.tracing.records import read_agents

_EVERY_S = 1.0
_SHOWN = 3
_LONG_US = 60_000_000


app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def agents(
    ctx: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Workers that have stopped or gone silent too.")] = False,
) -> None:
    """Show the agents by their workers' heartbeats. Agents of which nobody is up are shown as such.

    Example:
      antiphon agents
      antiphon agents --watch
    """
    if ctx.invoked_subcommand is None:
        asyncio.run(_watch(all=all) if watch else _once(all=all))


@app.command(cls=Command)
def retire(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Remove its group, its own topics and its heartbeats.")] = False,
) -> None:
    """Say whether an agent may be taken out of the mesh for good, and with --yes do it.

    It may once it is stopped and owes nothing: no event, no dead letter, no
    undo. Exits with 1, and removes nothing, before that.

    Example:
      antiphon agents retire triage
    """
    asyncio.run(_retire(name, yes=yes))


async def _retire(name: str, *, yes: bool) -> None:
    async with opened() as cluster:
        admin = ClusterAdministration(kafka_config(cluster.settings))
        try:
            workers = await _workers(cluster)
            standing = await stands(cluster, admin, name, workers)
            removed = yes and not standing.blockers()
            if removed:
                await _remove(cluster, admin, standing, workers)
        finally:
            admin.close()
    _tell(standing, removed=removed)
    if standing.blockers():
        raise typer.Exit(NO)


async def stands(cluster: Cluster, admin: ClusterAdministration, name: str, workers: Sequence[AgentSeen]) -> Standing:
    """Return how the agent *name* stands. Costs what its group has not handled, its dead letters, and the coordinator's state."""
    mine = [seen for seen in workers if seen.agent == name]
    topics = own_topics(name, cluster.names, cluster.topics)
    if not mine and not topics:
        known = sorted({seen.agent for seen in workers})
        raise UsageError(
            f"no agent {name!r} on {cluster.settings.bootstrap_servers}", did_you_mean(name, known, what="agents")
        )
    everything = range(cluster.partitions)
    is_saga = any(part.starts for seen in mine for part in seen.hears)
    kept = await read_workflows(cluster.bus, cluster.names, [name] if is_saga else [], everything)
    undos, completed = undoing(name, {id: seen.kept for id, seen in kept.items()})
    return Standing(
        agent=name,
        workers=sorted(seen.instance for seen in mine if is_live(seen, now_us=now_us())),
        unhandled=await unhandled(cluster, admin, name, mine),
        letters=len(await read_letters(cluster.bus, cluster.names, [name])),
        undos=undos,
        completed=completed,
        runs=going_on(name, kept),
        waiting=waiting(name, (await read_locks(cluster.bus, cluster.names, everything)).values()),
        group=cluster.names.group(name),
        topics=topics,
        deserted=deserted(name, workers),
    )


async def _remove(
    cluster: Cluster, admin: ClusterAdministration, standing: Standing, workers: Sequence[AgentSeen]
) -> None:
    # The group first: the brokers refuse while it has members. Heartbeats last: until then the same command goes on.
    await asyncio.to_thread(admin.remove_group, standing.group)
    await asyncio.to_thread(admin.remove_topics, standing.topics)
    keys = sorted({f"{seen.agent}/{seen.instance}" for seen in workers if seen.agent == standing.agent})
    topic = cluster.names.topic(AGENTS)
    if keys:
        await cluster.bus.publish([Outgoing(topic, key.encode(), None, []) for key in keys])


def _tell(standing: Standing, *, removed: bool) -> None:
    if given().json:
        output.document(standing.document(removed=removed))
        return
    name, blockers = output.inert(standing.agent), standing.blockers()
    if blockers:
        output.result(f"no: {name} is not done yet")
        for blocker in blockers:
            output.result(output.inert(f"  {blocker.detail}"))
            output.result(output.inert(f"    {blocker.remedy}"))
    else:
        output.result(f"{name} is retired" if removed else f"yes: {name} owes nothing and may be retired")
    verb = "removed" if removed else "to remove"
    for line in output.columns(
        [(verb, "group", standing.group), *((verb, "topic", topic) for topic in standing.topics)]
    ):
        output.result(output.inert(f"  {line}".rstrip()))
    for note in standing.notes():
        output.remark(output.inert(note))
    if not blockers and not removed:
        output.remark(f"next: antiphon agents retire {name} --yes")


async def _once(*, all: bool) -> None:
    async with opened() as cluster:
        workers = await _workers(cluster)
        behind = await _behind(cluster, workers)
    if given().json:
        output.document(document(workers, behind, at_us=now_us(), all=all))
    elif workers:
        output.show(_drawn(workers, behind, all=all))
        for agent, by_canary in _uneven(workers).items():
            output.remark(output.inert(f"{agent}: its workers differ: {told(by_canary)}. {UNEVEN_REMEDY}"))
    else:
        output.remark("no agent was ever seen; start one: antiphon run MODULE")


async def _watch(*, all: bool) -> None:
    async with opened() as cluster:
        while given().json or not output.is_terminal():
            found = await _workers(cluster)
            behind = await _behind(cluster, found)
            if given().json:
                output.line(document(found, behind, at_us=now_us(), all=all))
            else:
                output.show(_drawn(found, behind, all=all))
                output.flush()
            await asyncio.sleep(_EVERY_S)
        from rich.live import Live  # noqa: PLC0415 - 0.1 s that only --watch needs

        with Live(console=output.console(), auto_refresh=False, screen=False) as live:
            while True:
                found = await _workers(cluster)
                live.update(_drawn(found, await _behind(cluster, found), all=all), refresh=True)
                await asyncio.sleep(_EVERY_S)


async def _workers(cluster: Cluster) -> list[AgentSeen]:
    return await read_agents(cluster.bus, cluster.names, cluster.codec())


async def _behind(cluster: Cluster, workers: Sequence[AgentSeen]) -> dict[str, int | None]:
    """Return how many events wait for agents of which nobody is up; None where the cluster would not say."""
    now = now_us()
    up = {seen.agent for seen in workers if is_live(seen, now_us=now)}
    down = sorted({seen.agent for seen in workers} - up)
    if not down:
        return {}
    found: dict[str, int | None] = {}
    with contextlib.closing(ClusterAdministration(kafka_config(cluster.settings))) as admin:
        for name in down:
            mine = [seen for seen in workers if seen.agent == name]
            try:
                found[name] = await unhandled(cluster, admin, name, mine, roughly=True)
            except BrokerUnreachableError:
                raise
            except BusError as error:
                found[name] = None
                output.remark(output.inert(str(error)))
    return found


def document(
    workers: Sequence[AgentSeen], behind: Mapping[str, int | None], *, at_us: int, all: bool
) -> list[dict[str, Any]]:
    """Return what `antiphon agents --json` prints: the agents by name, with the workers that are up (*all*: were).

    *behind*: how many events wait for those of which nobody is.
    """
    by_agent: dict[str, list[AgentSeen]] = {}
    for seen in sorted(workers, key=lambda one: (one.agent, one.instance)):
        by_agent.setdefault(seen.agent, []).append(seen)
    return [_agent(agent, some, behind.get(agent), at_us=at_us, all=all) for agent, some in by_agent.items()]


def _uneven(workers: Sequence[AgentSeen]) -> Mapping[str, Mapping[str, list[str]]]:
    now = now_us()
    return uneven(seen for seen in workers if is_live(seen, now_us=now))


def _agent(agent: str, workers: Sequence[AgentSeen], behind: int | None, *, at_us: int, all: bool) -> dict[str, Any]:
    live = [one for one in workers if is_live(one, now_us=at_us)]
    lags = [one.lag for one in live if one.lag is not None]
    newest = max(workers, key=lambda one: (is_live(one, now_us=at_us), one.time_us))
    shown = [one for one in workers if all or is_live(one, now_us=at_us)]
    return {
        "agent": agent,
        "version": newest.version,
        "subscribes": [heard.type for heard in newest.hears],
        "emits": [said.type for said in newest.emits],
        "undoes": [*newest.undoes],
        "live": bool(live),
        "lag": behind if not live else sum(lags) if len(lags) == len(live) else None,
        "instances": [
            {
                "instance": one.instance,
                "version": one.version,
                "canary": None
                if one.canary is None
                else {"version": one.canary.version, "share": one.canary.share / WHOLE},
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


def _drawn(workers: Sequence[AgentSeen], behind: Mapping[str, int | None], *, all: bool) -> RenderableType:
    found = document(workers, behind, at_us=now_us(), all=all)
    heads = ("agent", "version", "worker", "state", "heard", "busy", "lag", "working on")
    return table(heads, [row for agent in found for row in _rows(agent)], right=("heard", "busy", "lag"))


def _rows(agent: dict[str, Any]) -> Iterator[Sequence[Cell]]:
    if not agent["live"]:
        lag = _lag(agent["lag"])
        yield (agent["agent"], agent["version"], "-", Text("nobody is up", "bold yellow"), "", "", lag, "")
    for one in agent["instances"]:
        states = {"up": Text("up", "green"), "stopped": Text("stopped", "dim"), "silent": Text("silent", "bold yellow")}
        yield (
            agent["agent"],
            _versions(one),
            one["instance"],
            states[one["state"]],
            f"{duration(round(one['age_s'] * 1_000_000))} ago",
            f"{len(one['in_flight'])}/{one['capacity']}",
            _lag(one["lag"]),
            _work(one["in_flight"]),
        )


def _lag(lag: int | None) -> str:
    return "?" if lag is None else f"{lag:,}"


def _versions(one: dict[str, Any]) -> str:
    canary = one["canary"]
    return one["version"] if canary is None else f"{one['version']}, {canary['version']} for {canary['share'] * 100:g}%"


def _work(in_flight: Sequence[dict[str, Any]]) -> Text:
    text = Text()
    for event in sorted(in_flight, key=lambda one: -one["since_s"])[:_SHOWN]:
        since_us = round(event["since_s"] * 1_000_000)
        said = f"{output.inert(event['type'])} for {duration(since_us)}"
        text.append(", " if text.plain else "").append(said, "yellow" if since_us > _LONG_US else "")
    rest = len(in_flight) - _SHOWN
    return text.append(f" and {rest} more") if rest > 0 else text
