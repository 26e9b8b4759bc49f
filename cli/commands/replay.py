"""`antiphon replay`: past events, handled again here, and what came out differently."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from antiphon.agents.agent import Agent
from antiphon.bus.claims import Claims
from antiphon.bus.consumer import Consumer
from antiphon.cli import output
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import NO, AnswerIsNoError, CommandError, UsageError, did_you_mean
from antiphon.cli.group import Command, Group
from antiphon.cli.loading import load, module_of
from antiphon.cli.options import given
from antiphon.cli.when import moment_ms
from antiphon.replay.bundle import SUFFIX, read
from antiphon.replay.candidates import Wanted, wanted
from antiphon.replay.choice import Choice
from antiphon.replay.compare import Judge, Rules
from antiphon.replay.compared import Compared
from antiphon.replay.effects import Effects
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.reading import read_recording
from antiphon.replay.recording import Handling, Recording
from antiphon.replay.report import Report, junit, lines
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import format_time
from antiphon.tracing.document import total
from antiphon.tracing.finding import find_workflows

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Handle past events again, here, and see what comes out differently. Nothing is published, and no offset moves.

    Example:
      antiphon replay plan --last 200
    """,
)

Chosen = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID|FILE]...", help="Workflows, by id or the beginning of one; or a bundle."),
]
AgentsOption = Annotated[
    list[str] | None,
    typer.Option("--agent", help="This agent's part: NAME, or NAME=FILE.py:AGENT for a candidate.", metavar="AGENT"),
]
Event = Annotated[str | None, typer.Option(help="Only this event, and all that followed from it.", metavar="ID")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only events of this type.", metavar="TYPE")]
Since = Annotated[str | None, typer.Option(help="Handled since: 10m, 2h, or an ISO 8601 time.", metavar="TIME")]
Until = Annotated[str | None, typer.Option(help="Handled until then.", metavar="TIME")]
Failed = Annotated[bool, typer.Option("--failed", help="Only workflows in which an event was set aside.")]
Last = Annotated[int | None, typer.Option(min=1, help="Only so many workflows, the latest.", metavar="N")]

_SHOWN = 20
_PROGRESS_EVERY = 1_000


@dataclasses.dataclass(frozen=True)
class Source:
    """What was recorded, and what it takes to read it."""

    recording: Recording
    schemas: KeptSchemas
    claims: Claims


@app.command(cls=Command)
def plan(
    what: Chosen = None,
    *,
    agent: AgentsOption = None,
    event: Event = None,
    type: Types = None,
    since: Since = None,
    until: Until = None,
    failed: Failed = False,
    last: Last = None,
) -> None:
    """Say what would be run again: how many handlings of how many workflows, from when, and what they cost then.

    Example:
      antiphon replay plan --agent triage --since 1d
    """
    agents = [wanted(text) for text in agent or ()]
    asyncio.run(_plan(what or [], _choice(agents, event, type, since, until, failed=failed, last=last)))


@app.command(cls=Command)
def run(  # noqa: PLR0913 - each is an option
    what: Chosen = None,
    *,
    agent: AgentsOption = None,
    event: Event = None,
    type: Types = None,
    since: Since = None,
    until: Until = None,
    failed: Failed = False,
    last: Last = None,
    effects: Annotated[
        Effects, typer.Option(help="What `once` does: what it returned then, again, or never.")
    ] = Effects.RECORDED,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="A field that may differ: path, or type:path; `*` for any part.", metavar="PATH"),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far numbers may be apart, relatively.", metavar="X")
    ] = 1e-9,
    judge: Annotated[
        str | None, typer.Option(help="Ask this function whether two events say the same.", metavar="MOD:FN")
    ] = None,
    report: Annotated[Path | None, typer.Option("--junit", help="Write a report for CI there.", metavar="FILE")] = None,
) -> None:
    """Call the handlers with what they were called with then, and compare. Exits with 1 where anything differs.

    An agent's code is looked for in the folder's modules, unless --agent says
    where it is. `context.replaying` is true, and what the handlers print goes to stderr.

    Example:
      antiphon replay run 0199f2d7 --agent answer
      antiphon replay run --last 200 --agent triage=triage_v2.py:triage --junit report.xml
    """
    agents = [wanted(text) for text in agent or ()]
    rules = Rules(ignore=tuple(ignore or ()), tolerance=tolerance, judge=None if judge is None else _judge(judge))
    choice = _choice(agents, event, type, since, until, failed=failed, last=last)
    done = asyncio.run(_run(what or [], choice, agents, effects, rules))
    if report is not None:
        report.write_text(junit(done), encoding="utf-8")
    _show(done)
    if done.differs:
        raise typer.Exit(NO)


