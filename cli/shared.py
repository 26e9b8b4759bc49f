"""Options that several commands have alike: declared once, by a function that makes one value of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

_BY_NAME = inspect.Parameter.KEYWORD_ONLY


def taking(*makes: Callable[..., object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that *makes* have as parameters, and its first parameters what they make of them.

    The command's own options stand behind those. Where a make raises, the command is not called.

    >>> def span(*, first: int, last: int = 9) -> range:
    ...     return range(first, last + 1)
    >>> @taking(span)
    ... def show(numbers: range, *, backwards: bool = False) -> None:
    ...     print([*reversed(numbers)] if backwards else [*numbers])
    >>> inspect.signature(show)
    <Signature (*, first: int, last: int = 9, backwards: bool = False) -> None>
    >>> show(first=7, last=9, backwards=True)
    [9, 8, 7]
    """
    signatures = [inspect.signature(make, eval_str=True) for make in makes]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**said: Any) -> None:
            made = [
                make(**{name: said.pop(name) for name in signature.parameters if name in said})
                for make, signature in zip(makes, signatures, strict=True)
            ]
            command(*made, **said)

        whole = inspect.signature(command, eval_str=True)
        own = [*whole.parameters.values()][len(makes) :]
        shared = [parameter for signature in signatures for parameter in signature.parameters.values()]
        # Arguments stand before options in a signature, whoever declared them.
        parameters = sorted([*shared, *own], key=lambda parameter: parameter.kind is _BY_NAME)
        run.__signature__ = whole.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
