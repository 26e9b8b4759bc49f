"""Where a command gets its answer: a tracer's index, where there is one that is up to date, or the topics themselves."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from antiphon.bus.settings import Settings, load
from antiphon.cli import output
from antiphon.cli.options import given
from antiphon.cli.when import span
from antiphon.schemas.envelope import now_us
from antiphon.tracing.index import address as index_address
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.errors import IndexFileError, NoIndexError
from antiphon.tracing.index.index import AS_OF, Index

_FRESH_S = 30.0
_BACK_S = 3_600.0
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9.-]+")
_SHOW_EVERY_S = 0.2


class From(StrEnum):
    """Where an answer comes from."""

    AUTO = "auto"
    """The index where a tracer keeps it up to date, otherwise the topics."""
    INDEX = "index"
    TOPICS = "topics"


Source: TypeAlias = Annotated[
    From, typer.Option("--from", help="Ask the index, the topics, or whichever there is.", metavar="WHERE")
]
Place: TypeAlias = Annotated[
    str | None, typer.Option("--index", help="The tracer's index: a file, or postgresql://...", metavar="PLACE")
]


def settings_with(index: str | None, flags: Mapping[str, object] | None = None) -> Settings:
    """Return the settings, with what was said of the index, and with *flags*."""
    return load({**given().settings(), **({"index": index} if index is not None else {}), **(flags or {})})


def place_of(settings: Settings) -> index_address.Place:
    """Return where the index of the mesh that *settings* name is kept."""
    if settings.index is not None:
        return settings.index if index_address.is_address(settings.index) else Path(settings.index)
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    mesh = "-".join(part for part in (settings.bootstrap_servers, settings.namespace) if part)
    return state / "antiphon" / f"{_NOT_PLAIN.sub('_', mesh)}.index"


def opened_index(settings: Settings, source: From) -> Index | None:
    """Open the index that is to be asked, and say so; None where the topics are to be asked."""
    if source is From.TOPICS:
        return None
    try:
        index = Index.opened(place_of(settings))
    except NoIndexError:
        if source is From.INDEX:
            raise
        return None
    except IndexFileError as error:
        if source is From.INDEX:
            raise
        output.remark(f"the index cannot be used: {error.reason}; asking the topics")
        output.remark(error.remedy)
        return None
    as_of = index.note(AS_OF)
    age_s = None if as_of is None else max(0, now_us() - int(as_of)) / 1_000_000
    old = "not read to its end yet" if age_s is None else f"{span(age_s * 1_000)} old"
    if source is From.AUTO and (age_s is None or age_s > _FRESH_S):
        index.close()
        output.remark(f"the index is {old}, and no tracer brings it up to date; asking the topics")
        return None
    output.remark(f"from the index, {old}")
    return index


@contextlib.asynccontextmanager
async def asked(source: From, place: str | None, *, since_us: int | None) -> AsyncGenerator[Index]:
    """Give the index, or one that is read from the topics now: from *since_us* on, or else of the last hour."""
    settings = settings_with(place)
    index = opened_index(settings, source)
    if index is not None:
        with index:
            yield index
        return
    # Here, as asking an index needs no client.
    from antiphon.cli.cluster import opened  # noqa: PLC0415
    from antiphon.tracing.index.writing import Writer  # noqa: PLC0415
    from antiphon.tracing.tracer import Tracer  # noqa: PLC0415

    output.remark(
        "from the topics" + ("" if since_us is not None else ", of the last hour: --since looks further back")
    )
    database = Sqlite(None, writes=True)
    with Index(database) as temporary:
        async with opened() as cluster:
            tracer = Tracer(
                cluster.bus,
                cluster.names,
                cluster.codec(),
                Writer(database),
                claims=cluster.claims,
                since_ms=int((time.time() - _BACK_S) * 1_000) if since_us is None else since_us // 1_000,
            )
            with progress("reading") as show:
                await tracer.catch_up(show)
        yield temporary


@contextlib.contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """Give what shows, on a terminal, how far it is; gone when it is done."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    shown_at = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _SHOW_EVERY_S and total:
            shown_at = time.monotonic()
            sys.stderr.write(f"\r{what}: {done:,} of {total:,} ({done / total:.0%})\x1b[K")
            sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
