"""A PostgreSQL for the tests that share an index, started once, by a user without rights, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_DEBIAN = Path("/usr/lib/postgresql")
_NOBODY = 65_534
_PLACE = tempfile.gettempdir()
"""The machine's own: what a test has besides, another user cannot enter."""


def programs() -> Path | None:
    """Where PostgreSQL's programs are: the newest of Debian's, or what is on the path."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


def missing() -> str | None:
    """Why there can be none; None: there can."""
    if find_spec("psycopg") is None:
        return "no client for PostgreSQL: pip install 'antiphon[postgres]'"
    return None if programs() else "no PostgreSQL: apt-get install postgresql"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a PostgreSQL on a free port of this machine alone.

    `ANTIPHON_REQUIRE_POSTGRES=1` makes a machine that has none fail rather than skip.
    """
    if reason := missing():
        if os.environ.get("ANTIPHON_REQUIRE_POSTGRES"):
            pytest.fail(f"PostgreSQL is required here: {reason}")
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="antiphon-postgres-", dir=_PLACE) as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        free.close()
        # It refuses to be run by root.
        other: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        if other:
            os.chown(folder, _NOBODY, _NOBODY)
        data, bin = f"{folder}/data", programs()
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder, **other}
        subprocess.run(
            [f"{bin}/initdb", "-D", data, "-U", "tracer", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"],
            check=True,
            **quiet,
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        start = [f"{bin}/pg_ctl", "-D", data, "-w", "-t", "60", "-o", options, "-l", f"{folder}/log"]
        subprocess.run([*start, "start"], check=True, **quiet)
        try:
            yield f"postgresql://tracer@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([f"{bin}/pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True, **quiet)


@pytest.fixture
def shared(server: str) -> str:
    """The address of an index that no other test has."""
    return f"{server}?schema=t{uuid.uuid4().hex[:12]}"
