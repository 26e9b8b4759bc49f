"""An index in PostgreSQL, which several tracers write together.

Its tables stand in a schema of their own: `antiphon`, or what the address says
behind `?schema=`. Everybody who writes holds a lock on it that a rebuild asks
for alone; transactions take turns by another, as SQLite's do.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import psycopg
from psycopg import errors, sql

from antiphon.tracing.index.address import masked, split
from antiphon.tracing.index.database import Row
from antiphon.tracing.index.errors import (
    IndexAwayError,
    IndexBusyError,
    IndexDamagedError,
    IndexFileError,
    IndexFullError,
    IndexVersionError,
    NoIndexError,
)
from antiphon.tracing.index.tables import FORMS

_TOGETHER = 100
_CONNECT_S = 5
_FORM = "form"
_TYPES = (("BLOB", "BYTEA"), ("INTEGER", "BIGINT"), (" WITHOUT ROWID", ""))


class Postgres:
    """An index in a schema of a PostgreSQL database. Where its server goes away, the next call looks for it again."""

    shared = True

    def __init__(
        self,
        address: str,
        *,
        writes: bool,
        anew: bool = False,
        beside: str = "",
        forms: Mapping[int, str] = FORMS,
    ) -> None:
        """Open it, made and brought up to this release's form where it is to be written.

        *anew*: beside the one that is there, for `replace` to put in its place. *beside*: not the index itself, but what
        stands in a schema that is called as the index's with that behind it, in tables of these *forms*.
        """
        self._conninfo, self._schema = split(address)
        self._schema += beside
        self._forms = forms
        self._version = max(forms)
        self._claimed: psycopg.Connection[Row] | None = None
        self._kept = self._schema
        if anew:
            self._schema += "_new"
        self._name = masked(address)
        self._writes = writes
        self._alone = anew
        self._open: psycopg.Connection[Row] | None = None
        self._in_transaction = False
        try:
            with self._told():
                self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        return self._name

    # -- the connection -----------------------------------------------------

    @property
    def _connection(self) -> psycopg.Connection[Row]:
        if self._open is None or self._open.closed:
            if self._in_transaction:
                raise IndexAwayError(self.name, "the connection was lost")
            self._open = self._connected()
        return self._open

    def _connected(self) -> psycopg.Connection[Row]:
        connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=_CONNECT_S)
        try:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)))
            if self._writes:
                lock = "pg_try_advisory_lock" if self._alone else "pg_try_advisory_lock_shared"
                [(taken,)] = connection.execute(_said(f"SELECT {lock}(?)"), (_number(f"{self._kept} writes"),))
                if not taken:
                    raise IndexBusyError(
                        self.name, "a tracer writes to it" if self._alone else "it is being made again"
                    )
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        if self._writes and self._alone:
            self._connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self._schema)))
        if self._writes:
            with self.transaction():
                self._connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema)))
                self._bring_up(self._form() or 0)
            return
        form = self._form()
        if form is None:
            raise NoIndexError(self.name)
        if form < self._version:
            raise IndexDamagedError(self.name, "it is of an earlier release")

    def _form(self) -> int | None:
        """Return the form that its tables have; None where there are none."""
        [(table,)] = self._connection.execute(
            _said("SELECT count(*) FROM pg_tables WHERE schemaname = ? AND tablename = 'notes'"), (self._schema,)
        )
        if not table:
            return None
        found = [*self.rows("SELECT value FROM notes WHERE name = ?", (_FORM,))]
        form = int(found[0][0]) if found else 0
        if form > self._version:
            raise IndexVersionError(self.name, expected=self._version, got=form)
        return form

    def _bring_up(self, form: int) -> None:
        for number in (number for number in sorted(self._forms) if number > form):
            for statement in self._forms[number].strip().rstrip(";").split(";\n"):
                self._connection.execute(_said(_typed(statement)))
        if form < self._version:
            self._connection.execute(
                _said("INSERT INTO notes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"),
                (_FORM, str(self._version)),
            )

    # -- the port -----------------------------------------------------------

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        with self._told():
            yield from self._connection.execute(_said(statement), _clean(values), binary=True)

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        with self._told():
            return self._connection.execute(_said(statement), _clean(values)).rowcount

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        with self._told(), self._connection.cursor() as cursor:
            done = 0
            if "DO NOTHING" in statement and rows:
                one = "(" + ", ".join("?" * len(rows[0])) + ")"
                several = _said(statement.replace(one, ", ".join([one] * _TOGETHER), 1))
                for done in range(_TOGETHER, len(rows) + 1, _TOGETHER):
                    cursor.execute(several, _clean([*chain.from_iterable(rows[done - _TOGETHER : done])]))
            if done < len(rows):
                cursor.executemany(_said(statement), [_clean(row) for row in rows[done:]])

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        with self._told(), self._connection.transaction():
            outer, self._in_transaction = self._in_transaction, True
            try:
                self._connection.execute(_said("SELECT pg_advisory_xact_lock(?)"), (_number(self._schema),))
                yield
            finally:
                self._in_transaction = outer

    def alone(self) -> bool:
        """Say whether it is the one of all that have it open that may do what one alone does; it stays so while it is connected."""
        with self._told():
            connection = self._connection
            if self._claimed is not connection:
                [(taken,)] = connection.execute(
                    _said("SELECT pg_try_advisory_lock(?)"), (_number(f"{self._schema} alone"),)
                )
                self._claimed = connection if taken else None
            else:
                connection.execute("SELECT 1")  # or nobody would notice that the server has gone, and the lock with it
            return self._claimed is connection

    def size(self) -> int:
        statement = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n"
        with self._told():
            [(size,)] = self._connection.execute(
                _said(f"{statement} ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relkind = 'r'"), (self._schema,)
            )
        return int(size)

    def replace(self) -> None:
        """Put it in the place of the one beside which it was made."""
        with self.transaction():
            new, kept = sql.Identifier(self._schema), sql.Identifier(self._kept)
            self._connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(kept))
            self._connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(new, kept))

    def close(self) -> None:
        if self._open is not None:
            with contextlib.suppress(psycopg.Error):
                self._open.close()

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: psycopg.Error) -> IndexFileError:
        reason = " ".join(str(error).split())
        match error:
            case errors.DiskFull():
                return IndexFullError(self.name, reason)
            case errors.DeadlockDetected() | errors.LockNotAvailable() | errors.SerializationFailure():
                return IndexBusyError(self.name, reason)
            case psycopg.OperationalError() | psycopg.InterfaceError():
                return IndexAwayError(self.name, reason)
            case errors.InsufficientPrivilege() | errors.InvalidSchemaName() | errors.ReadOnlySqlTransaction():
                return IndexFileError(self.name, reason, "see to the rights of its user there")
            case _:
                return IndexDamagedError(self.name, reason)


@lru_cache(maxsize=256)
def _said(statement: str) -> bytes:
    """Say *statement*, which is ours, as the client takes it."""
    return statement.replace("?", "%s").encode()


def _typed(statement: str) -> str:
    for ours, theirs in _TYPES:
        statement = statement.replace(ours, theirs)
    return statement


def _clean(values: Sequence[Any]) -> Sequence[Any]:
    return [_cleaned(value) if isinstance(value, str) else value for value in values]


def _cleaned(text: str) -> str:
    # Text there cannot hold the character 0, and what somebody else's event is called may; a word of ours is its value.
    return str(text).replace("\0", "\ufffd")


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"antiphon {name}".encode()).digest()[:8], "big", signed=True)
