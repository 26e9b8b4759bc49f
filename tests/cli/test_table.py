"""Rows set out in columns: what a terminal has no room for."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from antiphon.cli.table import table


@pytest.mark.parametrize(
    ("terminal", "shown"),
    [
        (True, ["workflow  state", "order-1   failed", "order-2   compens…"]),
        (False, ["workflow  state", "order-1   failed", "order-2   compensated"]),
    ],
)
def test_what_is_cut_off_is_seen_to_be(terminal: bool, shown: list[str]) -> None:
    """At a terminal's edge, and nowhere else: a file has none."""
    file = io.StringIO()
    console = Console(width=18, file=file, soft_wrap=not terminal, force_terminal=terminal, color_system=None)

    console.print(table(("workflow", "state"), [("order-1", "failed"), ("order-2", "compensated")]))

    assert file.getvalue().splitlines() == shown
