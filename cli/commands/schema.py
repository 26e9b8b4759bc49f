"""`antiphon schema`: may this be deployed, what has changed, and from event classes to Avro schemas and back."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from antiphon.bus.contracts import Contracts, of_consumers, tell_schemas
from antiphon.bus.gate import Verdict
from antiphon.cli import output
from antiphon.cli.errors import NO, AnswerIsNoError, UsageError
from antiphon.cli.gate import ask_files, ask_mesh, document, schemas_in, show
from antiphon.cli.group import Command, Group
from antiphon.cli.junit import junit
from antiphon.cli.loading import event_classes, load, load_agents
from antiphon.cli.options import given
from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import reference_name
from antiphon.schemas.compatibility import mismatches
from antiphon.schemas.difference import Difference, differences
from antiphon.schemas.event import Event
from antiphon.schemas.generate import source_from_schemas
from antiphon.schemas.store import AvroSchema, type_of

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Ask whom a change would break, and go from event classes to Avro schemas and back.

    Example:
      antiphon schema check support
    """,
)

Targets = Annotated[list[str], typer.Argument(metavar="MOD:AGENT", help="Agents, modules or files.")]
Against = Annotated[
    list[Path] | None,
    typer.Option(help="Compare with the .avsc files there, and ask no broker; may be repeated.", metavar="PATH"),
]


@app.command(cls=Command)
def check(
    targets: Targets,
    *,
    against: Against = None,
    history: Annotated[
        bool, typer.Option("--history", help="Ask of every event that the topics still hold, not the newest alone.")
    ] = False,
    junit_: Annotated[
        Path | None, typer.Option("--junit", help="Write the answer there, for a build server.", metavar="FILE")
    ] = None,
) -> None:
    """Say whether agents may be deployed now: whom it would break, by which field, and what to do.

    Asks those who read what they write, and what is written that they read:
    the agents on the mesh, as they are now, and the events on their topics.
    Exits with 1 where somebody would break.

    Example:
      antiphon schema check support
      antiphon schema check support --history --junit gate.xml
      antiphon schema check support --against released/
    """
    if against and history:
        raise UsageError("expected --history without --against, got both", "files have no history")
    agents = load_agents(targets)
    proposed = of_consumers([agent.consumer() for agent in agents])
    verdict = ask_files(against, proposed) if against else asyncio.run(_asked(proposed, history=history))
    if junit_ is not None:
        _write(junit_, junit(verdict))
    if given().json:
        output.document(document(verdict))
    else:
        show(verdict, [agent.name for agent in agents])
    if not verdict.compatible:
        raise typer.Exit(NO)


async def _asked(proposed: Contracts, *, history: bool) -> Verdict:
    from antiphon.cli.cluster import opened  # noqa: PLC0415 - 0.5 s of clients that files do without

    async with opened() as cluster:
        return await ask_mesh(cluster, proposed, history=history)


@app.command(cls=Command)
def diff(targets: Targets, *, against: Against = None) -> None:
    """Show what has changed in the schemas of agents' events since they were last registered.

    Exits with 1 where something has.

    Example:
      antiphon schema diff support
      antiphon schema diff support --against released/
    """
    classes = _classes(targets)
    old = {type_of(schema): schema for _, schema in schemas_in(against)} if against else asyncio.run(_latest(classes))
    found = [_compared(type, old.get(type), event_class) for type, event_class in sorted(classes.items())]
    if given().json:
        output.document(found)
    else:
        for one in found:
            _show_difference(one)
    if any(one["changes"] or not one["registered"] for one in found):
        raise typer.Exit(NO)


async def _latest(classes: Mapping[str, type[Event]]) -> dict[str, AvroSchema]:
    from antiphon.cli.cluster import opened  # noqa: PLC0415 - as above

    async with opened() as cluster:
        found = {type: await cluster.store.latest(type) for type in classes}
    return {type: schema for type, schema in found.items() if schema is not None}


def _compared(type: str, old: AvroSchema | None, event_class: type[Event]) -> dict[str, Any]:
    changes: Sequence[Difference] = () if old is None else differences(old, schema_of(event_class))
    return {
        "type": type,
        "registered": old is not None,
        "changes": [dataclasses.asdict(change) for change in changes],
        "reads_old": None if old is None else not mismatches(old, event_class),
        "read_by_old": None if old is None else not mismatches(schema_of(event_class), old),
    }


