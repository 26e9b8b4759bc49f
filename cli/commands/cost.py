"""`antiphon cost`: what model calls cost, each counted once."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from antiphon.cli import output
from antiphon.cli.asking import From, Place, Source, asked
from antiphon.cli.options import given
from antiphon.cli.table import table
from antiphon.cli.when import moment_ms
from antiphon.tracing.index.spending import By


def cost(
    *,
    by: Annotated[
        By, typer.Option(help="Added up by workflow, agent, version, model or day.", metavar="WHAT")
    ] = By.AGENT,
    since: Annotated[str | None, typer.Option(help="Only calls since: 1d ago, or an ISO time.", metavar="WHEN")] = None,
    replays: Annotated[bool, typer.Option("--replays", help="Those of live replays too.")] = False,
    source: Source = From.AUTO,
    index: Place = None,
) -> None:
    """Show what model calls cost, as agents told by `context.spend`. Each call counts once; attempts that failed are paid for too.

    Example:
      antiphon cost --by model --since 7d
    """
    since_us = None if since is None else moment_ms(since, option="--since") * 1_000
    asyncio.run(_cost(by, since_us, source, index, replays=replays))


async def _cost(by: By, since_us: int | None, source: From, place: str | None, *, replays: bool) -> None:
    async with asked(source, place, since_us=since_us) as index:
        found = index.cost(by, since_us=since_us, replays=replays)
    if given().json:
        output.document([one.document(by) for one in found])
        return
    if not found:
        output.remark("no agent has told of a model call: context.spend(model=..., cost=...)")
        return
    heads = (by.value, "calls", "tokens in", "tokens out", "cost", "")
    rows = [
        (
            one.of,
            f"{one.calls:,}",
            f"{one.input_tokens:,}",
            f"{one.output_tokens:,}",
            f"{one.amount:,.4f}",
            one.currency,
        )
        for one in found
    ]
    output.show(table(heads, rows, right=heads[1:5]))
    for currency in sorted({one.currency for one in found}):
        amount = sum(one.amount for one in found if one.currency == currency)
        output.result(f"together {amount:,.4f} {output.inert(currency)}")
