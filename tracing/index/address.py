"""Where an index is: a file, or a PostgreSQL database that several tracers share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from antiphon.bus.secrets import without_login
from antiphon.tracing.index.database import Database, Sqlite
from antiphon.tracing.index.errors import IndexFileError

Place: TypeAlias = Path | str
"""A file's path, or `postgresql://user@host/database`."""

SCHEMES = ("postgresql://", "postgres://")
_SCHEMA = "antiphon"
_LEGAL = re.compile(r"[a-z_][a-z0-9_]{0,50}")


def is_address(text: str) -> bool:
    """Say whether *text* names a database rather than a file."""
    return text.startswith(SCHEMES)


def masked(place: Place) -> str:
    """Return what to call *place* where others may read it."""
    return without_login(place) if isinstance(place, str) else str(place)


def split(address: str) -> tuple[str, str]:
    """Return what the client is told, and the schema that is ours. Raises `IndexFileError` where it can be none.

    >>> split("postgresql://me@db/mesh?sslmode=require&schema=staging")
    ('postgresql://me@db/mesh?sslmode=require', 'staging')
    """
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query))
    schema = query.pop("schema", _SCHEMA)
    if not _LEGAL.fullmatch(schema):
        reason = f"expected a schema of lower case letters, digits and underscores, got {schema!r}"
        raise IndexFileError(masked(address), reason, "try: ?schema=antiphon_staging")
    return urlunsplit(parts._replace(query=urlencode(query))), schema


def opened(place: Place, *, writes: bool, anew: bool = False) -> Database:
    """Open the index at *place*; *anew*, for a database, beside the one that is there. Raises `IndexFileError`."""
    if isinstance(place, Path):
        return Sqlite(place, writes=writes)
    try:
        from antiphon.tracing.index.postgres import Postgres  # noqa: PLC0415 - an extra
    except ImportError:
        remedy = "pip install 'antiphon[postgres]'"
        raise IndexFileError(masked(place), "this needs a client for PostgreSQL", remedy) from None
    return Postgres(place, writes=writes, anew=anew)
