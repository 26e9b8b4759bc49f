"""`antiphon try`: a file's agents, in process, without a broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Antiphon

TICKET = '{"ticket_id": "7", "body": "refund?"}'

SAGA = """
from antiphon import Agent, Event, Saga, Step

class OrderPlaced(Event):
    order: str

class ReserveStock(Event):
    order: str

class StockReserved(Event):
    order: str

class ChargeCard(Event):
    order: str

class CardCharged(Event):
    order: str

class CardRefused(Event):
    order: str

def reserve(order: OrderPlaced) -> ReserveStock:
    return ReserveStock(order=order.order)

def charge(reserved: StockReserved) -> ChargeCard:
    return ChargeCard(order=reserved.order)

order = Saga("order", starts=OrderPlaced, steps=[
    Step("stock", action=reserve, done=StockReserved, kind="compensatable"),
    Step("card", action=charge, done=CardCharged, refused=CardRefused, KIND),
])
stock, card = Agent("stock"), Agent("card")

@stock.on(ReserveStock)
async def take(asked: ReserveStock) -> StockReserved:
    return StockReserved(order=asked.order)

@stock.undoes(StockReserved)
async def put_back(reserved: StockReserved) -> None: ...

@card.on(ChargeCard)
async def pay(asked: ChargeCard) -> CardCharged | CardRefused:
    return CardRefused(order=asked.order)
"""

STOCK = """\
from antiphon import Agent, Event, PermanentError, agent


class OrderPlaced(Event):
    order_id: str


class StockReserved(Event):
    order_id: str


class StockReleased(Event):
    order_id: str


class CardDeclined(Event, fails=True):
    order_id: str


stock = Agent("stock")


@stock.on(OrderPlaced)
async def reserve(order: OrderPlaced) -> StockReserved:
    return StockReserved(order_id=order.order_id)


@stock.undoes(StockReserved)
async def release(reserved: StockReserved) -> StockReleased:
    return StockReleased(order_id=reserved.order_id)


@agent
async def card(reserved: StockReserved) -> CardDeclined:
    print("charging")
    return CardDeclined(order_id=reserved.order_id)
"""


def test_the_outcome_is_shown_as_a_tree(antiphon: Antiphon, support: Path) -> None:
    """What a newcomer sees first."""
    code, out, err = antiphon("try", "support.py", "ticket.opened", "--data", TICKET)

    assert (code, err) == (0, "")
    assert out.startswith("ticket.opened")
    assert "completed" in out.splitlines()[0]
    assert "triage" in out
    assert "ticket.triaged" in out


def test_the_workflow_document_is_the_json(antiphon: Antiphon, support: Path) -> None:
    """The shape every other command and the console have."""
    code, out, err = antiphon("try", "support.py", "ticket.opened", "--data", TICKET, "--json")
    document = orjson.loads(out)

    assert (code, err) == (0, "")
    assert document["state"] == "completed"
    assert [(event["type"], event["data"]) for event in document["events"]] == [
        ("ticket.opened", {"ticket_id": "7", "body": "refund?"}),
        ("ticket.triaged", {"ticket_id": "7", "queue": "billing"}),
    ]
    assert [(delivery["agent"], delivery["outcome"]) for delivery in document["deliveries"]] == [
        ("triage", "completed")
    ]


def test_a_file_of_lines_is_a_workflow_each(antiphon: Antiphon, support: Path, folder: Path) -> None:
    """... and a list of documents, in the order of the lines."""
    (folder / "tickets.jsonl").write_text("".join(f'{{"ticket_id": "{n}", "body": "b"}}\n' for n in range(20)))

    code, out, _ = antiphon("try", "support.py", "ticket.opened", "--file", "tickets.jsonl", "--json")
    documents = orjson.loads(out)

    assert code == 0
    assert [document["events"][0]["data"]["ticket_id"] for document in documents] == [str(n) for n in range(20)]
    assert {document["state"] for document in documents} == {"completed"}


def test_a_failed_workflow_is_undone_and_the_answer_is_no(antiphon: Antiphon, folder: Path) -> None:
    """Agents that can undo bring the coordinator with them. What they print is not the answer."""
    (folder / "shop.py").write_text(STOCK)

    code, out, err = antiphon("try", "shop.py", "order.placed", "--data", '{"order_id": "1"}', "--json")
    document = orjson.loads(out)

    assert (code, err) == (1, "charging\n")
    assert document["state"] == "compensated"
    assert "stock.released" in [event["type"] for event in document["events"]]


@pytest.mark.parametrize(
    ("kind", "state", "asked"),
    [("kind='pivot'", "compensated", ["stock.reserved"]), ("optional=True", "completed", [])],
    ids=["all of it", "an optional step"],
)
def test_a_saga_that_failed_ends_when_what_it_condemned_is_undone(
    antiphon: Antiphon, folder: Path, kind: str, state: str, asked: list[str]
) -> None:
    """Nobody is waited for to undo the saga's own word, or what it did not condemn."""
    (folder / "shop.py").write_text(SAGA.replace("KIND", kind))

    _, out, err = antiphon("try", "shop.py", "order.placed", "--data", '{"order": "1"}', "--timeout", "20", "--json")
    document = orjson.loads(out)

    assert (document["state"], err) == (state, "")
    requests = [event["data"] for event in document["events"] if event["type"] == "antiphon.undo.requested"]
    assert [request["event_type"] for request in requests] == asked


