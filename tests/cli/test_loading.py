"""What a command says about a module it cannot take agents from. `topology` loads modules and needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Antiphon

TWO = """\
from antiphon import Agent, Event


class OrderPlaced(Event):
    order_id: str


class StockReserved(Event):
    order_id: str


stock = Agent("stock", version="1.2.0")
billing = Agent("billing")


@stock.on(OrderPlaced)
async def reserve(order: OrderPlaced) -> StockReserved:
    return StockReserved(order_id=order.order_id)


@billing.on(StockReserved)
async def charge(reserved: StockReserved) -> None: ...
"""


def agents(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("orders", ["stock", "billing"]),
        ("orders.py", ["stock", "billing"]),
        ("./orders.py", ["stock", "billing"]),
        ("orders:billing", ["billing"]),
        ("orders.py:stock", ["stock"]),
    ],
)
def test_agents_are_named_by_module_or_file(antiphon: Antiphon, folder: Path, target: str, found: list[str]) -> None:
    """A bare module means all of its agents, in the order of the file."""
    (folder / "orders.py").write_text(TWO)

    code, out, err = antiphon("topology", target)

    assert (code, agents(out), err) == (0, found, "")


def test_a_decorated_function_is_an_agent(antiphon: Antiphon, support: Path) -> None:
    """By its own name."""
    assert antiphon("topology", "support:triage") == (
        0,
        "triage 0\n  hears  ticket.opened\n  says   ticket.triaged\n",
        "",
    )


def test_an_agent_named_twice_runs_once(antiphon: Antiphon, support: Path) -> None:
    """By its module and by its own name, say."""
    assert agents(antiphon("topology", "support", "support:triage").out) == ["triage"]


def test_a_file_in_a_package_may_import_its_neighbours(antiphon: Antiphon, folder: Path, support: Path) -> None:
    """As it does when the package is imported."""
    package = folder / "desk"
    package.mkdir()
    (package / "__init__.py").touch()
    support.rename(package / "events.py")
    (package / "agents.py").write_text("from .events import triage\n")

    assert agents(antiphon("topology", "desk/agents.py").out) == ["triage"]
    assert agents(antiphon("topology", "desk.agents").out) == ["triage"]


def test_a_file_may_be_called_as_a_module_is(antiphon: Antiphon, support: Path) -> None:
    """`json.py` is a fine name for a file, until it is imported as json."""
    support.rename(support.with_name("json.py"))

    assert agents(antiphon("topology", "json.py").out) == ["triage"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("suport", "error: no module 'suport' in {here} or among the installed ones\n  did you mean support?\n"),
        ("suport.py", "error: no file 'suport.py'\n  did you mean support.py?\n"),
        ("support:trige", "error: no agent 'trige' in support.py\n  did you mean triage?\n"),
        ("support:x", "error: no agent 'x' in support.py\n  agents here: triage\n"),
        (":triage", "error: expected MODULE, MODULE:AGENT or FILE.py, got nothing before the colon\n"),
    ],
)
def test_a_wrong_name_suggests_a_near_one(
    antiphon: Antiphon, support: Path, folder: Path, target: str, said: str
) -> None:
    """Unknown names are usually slips."""
    assert antiphon("topology", target) == (2, "", said.format(here=folder))


def test_a_file_without_agents_says_how_to_make_one(antiphon: Antiphon, folder: Path) -> None:
    """A forgotten decorator, mostly."""
    (folder / "empty.py").write_text("async def triage(): ...\n")

    assert antiphon("topology", "empty") == (
        2,
        "",
        "error: expected agents in empty.py, got none\n"
        "  put @agent above an async function whose argument is an event, or make an Agent(...)\n",
    )


def test_two_agents_of_one_name_are_refused(antiphon: Antiphon, support: Path) -> None:
    """They would steal each other's events."""
    support.with_name("other.py").write_text(support.read_text())

    code, _, err = antiphon("topology", "support", "other")

    assert code == 2
    assert err.startswith("error: expected one agent named 'triage', got two\n")


def test_an_error_in_the_users_module_is_shown_as_python_shows_it(antiphon: Antiphon, folder: Path) -> None:
    """Shortened to the user's own files: how we import is nobody's business."""
    (folder / "prices.py").write_text("def total():\n    return 1 / 0\n")
    (folder / "shop.py").write_text("import prices\n\nprices.total()\n")

    code, out, err = antiphon("topology", "shop")

    assert (code, out) == (2, "")
    # Python 3.13 marks the place inside the line as well.
    assert re.sub(r"\n +[~^]+", "", err) == (
        "error: shop cannot be imported\n"
        f'    File "{folder}/shop.py", line 3, in <module>\n'
        "      prices.total()\n"
        f'    File "{folder}/prices.py", line 2, in total\n'
        "      return 1 / 0\n"
        "  ZeroDivisionError: division by zero\n"
    )


def test_a_syntax_error_shows_its_place(antiphon: Antiphon, folder: Path) -> None:
    """Python's own words, without our frames."""
    (folder / "shop.py").write_text("x = (\n")

    code, _, err = antiphon("topology", "shop.py")

    assert code == 2
    assert err == (
        "error: shop.py cannot be imported\n"
        f'    File "{folder}/shop.py", line 1\n'
        "      x = (\n"
        "          ^\n"
        "  SyntaxError: '(' was never closed\n"
    )


def test_a_missing_import_says_what_to_install(antiphon: Antiphon, folder: Path) -> None:
    """... and where."""
    (folder / "shop.py").write_text("import nosuchthing\n")

    code, _, err = antiphon("topology", "shop")

    assert code == 2
    assert "ModuleNotFoundError: No module named 'nosuchthing'\n  install what provides nosuchthing into" in err


@pytest.mark.parametrize(
    ("source", "place", "said"),
    [
        (
            'from antiphon import Agent\n\nstock = Agent("my stock")\n',
            "shop.py, line 3",
            "expected a name of letters, digits",
        ),
        (
            "from antiphon import agent\n\n@agent\nasync def triage(ticket: int) -> None: ...\n",
            "shop.py, line",
            "expected parameter 'ticket' to be an Event class",
        ),
    ],
)
def test_what_is_refused_at_import_names_file_and_line(
    antiphon: Antiphon, folder: Path, source: str, place: str, said: str
) -> None:
    """An agent's name that is no topic's, a handler that hears nothing."""
    (folder / "shop.py").write_text(source)

    code, out, err = antiphon("topology", "shop")

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {place}")
    assert said in err


def test_a_type_that_avro_cannot_say_names_class_and_field(antiphon: Antiphon, folder: Path) -> None:
    """Refused when the class is made, with the user's line."""
    (folder / "shop.py").write_text("from antiphon import Event\n\n\nclass Sold(Event):\n    what: object\n")

    code, _, err = antiphon("topology", "shop")

    assert code == 2
    assert err.startswith("error: Sold.what: expected a type that Avro can say, got object")
    assert "at shop.py, line 4" in err
