"""What tests leave behind in the folder for temporary files: it lies with pytest's own, and goes where it is of no use.

A command that fails by a fault of ours keeps its traceback in a file there. Of
a test that passed that file goes; of one that failed it is kept, and named.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_OURS = "left"
_KEPT = "antiphon-*.log"


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a test, and the processes that it starts, put temporary files where pytest clears up.

    Not PostgreSQL, which as another user could not enter there.
    """
    folder = tmp_path_factory.getbasetemp() / _OURS
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    for path in folder.glob(_KEPT):
        path.unlink()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Keep and name the tracebacks that commands left behind in a test that failed."""
    if call.when != "call" or call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
        return
    folder = Path(tempfile.gettempdir())  # the test's own still
    kept = folder / "of tests that failed"
    for left in sorted(folder.glob(_KEPT) if folder.name == _OURS else ()):
        kept.mkdir(exist_ok=True)
        path = left.rename(kept / left.name)
        item.add_report_section("call", f"traceback of a command, in {path}", path.read_text())
