"""Running commands in process, in a folder of their own, with nothing configured from outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from antiphon.cli.main import run
from tests.cli.process import Process


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Antiphon = Callable[..., Ran]
Served = Callable[..., AbstractContextManager[Antiphon]]
"""From a module's name, its text and options of `antiphon run` to what runs commands while it does."""

ROOT = Path(__file__).parent.parent.parent

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


def _is_ours(path: str) -> bool:
    """Say whether *path* lies with the examples or the tests, whose modules are named as users' own are."""
    return any(Path(path).is_relative_to(ROOT / folder) for folder in ("examples", "tests") if path)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in an empty folder, and forget afterwards what commands imported from it."""
    for name in [name for name in os.environ if name.startswith("ANTIPHON_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not _is_ours(entry)])
    for name, module in [*sys.modules.items()]:
        if "." not in name and _is_ours(getattr(module, "__file__", None) or ""):
            monkeypatch.delitem(sys.modules, name)
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


@pytest.fixture
def corner(embedded: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands use a corner of the embedded broker that is this test's own."""
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", embedded)
    monkeypatch.setenv("ANTIPHON_NAMESPACE", namespace)
    monkeypatch.setenv("ANTIPHON_PARTITIONS", "2")


@pytest.fixture
def served(antiphon: Antiphon, folder: Path, corner: None) -> Served:
    """Return what runs a module's agents in a worker of their own, there."""

    @contextmanager
    def serve(name: str, text: str, *options: str) -> Generator[Antiphon]:
        (folder / f"{name}.py").write_text(text)
        worker = Process("run", name, *options, cwd=folder)
        try:
            worker.wait_for('"ready"')
            yield antiphon
        finally:
            worker.clean_up()

    return serve
