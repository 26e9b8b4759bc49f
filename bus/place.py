"""Where in the user's code something stands, for what is refused there."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import NamedTuple


class Place(NamedTuple):
    """Where in the user's code something stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def frame_outside(file: str) -> FrameType:
    """Return the innermost frame on the stack that called into *file*: where what it makes is being defined."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename in (__file__, file) and frame.f_back is not None:
        frame = frame.f_back
    assert frame is not None, "CPython has frames"  # noqa: S101 - for the type checker
    return frame


def place_of_frame(frame: FrameType) -> Place:
    """Return the line that *frame* is at."""
    return Place(frame.f_code.co_filename, frame.f_lineno)
