"""`antiphon schema`: from event classes to Avro schemas, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import orjson
import typer

from antiphon.cli import output
from antiphon.cli.data import parse
from antiphon.cli.errors import UsageError, did_you_mean
from antiphon.cli.group import Command, Group
from antiphon.cli.loading import event_classes, load
from antiphon.cli.options import given
from antiphon.schemas.avro import schema_of
from antiphon.schemas.generate import source_from_schemas

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Write Avro schemas from event classes, and event classes from Avro schemas.

    Example:
      antiphon schema export support
    """,
)


@app.command(cls=Command)
def export(
    targets: Annotated[list[str], typer.Argument(metavar="MOD:AGENT", help="Agents, modules or files.")],
    out: Annotated[Path | None, typer.Option(help="Write TYPE.avsc files into this folder.", metavar="DIR")] = None,
) -> None:
    """Write the Avro schemas of the events that agents hear, say and undo.

    Without --out, prints them as one JSON array.

    Example:
      antiphon schema export support
      antiphon schema export support --out schemas
    """
    classes: dict[str, type[Any]] = {}
    for target in targets:
        loaded = load(target)
        classes |= event_classes(loaded.module, loaded.agents)
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
    source = source_from_schemas([schema for file in files for schema in _schemas(file)])
    if out is not None:
        out.write_text(source, encoding="utf-8")
        output.remark(f"wrote {out}")
    elif given().json:
        output.document({"source": source})
    else:
        output.result(source.rstrip("\n"))


def _as_list(found: object) -> list[Any]:
    return [*found] if isinstance(found, list) else [found]  # pyright: ignore[reportUnknownVariableType] - any JSON


def _schemas(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        here = [str(path) for path in file.parent.glob("*.avsc")] if file.parent.is_dir() else []
        raise UsageError(
            f"expected an Avro schema at {str(file)!r}: {reason}", did_you_mean(str(file), here, what=".avsc files")
        ) from None
    found = parse(text, str(file))
    schemas = _as_list(found)
    for one in schemas:
        if not isinstance(one, Mapping) or cast("Mapping[str, Any]", one).get("type") != "record":
            got = output.compact(one, at_most=60)
            raise UsageError(f"expected a record schema in {file}, got {got}", "an event is an Avro record")
    return schemas
