"""The mesh as an AsyncAPI document, read by AsyncAPI's own parser."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from antiphon import Agent, Event
from antiphon.bus.contracts import Contracts, of_consumers
from antiphon.bus.names import Names
from antiphon.schemas.avro import schema_of
from antiphon.tracing.asyncapi import AVRO, asyncapi

HERE = Path(__file__).parent
PARSER = HERE.parent.parent / "build/asyncapi"
PACKAGES = ("@asyncapi/parser@3.6.6", "@asyncapi/avro-schema-parser@3.1.0")


class CaseOpened(Event, key="case"):
    """Somebody asks."""

    case: str
    lines: list[str] = []


class CaseClosed(Event, topic="cases"):
    case: str


closer = Agent("case-closer", version="1.2")


@closer.on(CaseOpened)
async def close(opened: CaseOpened) -> CaseClosed | None: ...


def described(contracts: Contracts | None = None) -> dict[str, Any]:
    found = contracts or of_consumers([closer.consumer()])
    return asyncapi(found, names=Names("staging"), title="desk", version="1.2")


def test_topics_are_channels_and_agents_say_and_hear() -> None:
    """By the names that the cluster has for topics; an event's schema stands in it whole."""
    document = described()

    assert document["channels"] == {
        "case.opened": {
            "address": "staging.case.opened",
            "messages": {"case.opened": {"$ref": "#/components/messages/case.opened"}},
        },
        "cases": {
            "address": "staging.cases",
            "messages": {"case.closed": {"$ref": "#/components/messages/case.closed"}},
        },
    }
    assert {name: (one["action"], one["channel"]["$ref"]) for name, one in document["operations"].items()} == {
        "case-closer-hears-case.opened": ("receive", "#/channels/case.opened"),
        "case-closer-says-case.closed": ("send", "#/channels/cases"),
    }
    message = document["components"]["messages"]["case.opened"]
    assert message["payload"] == {"schemaFormat": AVRO, "schema": schema_of(CaseOpened)}
    assert (message["summary"], message["bindings"]["kafka"]["key"]["description"]) == (
        "Somebody asks.",
        "The field case.",
    )


@pytest.fixture(scope="session")
def parser() -> Path:
    """Install AsyncAPI's parser below `build/`, once; skip where that cannot be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("AsyncAPI's parser needs node and npm, and there is none")
    PARSER.mkdir(parents=True, exist_ok=True)
    script, whole = PARSER / "asyncapi.mjs", PARSER / "installed"
    # Another process of the tests may want it too, and half of it is none.
    with (PARSER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.is_file():
            shutil.rmtree(PARSER / "node_modules", ignore_errors=True)
            command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={PARSER}"]
            ran = subprocess.run([*command, *PACKAGES], check=False, capture_output=True, text=True, cwd=PARSER)
            if ran.returncode != 0:
                pytest.skip(f"AsyncAPI's parser could not be installed: {ran.stderr.strip()[-200:]}")
            whole.touch()
        shutil.copy(HERE / "asyncapi.mjs", script)
    return script


def judged(parser: Path, document: dict[str, Any]) -> dict[str, list[str]]:
    """Return what the parser says: errors, and the operations that it found."""
    ran = subprocess.run(["node", str(parser)], input=json.dumps(document), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, list[str]] = json.loads(ran.stdout)
    return found


def test_asyncapis_own_parser_takes_the_document(parser: Path) -> None:
    """Without an error, the Avro schemas in it included, and with the operations that were meant."""
    assert judged(parser, described()) == {"errors": [], "operations": ["receive case.opened", "send case.closed"]}


def test_asyncapis_own_parser_would_tell(parser: Path) -> None:
    """A channel that is not there, and Avro that is none, are errors: so the test above can fail."""
    dangling, nonsense = described(), described()
    dangling["operations"]["case-closer-says-case.closed"]["channel"]["$ref"] = "#/channels/nowhere"
    nonsense["components"]["messages"]["case.opened"]["payload"]["schema"] = {"type": "record", "fields": 7}
    assert [bool(judged(parser, document)["errors"]) for document in (dangling, nonsense)] == [True, True]


def test_an_event_of_which_nobody_told_the_schema_is_described_without(parser: Path) -> None:
    """Of a worker of an older release there is a type and a topic."""
    known = of_consumers([closer.consumer()])
    silent = Contracts(known.reads, tuple(dataclasses.replace(one, schema=None) for one in known.writes))
    assert judged(parser, described(silent))["errors"] == []
