"""The example that the demo runs: where its files are, and the event it publishes."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import antiphon
from antiphon.schemas.event import Event


def _folder() -> Path:
    package = Path(antiphon.__file__).resolve().parent
    beside, repository = (root / "examples" / "2-dependency-intake" for root in (package, package.parents[1]))
    return beside if beside.is_dir() else repository


FOLDER = _folder()
"""In an installed wheel a copy, beside the packages; in the repository the original."""

PROCESSES = {
    "reader": "reader.py",
    "catalogue": "catalogue.py",
    "licence": "licence.py",
    "policy": "policy.py",
    "reporter": "reporter.py",
    "compensation": "compensation",
}
"""Agent to what `antiphon run` is told: each is a process of its own."""


def submission() -> Callable[..., Event]:
    """Return the class of the event that asks for a package to be taken in."""
    # By its path: a module called `events` may be somebody else's here.
    spec = importlib.util.spec_from_file_location("antiphon_intake_events", FOLDER / "events.py")
    if spec is None or spec.loader is None:
        message = f"expected the example's files in {FOLDER}, got none; install antiphon again"
        raise FileNotFoundError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return cast("type[Event]", module.PackageSubmitted)


def catalogue_rows(database: Path) -> list[tuple[str, str]]:
    """Return what the catalogue holds: workflow and state of each row."""
    if not database.exists():
        return []
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
    try:
        return list(connection.execute("SELECT workflow, state FROM packages"))
    finally:
        connection.close()
