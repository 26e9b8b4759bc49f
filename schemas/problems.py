"""What is wrong with somebody's data, told field by field: what was expected, and what came."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

_SHOWN = 80
"""Characters of a value that a message shows."""


def problems_of(error: ValidationError) -> list[str]:
    """Return a line for each field that pydantic found wrong.

    >>> from pydantic import BaseModel, Field
    >>> class Order(BaseModel):
    ...     total: int = Field(ge=0)
    >>> try:
    ...     Order(total=-1)
    ... except ValidationError as wrong:
    ...     problems_of(wrong)
    ["field 'total': expected input greater than or equal to 0, got -1"]
    """
    return [problem(found["loc"], found["type"], found["msg"], found["input"]) for found in error.errors()]


def problem(place: tuple[int | str, ...], kind: str, message: str, got: Any) -> str:
    """Write one of pydantic's findings in our words."""
    field = field_name(place)
    if kind == "missing":
        return f"field {field!r}: expected a value, got none"
    if kind == "extra_forbidden":
        return f"field {field!r}: expected no such field, got {shown(got)}"
    wanted = message.removeprefix("Input should be ").removeprefix("Value error, ").removeprefix("a valid ")
    if not message.startswith("Input should be"):
        return f"field {field!r}: {wanted}, got {shown(got)}" if field else f"{wanted}, got {shown(got)}"
    wanted = f"input {wanted}" if wanted.startswith(("greater", "less")) else wanted
    return f"field {field!r}: expected {wanted}, got {shown(got)}" if field else f"expected {wanted}, got {shown(got)}"


def field_name(place: tuple[int | str, ...]) -> str:
    """Write a place in data as a path.

    >>> field_name(("items", 2, "price"))
    'items[2].price'
    """
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: Any) -> str:
    """Write a value as it came, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
