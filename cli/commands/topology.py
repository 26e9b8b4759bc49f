"""`antiphon topology`: who says what to whom."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.rights import notes_on
from antiphon.bus.settings import load
from antiphon.cli import acls as acls_
from antiphon.cli import output
from antiphon.cli.errors import NO, AnswerIsNoError, UsageError
from antiphon.cli.loading import load_agents
from antiphon.cli.options import given
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
      antiphon topology support --acls
      antiphon topology support compensation --acls --strimzi kafka
    """
    if acls:
        return _show_acls(targets, strimzi, principal, otherwise=lint or mermaid)
    if strimzi is not None:
        raise UsageError("expected --strimzi with --acls, got it alone")
    if mermaid and (given().json or lint):
        raise UsageError("expected --mermaid alone, got it with --json or --lint")
    agents = [from_consumer(agent.consumer()) for agent in load_agents(targets)] if targets else asyncio.run(_live())
    findings = findings_of(agents, live=not targets)
    if given().json:
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


async def _live() -> list[AgentNode]:
    return from_heartbeats(await _workers())


async def _workers() -> list[AgentSeen]:
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
        return workers


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
