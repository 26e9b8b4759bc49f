"""An id of which only the beginning was typed, and several workflows begin so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from antiphon.cli import output
from antiphon.cli.errors import UsageError

if TYPE_CHECKING:
    from antiphon.tracing.candidate import Candidate

_LISTED = 10


def ambiguous(id: str, found: Sequence[Candidate]) -> UsageError:
    """Return the error that lists what *id* may mean, the latest at the end."""
    return UsageError(f"expected an id that only one workflow has, got {id!r}", *_listing(found))


def _listing(found: Sequence[Candidate]) -> list[str]:
    shown = [f"  {output.inert(one.correlation_id)}  {output.inert(one.type)}" for one in found[-_LISTED:]]
    rest = [f"  and {len(found) - _LISTED} earlier ones"] if len(found) > _LISTED else []
    return ["it is the beginning of", *shown, *rest]