def _choice(
    agents: Iterable[Wanted],
    event: str | None,
    types: list[str] | None,
    since: str | None,
    until: str | None,
    *,
    failed: bool,
    last: int | None,
) -> Choice:
    return Choice(
        agents=frozenset(one.name or _name_at(one) for one in agents),
        event=event,
        types=frozenset(types or ()),
        since_us=None if since is None else moment_ms(since, option="--since") * 1_000,
        until_us=None if until is None else moment_ms(until, option="--until") * 1_000,
        failed=failed,
        last=last,
    )


# What was recorded.


@contextlib.asynccontextmanager
async def _source(what: Sequence[str], choice: Choice) -> AsyncGenerator[tuple[Source, list[Handling]]]:
    """Read what is meant, from a bundle or from the topics; raises where there is nothing."""
    bundles = [name for name in what if name.endswith(SUFFIX)]
    if bundles and len(what) > 1:
        raise UsageError("expected one bundle, or ids of workflows, got several things", f"try: {bundles[0]} alone")
    if bundles:
        recording, schemas = read(bundles[0])
        yield _meant(Source(recording, schemas, Claims()), choice)
        return
    if not what and choice == Choice():
        raise UsageError(
            "expected workflows, a bundle or a filter, got nothing that says which events",
            "try: --last 200, or --since 1h",
        )
    async with opened() as cluster:
        ids = frozenset([await _whole_id(cluster, name) for name in what])
        choice = dataclasses.replace(choice, workflows=ids)
        recording = await read_recording(cluster.bus, cluster.names, cluster.codec(), choice, claims=cluster.claims)
        yield _meant(Source(recording, KeptSchemas(behind=cluster.store), cluster.claims), choice)


def _meant(source: Source, choice: Choice) -> tuple[Source, list[Handling]]:
    chosen = choice.of(source.recording.handlings)
    if not chosen:
        agents = source.recording.agents()
        raise AnswerIsNoError(
            "nothing was handled that fits",
            *([f"agents that handled something there: {', '.join(agents)}"] if agents else []),
            "activity may have expired, or stand in another namespace (-n)",
        )
    return source, chosen


async def _whole_id(cluster: Cluster, prefix: str) -> str:
    found = await find_workflows(cluster.bus, cluster.names, prefix)
    if any(one.correlation_id == prefix for one in found) or not found:
        return prefix
    if len(found) > 1:
        listed = [f"  {output.inert(one.correlation_id)}  {output.inert(one.type)}" for one in found[-_SHOWN:]]
        raise UsageError(
            f"expected an id that only one workflow has, got {prefix!r}", "it is the beginning of", *listed
        )
    return found[0].correlation_id


# The code.


def _name_at(one: Wanted) -> str:
    return _at(one.target or "").name


def _at(target: str) -> Agent:
    with contextlib.redirect_stdout(sys.stderr):
        agents = [agent for agent in load(target).agents if isinstance(agent, Agent)]
    if len(agents) != 1:
        names = ", ".join(agent.name for agent in agents)
        raise UsageError(f"expected one agent at {target!r}, got {names or 'none'}", f"try: {target}:NAME")
    return agents[0]


def _consumers(agents: Sequence[Wanted], needed: Iterable[str]) -> list[Consumer]:
    """Return what handles: candidates under the names of those whose place they take, else the agents that are found here."""
    if agents:
        return [_consumer(one) for one in agents]
    here = {agent.name: agent for agent in _agents_here()}
    found = [here[name].consumer() for name in needed if name in here]
    if not found:
        raise UsageError(
            f"expected the code of {' or '.join(needed)} in the modules of {Path.cwd()}, got none",
            "try: --agent NAME=FILE.py:AGENT, or --agent MOD:AGENT",
        )
    return found


def _consumer(one: Wanted) -> Consumer:
    if one.target is not None:
        consumer = _at(one.target).consumer()
        return consumer if one.name in (None, consumer.name) else dataclasses.replace(consumer, name=one.name or "")
    here = {agent.name: agent for agent in _agents_here()}
    if one.name not in here:
        raise UsageError(
            f"no agent {one.name!r} in the modules of {Path.cwd()}",
            did_you_mean(one.name or "", [*here], what="agents"),
            f"try: --agent {one.name}=FILE.py:AGENT, or --agent MOD:AGENT",
        )
    return here[one.name].consumer()