def _show_difference(found: Mapping[str, Any]) -> None:
    if not found["registered"]:
        output.result(f"{found['type']}: new")
        return
    if not found["changes"]:
        output.result(f"{found['type']}: as it was")
        return
    fits = f"new readers {_can(found['reads_old'])} old events, old readers {_can(found['read_by_old'])} new ones"
    output.result(f"{found['type']}: {fits}")
    rows = [(_CHANGED.get(one["change"], "~"), one["path"] or "the event", _told(one)) for one in found["changes"]]
    for line in output.columns(rows):
        output.result(output.inert(f"  {line}"))


_CHANGED = {"added": "+", "removed": "-"}


def _can(reads: object) -> str:
    return "read" if reads else "cannot read"


def _told(change: Mapping[str, Any]) -> str:
    if change["change"] in _CHANGED:
        return str(change["new"] or change["old"])
    word = "" if change["change"] in ("type", "symbols") else f"{change['change']} "
    return f"{word}{change['old'] or 'nothing'} → {change['new'] or 'nothing'}"


@app.command(cls=Command)
def register(
    targets: Targets,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Also where somebody would break.")] = False,
) -> None:
    """Register the schemas of what agents hear and say, as they do when they start. Asks the gate first.

    For clusters on which agents may not register anything themselves.

    Example:
      antiphon schema register support
    """
    agents = load_agents(targets)
    proposed = of_consumers([agent.consumer() for agent in agents])
    asyncio.run(_register(proposed, [agent.name for agent in agents], yes=yes))


async def _register(proposed: Contracts, agents: Sequence[str], *, yes: bool) -> None:
    from antiphon.cli.cluster import opened  # noqa: PLC0415 - as above

    classes = {one.type: one.schema for one in (*proposed.reads, *proposed.writes) if isinstance(one.schema, type)}
    async with opened() as cluster:
        verdict = await ask_mesh(cluster, proposed, history=False)
        if not verdict.compatible and not yes:
            show(verdict, agents)
            raise AnswerIsNoError(
                "nothing is registered", "--yes registers them all the same; who starts such an agent is refused then"
            )
        codec = cluster.codec()
        await codec.announce(classes.values(), topic_of=cluster.names.topic)
        await tell_schemas(cluster.bus, cluster.names, classes.values())
    rows = [(type, reference_name(codec.reference(event_class))) for type, event_class in sorted(classes.items())]
    if given().json:
        output.document([{"type": type, "reference": reference} for type, reference in rows])
    else:
        for line in output.columns([("registered", *row) for row in rows]):
            output.result(line)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"expected to write {str(path)!r}: {error.strerror}") from None


@app.command(cls=Command)
def export(
    targets: Targets,
    out: Annotated[Path | None, typer.Option(help="Write TYPE.avsc files into this folder.", metavar="DIR")] = None,
) -> None:
    """Write the Avro schemas of the events that agents hear, say and undo.

    Without --out, prints them as one JSON array.

    Example:
      antiphon schema export support
      antiphon schema export support --out schemas
    """
    classes = _classes(targets)
    schemas = {type: schema_of(event_class) for type, event_class in sorted(classes.items())}
    if out is None:
        output.document([*schemas.values()])
        return
    out.mkdir(parents=True, exist_ok=True)
    written = [out / f"{type}.avsc" for type in schemas]
    for path, schema in zip(written, schemas.values(), strict=True):
        path.write_bytes(orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if given().json:
        output.document([str(path) for path in written])
    for path in () if given().json else written:
        output.result(str(path))


@app.command(cls=Command)
def generate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.avsc", help="Schemas: one a file, or an array.")],
    out: Annotated[Path | None, typer.Option(help="Write the classes there.", metavar="FILE.py")] = None,
) -> None:
    """Write Python event classes from Avro schemas.

    Example:
      antiphon schema export support --out schemas
      antiphon schema generate schemas/ticket.opened.avsc
    """
    source = source_from_schemas([schema for _, schema in schemas_in(files)])
    if out is not None:
        out.write_text(source, encoding="utf-8")
        output.remark(f"wrote {out}")
    elif given().json:
        output.document({"source": source})
    else:
        output.result(source.rstrip("\n"))


def _classes(targets: Sequence[str]) -> dict[str, type[Event]]:
    classes: dict[str, type[Event]] = {}
    for target in targets:
        loaded = load(target)
        classes |= event_classes(loaded.module, loaded.agents)
    return classes
