"""Running commands in process, in a folder of their own, with nothing configured from outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from antiphon.cli.main import run


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Antiphon = Callable[..., Ran]

SUPPORT = """\
from antiphon import Event, agent


class TicketOpened(Event):
    ticket_id: str
    body: str


class TicketTriaged(Event):
    ticket_id: str
    queue: str


@agent
async def triage(ticket: TicketOpened) -> TicketTriaged:
    return TicketTriaged(ticket_id=ticket.ticket_id, queue="billing")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in an empty folder, and forget afterwards what commands imported from it."""
    for name in [name for name in os.environ if name.startswith("ANTIPHON_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    # The first example is called so too, and its test has imported it.
    monkeypatch.delitem(sys.modules, "support", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def antiphon(capsys: pytest.CaptureFixture[str]) -> Antiphon:
    """Return a function that runs a command line and says what became of it."""

    def ran(*argv: str) -> Ran:
        code = run(argv)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return ran


@pytest.fixture
def support(folder: Path) -> Path:
    """Put a file with one agent into the folder."""
    path = folder / "support.py"
    path.write_text(SUPPORT)
    return path
