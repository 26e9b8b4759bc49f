"""`antiphon replay`: past events, handled again here, and what came out differently."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from antiphon.agents import interpreter
from antiphon.bus.consumer import Consumer
from antiphon.cli import output
from antiphon.cli.asking import progress
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import NO, AnswerIsNoError, UsageError
from antiphon.cli.group import Command, Group
from antiphon.cli.option_sets import taking
from antiphon.cli.options import given
from antiphon.cli.replaying.code import consumers
from antiphon.cli.replaying.options import Break, Mode, ModeOption, Rate, Speed, Step, ruled, selected
from antiphon.cli.replaying.real import on_brokers, planned_for_real
from antiphon.cli.replaying.showing import (
    planned,
    show_bundle_diff,
    show_live,
    show_plan,
    show_report,
    show_report_diff,
    show_republished,
)
from antiphon.cli.replaying.source import Filter, Source, recorded
from antiphon.cli.replaying.stepping import Stepper, stepper
from antiphon.replay.bundle import SUFFIX, read
from antiphon.replay.compare import Rules
from antiphon.replay.compared import Compared
from antiphon.replay.diff import of_recordings, of_reports, read_report
from antiphon.replay.effects import Effects
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.leftovers import SILENT_S, leftovers, remove_leftovers
from antiphon.replay.live import LiveReplay, Republished, again
from antiphon.replay.pace import Pace
from antiphon.replay.report import Report, junit
from antiphon.replay.sandbox import Ground, SandboxReplay
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import format_time

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Handle past events again, and see what comes out differently. Unless --mode says so nothing is published, and no offset moves.

    Example:
      antiphon replay plan --last 200
    """,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """How they are to be run again."""

    mode: Mode
    effects: Effects
    rules: Rules
    pace: Pace
    yes: bool
    stops: Stepper | None


@app.command(cls=Command)
@taking(selected)
def plan(filter: Filter, *, mode: ModeOption = Mode.HANDLER) -> None:
    """Say what would be run again: how many handlings of how many workflows, from when, and what they cost then.

    Example:
      antiphon replay plan --agent triage --since 1d
      antiphon replay plan --failed --since 1d --mode live
    """
    asyncio.run(_plan(filter, mode))


@app.command(cls=Command)
@taking(selected, ruled)
def run(  # noqa: PLR0913 - each is an option
    filter: Filter,
    rules: Rules,
    *,
    mode: ModeOption = Mode.HANDLER,
    effects: Annotated[
        Effects, typer.Option(help="What `once` does: what it returned then, again, or never.")
    ] = Effects.RECORDED,
    report: Annotated[Path | None, typer.Option("--junit", help="Write a report for CI there.", metavar="FILE")] = None,
    rate: Rate = None,
    speed: Speed = None,
    step: Step = False,
    break_: Break = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --mode live: publish.")] = False,
) -> None:
    """Have events handled again with what they were handled with then, and compare. Exits with 1 where anything differs.

    An agent's code is looked for in the folder's modules, unless --agent says
    where it is. `context.replaying` is true, and what the handlers print goes to
    stderr. Live it is whoever runs now, nothing is compared, and --yes is needed.

    Example:
      antiphon replay run 0199f2d7 --agent answer
      antiphon replay run --last 200 --agent triage=triage_v2.py:triage --junit report.xml
      antiphon replay run --last 20 --mode sandbox
      antiphon replay run 0199f2d7 --break answer
    """
    if mode is not Mode.HANDLER and (step or break_):
        raise UsageError(
            f"expected --step and --break in the mode handler, got {mode}", "there handlers run one by one"
        )
    stops = stepper(step=step, breaks=break_ or ())
    pace = Pace(rate=rate, speed=None if speed is None else _speed(speed))
    order = Order(mode=mode, effects=effects, rules=rules, pace=pace, yes=yes, stops=stops)
    if mode is Mode.LIVE:
        asyncio.run(_live(filter, order))
        return
    done = asyncio.run(_run(filter, order))
    if report is not None:
        report.write_text(junit(done), encoding="utf-8")
    show_report(done)
    if done.differs:
        raise typer.Exit(NO)


@app.command(cls=Command)
@taking(ruled)
def diff(
    rules: Rules,
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A bundle, or a report of `run --json`.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another one of the same kind.")],
) -> None:
    """Say what two bundles, or the reports of two replays, differ in. Exits with 1 where they do.

    Bundles: what was said of the same events, or of the same places where they
    have no event in common. Reports: which differences are new, and which are gone.

    Example:
      antiphon replay diff monday.antiphon tuesday.antiphon
      antiphon replay diff before.json after.json
    """
    if any(path.suffix == SUFFIX for path in (before, after)):
        [then, now] = [read(path) for path in (before, after)]
        found = asyncio.run(of_recordings((then[0], Codec(then[1])), (now[0], Codec(now[1])), rules))
        show_bundle_diff(found)
        differs = found.differs
    else:
        document = of_reports(read_report(before), read_report(after))
        show_report_diff(document)
        differs = bool(document["new"] or document["gone"])
    if differs:
        raise typer.Exit(NO)


