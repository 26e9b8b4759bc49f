"""Rights as a person, a program or Strimzi reads them, and whose they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import COORDINATOR
from antiphon.bus.right import Resource, Right
from antiphon.bus.rights import Note, RightsPlan, Role, notes_on, principal_of, rights_of_all, role_of, role_seen
from antiphon.bus.settings import Settings
from antiphon.cli import output
from antiphon.cli.errors import UsageError
from antiphon.cli.loading import load_agents
from antiphon.compensation.coordinator import coordinator

AGENT = "{agent}"
# What Kubernetes takes as the name of a thing.
_KUBERNETES = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SHOWN = 20

Principal = Annotated[
    str,
    typer.Option(
        "--principal",
        help="Who an agent is on the cluster; {agent} is its name.",
        metavar="TEMPLATE",
        show_default=True,
    ),
]
DEFAULT_PRINCIPAL = f"User:{AGENT}"


def declared(targets: Sequence[str]) -> list[Role]:
    """Return the roles of the agents that *targets* name; `compensation` is the coordinator."""
    roles = [role_of(agent.consumer()) for agent in load_agents([name for name in targets if name != COORDINATOR])]
    return roles + ([role_of(coordinator())] if COORDINATOR in targets else [])


def seen(workers: Iterable[AgentSeen]) -> list[Role]:
    """Return the roles of agents that run or ran; of each agent the newest heartbeat counts."""
    newest: dict[str, AgentSeen] = {}
    for worker in workers:
        if worker.agent not in newest or worker.time_us > newest[worker.agent].time_us:
            newest[worker.agent] = worker
    return [role_seen(worker) for worker in newest.values()]


def needs(roles: Sequence[Role], settings: Settings) -> dict[str, list[Right]]:
    """Return by agent what it needs where *settings* are what it runs with."""
    return rights_of_all(roles, settings.names, creates=settings.create_topics, registry=settings.registry is not None)


def by_principal(rights: Mapping[str, Sequence[Right]], template: str) -> dict[str, list[Right]]:
    """Return what each principal needs. One that several agents share needs what each of them does."""
    found: dict[str, dict[Right, None]] = {}
    for agent, some in rights.items():
        found.setdefault(principal_of(agent, checked(template)), {}).update(dict.fromkeys(some))
    return {principal: [*some] for principal, some in found.items()}


def checked(template: str) -> str:
    """Return *template*; raises `UsageError` where it is no principal's."""
    if ":" not in template.strip(":"):
        raise UsageError(
            f"expected --principal as Kafka writes one, TYPE:NAME, got {template!r}", f"try: --principal 'User:{AGENT}'"
        )
    return template


def document(roles: Sequence[Role], rights: Mapping[str, Sequence[Right]], template: str) -> dict[str, Any]:
    """Return what `topology --acls --json` prints."""
    return {
        "principals": [
            {
                "agent": agent,
                "principal": principal_of(agent, checked(template)),
                "rights": [{**fields(right), "why": right.why} for right in some],
            }
            for agent, some in rights.items()
        ],
        "notes": [{"kind": note.kind.value, "agent": note.agent, "message": note.message} for note in notes_on(roles)],
    }


def fields(right: Right) -> dict[str, str]:
    """Return *right* as a JSON document has it."""
    return {
        "operation": right.operation.value,
        "resource": right.resource.value,
        "name": right.name,
        "pattern": right.pattern.value,
    }


def show(roles: Sequence[Role], rights: Mapping[str, Sequence[Right]], template: str) -> None:
    """Print for people what each agent needs, and on stderr what that leaves open."""
    for agent, some in rights.items():
        output.result(f"{agent}  {principal_of(agent, checked(template))}")
        for line in output.columns([(f"  {right.operation}", *_named(right), right.why) for right in some]):
            output.result(line)
    remark(notes_on(roles))


def remark(notes: Iterable[Note]) -> None:
    """Say on stderr what a list of rights leaves open."""
    for note in notes:
        output.remark(f"note: {note.message}")


def strimzi(rights: Mapping[str, Sequence[Right]], cluster: str) -> str:
    """Return a KafkaUser an agent, for the Strimzi operator of *cluster*; raises `UsageError` where Kubernetes takes no such name."""
    for name in (cluster, *rights):
        if _KUBERNETES.fullmatch(name) is None:
            raise UsageError(
                f"expected a name that Kubernetes takes, got {name!r}: lower-case letters, digits, dashes and dots",
                "give the agent such a name, or make its KafkaUser by hand from --acls --json",
            )
    return "".join(_user(agent, some, cluster) for agent, some in rights.items())


def _user(agent: str, rights: Sequence[Right], cluster: str) -> str:
    resources: dict[tuple[Resource, str, str], list[str]] = {}
    for right in rights:
        resources.setdefault((right.resource, right.name, right.pattern.value), []).append(right.operation.value)
    lines = [
        "---",
        "apiVersion: kafka.strimzi.io/v1beta2",
        "kind: KafkaUser",
        "metadata:",
        f"  name: {json.dumps(agent)}",
        "  labels:",
        f"    strimzi.io/cluster: {json.dumps(cluster)}",
        "spec:",
        "  authentication:",
        "    type: scram-sha-512",
        "  authorization:",
        "    type: simple",
        "    acls:",
    ]
    for (resource, name, pattern), operations in resources.items():
        kind = "transactionalId" if resource is Resource.TRANSACTIONAL_ID else resource.value
        lines += [
            "      - resource:",
            f"          type: {kind}",
            f"          name: {json.dumps(name)}",
            f"          patternType: {'prefix' if pattern == 'prefixed' else pattern}",
            f"        operations: [{', '.join(operations)}]",
        ]
    return "\n".join(lines) + "\n"


def plan_document(plan: RightsPlan, *, granted: bool | None) -> dict[str, Any]:
    """Return the part of `topics --acls --json` that is about rights."""
    return {
        "grant": _listed(plan.grant),
        "more": _listed(plan.more),
        "fine": sum(map(len, plan.fine.values())),
        "granted": granted,
    }


def show_plan(plan: RightsPlan, *, granted: bool) -> None:
    """Print for people what would change, or did."""
    verb = "granted" if granted else "grant"
    rows = [
        (verb, principal, right.operation.value, *_named(right))
        for principal, some in plan.grant.items()
        for right in some
    ]
    for line in output.columns(rows):
        output.result(line)
    output.result(f"{sum(map(len, plan.fine.values()))} rights are as they should be")
    more = [f"{principal}: {right}" for principal, some in plan.more.items() for right in some]
    for line in more[:_SHOWN]:
        output.remark(f"more than needed: {line}")
    if len(more) > _SHOWN:
        output.remark(f"and {len(more) - _SHOWN} more; --json lists them all")


def _listed(rights: Mapping[str, Iterable[Right]]) -> list[dict[str, str]]:
    return [{"principal": principal, **fields(right)} for principal, some in rights.items() for right in some]


def _named(right: Right) -> tuple[str, str, str]:
    return right.resource.value, right.pattern.value, right.name
