"""The options that say which handlings are meant, and how they are to be run again."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from antiphon.agents.candidates import wanted
from antiphon.cli.replaying.code import judge_at
from antiphon.cli.replaying.source import Filter
from antiphon.replay.compare import Rules


class Mode(StrEnum):
    """What runs when events are handled again, and what is published."""

    HANDLER = "handler"
    """Handlers, in this process, each on what was recorded. Nothing."""
    SANDBOX = "sandbox"
    """Real workers, each on what the others say. On topics that are made for it, and removed."""
    LIVE = "live"
    """Whoever hears them now. The events, as new ones, where they stood."""


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
Where = Annotated[
    list[str] | None,
    typer.Option(help="Only events whose data fits, as in amount>100; several must all.", metavar="CONDITION"),
]
Offsets = Annotated[
    list[str] | None,
    typer.Option(help="Only what stood there: topic[partition]@first-last; may be repeated.", metavar="PLACE"),
]
Since = Annotated[str | None, typer.Option(help="Handled since: 10m, 2h, or an ISO 8601 time.", metavar="TIME")]
Until = Annotated[str | None, typer.Option(help="Handled until then.", metavar="TIME")]
Failed = Annotated[bool, typer.Option("--failed", help="Only workflows in which an event was set aside.")]
Dead = Annotated[bool, typer.Option("--dead", help="Only what ended with the event set aside.")]
Last = Annotated[int | None, typer.Option(min=1, help="Only so many workflows, the latest.", metavar="N")]
ModeOption = Annotated[
    Mode,
    typer.Option(
        help="handler: here, nothing is published; sandbox: real workers, on topics made for it; live: published once more."
    ),
]
Rate = Annotated[float | None, typer.Option(min=0.001, help="Events a second, at most.", metavar="N")]
Speed = Annotated[
    str | None, typer.Option(help="As far apart as they were, so many times as fast: 1x, 10x.", metavar="N")
]
Step = Annotated[
    bool, typer.Option("--step", help="Stop before each, on a terminal, and ask: handle, debug, pass over, go on.")
]
Break = Annotated[
    list[str] | None,
    typer.Option(
        "--break",
        help="Stop in the debugger at an agent, an event type, or where data fits: amount>100.",
        metavar="WHERE",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(help="A field that may differ: path, or type:path; `*` for any part.", metavar="PATH"),
]
Tolerance = Annotated[float, typer.Option(min=0, help="How far numbers may be apart, relatively.", metavar="X")]
JudgeOption = Annotated[
    str | None, typer.Option("--judge", help="Ask this function whether two events say the same.", metavar="MOD:FN")
]


def selected(  # noqa: PLR0913 - each is an option
    what: Chosen = None,
    *,
    agent: AgentsOption = None,
    event: Event = None,
    type: Types = None,
    where: Where = None,
    offsets: Offsets = None,
    since: Since = None,
    until: Until = None,
    failed: Failed = False,
    dead: Dead = False,
    last: Last = None,
) -> Filter:
    """Say which handlings are meant: of all commands that handle some again."""
    return Filter(
        what=what or (),
        agents=[wanted(text) for text in agent or ()],
        event=event,
        types=type or (),
        where=where or (),
        offsets=offsets or (),
        since=since,
        until=until,
        failed=failed,
        dead=dead,
        last=last,
    )


def ruled(*, ignore: Ignore = None, tolerance: Tolerance = 1e-9, judge: JudgeOption = None) -> Rules:
    """Say what counts as a difference: of all commands that compare."""
    return Rules(ignore=tuple(ignore or ()), tolerance=tolerance, judge=None if judge is None else judge_at(judge))
