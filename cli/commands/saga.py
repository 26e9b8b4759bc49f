"""`antiphon saga`: workflows that are undone, and what an operator decides about them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import typer

from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.names import COORDINATOR
from antiphon.bus.partition import partition_for
from antiphon.bus.publisher import Publisher
from antiphon.bus.subscriptions import Subscriptions, subscriptions
from antiphon.cli import output
from antiphon.cli.actor import actor
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import AnswerIsNoError, UsageError
from antiphon.cli.group import Command, Group
from antiphon.cli.options import given
from antiphon.cli.when import later_us
from antiphon.compensation.locks import Lock
from antiphon.compensation.reading import Seen, document, overruled, read_locks, read_workflows
from antiphon.compensation.workflow import Phase, Status, Workflow
from antiphon.schemas.envelope import format_time, now_us
from antiphon.tracing.records import read_agents

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Show which workflows are undone and how far that is, and decide where a person has to.

    Example:
      antiphon saga list
    """,
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Correlation id, or the beginning of one.")]
Event = Annotated[
    str | None, typer.Option(metavar="ID", help="Only the undo of this event: its id, or the beginning of it.")
]
Reason = Annotated[str, typer.Option(help="Why; kept with who and when.", metavar="TEXT")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds to wait until the coordinator has done it.", metavar="S")]

_LOOK_S = 0.1
_FITS = {
    Act.CANCEL: ("one that is running", {Phase.RUNNING}),
    Act.RETRY: ("one that is parked", {Phase.PARKED}),
    Act.SKIP: ("one that is parked", {Phase.PARKED}),
    Act.FORCE: ("one that is parked or compensating", {Phase.PARKED, Phase.COMPENSATING}),
    Act.EXTEND: ("one that is running", {Phase.RUNNING}),
}


@app.command("list", cls=Command)
def list_(*, all: Annotated[bool, typer.Option("--all", help="Those that did not fail too.")] = False) -> None:
    """List the workflows that failed: parked ones first.

    Example:
      antiphon saga list
    """
    asyncio.run(_list(all=all))


@app.command(cls=Command)
def show(id: Id) -> None:
    """Show what of one workflow is undone, what is not, and what it waits for.

    Example:
      antiphon saga show 0199f2c1
    """
    asyncio.run(_show(id))


@app.command(cls=Command)
def retry(id: Id, *, event: Event = None, reason: Reason = "tried again", timeout: Timeout = 10) -> None:
    """Ask again for the undos that were given up.

    Example:
      antiphon saga retry 0199f2c1 --reason "the card service is back"
    """
    asyncio.run(_decide(Act.RETRY, id, event, reason, timeout))


@app.command(cls=Command)
def skip(id: Id, *, reason: Reason, event: Event = None, timeout: Timeout = 10) -> None:
    """Go on without the undos that were given up. Nothing will claim that they were done.

    Example:
      antiphon saga skip 0199f2c1 --reason "refunded by hand"
    """
    asyncio.run(_decide(Act.SKIP, id, event, reason, timeout))


@app.command(cls=Command)
def force(id: Id, *, reason: Reason, timeout: Timeout = 10) -> None:
    """Go on without them, and without waiting for what has not ended.

    Example:
      antiphon saga force 0199f2c1 --reason "that agent is gone for good"
    """
    asyncio.run(_decide(Act.FORCE, id, None, reason, timeout))


@app.command(cls=Command)
def cancel(id: Id, *, reason: Reason, timeout: Timeout = 10) -> None:
    """Undo a workflow that runs, as if it had failed.

    Example:
      antiphon saga cancel 0199f2c1 --reason "ordered by mistake"
    """
    asyncio.run(_decide(Act.CANCEL, id, None, reason, timeout))


@app.command(cls=Command)
def extend(
    id: Id,
    *,
    reason: Reason,
    by: Annotated[str | None, typer.Option(metavar="TIME", help="How much longer: 10m, 2h, 1d.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until when: an ISO 8601 time.")] = None,
    timeout: Timeout = 10,
) -> None:
    """Put the deadline of a workflow that runs off: what runs has until then. A step that has not begun by its own is not started.

    Example:
      antiphon saga extend 0199f2c1 --by 10m --reason "the model is slow today"
    """
    asyncio.run(_decide(Act.EXTEND, id, None, reason, timeout, by=by, until=until))


async def _list(*, all: bool) -> None:
    async with opened() as cluster:
        mesh = await _mesh(cluster)
        workflows, locks = await _kept(cluster, mesh), await _locks(cluster)
    waiting = {one.workflow for lock in locks.values() for one in lock.waiting}
    shown = [
        document(id, seen, mesh, locks)
        for id, seen in sorted(workflows.items())
        if all or id in waiting or _is_of_interest(seen)
    ]
    shown.sort(key=lambda one: one["state"] != Phase.PARKED.value)
    if given().json:
        output.document(shown)
        return
    if not shown:
        some = "that did anything that can be undone" if all else "that failed"
        output.remark(f"the coordinator keeps no workflow {some}")
        if COORDINATOR not in mesh.live:
            output.remark("and none is up, so nothing is undone: antiphon run compensation")
    rows = [
        [one["correlation_id"], one["state"], _progress(one), one["reason"] or ", ".join(_held(one, {"waiting"}))]
        for one in shown
    ]
    for line in output.columns([[output.inert(cell) for cell in row] for row in rows]):
        output.result(line)


async def _show(id: str) -> None:
    async with opened() as cluster:
        mesh = await _mesh(cluster)
        found, locks = _one(await _kept(cluster, mesh), id, cluster), await _locks(cluster)
    _print(document(*found, mesh, locks))


async def _decide(
    act: Act,
    id: str,
    event: str | None,
    reason: str,
    timeout_s: float,
    *,
    by: str | None = None,
    until: str | None = None,
) -> None:
    if not reason.strip():
        raise UsageError("expected a reason, got none", 'say why: --reason "..."; it is kept')
    async with opened() as cluster:
        mesh = await _mesh(cluster)
        workflow, seen = _one(await _kept(cluster, mesh), id, cluster)
        kept = seen.kept
        expected, phases = _FITS[act]
        if seen.phase not in phases:
            raise AnswerIsNoError(
                f"expected {expected} to {act.value}, got one that is {seen.phase.value}",
                f"antiphon saga show {workflow} shows it",
            )
        if act is Act.SKIP and kept.halted:
            raise AnswerIsNoError(
                f"expected an undo that was given up to skip, got a workflow that halted: {kept.halted}",
                f"antiphon saga show {workflow} shows it",
            )
        until_us = _later(workflow, kept, by=by, until=until) if act is Act.EXTEND else None
        said = SagaIntervened(act=act, actor=actor(), reason=reason, event_id=_stuck(kept, event), until_us=until_us)
        publisher = Publisher(cluster.bus, cluster.codec(), cluster.names, source="/cli/saga")
        await publisher.publish([said], correlation_id=workflow)
        now, locks = await _until_changed(cluster, mesh, workflow, seen, said, timeout_s), await _locks(cluster)
    if (instead := overruled(said, now)) is not None:
        raise AnswerIsNoError(
            f"expected to {act.value} it, and something else came first: {output.inert(instead)}",
            f"antiphon saga show {workflow} shows it",
        )
    _print(document(workflow, now, mesh, locks))


async def _until_changed(
    cluster: Cluster, mesh: Subscriptions, workflow: str, before: Seen, said: SagaIntervened, timeout_s: float
) -> Seen:
    partition = partition_for(workflow.encode(), cluster.partitions)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while True:
                now = (await read_workflows(cluster.bus, cluster.names, mesh.sagas, [partition])).get(workflow)
                # Something else may have happened in it meanwhile.
                if now is None or (now != before and (now.kept.deadline_us or 0) >= (said.until_us or 0)):
                    return now or Seen(Workflow(failure=before.kept.failure, ended=True))
                await asyncio.sleep(_LOOK_S)
    raise AnswerIsNoError(
        f"it was said, and the coordinator has not taken it within {timeout_s:g} s",
        "it will when it runs: antiphon run compensation",
    )


async def _kept(cluster: Cluster, mesh: Subscriptions) -> Mapping[str, Seen]:
    if cluster.names.state(COORDINATOR) not in cluster.topics:
        return {}
    return await read_workflows(cluster.bus, cluster.names, mesh.sagas, range(cluster.partitions))


async def _locks(cluster: Cluster) -> Mapping[str, Lock]:
    if cluster.names.state(COORDINATOR) not in cluster.topics:
        return {}
    return await read_locks(cluster.bus, cluster.names, range(cluster.partitions))


def _held(one: Mapping[str, Any], states: Collection[str] = ("held", "waiting")) -> list[str]:
    """Return what a workflow holds and waits for, in words."""
    return [
        f"holds {lock['entity']}"
        if lock["state"] == "held"
        else f"waits for {lock['entity']}, held by {lock['holder']}"
        for lock in one["locks"]
        if lock["state"] in states
    ]


def _is_of_interest(seen: Seen) -> bool:
    return seen.kept.failure is not None or seen.phase is Phase.PARKED or any(run["reason"] for _, run in seen.runs)


async def _mesh(cluster: Cluster) -> Subscriptions:
    return subscriptions(await read_agents(cluster.bus, cluster.names, cluster.codec()), now_us=now_us())


def _one(sagas: Mapping[str, Seen], id: str, cluster: Cluster) -> tuple[str, Seen]:
    found = [id] if id in sagas else sorted(known for known in sagas if known.startswith(id))
    if len(found) > 1:
        listed = [f"  {output.inert(one)}  {sagas[one].phase.value}" for one in found[:10]]
        raise UsageError(f"expected an id that only one workflow has, got {id!r}", "it is the beginning of", *listed)
    if not found:
        raise AnswerIsNoError(
            f"the coordinator keeps no workflow {id!r} on {cluster.settings.bootstrap_servers}",
            "it did nothing that can be undone, or ended too long ago; antiphon saga list --all lists those it keeps",
        )
    return found[0], sagas[found[0]]


def _stuck(kept: Workflow, event: str | None) -> str | None:
    if event is None:
        return None
    found = [id for id, effect in kept.effects.items() if id.startswith(event) and effect.status is Status.STUCK]
    if len(found) != 1:
        stuck = [f"  {id}  {one.type}" for id, one in kept.effects.items() if one.status is Status.STUCK]
        raise UsageError(f"expected an event whose undo was given up, got {event!r}", "those are", *stuck)
    return found[0]


def _later(workflow: str, kept: Workflow, *, by: str | None, until: str | None) -> int:
    if kept.deadline_us is None:
        raise AnswerIsNoError(
            f"expected a workflow with a deadline, got {workflow} without", "it has all the time it needs"
        )
    until_us = later_us(kept.deadline_us, by=by, until=until)
    if until_us <= kept.deadline_us:
        raise AnswerIsNoError(
            f"expected a time after the deadline there is, {format_time(kept.deadline_us)}, got {format_time(until_us)}",
            "a deadline can only be put off; to end the workflow: antiphon saga cancel",
        )
    return until_us


def _progress(one: Mapping[str, Any]) -> str:
    """Say how far undoing is. What was skipped is not undone, and is not counted as if it were."""
    steps = one["steps"]
    if not one["reason"]:
        return f"{len(steps)} to undo"
    undone, skipped = (sum(step["status"] == status for step in steps) for status in (Status.UNDONE, Status.SKIPPED))
    return f"{undone} of {len(steps)} undone" + (f", {skipped} skipped" if skipped else "")


def _print(one: dict[str, Any]) -> None:
    if given().json:
        output.document(one)
        return
    output.result(f"{output.inert(one['correlation_id'])}  {one['state']}  ·  {_progress(one)}")
    if one["reason"]:
        output.result(f"because: {output.inert(one['reason'])}")
    elif one["deadline"] and one["state"] == Phase.RUNNING.value:
        output.result(f"by: {one['deadline']}")
    rows = [
        [
            f"  {step['type']}",
            step["agent"],
            step["status"] + ("  late" if step["late"] else ""),
            f"{step['attempts']} attempts" if step["attempts"] else "",
            step["problem"] or "",
        ]
        for step in one["steps"]
    ]
    for line in output.columns([[output.inert(cell) for cell in row] for row in rows]):
        output.result(line.rstrip())
    for run in one["runs"]:
        reason = f"  because: {run['reason']}" if run["reason"] else ""
        output.result(output.inert(f"saga {run['saga']} {run['version']}  {run['state']}{reason}"))
        steps = [[f"  {step['step']}", step["status"], step["problem"] or ""] for step in run["steps"]]
        for line in output.columns([[output.inert(cell) for cell in row] for row in steps]):
            output.result(line.rstrip())
    for lock in _held(one):
        output.result(output.inert(lock))
    for pair in one["outstanding"]:
        output.result(f"waits for {output.inert(pair['agent'])} to handle {output.inert(pair['event_id'])}")
    if one["state"] == Phase.PARKED.value:
        output.remark("next: antiphon saga retry, skip or force, with --reason")
