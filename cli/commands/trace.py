"""`antiphon trace`: one workflow, stitched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from antiphon.cli import output
from antiphon.cli.asking import From, Place, Source, opened_index, settings_with
from antiphon.cli.beginnings import ambiguous
from antiphon.cli.errors import AnswerIsNoError, UsageError
from antiphon.cli.options import given

if TYPE_CHECKING:
    from antiphon.cli.from_topics import Draw
    from antiphon.tracing.workflow import Workflow

# Start-up time: what only topics, a drawing or a diagram needs is imported where it is asked for.


def trace(
    id: Annotated[str, typer.Argument(metavar="ID", help="Correlation id, or the beginning of one.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Show it again whenever it changes, until it ends.")] = False,
    payloads: Annotated[bool, typer.Option("--payloads", help="Show each event's data too.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it as a Mermaid diagram.")] = False,
    perfetto: Annotated[bool, typer.Option("--perfetto", help="Print it as a file for ui.perfetto.dev.")] = False,
    source: Source = From.AUTO,
    index: Place = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Write all it takes to run it again elsewhere: a .antiphon file.", metavar="FILE"),
    ] = None,
) -> None:
    """Show one workflow as a tree: from the index that a tracer keeps up to date, or from the topics. Joins no group, moves no offset.

    Example:
      antiphon trace 0199f2c1
      antiphon trace 0199f2c1 --json
    """
    if bundle is not None:
        _check(bundle)
    if mermaid + perfetto + given().json > 1:
        raise UsageError("expected one of --json, --mermaid and --perfetto, got several")
    draw = _drawing(mermaid=mermaid, perfetto=perfetto, payloads=payloads)
    if not follow and bundle is None and (kept := _kept(id, source, index)) is not None:
        draw(kept.document())
        return
    import asyncio  # noqa: PLC0415 - as above

    from antiphon.cli import from_topics  # noqa: PLC0415 - the Kafka client too

    asyncio.run(from_topics.trace(id, draw, follow=follow, bundle=bundle))


def _check(bundle: Path) -> None:
    from antiphon.replay.bundle import SUFFIX  # noqa: PLC0415 - as above

    if bundle.suffix != SUFFIX:
        raise UsageError(f"expected a file that ends in {SUFFIX} for --bundle, got {str(bundle)!r}")


def _drawing(*, mermaid: bool, perfetto: bool, payloads: bool) -> Draw:
    if mermaid:
        from antiphon.tracing.mermaid import mermaid as as_mermaid  # noqa: PLC0415 - as above

        return lambda document: output.result(as_mermaid(document))
    if perfetto:
        from antiphon.tracing.perfetto import perfetto as as_perfetto  # noqa: PLC0415 - as above

        return lambda document: output.result(orjson.dumps(as_perfetto(document)).decode())
    if given().json:
        return output.document
    return lambda document: _tree(document, payloads=payloads)


def _tree(document: dict[str, Any], *, payloads: bool) -> None:
    from antiphon.cli.tree import render  # noqa: PLC0415 - as above

    output.show(render(document, width=output.width(), payloads=payloads))


def _kept(id: str, source: From, place: str | None) -> Workflow | None:
    """Return the workflow as the index has it; None where that is not asked, or has none of that name."""
    index = opened_index(settings_with(place), source)
    if index is None:
        return None
    with index:
        workflow = index.workflow(id)
        if workflow is not None:
            return workflow
        found = index.find(id)
        if len(found) == 1:
            return index.workflow(found[0].correlation_id)
    if found:
        raise ambiguous(id, found)
    if source is From.INDEX:
        raise AnswerIsNoError(f"no workflow {id!r} in the index", "antiphon trace --from topics asks the topics")
    output.remark("it has none of that name; asking the topics")
    return None
