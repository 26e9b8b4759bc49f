"""What log lines hold, where no person looks on."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from antiphon.cli import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_traceback_holds_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """An event in a handler's variables may be somebody's secret: the lines of the program are told, not what stood in them."""
    logs.configure(verbose=False)

    card = "-".join(["4111", *["1111"] * 3])

    def handler(card: str) -> None:
        raise ValueError(f"expected a card, got one of {len(card)} digits")

    try:
        handler(card)
    except ValueError as error:
        logging.getLogger("antiphon").warning("handler failed; will retry", exc_info=error)

    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "handler failed; will retry"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert ", in handler\n" in line["exception"]
    assert line["exception"].endswith("ValueError: expected a card, got one of 19 digits\n")
    assert "4111" not in json.dumps(line)
