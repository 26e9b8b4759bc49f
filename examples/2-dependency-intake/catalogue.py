"""The catalogue: holds the packages that may be used, in SQLite.

A row is written as soon as a package has been read, so that nobody else takes
its name meanwhile, and is provisional until the package is approved. When it
is refused, the mesh asks for the reservation to be undone.

SQLite is outside of Kafka's transactions: each function may run twice for one
event (after a crash, say). Rows are therefore keyed by the workflow, and every
statement leaves the same table when it is run again.
"""

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from antiphon import Agent, Context
from events import PackageApproved, PackageRead, PackageReleased, PackageReserved

# SQLite has one writer at a time.
catalogue = Agent("catalogue", concurrency=4)


@catalogue.on(PackageRead)
def reserve(package: PackageRead, context: Context) -> PackageReserved:
    """Write a provisional row."""
    with database() as rows:
        rows.execute(
            "INSERT INTO packages (workflow, name, version) VALUES (?, ?, ?) ON CONFLICT (workflow) DO NOTHING",
            (context.correlation_id, package.name, package.version),
        )
    return PackageReserved(name=package.name, version=package.version)


@catalogue.undoes(PackageReserved)
def release(reserved: PackageReserved, context: Context) -> PackageReleased:
    """Delete the row. Where there is none any more, that is what was wanted."""
    with database() as rows:
        rows.execute("DELETE FROM packages WHERE workflow = ?", (context.correlation_id,))
    return PackageReleased(name=reserved.name, version=reserved.version)


@catalogue.on(PackageApproved)
def approve(package: PackageApproved, context: Context) -> None:
    """Make the row a lasting one."""
    with database() as rows:
        rows.execute(
            "UPDATE packages SET state = 'approved', licence = ? WHERE workflow = ?",
            (package.licence, context.correlation_id),
        )


@contextmanager
def database() -> Generator[sqlite3.Connection]:
    """Open the catalogue named by INTAKE_CATALOGUE for one transaction."""
    connection = sqlite3.connect(os.environ.get("INTAKE_CATALOGUE", "catalogue.db"), timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS packages (workflow TEXT PRIMARY KEY, name TEXT NOT NULL, "
                "version TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'provisional', licence TEXT)"
            )
            yield connection
    finally:
        connection.close()
