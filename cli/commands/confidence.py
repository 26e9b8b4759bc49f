"""`antiphon confidence`: which agents are unsure, and whether it gets worse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from antiphon.cli import output
from antiphon.cli.asking import From, Place, Source, asked
from antiphon.cli.options import given
from antiphon.cli.table import Cell, table
from antiphon.cli.when import moment_ms
from antiphon.tracing.confidence import Confidence

_MANY = 0.2


def confidence(
    *,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Below it an answer counts as unsure.", metavar="SHARE")
    ] = 0.5,
    since: Annotated[
        str | None, typer.Option(help="Only answers since: 1d ago, or an ISO time.", metavar="WHEN")
    ] = None,
    replays: Annotated[bool, typer.Option("--replays", help="Those of live replays too.")] = False,
    source: Source = From.AUTO,
    index: Place = None,
) -> None:
    """Show how sure agents were, as they told by `context.confidence`: each version beside the one before it.

    Falling is what Mann and Whitney's test says with p < 0.01; of fewer than 20 answers on either side it says nothing.

    Example:
      antiphon confidence --since 7d --threshold 0.7
    """
    since_us = None if since is None else moment_ms(since, option="--since") * 1_000
    asyncio.run(_confidence(threshold, since_us, source, index, replays=replays))


async def _confidence(
    threshold: float, since_us: int | None, source: From, place: str | None, *, replays: bool
) -> None:
    async with asked(source, place, since_us=since_us) as index:
        found = index.confidence(threshold=threshold, since_us=since_us, replays=replays)
    if given().json:
        output.document([one.document() for one in found])
        return
    if not found:
        output.remark("no agent has told how sure it was: context.confidence(0.9)")
        return
    heads = ("agent", "version", "answers", "mean", "p10", f"under {threshold:g}", "change")
    output.show(table(heads, map(_row, found), right=heads[2:6]))


def _row(one: Confidence) -> Sequence[Cell]:
    share = Text(f"{one.share_under:.0%}", "yellow" if one.share_under > _MANY else "")
    return (one.agent, one.version, f"{one.answers:,}", f"{one.mean:.2f}", f"{one.p10:.2f}", share, _change(one))


def _change(one: Confidence) -> Text:
    if one.change is None or one.against is None:
        return Text("too few answers to say", "dim")
    text = f"{one.change:+z.2f} against {output.inert(one.against)} (p={one.p:.2g})"
    return Text(f"↓ {text}  falling", "bold red") if one.falling else Text(f"  {text}", "dim")
