"""`antiphon topics`: what topics agents need, and making them."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated

import typer

from antiphon.bus.connect import kafka_config
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.authorization import Authorization
from antiphon.bus.names import COORDINATOR, Names
from antiphon.bus.rights import RightsPlan, Role, notes_on, plan_rights
from antiphon.bus.topics import TopicPlan, needed, plan
from antiphon.cli import output
from antiphon.cli.acls import (
    DEFAULT_PRINCIPAL,
    Principal,
    by_principal,
    declared,
    needs,
    plan_document,
    remark,
    seen,
    show_plan,
)
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import NO
from antiphon.cli.group import Command, Group
from antiphon.cli.loading import load_agents
from antiphon.cli.options import given
from antiphon.compensation.coordinator import coordinator
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

Acls = Annotated[bool, typer.Option("--acls", help="What each agent must be allowed too, no more than it needs.")]


@dataclasses.dataclass(frozen=True)
class _Plan:
    topics: TopicPlan
    rights: RightsPlan | None
    """None: nobody asked."""
    roles: list[Role]


@app.command("plan", cls=Command)
def plan_(
    targets: Targets = None,
    *,
    partitions: Partitions = None,
    replication: Replication = None,
    acls: Acls = False,
    principal: Principal = DEFAULT_PRINCIPAL,
) -> None:
    """Show which topics would be made, and which are not as they should be.

    Exits with 1 where something is to be done.

    Example:
      antiphon topics plan support
      antiphon topics plan support --acls
    """
    found = asyncio.run(_run(targets or [], partitions, replication, principal if acls else None, apply=False))
    _show(found, applied=False)
    if found.topics.create or found.topics.wrong or (found.rights is not None and not found.rights.is_done):
        raise typer.Exit(NO)


@app.command(cls=Command)
def apply(
    targets: Targets = None,
    *,
    partitions: Partitions = None,
    replication: Replication = None,
    acls: Acls = False,
    principal: Principal = DEFAULT_PRINCIPAL,
) -> None:
    """Make the topics that are missing, and with --acls grant the rights. What is there is never changed or taken away.

    Example:
      antiphon topics apply support
      antiphon topics apply support compensation --acls --principal 'User:CN={agent}'
    """
    found = asyncio.run(_run(targets or [], partitions, replication, principal if acls else None, apply=True))
    _show(found, applied=True)
    if found.topics.wrong:
        raise typer.Exit(NO)


async def _run(
    targets: list[str], partitions: int | None, replication: int | None, principal: str | None, *, apply: bool
) -> _Plan:
    consumers = [agent.consumer() for agent in load_agents([name for name in targets if name != COORDINATOR])]
    consumers += [coordinator()] if COORDINATOR in targets else []
    roles = declared(targets)
    async with opened() as cluster:
        wanted = needed(consumers, cluster.names)
        if not targets:
            workers = await read_agents(cluster.bus, cluster.names, cluster.codec())
            roles = seen(workers)
            for worker in workers:
                wanted |= topics_of(worker, cluster.names)
        found = plan(wanted, cluster.topics, partitions or cluster.partitions)
        if apply and found.create:
            await cluster.bus.create([dataclasses.replace(spec, replication=replication) for spec in found.create])
        rights = None if principal is None else await _rights(cluster, roles, principal, apply=apply)
        return _Plan(found, rights, roles)


async def _rights(cluster: Cluster, roles: list[Role], principal: str, *, apply: bool) -> RightsPlan:
    wanted = by_principal(needs(roles, cluster.settings), principal)
    config = kafka_config(cluster.settings)
    administration = Administration(config)
    authorization = Authorization(config, administration)
    try:
        found = plan_rights(wanted, await asyncio.to_thread(authorization.granted, wanted))
        if apply:
            await asyncio.to_thread(authorization.grant, found.grant)
        return found
    finally:
        await asyncio.to_thread(administration.close)


def topics_of(seen: AgentSeen, names: Names) -> dict[str, bool]:
    """Return the topics that a worker's agent needs, and whether each is compacted."""
    topics = {names.topic(part.topic): False for part in (*seen.hears, *seen.emits)}
    topics |= {names.state(seen.agent): True, names.dead(seen.agent): False, names.redrive(seen.agent): False}
    return topics | ({names.undo(seen.agent): False} if seen.undoes else {})


def _show(planned: _Plan, *, applied: bool) -> None:
    found, rights = planned.topics, planned.rights
    made = [spec.name for spec in found.create] if applied else None
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
                **({} if rights is None else {"acls": plan_document(rights, granted=applied)}),
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
    if rights is not None:
        show_plan(rights, granted=applied)
        remark(notes_on(planned.roles))
    if not applied and (found.create or (rights is not None and not rights.is_done)):
        output.remark("next: antiphon topics apply" + ("" if rights is None else " --acls"))
