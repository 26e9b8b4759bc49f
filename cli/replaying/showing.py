"""What a replay says: its plan, its report, what two of them differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from antiphon.cli import output
from antiphon.cli.options import given
from antiphon.cli.tree import duration
from antiphon.replay.diff import BundleDiff
from antiphon.replay.live import Again, Republished
from antiphon.replay.recording import Handling, Recording, StatesBefore, unknown_states
from antiphon.replay.report import Report, lines
from antiphon.schemas.envelope import format_time
from antiphon.tracing.document import total

_SHOWN = 20


def planned(recording: Recording, chosen: Sequence[Handling]) -> dict[str, Any]:
    """Return the plan as JSON says it, its keys in the promised order."""
    started = [handling.entry.started_us for handling in chosen]
    gone = {handling.pair for handling in recording.gone()}
    unknown, known_from_us = unknown_states(chosen, StatesBefore(recording.handlings, recording.changes))
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
        "state_unknown": unknown,
        "state_known_from": None if known_from_us is None else format_time(known_from_us),
    }


def planned_live(
    recording: Recording, events: Sequence[Again], hearers: Mapping[str, Collection[str]]
) -> dict[str, Any]:
    """Return what publishing *events* again would do: where they go, who hears them, what all that followed cost then."""
    workflows = {one.handling.entry.correlation_id for one in events}
    followed = [handling for handling in recording.handlings if handling.entry.correlation_id in workflows]
    types = {one.handling.entry.event_type for one in events}
    return {
        "publishes": dict(sorted(Counter(one.topic for one in events).items())),
        "hearers": {type: sorted(hearers.get(type, ())) for type in sorted(types)},
        "handled_then": len(followed),
        "cost_then": total(spent for handling in followed for spent in handling.entry.usage),
        "effects_then": sum(len(handling.entry.effects) for handling in followed),
    }


def show_plan(document: Mapping[str, Any]) -> None:
    """Say for a person what would be run again."""
    output.result(f"{_of(document)}, {document['from']} to {document['to']}")
    for line in output.columns(
        [(f"  {output.inert(agent)}", str(count)) for agent, count in document["agents"].items()]
    ):
        output.result(line)
    _cost(document["cost"], "cost then")
    for gap in document["gone"][:_SHOWN]:
        output.remark(f"gone: {output.inert(gap['event_id'])}, which {output.inert(gap['agent'])} handled")
    if len(document["gone"]) > _SHOWN:
        output.remark(f"and {len(document['gone']) - _SHOWN} more; --json has all of them")
    if document["gone"]:
        left = document["handlings"] - len(document["gone"])
        output.remark(f"what is there can be run: {output.counted(left, 'handling')}")
    if document["state_unknown"]:
        since = document["state_known_from"]
        known = f"; it is from {since} on: --since {since}" if since else ""
        output.remark(f"of {document['state_unknown']} the state before them is not recorded any more{known}")
    if document["effects"]:
        output.remark(f"{document['effects']} side effects have a record")


def show_live(document: Mapping[str, Any]) -> None:
    """Say for a person what a live replay does: to stderr, as it is no result yet."""
    for topic, count in document["publishes"].items():
        output.remark(f"publishes {output.counted(count, 'event')} to {output.inert(topic)}")
    for type, agents in document["hearers"].items():
        output.remark(f"  {output.inert(type)} is heard by {output.inert(', '.join(agents)) or 'nobody who runs now'}")
    cost = document["cost_then"]
    amounts = cost.get("amounts") or [cost]
    spent = " + ".join(f"{one['amount']:g} {one['currency']}" for one in amounts)
    output.remark(
        f"what followed then: {output.counted(document['handled_then'], 'handling')}, "
        f"{output.counted(document['effects_then'], 'side effect')} on record, {spent}"
    )


def show_republished(done: Sequence[Republished]) -> None:
    """Say what was published again."""
    if given().json:
        output.document(
            {
                "published": [
                    {
                        "id": one.now.id,
                        "replay_of": one.replay_of,
                        "correlation_id": one.now.correlation_id,
                        "type": one.now.type,
                        "topic": one.now.topic,
                        "partition": one.now.partition,
                        "offset": one.now.offset,
                    }
                    for one in done
                ]
            }
        )
        return
    for one in done[:_SHOWN]:
        output.result(output.inert(f"{one.now.id}  {one.now.type}  replay of {one.replay_of}"))
    if len(done) > _SHOWN:
        output.result(f"and {len(done) - _SHOWN} more; --json has all of them")
    if done:
        output.remark(f"next: antiphon trace {output.inert(done[0].now.correlation_id)} --follow")


def show_report(report: Report) -> None:
    """Say what came out differently, and what it took."""
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


def show_bundle_diff(found: BundleDiff) -> None:
    """Say what two bundles differ in."""
    if given().json:
        output.document(found.document())
        return
    if found.by_order:
        output.remark("they have no event in common: the nth of each agent and type are compared")
    told = [line for one in found.report.compared if one.differences or one.skipped for line in lines(one)]
    for side, only in (("before", found.only_before), ("after", found.only_after)):
        told += [f"{one.agent}  {one.entry.event_type} {one.entry.event_id}: only {side}" for one in only]
    _listed(told)
    _summary(found.report.document())


def show_report_diff(document: Mapping[str, Any]) -> None:
    """Say which differences are new, and which are gone."""
    if given().json:
        output.document(document)
        return
    _listed(
        [
            f"{word}  {one['agent']}  {one['event_id']}: {one.get('why') or _told(one)}"
            for word in ("new", "gone")
            for one in document[word]
        ]
    )
    output.result(f"{len(document['new'])} new, {len(document['gone'])} gone, {document['kept']} in both")


def _told(difference: Mapping[str, Any]) -> str:
    paths = ", ".join(one["path"] for one in difference["fields"] if one["path"])
    return f"{difference['kind']} {difference['type']} {paths}".rstrip()


def _listed(told: Sequence[str]) -> None:
    for line in told[:_SHOWN]:
        output.result(output.inert(line))
    if len(told) > _SHOWN:
        output.result(f"and {len(told) - _SHOWN} more; --json has all of them")


def _lasted(ms: float | None) -> str:
    return "unknown" if ms is None else duration(round(ms * 1_000))


def _of(document: Mapping[str, Any]) -> str:
    handlings, workflows = document["handlings"], document["workflows"]
    return f"{output.counted(handlings, 'handling')} of {output.counted(workflows, 'workflow')}"


def _cost(cost: Mapping[str, Any], what: str) -> None:
    for one in cost.get("amounts") or [cost]:
        if one["amount"]:
            output.result(f"  {what}: {one['amount']} {one['currency']}")


def _summary(document: Mapping[str, Any]) -> None:
    if document["state_unknown"]:
        output.remark(
            f"of {document['state_unknown']} the state before them is not recorded any more; they ran on what came before "
            "them here. antiphon replay plan says from when on it is"
        )
    output.result(f"{_of(document)}: {document['same']} the same, {document['different']} different")
    for name, what, said in (("latency_ms", "latency", _lasted), ("confidence", "confidence", str)):
        then, now = document[name]["recorded"], document[name]["got"]
        if then is not None or now is not None:
            output.result(f"  {what}: {said(then)} then, {said(now)} now, on average")
    for currency in document["cost"]["recorded"] | document["cost"]["got"]:
        then, now = (document["cost"][side].get(currency, 0.0) for side in ("recorded", "got"))
        output.result(f"  cost: {then} {currency} then, {now} {currency} now")
