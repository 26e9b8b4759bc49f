"""`antiphon topology`: who says what to whom, and what looks wrong about it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from antiphon.cli.topology import AgentNode, Finding, Kind, lint
from tests.cli.conftest import Antiphon


def node(name: str, *, hears: str = "", says: str = "", undoes: str = "", fails: str = "") -> AgentNode:
    return AgentNode(
        agent=name,
        version="0",
        hears={type: type for type in hears.split()},
        says={type: type for type in says.split()},
        undoes=frozenset(undoes.split()),
        fails=frozenset(fails.split()),
    )


def kinds(*agents: AgentNode) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.about) for finding in lint(agents)]


COORDINATOR = node("compensation", hears="antiphon.activity.recorded")


def test_a_chain_begins_and_ends_somewhere() -> None:
    """Notes, not warnings: every mesh has a beginning and an end."""
    assert kinds(node("a", hears="x", says="y"), node("b", hears="y", says="z")) == [
        (Kind.DEAD_SUBSCRIPTION, "x"),
        (Kind.ORPHAN_EVENT, "z"),
    ]


def test_a_cycle_is_found_once() -> None:
    """However many events it goes through."""
    circle = [node("a", hears="x", says="y"), node("b", hears="y", says="z"), node("c", hears="z", says="x")]

    assert kinds(*circle) == [(Kind.CYCLE, "x")]


def test_what_a_failure_leaves_behind_is_found() -> None:
    """Reserve undoes, charge does not, and shipping can fail after both."""
    mesh = [
        node("stock", hears="order.placed", says="stock.reserved", undoes="stock.reserved"),
        node("card", hears="stock.reserved", says="card.charged"),
        node("parcel", hears="card.charged", says="parcel.lost", fails="parcel.lost"),
    ]

    assert (Kind.MISSING_COMPENSATION, "card.charged") in kinds(*mesh, COORDINATOR)
    assert (Kind.NO_COORDINATOR, "stock") not in kinds(*mesh, COORDINATOR)


def test_undoing_without_a_coordinator_is_found() -> None:
    """Nobody would ask."""
    [found] = [
        found for found in lint([node("a", hears="x", says="y", undoes="y")]) if found.kind is Kind.NO_COORDINATOR
    ]

    assert found == Finding(
        Kind.NO_COORDINATOR,
        "a",
        "a can undo, but nobody asks them to",
        "run the coordinator: antiphon run compensation",
    )


def test_two_topics_for_one_type_are_found() -> None:
    """The hearer would wait for ever."""
    mesh = [node("a", hears="x", says="y"), AgentNode(agent="b", version="0", hears={"y": "elsewhere"}, says={})]

    assert kinds(*mesh)[0] == (Kind.TOPIC_CONFLICT, "y")


def test_the_document_has_agents_events_and_findings(antiphon: Antiphon, support: Path) -> None:
    """One shape, from code or from what runs."""
    code, out, _ = antiphon("topology", "support", "--json")

    assert code == 0
    assert orjson.loads(out) == {
        "agents": [
            {
                "agent": "triage",
                "version": "0",
                "hears": ["ticket.opened"],
                "says": ["ticket.triaged"],
                "undoes": [],
                "joins": [],
            }
        ],
        "events": [
            {"type": "ticket.opened", "topic": "ticket.opened", "said_by": [], "heard_by": ["triage"], "fails": False},
            {
                "type": "ticket.triaged",
                "topic": "ticket.triaged",
                "said_by": ["triage"],
                "heard_by": [],
                "fails": False,
            },
        ],
        "findings": [
            {
                "kind": "dead_subscription",
                "about": "ticket.opened",
                "message": "triage hears ticket.opened, which no agent here says",
                "remedy": "fine if an application publishes it",
            },
            {
                "kind": "orphan_event",
                "about": "ticket.triaged",
                "message": "triage says ticket.triaged, which no agent here hears",
                "remedy": "fine if it is where workflows end",
            },
        ],
    }


@pytest.mark.parametrize(("says", "code"), [("ticket.triaged", 0), ("ticket.opened", 1)])
def test_lint_answers_with_its_exit_code(antiphon: Antiphon, support: Path, says: str, code: int) -> None:
    """Notes are fine; a cycle is not."""
    if says == "ticket.opened":
        support.write_text(support.read_text().replace("-> TicketTriaged", "-> TicketOpened"))

    assert antiphon("topology", "support", "--lint").code == code


def test_a_diagram_for_a_page(antiphon: Antiphon, support: Path) -> None:
    """Mermaid, as GitHub draws it."""
    assert antiphon("topology", "support", "--mermaid").out == (
        "flowchart LR\n"
        '    e0(["ticket.opened"])\n'
        '    e1(["ticket.triaged"])\n'
        '    a0["triage"]\n'
        "    e0 --> a0\n"
        "    a0 --> e1\n"
    )
