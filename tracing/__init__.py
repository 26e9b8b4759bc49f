"""Stitching chains of events into workflows, and answering what became of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiphon.tracing.index.index import Index
    from antiphon.tracing.index.search import Listed, Search
    from antiphon.tracing.index.spending import By, Spending

__all__ = ["By", "Index", "Listed", "Search", "Spending"]

# Start-up time: whoever stitches one workflow needs no database.
_WHEN_ASKED = {
    "By": "antiphon.tracing.index.spending",
    "Index": "antiphon.tracing.index.index",
    "Listed": "antiphon.tracing.index.search",
    "Search": "antiphon.tracing.index.search",
    "Spending": "antiphon.tracing.index.spending",
}


def __getattr__(name: str) -> Any:
    if name in _WHEN_ASKED:
        return getattr(import_module(_WHEN_ASKED[name]), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
