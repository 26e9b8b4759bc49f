"""`antiphon schema`: from event classes to Avro schemas, and back."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from antiphon.schemas.avro import canonical_form
from tests.cli.conftest import Antiphon


def test_export_prints_the_schemas_of_an_agents_events(antiphon: Antiphon, support: Path) -> None:
    """What it hears and says, as one array."""
    code, out, err = antiphon("schema", "export", "support")

    assert (code, err) == (0, "")
    assert [schema["antiphon"]["type"] for schema in orjson.loads(out)] == ["ticket.opened", "ticket.triaged"]


def test_a_class_survives_the_way_there_and_back(antiphon: Antiphon, support: Path, folder: Path) -> None:
    """Classes to files, files to classes, and those give the same schemas."""
    exported = antiphon("schema", "export", "support", "--out", "schemas")
    assert exported == (0, "schemas/ticket.opened.avsc\nschemas/ticket.triaged.avsc\n", "")

    code, source, _ = antiphon("schema", "generate", *exported.out.split())
    assert code == 0
    (folder / "generated_events.py").write_text(source)
    support.with_name("again.py").write_text(
        "from antiphon import agent\nfrom generated_events import TicketOpened, TicketTriaged\n\n\n"
        "@agent\nasync def triage(ticket: TicketOpened) -> TicketTriaged: ...\n"
    )

    first = orjson.loads(antiphon("schema", "export", "support").out)
    second = orjson.loads(antiphon("schema", "export", "again").out)
    assert [*map(canonical_form, first)] == [*map(canonical_form, second)]


def test_generate_writes_a_file(antiphon: Antiphon, support: Path, folder: Path) -> None:
    """From an array as `export` prints it, too."""
    (folder / "all.avsc").write_text(antiphon("schema", "export", "support").out)

    assert antiphon("schema", "generate", "all.avsc", "--out", "events.py") == (0, "", "wrote events.py\n")
    assert "class TicketTriaged(Event" in (folder / "events.py").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected JSON in x.avsc, got "),
        ('"string"', 'expected a record schema in x.avsc, got "string"'),
        ('{"type": "enum", "name": "A", "symbols": ["B"]}', "expected a record schema in x.avsc"),
    ],
)
def test_what_is_no_schema_is_refused(antiphon: Antiphon, folder: Path, text: str, said: str) -> None:
    """With what came."""
    (folder / "x.avsc").write_text(text)

    code, out, err = antiphon("schema", "generate", "x.avsc")

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")


def test_a_missing_schema_suggests_a_near_one(antiphon: Antiphon, folder: Path) -> None:
    """Files are mistyped like anything else."""
    (folder / "ticket.opened.avsc").touch()

    assert antiphon("schema", "generate", "ticket.opend.avsc") == (
        2,
        "",
        "error: expected an Avro schema at 'ticket.opend.avsc': No such file or directory\n"
        "  did you mean ticket.opened.avsc?\n",
    )
