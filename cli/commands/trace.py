"""`antiphon trace`: one workflow, stitched from the topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import orjson
import typer
from antiphon.cli.tree import render
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.workflow import Workflow

from antiphon.cli import output
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.drawing import mermaid as as_mermaid
from antiphon.cli.drawing import perfetto as as_perfetto
from antiphon.cli.errors import AnswerIsNoError, UsageError
from antiphon.cli.options import given
from antiphon.cli.prefix import candidates, is_whole

_AGAIN_S = 0.5

Draw: TypeAlias = Callable[[dict[str, Any]], None]


def trace(
    id: Annotated[str, typer.Argument(metavar="ID", help="Correlation id, or the beginning of one.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Show it again whenever it changes, until it ends.")] = False,
    payloads: Annotated[bool, typer.Option("--payloads", help="Show each event's data too.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it as a Mermaid diagram.")] = False,
    perfetto: Annotated[bool, typer.Option("--perfetto", help="Print it as a file for ui.perfetto.dev.")] = False,
) -> None:
    """Show one workflow as a tree. Reads the topics; joins no group, moves no offset.

    Example:
      antiphon trace 0199f2c1
      antiphon trace 0199f2c1 --json
    """
    if mermaid + perfetto + given().json > 1:
        raise UsageError("expected one of --json, --mermaid and --perfetto, got several")
    asyncio.run(_trace(id, _drawing(mermaid=mermaid, perfetto=perfetto, payloads=payloads), follow=follow))


def _drawing(*, mermaid: bool, perfetto: bool, payloads: bool) -> Draw:
    if mermaid:
        return lambda document: output.result(as_mermaid(document))
    if perfetto:
        return lambda document: output.result(orjson.dumps(as_perfetto(document)).decode())
    if given().json:
        return output.document
    return lambda document: _tree(document, payloads=payloads)


def _tree(document: dict[str, Any], *, payloads: bool) -> None:
    output.show(render(document, width=output.width(), payloads=payloads))


async def _trace(id: str, draw: Draw, *, follow: bool) -> None:
    async with opened() as cluster:
        workflow = await _find(cluster, id)
        draw(workflow.document())
        while follow and not workflow.settled:
            output.flush()
            await asyncio.sleep(_AGAIN_S)
            now = await _read(cluster, workflow.correlation_id) or workflow
            if now != workflow:
                draw(now.document())
            workflow = now


async def _find(cluster: Cluster, id: str) -> Workflow:
    workflow = await _read(cluster, id)
    if workflow is not None:
        return workflow
    found = [] if is_whole(id) else await candidates(cluster, id)
    if len(found) > 1:
        raise UsageError(f"expected an id that only one workflow has, got {id!r}", *_listing(found))
    if found and (workflow := await _read(cluster, found[0])) is not None:
        return workflow
    raise AnswerIsNoError(
        f"no workflow {id!r} on {cluster.settings.bootstrap_servers}",
        "its events may have expired, or stand in another namespace (-n)",
        "antiphon tail --from-beginning shows what is there",
    )


def _listing(found: list[str]) -> list[str]:
    shown = [f"  {output.inert(id)}" for id in found[:10]]
    rest = [f"  and {len(found) - 10} more"] if len(found) > 10 else []  # noqa: PLR2004 - as many as are shown
    return ["it is the beginning of", *shown, *rest]


async def _read(cluster: Cluster, id: str) -> Workflow | None:
    return await read_workflow(cluster.bus, cluster.names, cluster.codec(), id)
