"""`antiphon trace`: one workflow, stitched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import orjson
import typer

from antiphon.cli import output
from antiphon.cli.asking import From, Place, Source, opened_index, settings_with
from antiphon.cli.errors import AnswerIsNoError, UsageError
from antiphon.cli.options import given
from antiphon.cli.tree import render
from antiphon.replay.bundle import SUFFIX, redacted, schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.reading import read_recording
from antiphon.tracing.finding import Candidate, find_workflows
from antiphon.tracing.mermaid import mermaid as as_mermaid
from antiphon.tracing.perfetto import perfetto as as_perfetto
from antiphon.tracing.reading import follow as as_it_changes
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.workflow import Workflow

if TYPE_CHECKING:
    from antiphon.cli.cluster import Cluster

_LISTED = 10

Draw: TypeAlias = Callable[[dict[str, Any]], None]


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
    if bundle is not None and bundle.suffix != SUFFIX:
        raise UsageError(f"expected a file that ends in {SUFFIX} for --bundle, got {str(bundle)!r}")
    if mermaid + perfetto + given().json > 1:
        raise UsageError("expected one of --json, --mermaid and --perfetto, got several")
    draw = _drawing(mermaid=mermaid, perfetto=perfetto, payloads=payloads)
    if not follow and bundle is None and (kept := _kept(id, source, index)) is not None:
        draw(kept.document())
        return
    asyncio.run(_trace(id, draw, follow=follow, bundle=bundle))


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
        raise _ambiguous(id, found)
    if source is From.INDEX:
        raise AnswerIsNoError(f"no workflow {id!r} in the index", "antiphon trace --from topics asks the topics")
    output.remark("it has none of that name; asking the topics")
    return None


async def _trace(id: str, draw: Draw, *, follow: bool, bundle: Path | None) -> None:
    from antiphon.cli.cluster import opened  # noqa: PLC0415 - the Kafka client, which an index does without

    async with opened() as cluster:
        workflow = await _find(cluster, id)
        if bundle is not None:
            await _bundle(cluster, workflow.correlation_id, bundle)
        if not follow:
            draw(workflow.document())
            return
        async for now in as_it_changes(cluster.bus, cluster.names, cluster.codec(), workflow.correlation_id):
            draw(now.document())
            output.flush()


async def _bundle(cluster: Cluster, id: str, path: Path) -> None:
    choice = Choice(workflows=frozenset({id}))
    recording = await read_recording(cluster.bus, cluster.names, cluster.codec(), choice, claims=cluster.claims)
    schemas = await schemas_of(recording, cluster.store)
    recording = redacted(recording, schemas)
    content = write(recording, schemas)
    _write(path, content)
    for handling in recording.gone():
        output.remark(f"not in it: {output.inert(handling.entry.event_id)}, which is gone, or may not be shown")
    output.remark(
        f"{path}: {len(recording.events)} events, {len(recording.handlings)} handlings, {len(content):,} bytes"
    )
    output.remark(f"next: antiphon replay run {path}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"expected to write {str(path)!r}: {error.strerror}") from None


async def _find(cluster: Cluster, id: str) -> Workflow:
    workflow = await _read(cluster, id)
    if workflow is not None:
        return workflow
    found = await find_workflows(cluster.bus, cluster.names, id)
    if len(found) > 1:
        raise _ambiguous(id, found)
    if found and (workflow := await _read(cluster, found[0].correlation_id)) is not None:
        return workflow
    raise AnswerIsNoError(
        f"no workflow {id!r} on {cluster.settings.bootstrap_servers}",
        "its events may have expired, or stand in another namespace (-n)",
        "antiphon tail --from-beginning shows what is there",
    )


def _ambiguous(id: str, found: list[Candidate]) -> UsageError:
    return UsageError(f"expected an id that only one workflow has, got {id!r}", *_listing(found))


def _listing(found: list[Candidate]) -> list[str]:
    shown = [f"  {output.inert(one.correlation_id)}  {output.inert(one.type)}" for one in found[-_LISTED:]]
    rest = [f"  and {len(found) - _LISTED} earlier ones"] if len(found) > _LISTED else []
    return ["it is the beginning of", *shown, *rest]


async def _read(cluster: Cluster, id: str) -> Workflow | None:
    return await read_workflow(cluster.bus, cluster.names, cluster.codec(), id, claims=cluster.claims)
