"""`antiphon topology`: who says what to whom."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Antiphon


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
            {
                "kind": "unnoticed_agent",
                "about": "triage",
                "message": "nobody hears what triage says, ticket.triaged: where it is down, no workflow fails",
                "remedy": "watch whether it is up, as antiphon doctor does; or have it say something that others wait for",
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


def test_an_asyncapi_document(antiphon: Antiphon, support: Path) -> None:
    """Alone on stdout, and whole."""
    ran = antiphon("topology", "support", "--asyncapi")
    document = orjson.loads(ran.out)
    assert (ran.code, document["asyncapi"], sorted(document["channels"])) == (
        0,
        "3.0.0",
        ["ticket.opened", "ticket.triaged"],
    )
    assert antiphon("topology", "support", "--asyncapi", "--lint").code == 2
