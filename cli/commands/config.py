"""`antiphon config`: each setting, and where it comes from."""

from __future__ import annotations

from typing import cast

from antiphon.bus import settings
from antiphon.cli import output
from antiphon.cli.options import given


def config() -> None:
    """Show each setting and where it comes from. Secrets are masked.

    A flag wins over ANTIPHON_* in the environment, that over .env, that over
    [tool.antiphon] in pyproject.toml, and that over the default.

    Example:
      antiphon config
      ANTIPHON_NAMESPACE=staging antiphon config --json
    """
    entries = settings.explain(given().settings())
    if given().json:
        output.document(
            {entry.name: {"value": entry.value, "from": entry.origin} for entry in entries},
        )
    else:
        shown = [(entry.name, _text(entry.value), entry.origin) for entry in entries]
        for line in output.columns([("setting", "value", "from"), *shown]):
            output.result(line)
    for name, meant in settings.strangers().items():
        output.remark(f"warning: {name} names no setting" + (f"; did you mean {meant}?" if meant else ""))


def _text(value: object) -> str:
    match value:
        case None | "" | ():
            return "-"
        case True | False:
            return str(value).lower()
        case tuple():
            return output.inert(", ".join(map(str, cast("tuple[object, ...]", value))))
        case _:
            return output.inert(str(value))