@app.command(cls=Command)
def clean(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and do nothing.")] = False,
) -> None:
    """Remove what replays in a sandbox left behind because they were killed. The next one does that too.

    Example:
      antiphon replay clean --dry-run
    """
    asyncio.run(_clean(dry_run=dry_run))


def _speed(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (speed := float(text.removesuffix("x"))) > 0:
            return speed
    raise UsageError(f"expected --speed to be a number above 0, got {text!r}", "try: --speed 10x")


# Planning.


async def _plan(filter: Filter, mode: Mode) -> None:
    async with interpreter.settled(), recorded(filter) as source:
        document = planned(source.recording, source.chosen)
        live = await planned_for_real(source) if mode is Mode.LIVE else None
        left = await _leftovers(source) if mode is Mode.SANDBOX else []
    if given().json:
        output.document(document | ({} if live is None else {"live": live}))
        return
    show_plan(document)
    if live is not None:
        show_live(live)
    if mode is Mode.SANDBOX:
        output.remark("on topics of its own, which are removed afterwards")
    for namespace in left:
        output.remark(f"left behind by a replay that was killed: {namespace}. Next: antiphon replay clean")


async def _leftovers(source: Source) -> list[str]:
    if source.cluster is None:
        return []
    return [one.namespace for one in await leftovers(source.cluster.bus, source.cluster.names)]


# Running.


async def _run(filter: Filter, order: Order) -> Report:
    async with interpreter.settled(), recorded(filter) as source:
        run = consumers(filter.agents, sorted({handling.agent for handling in source.chosen}))
        with contextlib.redirect_stdout(sys.stderr):
            if order.mode is Mode.HANDLER:
                return await _here(source, order, run)
            if source.cluster is not None:
                return await _in_sandbox(source, order, run, source.cluster)
            # A bundle brings all but a broker.
            async with opened() as cluster:
                return await _in_sandbox(source, order, run, cluster)


async def _here(source: Source, order: Order, run: Sequence[Consumer]) -> Report:
    replay = HandlerReplay(
        source.recording,
        run,
        Codec(source.schemas),
        effects=order.effects,
        rules=order.rules,
        claims=source.claims,
        pace=order.pace,
        around=None if order.stops is None else order.stops.around,
    )
    compared: list[Compared] = []
    with progress("run again") if order.stops is None else contextlib.nullcontext(_quiet) as show:
        async for one in replay.run(source.chosen):
            if order.stops is not None and order.stops.stopped:
                break  # what was begun when somebody had had enough is nothing to report
            compared.append(one)
            show(len(compared), len(source.chosen))
    return Report(compared)


def _quiet(done: int, total: int) -> None:
    """Somebody answers questions on that line."""


async def _in_sandbox(source: Source, order: Order, run: Sequence[Consumer], cluster: Cluster) -> Report:
    for one in await remove_leftovers(cluster.bus, cluster.names):
        output.remark(f"removed what a replay that was killed had left: {one.namespace}")
    ground = Ground(
        bus=cluster.bus,
        names=cluster.names,
        store=source.schemas,
        partitions=cluster.partitions,
        claims=source.claims,
    )
    with progress("run again") as show:
        replay = SandboxReplay(
            source.recording,
            run,
            ground,
            effects=order.effects,
            rules=order.rules,
            pace=order.pace,
            on_progress=lambda done, _: show(done, len(source.chosen)),
        )
        output.remark(f"sandbox: {replay.names.namespace}, until this ends")
        return Report(await replay.run(source.chosen))


# For real.


async def _live(filter: Filter, order: Order) -> None:
    async with interpreter.settled(), recorded(filter) as source:
        document = await planned_for_real(source)
        show_live(document)
        if not order.yes:
            raise AnswerIsNoError(
                "nothing is published yet: whoever hears these events does what they ask for, once more",
                "--yes publishes them; --mode sandbox has them handled where nobody else hears",
            )
        done = await _publish(source, order)
    show_republished(done)


async def _publish(source: Source, order: Order) -> list[Republished]:
    cluster, events = on_brokers(source), again(source.recording, source.chosen)
    done: list[Republished] = []
    replay = LiveReplay(cluster.bus, cluster.names, claims=cluster.claims, pace=order.pace)
    try:
        with progress("published") as show:
            async for one in replay.run(events):
                done.append(one)
                show(len(done), len(events))
    except BaseException:
        # They cannot be called back: whoever begins anew has to know which.
        output.remark(f"stopped: {len(done)} of {len(events)} published, those of")
        for one in done:
            output.remark(output.inert(f"  {one.replay_of}, now {one.now.id}"))
        raise
    return done


# Cleaning.


async def _clean(*, dry_run: bool) -> None:
    async with opened() as cluster:
        find = leftovers if dry_run else remove_leftovers
        found = await find(cluster.bus, cluster.names)
    if given().json:
        document = [
            {"namespace": one.namespace, "topics": one.topics, "begun": format_time(one.begun_ms * 1_000)}
            for one in found
        ]
        output.document({"dry_run": dry_run, "sandboxes": document})
        return
    for one in found:
        output.result(f"{one.namespace}  {output.counted(one.topics, 'topic')}{'' if dry_run else '  removed'}")
    if not found:
        output.result("nothing was left behind")
        output.remark(f"what was worked in within the last {SILENT_S:.0f} s is somebody's")
