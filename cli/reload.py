"""`--reload`: run the command in a process of its own, and start that again whenever a Python file changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from antiphon.cli import output
from antiphon.cli.errors import DONE, INTERRUPTED

_EVERY_S = 0.5
_GRACE_S = 35.0
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist"}


def supervise(argv: Sequence[str]) -> int:
    """Run `antiphon` with *argv*, less `--reload`, until interrupted; returns the exit code."""
    command = [sys.executable, "-m", "antiphon.cli", *(word for word in argv if word != "--reload")]
    signal.signal(signal.SIGTERM, _interrupt)
    child = _start(command)
    seen = snapshot(Path.cwd())
    try:
        while True:
            time.sleep(_EVERY_S)
            now = snapshot(Path.cwd())
            if now == seen:
                continue
            changed = sorted({path for path, _ in seen.items() ^ now.items()})
            output.remark(f"changed: {os.path.relpath(changed[0])}; starting again")
            _stop(child)
            seen, child = now, _start(command)
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to the child as well; a second one would end it at once.
        return _stop(child, told=sys.stdin.isatty())


def snapshot(folder: Path) -> dict[Path, int]:
    """Return when each Python file below *folder* was changed last."""
    found: dict[Path, int] = {}
    for path in _python_files(folder):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue  # removed while we looked
    return found


def _python_files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED and not name.startswith(".")]
        if "pyvenv.cfg" in names:
            folders[:] = []
            continue
        yield from (Path(root, name) for name in names if name.endswith(".py"))


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command)  # noqa: S603 - what the user typed


def _stop(child: subprocess.Popen[bytes], *, told: bool = False) -> int:
    if child.poll() is None and not told:
        child.send_signal(signal.SIGTERM)
    try:
        code = child.wait(_GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()
        return INTERRUPTED
    return DONE if code == DONE else code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
