"""The examples that a `--help` shows run; those of run, dev and demo, which go on, have tests of their own."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Antiphon


def examples(antiphon: Antiphon, *command: str) -> list[str]:
    """Return the lines under "Example:" in the help of *command*."""
    lines = iter(antiphon(*command, "--help").out.splitlines())
    for line in lines:
        if line.strip() == "Example:":
            break
    return [line.strip() for line in iter(lambda: next(lines, "").strip(), "")]


@pytest.mark.parametrize("name", ["try", "new", "schema", "config"])
def test_the_examples_run_without_a_broker(
    antiphon: Antiphon, support: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In a folder with support.py."""
    groups = {"schema": ["export", "generate"]}
    shown = [line for leaf in groups.get(name, [""]) for line in examples(antiphon, name, *leaf.split())]

    assert shown
    assert [(line, err) for line in shown if (err := wrong(antiphon, line, monkeypatch))] == []


@pytest.mark.embedded
def test_the_examples_run_on_a_broker(
    antiphon: Antiphon, support: Path, embedded: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a mesh whose agent runs and that has seen a workflow; its id stands for the one that the help shows."""
    for name, value in {"BOOTSTRAP_SERVERS": embedded, "NAMESPACE": namespace, "PARTITIONS": "2"}.items():
        monkeypatch.setenv(f"ANTIPHON_{name}", value)
    (support.parent / "tickets.jsonl").write_text('{"ticket_id": "9", "body": "b"}\n')
    commands = [["topics", "apply"], ["topics", "plan"], ["publish"], ["tail"], ["topology"], ["doctor"], ["trace"]]
    shown = [line for command in commands for line in examples(antiphon, *command) if not _wants_acls(line)]
    worker = subprocess.Popen(
        [sys.executable, "-m", "antiphon.cli", "run", "support"], cwd=support.parent, stderr=subprocess.PIPE
    )
    try:
        assert worker.stderr is not None
        while b'"ready"' not in (said := worker.stderr.readline()):
            assert said
        ticket = '{"ticket_id": "1", "body": "b"}'
        assert antiphon("publish", "ticket.opened", "--data", ticket, "--wait", "ticket.triaged").code == 0
        id = antiphon("tail", "--from-beginning", "--limit", "1", "--json").out[7:43]
        shown = [line.replace("0199f2c1", id) for line in shown]
        assert [(line, err) for line in shown if (err := wrong(antiphon, line, monkeypatch))] == []
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        if worker.stderr is not None:
            worker.stderr.close()


def _wants_acls(line: str) -> bool:
    """Say whether a broker must keep ACLs for it: the embedded one does not, and tests/kafka/test_secured.py has one that does."""
    return "antiphon topics" in line and "--acls" in line


def wrong(antiphon: Antiphon, line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run an example and return what it complained of."""
    words = shlex.split(line)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            variable, _, value = words.pop(0).partition("=")
            patch.setenv(variable, value)
        ran = antiphon(*words[1:])
    return "" if ran.code == 0 else f"{ran.code}: {ran.err}"
