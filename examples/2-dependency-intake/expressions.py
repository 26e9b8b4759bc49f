"""Reading SPDX licence expressions: which licences they name, and what AND and OR make of a verdict on each."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from license_expression import AND, OR, ExpressionError, get_spdx_licensing  # pyright: ignore[reportMissingTypeStubs]

SPDX: Any = get_spdx_licensing()

V = TypeVar("V", bound=int | tuple[int, str])


def licences_in(expression: str) -> frozenset[str]:
    """Return the SPDX ids that *expression* names; none where it is no expression.

    >>> sorted(licences_in("MPL-2.0 AND (apache-2.0 OR MIT)"))
    ['Apache-2.0', 'MIT', 'MPL-2.0']
    >>> licences_in("BSD or so, see AND")
    frozenset()
    """
    parsed = _parse(expression)
    return frozenset() if parsed is None else frozenset(str(symbol) for symbol in parsed.symbols)


def names_text(expression: str, licence: str) -> bool:
    """Say whether the text of *licence* is one that *expression* names.

    '-only' and '-or-later' have one text: which holds is said outside of it.

    >>> names_text("GPL-2.0-or-later OR MIT", "GPL-2.0")
    True
    """
    return _text_of(licence) in map(_text_of, licences_in(expression))


def weigh(expression: str, judge: Callable[[str], V]) -> V | None:
    """Judge each licence of *expression*: of an AND the greatest counts, of an OR the least. None: no expression.

    >>> weigh("A AND (B OR C)", {"A": 1, "B": 2, "C": 0}.__getitem__)
    1
    """
    parsed = _parse(expression)
    return None if parsed is None else _weigh(parsed, judge)


def _weigh(parsed: Any, judge: Callable[[str], V]) -> V:
    parts: tuple[Any, ...] = getattr(parsed, "args", ())
    match parsed:
        case AND():
            return max(_weigh(part, judge) for part in parts)
        case OR():
            return min(_weigh(part, judge) for part in parts)
        case _:
            return judge(str(parsed))


@cache
def _parse(expression: str) -> Any:
    try:
        return SPDX.parse(expression)
    except ExpressionError:
        return None


def _text_of(licence: str) -> str:
    return licence.split(" WITH ", maxsplit=1)[0].removesuffix("+").removesuffix("-only").removesuffix("-or-later")
