"""What can be wrong with running something again.

    ReplayError                 the common base
    ├── ConditionError          a condition on events' data that cannot be read
    ├── LetterGoneError         a letter lacks a part of its event, and the event is gone
    └── LetterEditError         an edited event does not fit its schema, or cannot be read at all

None of them comes after something was written.
"""

from __future__ import annotations

from collections.abc import Sequence


class ReplayError(Exception):
    """Base of everything that goes wrong in running again."""


class ConditionError(ReplayError):
    """A condition on events' data cannot be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(
            f"expected a field, a comparison (= != < <= > >= ~) and a value, got {text!r}. "
            "For example: amount>100, customer.country=DE, body~refund"
        )


class LetterGoneError(ReplayError):
    """A letter lacks a part of its event, which was too large for it, and the event is gone from where it stood."""

    def __init__(self, place: str, left_out: Sequence[str], origin: str) -> None:
        self.place = place
        self.left_out = tuple(left_out)
        self.origin = origin
        super().__init__(
            f"expected the {' and the '.join(left_out)} of the event in {place} at {origin}, as they did not fit into the "
            "letter; got nothing there any more. Publish the event again from its source, and discard the letter"
        )


class LetterEditError(ReplayError):
    """An edited event cannot go back: its data does not fit its schema, or could not be read to begin with."""

    def __init__(self, place: str, problems: Sequence[str], remedy: str) -> None:
        self.place = place
        self.problems = tuple(problems)
        self.remedy = remedy
        super().__init__("\n".join([f"the letter {place} stays: its event does not fit", *problems, remedy]))
