"""What log lines hold, whether a person looks on or not."""

from __future__ import annotations

import json
import logging
import sys
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


def _fail() -> None:
    card = "-".join(["4111", *["1111"] * 3])

    def handler(card: str) -> None:
        raise ValueError(f"expected a card, got \x1b[31mone of {len(card)} digits")

    try:
        handler(card)
    except ValueError as error:
        logging.getLogger("antiphon").warning("handler failed; will retry", exc_info=error)


def test_a_traceback_holds_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """An event in a handler's variables may be somebody's secret: the lines of the program are told, not what stood in them."""
    logs.configure(verbose=False)
    _fail()

    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "handler failed; will retry"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert ", in handler\n" in line["exception"]
    assert line["exception"].endswith("ValueError: expected a card, got \x1b[31mone of 19 digits\n")
    assert "4111" not in json.dumps(line)


def _no_color(_: object) -> bool:
    return False


def test_nor_does_one_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same text there, below its line, and steers nothing."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(logs, "wants_color", _no_color)
    logs.configure(verbose=False)
    _fail()

    line, heading, *frames, said = capsys.readouterr().err.splitlines()
    assert "handler failed; will retry" in line
    assert heading == "Traceback (most recent call last):"
    assert [frame.strip().partition(", in ")[2] or frame.strip() for frame in frames] == [
        "_fail",
        "handler(card)",
        "handler",
        r'raise ValueError(f"expected a card, got \x1b[31mone of {len(card)} digits")',
    ]
    assert said == r"ValueError: expected a card, got \x1b[31mone of 19 digits"