def _agents_here() -> list[Agent]:
    """Return the agents that the folder's own modules have; one that cannot be imported has none."""
    found: list[Agent] = []
    for path in sorted(Path.cwd().glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "antiphon" not in text or path.name.startswith(("test_", "conftest")):
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found += [agent for agent in load(path.name).agents if isinstance(agent, Agent)]
        except CommandError as error:
            output.remark(f"{path.name} was not looked into: {error.problem}")
    return found


def _judge(target: str) -> Judge:
    module, _, name = target.partition(":")
    with contextlib.redirect_stdout(sys.stderr):
        found: Any = getattr(module_of(module), name, None) if name else None
    if not callable(found):
        raise UsageError(f"expected a function at {target!r}, got {found!r}", "try: --judge judges.py:same")
    function: Any = found
    return lambda recorded, got: bool(function(recorded, got))


# Doing it.


async def _plan(what: Sequence[str], choice: Choice) -> None:
    async with _source(what, choice) as (source, chosen):
        document = _planned(source, chosen)
    if given().json:
        output.document(document)
        return
    output.result(f"{_of(document)}, {document['from']} to {document['to']}")
    for agent, count in document["agents"].items():
        output.result(f"  {output.inert(agent)}  {count}")
    cost = document["cost"]
    if cost["amount"]:
        output.result(f"  cost then: {cost['amount']} {cost['currency']}")
    for gap in document["gone"]:
        output.remark(f"gone: {output.inert(gap['event_id'])}, which {output.inert(gap['agent'])} handled")
    if document["effects"]:
        output.remark(f"{document['effects']} side effects have a record")


def _planned(source: Source, chosen: Sequence[Handling]) -> dict[str, Any]:
    started = [handling.entry.started_us for handling in chosen]
    gone = {handling.pair for handling in source.recording.gone()}
    return {
        "handlings": len(chosen),
        "workflows": len({handling.entry.correlation_id for handling in chosen}),
        "from": format_time(min(started)),
        "to": format_time(max(started)),
        "agents": dict(sorted(Counter(handling.agent for handling in chosen).items())),
        "topics": sorted({handling.entry.topic for handling in chosen}),
        "cost": total(spent for handling in chosen for spent in handling.entry.usage),
        "effects": sum(len(handling.entry.effects) for handling in chosen),
        "gone": [{"event_id": one.entry.event_id, "agent": one.agent} for one in chosen if one.pair in gone],
    }


async def _run(what: Sequence[str], choice: Choice, agents: Sequence[Wanted], effects: Effects, rules: Rules) -> Report:
    async with _source(what, choice) as (source, chosen):
        consumers = _consumers(agents, sorted({handling.agent for handling in chosen}))
        replay = HandlerReplay(
            source.recording, consumers, Codec(source.schemas), effects=effects, rules=rules, claims=source.claims
        )
        compared: list[Compared] = []
        with contextlib.redirect_stdout(sys.stderr):
            async for one in replay.run(chosen):
                compared.append(one)
                if len(compared) % _PROGRESS_EVERY == 0:
                    output.remark(f"{len(compared)} of {len(chosen)} run again")
        return Report(compared)


def _show(report: Report) -> None:
    document = report.document()
    if given().json:
        output.document(document)
        return
    console = output.console()
    told = [one for one in report.compared if one.differences or one.skipped]
    for one in told[:_SHOWN]:
        for line in lines(one):
            console.print(output.inert(line), style="yellow" if one.skipped else "red")
    if len(told) > _SHOWN:
        output.result(f"and {len(told) - _SHOWN} more; --json has all of them")
    for one in [one for one in report.compared if one.raised is not None][:1]:
        output.result(f"raised, as {'it is now' if one.differences else 'it was then'}:")
        for line in one.traceback.rstrip().splitlines():
            output.result(output.inert(f"  {line}"))
    _summary(document)


def _of(document: dict[str, Any]) -> str:
    handlings, workflows = document["handlings"], document["workflows"]
    return f"{output.counted(handlings, 'handling')} of {output.counted(workflows, 'workflow')}"


def _summary(document: dict[str, Any]) -> None:
    if document["state_unknown"]:
        output.remark(
            f"of {document['state_unknown']} the state before them is not recorded any more; they ran on what came before them here"
        )
    output.result(f"{_of(document)}: {document['same']} the same, {document['different']} different")
    for name, unit in (("latency_ms", " ms"), ("confidence", "")):
        recorded, got = document[name]["recorded"], document[name]["got"]
        if recorded is not None or got is not None:
            output.result(f"  {name.removesuffix('_ms')}: {recorded}{unit} then, {got}{unit} now, on average")
    for currency in document["cost"]["recorded"] | document["cost"]["got"]:
        then, now = (document["cost"][side].get(currency, 0.0) for side in ("recorded", "got"))
        output.result(f"  cost: {then} {currency} then, {now} {currency} now")
