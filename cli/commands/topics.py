"""`antiphon topics`: what topics agents need, and making them."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated

import typer

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names
from antiphon.bus.topics import TopicPlan, needed, plan
from antiphon.cli import output
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import NO
from antiphon.cli.group import Command, Group
from antiphon.cli.loading import load_agents
from antiphon.cli.options import given
from antiphon.tracing.records import read_agents

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Plan and make the topics that agents need.

    Example:
      antiphon topics plan support
    """,
)

Targets = Annotated[
    list[str] | None, typer.Argument(metavar="MOD:AGENT", help="Agents; without any, those seen on the mesh.")
]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="Partitions of every topic; default: as the mesh has.", metavar="N")
]
Replication = Annotated[
    int | None, typer.Option(min=1, help="Replicas of every topic; default: the broker's.", metavar="N")
]


@app.command("plan", cls=Command)
def plan_(targets: Targets = None, *, partitions: Partitions = None, replication: Replication = None) -> None:
    """Show which topics would be made, and which are not as they should be.

    Exits with 1 where something is to be done.

    Example:
      antiphon topics plan support
    """
    found = asyncio.run(_run(targets or [], partitions, replication, apply=False))
    _show(found, made=None)
    if found.create or found.wrong:
        raise typer.Exit(NO)


@app.command(cls=Command)
def apply(targets: Targets = None, *, partitions: Partitions = None, replication: Replication = None) -> None:
    """Make the topics that are missing. Existing ones are never changed.

    Example:
      antiphon topics apply support
    """
    found = asyncio.run(_run(targets or [], partitions, replication, apply=True))
    _show(found, made=[spec.name for spec in found.create])
    if found.wrong:
        raise typer.Exit(NO)


async def _run(targets: list[str], partitions: int | None, replication: int | None, *, apply: bool) -> TopicPlan:
    consumers = [agent.consumer() for agent in load_agents(targets)]
    async with opened() as cluster:
        wanted = needed(consumers, cluster.names)
        if not targets:
            wanted |= await _seen(cluster)
        found = plan(wanted, cluster.topics, partitions or cluster.partitions)
        if apply and found.create:
            await cluster.bus.create([dataclasses.replace(spec, replication=replication) for spec in found.create])
        return found


async def _seen(cluster: Cluster) -> dict[str, bool]:
    """Return the topics of the agents that were ever seen on the mesh."""
    wanted: dict[str, bool] = {}
    for seen in await read_agents(cluster.bus, cluster.names, cluster.codec()):
        wanted |= topics_of(seen, cluster.names)
    return wanted


def topics_of(seen: AgentSeen, names: Names) -> dict[str, bool]:
    """Return the topics that a worker's agent needs, and whether each is compacted."""
    topics = {names.topic(part.topic): False for part in (*seen.hears, *seen.emits)}
    topics |= {names.state(seen.agent): True, names.dead(seen.agent): False, names.redrive(seen.agent): False}
    return topics | ({names.undo(seen.agent): False} if seen.undoes else {})


def _show(found: TopicPlan, *, made: list[str] | None) -> None:
    if given().json:
        output.document(
            {
                "create": [
                    {"topic": spec.name, "partitions": spec.partitions, "compact": spec.compact}
                    for spec in found.create
                ],
                "wrong": [
                    {"topic": name, "expected_partitions": expected, "partitions": got}
                    for name, expected, got in found.wrong
                ],
                "fine": list(found.fine),
                "made": made,
            }
        )
        return
    verb = "create" if made is None else "created"
    rows = [
        (verb, spec.name, f"{spec.partitions} partitions{', compacted' if spec.compact else ''}")
        for spec in found.create
    ]
    rows += [("wrong", name, f"{got} partitions, expected {expected}") for name, expected, got in found.wrong]
    for line in output.columns(rows):
        output.result(line)
    output.result(f"{len(found.fine)} topics are as they should be")
    if found.wrong:
        output.remark(
            "a topic's partitions can be added to but its keys then move: make a new topic, or recreate it when empty"
        )
    if found.create and made is None:
        output.remark("next: antiphon topics apply")
