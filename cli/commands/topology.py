"""`antiphon topology`: who says what to whom."""

from __future__ import annotations

import asyncio
from typing import Annotated, NamedTuple

import typer

from antiphon.bus.contracts import Contracts, of_consumers, of_workers, read_schemas
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names
from antiphon.bus.rights import notes_on
from antiphon.bus.settings import load
from antiphon.bus.subscriptions import subscriptions
from antiphon.cli import acls as acls_
from antiphon.cli import output
from antiphon.cli.errors import NO, AnswerIsNoError, UsageError
from antiphon.cli.loading import load_agents
from antiphon.cli.options import given
from antiphon.schemas.envelope import now_us
from antiphon.schemas.store import AvroSchema
from antiphon.tracing.asyncapi import asyncapi as as_asyncapi
from antiphon.tracing.topology import NOTES, AgentNode, Finding, document, from_consumer, from_heartbeats
from antiphon.tracing.topology import lint as findings_of
from antiphon.tracing.topology import mermaid as as_mermaid


def topology(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="MOD:AGENT", help="Agents; without any, those seen on the mesh."),
    ] = None,
    *,
    lint: Annotated[
        bool, typer.Option("--lint", help="Say what looks wrong; exits with 1 where something is.")
    ] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it as a Mermaid diagram.")] = False,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="Print it as an AsyncAPI 3 document, with the Avro schemas.")
    ] = False,
    acls: Annotated[bool, typer.Option("--acls", help="Print what each agent must be allowed, and no more.")] = False,
    strimzi: Annotated[
        str | None,
        typer.Option(help="With --acls: KafkaUsers for Strimzi's operator of that cluster.", metavar="CLUSTER"),
    ] = None,
    principal: acls_.Principal = acls_.DEFAULT_PRINCIPAL,
) -> None:
    """Show who says what to whom: from the agents' code, or from what runs.

    Example:
      antiphon topology support
      antiphon topology support --lint
      antiphon topology support --asyncapi
      antiphon topology support --acls
      antiphon topology support compensation --acls --strimzi kafka
    """
    if acls:
        return _show_acls(targets, strimzi, principal, otherwise=lint or mermaid or asyncapi)
    if strimzi is not None:
        raise UsageError("expected --strimzi with --acls, got it alone")
    if (mermaid or asyncapi) and (given().json or lint or (mermaid and asyncapi)):
        word = "--mermaid" if mermaid else "--asyncapi"
        raise UsageError(f"expected {word} alone, got it with --json, --lint or another drawing")
    found = _in_code(targets) if targets else asyncio.run(_live())
    agents = found.agents
    findings = findings_of(agents, live=not targets)
    if asyncapi:
        output.document(as_asyncapi(found.contracts, names=found.names, title="antiphon", version=_version(agents)))
    elif given().json:
        output.document(document(agents, live=not targets))
    elif mermaid:
        output.result(as_mermaid(agents))
    elif lint:
        _show_findings(findings)
    else:
        _show(agents)
    if lint and any(finding.kind not in NOTES for finding in findings):
        raise typer.Exit(NO)
    return None


def _show_acls(targets: list[str] | None, strimzi: str | None, principal: str, *, otherwise: bool) -> None:
    if otherwise or (strimzi is not None and given().json):
        raise UsageError("expected --acls with --json or --strimzi or neither, got more")
    roles = acls_.declared(targets) if targets else acls_.seen(asyncio.run(_workers()))
    rights = acls_.needs(roles, load(given().settings()))
    if strimzi is not None:
        output.result(acls_.strimzi(rights, strimzi).rstrip())
        acls_.remark(notes_on(roles))
    elif given().json:
        output.document(acls_.document(roles, rights, principal))
    else:
        acls_.show(roles, rights, principal)


class Found(NamedTuple):
    """Who there is, and what they read and write."""

    agents: list[AgentNode]
    contracts: Contracts
    names: Names


def _in_code(targets: list[str]) -> Found:
    settings = load(given().settings())
    consumers = [agent.consumer() for agent in load_agents(targets)]
    agents = [from_consumer(consumer, max_hops=settings.max_hops) for consumer in consumers]
    return Found(agents, of_consumers(consumers), settings.names)


def _version(agents: list[AgentNode]) -> str:
    """Return the version of what is described: of one agent its own; several have none in common."""
    return agents[0].version if len(agents) == 1 else "0"


async def _live() -> Found:
    workers, schemas, names = await _told()
    live = of_workers(subscriptions(workers, now_us=now_us()), schemas)
    return Found(from_heartbeats(workers, schemas), live, names)


async def _workers() -> list[AgentSeen]:
    return (await _told())[0]


async def _told() -> tuple[list[AgentSeen], dict[str, AvroSchema], Names]:
    from antiphon.cli.cluster import opened  # noqa: PLC0415 - 0.5 s of clients that agents in a file do not need
    from antiphon.tracing.records import read_agents  # noqa: PLC0415 - as above

    async with opened() as cluster:
        workers = await read_agents(cluster.bus, cluster.names, cluster.codec())
        if not workers:
            raise AnswerIsNoError(
                f"no agent was ever seen on {cluster.settings.bootstrap_servers}",
                "start one: antiphon run MODULE",
                "or name modules: antiphon topology MODULE",
            )
        return workers, await read_schemas(cluster.bus, cluster.names), cluster.names


def _show(agents: list[AgentNode]) -> None:
    for agent in agents:
        output.result(f"{agent.agent} {agent.version}")
        join = " + ".join(sorted(agent.joins))
        rows = [("hears", type) for type in sorted(set(agent.hears) - agent.joins)]
        rows += [("joins", join)] if join else []
        says = ["anything"] if agent.says is None else sorted(agent.says)
        rows += [("says", type + ("  (fails the workflow)" if type in agent.fails else "")) for type in says]
        rows += [("undoes", type) for type in sorted(agent.undoes)]
        for line in output.columns(rows):
            output.result(f"  {line}")


def _show_findings(findings: list[Finding]) -> None:
    for finding in findings:
        output.result(f"{'note' if finding.kind in NOTES else 'warning'}: {finding.message}")
        output.result(f"  {finding.remedy}")
    if not findings:
        output.result("nothing looks wrong")
