"""What `antiphon trace` reads straight from the topics: a workflow, now or as it changes, and the bundle of one.

In a module of its own, as an index needs none of what this loads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from antiphon.cli import output
from antiphon.cli.beginnings import ambiguous
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import AnswerIsNoError, UsageError
from antiphon.replay.bundle import redacted, schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.reading import read_recording
from antiphon.tracing.finding import find_workflows
from antiphon.tracing.reading import follow as as_it_changes
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.workflow import Workflow

Draw: TypeAlias = Callable[[dict[str, Any]], None]


async def trace(id: str, draw: Draw, *, follow: bool, bundle: Path | None) -> None:
    """Draw the workflow that *id* is the beginning of; write its *bundle*; draw it again whenever it changes, to *follow* it."""
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
        f"{path}: {output.counted(len(recording.events), 'event')}, "
        f"{output.counted(len(recording.handlings), 'handling')}, {len(content):,} bytes"
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
        raise ambiguous(id, found)
    if found and (workflow := await _read(cluster, found[0].correlation_id)) is not None:
        return workflow
    raise AnswerIsNoError(
        f"no workflow {id!r} on {cluster.settings.bootstrap_servers}",
        "its events may have expired, or stand in another namespace (-n)",
        "antiphon tail --from-beginning shows what is there",
    )


async def _read(cluster: Cluster, id: str) -> Workflow | None:
    return await read_workflow(cluster.bus, cluster.names, cluster.codec(), id, claims=cluster.claims)