def test_a_handler_that_gives_up_shows_why(antiphon: Antiphon, support: Path) -> None:
    """The error, and where in the user's file."""
    support.write_text(
        support.read_text()
        .replace("import Event, agent", "import Event, PermanentError, agent")
        .replace("    return TicketTriaged(", '    raise PermanentError("no such ticket")\n    return TicketTriaged(')
    )

    code, out, _ = antiphon("try", "support.py", "ticket.opened", "--data", TICKET)

    assert code == 1
    assert "failed" in out.splitlines()[0]
    assert "PermanentError: no such ticket" in out
    assert "support.py" in out


def test_an_end_that_does_not_come_is_said(antiphon: Antiphon, support: Path) -> None:
    """The wait is over, the answer is no; the tree shows how far it came."""
    support.write_text(
        "import asyncio\n" + support.read_text().replace("    return ", "    await asyncio.Event().wait()\n    return ")
    )

    code, out, err = antiphon("try", "support.py", "ticket.opened", "--data", TICKET, "--timeout", "0.2")

    assert code == 1
    assert "running" in out.splitlines()[0]
    assert err == "not ended in time: triage still at work; --timeout gives it longer\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["ticket.opned", "--data", TICKET],
            "error: no event type 'ticket.opned' in support.py\n  did you mean ticket.opened?\n",
        ),
        (
            ["TicketOpened", "--data", TICKET],
            "error: no event type 'TicketOpened' in support.py\n"
            "  did you mean ticket.opened, the type of TicketOpened?\n",
        ),
        (
            ["order", "--data", TICKET],
            "error: no event type 'order' in support.py\n  event types here: ticket.opened, ticket.triaged\n",
        ),
        (
            ["ticket.opened"],
            "error: expected --data or --file, got neither\n  --file - reads one JSON object a line from stdin\n",
        ),
        (
            ["ticket.opened", "--data", '{"ticket_id": "7",}'],
            "error: expected JSON in --data, got trailing comma is not allowed at line 1, column 18\n"
            '  {"ticket_id": "7",}\n'
            "                   ^\n",
        ),
        (
            ["ticket.opened", "--data", "{ticket_id: 7}"],
            "error: expected JSON in --data, got unexpected character, expected a string key at line 1, column 2\n"
            "  {ticket_id: 7}\n"
            "   ^\n",
        ),
        (
            ["ticket.opened", "--data", "7"],
            "error: --data does not fit ticket.opened\n"
            "  expected an object, got 7\n"
            '  Write it as {"ticket_id": "text", "body": "text"}.\n',
        ),
        (
            ["ticket.opened", "--data", '{"ticket_id": 7, "boddy": "x"}'],
            "error: --data does not fit ticket.opened\n"
            "  field 'ticket_id': expected string, got 7\n"
            "  field 'body': expected a value, got none\n"
            "  field 'boddy': expected no such field, got 'x'; did you mean 'body'?\n"
            '  It looks like this: {"ticket_id": "text", "body": "text"}.\n',
        ),
    ],
)
def test_what_was_typed_wrongly_is_shown_where_it_stands(
    antiphon: Antiphon, support: Path, arguments: list[str], said: str
) -> None:
    """Expected, got, what to do; never a traceback."""
    assert antiphon("try", "support.py", *arguments) == (2, "", said)


def test_a_wrong_line_of_a_file_is_named(antiphon: Antiphon, support: Path, folder: Path) -> None:
    """Line 2 of many."""
    (folder / "tickets.jsonl").write_text(f'{TICKET}\n{{"ticket_id": "8"\n')

    code, out, err = antiphon("try", "support.py", "ticket.opened", "--file", "tickets.jsonl")

    assert (code, out) == (2, "")
    assert err.startswith("error: expected JSON in tickets.jsonl, line 2, got ")


def test_a_missing_file_is_named(antiphon: Antiphon, support: Path) -> None:
    """... as the system says it."""
    assert antiphon("try", "support.py", "ticket.opened", "--file", "no.jsonl") == (
        2,
        "",
        "error: expected a file of JSON lines at 'no.jsonl': No such file or directory\n",
    )


def test_nothing_is_imported_that_it_does_not_use(support: Path) -> None:
    """A newcomer's first second must not go to clients of brokers that there are not."""
    script = (
        "import sys\n"
        "from antiphon.cli.main import run\n"
        f"code = run(['try', 'support.py', 'ticket.opened', '--data', {TICKET!r}, '--json'])\n"
        "heavy = {'pydantic_settings', 'structlog', 'aiokafka', 'confluent_kafka', 'httpx', 'authlib'}\n"
        "sys.exit(f'{sorted(heavy & sys.modules.keys())}, {code}' if heavy & sys.modules.keys() or code else 0)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=support.parent, capture_output=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
