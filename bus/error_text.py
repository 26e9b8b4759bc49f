"""An error as text, for logs, activity and dead letters alike: what it says, and the lines that led to it.

The layout is the interpreter's own. It is written here because a failing agent
writes one for every attempt: the interpreter's way looks at the files again each
time, and takes longer than handling several events. Where in a line it was is
not told, since finding that parses the line. Nor are the frames of this
package that led to the user's own code: see `users_own`.
"""

from __future__ import annotations

import functools
import linecache
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

_LONGEST_TRACEBACK = 16_384
_LONGEST_MESSAGE = 4_096
_PLACES = 1_024
"""Ways through the program whose text is kept: an agent fails in few ways, many times."""
_HEADING = "Traceback (most recent call last):\n"
_FROM_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"
_OURS = str(Path(__file__).parent.parent / "_")[:-1]
_LIBRARY = str(Path(os.__file__).parent / "_")[:-1]
_INSTALLED = ("/site-packages/", "/dist-packages/")
_SAY_MORE = (SyntaxError, NameError, AttributeError, ImportError)
_UNNAMED = ("builtins", "__main__")
_known: set[str] = set()
"""Files that were asked for already."""


def message_of(error: BaseException) -> str:
    """Return what *error* says, its beginning where it says very much."""
    return str(error)[:_LONGEST_MESSAGE]


def traceback_of(error: BaseException) -> str:
    """Return the traceback of *error* and of what it came from as text, its end kept where it is very long."""
    told = [_alone(error)]
    seen = {id(error)}
    origin, link = _origin(error)
    while origin is not None and id(origin) not in seen:
        seen.add(id(origin))
        told += (link, _alone(origin))
        origin, link = _origin(origin)
    return "".join(reversed(told))[-_LONGEST_TRACEBACK:]


def users_own(frames: Sequence[traceback.FrameSummary]) -> list[str]:
    """Return *frames*, the outermost first, as text; those of this package that lead to the user's own code only counted.

    What that code calls is shown, ours too. Where none of it is among them the fault may be ours, and all are shown;
    likewise where somebody else begins, who called us.
    """
    first = next((number for number, frame in enumerate(frames) if _is_users(frame.filename)), 0)
    if not (first and frames[0].filename.startswith(_OURS)):
        return traceback.StackSummary.from_list(frames).format()
    counted = "1 frame" if first == 1 else f"{first:,} frames"
    return [f"  [{counted} of antiphon left out]\n", *traceback.StackSummary.from_list(frames[first:]).format()]


def _is_users(file: str) -> bool:
    """Say whether code in *file* is the user's own: not ours, the interpreter's, or an installed package's."""
    return not (file.startswith((_OURS, _LIBRARY, "<frozen ")) or any(part in file for part in _INSTALLED))


def _origin(error: BaseException) -> tuple[BaseException | None, str]:
    if error.__cause__ is not None:
        return error.__cause__, _FROM_CAUSE
    return (None if error.__suppress_context__ else error.__context__), _DURING


def _alone(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _group(cast("BaseExceptionGroup[BaseException]", error))
    said = _said(error)
    places = _places(error.__traceback__)
    return f"{_HEADING}{_lines(places)}{said}" if places else said


def _said(error: BaseException) -> str:
    """Return the line, or the lines, that the interpreter ends a traceback with."""
    kind = type(error)
    # Of most there is no more to say; of the others, what they were looking for, where, or what was noted.
    if issubclass(kind, _SAY_MORE) or getattr(error, "__notes__", None) is not None:
        return "".join(traceback.format_exception_only(error))
    name = kind.__qualname__ if kind.__module__ in _UNNAMED else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:
        return "".join(traceback.format_exception_only(error))
    return f"{name}: {message}\n" if message else f"{name}\n"


def _group(error: BaseExceptionGroup[BaseException]) -> str:
    told = traceback.TracebackException.from_exception(error, compact=True)
    _shorten(told)
    return "".join(told.format(chain=False))


class _UsersOwn(traceback.StackSummary):
    def format(self) -> list[str]:
        return users_own(self)


def _shorten(told: traceback.TracebackException | None) -> None:
    if told is not None:
        for frame in told.stack:
            frame.colno = frame.end_colno = None
        told.stack = _UsersOwn(told.stack)
        for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
            _shorten(other)


def _places(at: TracebackType | None) -> tuple[tuple[str, int, str], ...]:
    places: list[tuple[str, int, str]] = []
    for frame, line in traceback.walk_tb(at):
        code = frame.f_code
        if code.co_filename not in _known:
            # For programs whose files are not files: what is in an archive is found by its module.
            linecache.lazycache(code.co_filename, frame.f_globals)
            _known.add(code.co_filename)
        places.append((code.co_filename, line, code.co_name))
    return tuple(places)


@functools.lru_cache(_PLACES)
def _lines(places: tuple[tuple[str, int, str], ...]) -> str:
    return "".join(users_own([traceback.FrameSummary(*place) for place in places]))
