"""The frame every command stands in: help, options, errors, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.cli import main
from antiphon.cli.group import COMMANDS, load
from tests.cli.conftest import Antiphon


def test_help_lists_every_command_without_importing_any(antiphon: Antiphon) -> None:
    """A Kafka client takes longer to import than the list takes to read."""
    code, out, _ = antiphon("--help")

    assert code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in out] == []


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_command_has_help_with_an_example(antiphon: Antiphon, name: str) -> None:
    """The example is what most people read."""
    code, out, _ = antiphon(name, "--help")

    assert code == 0
    assert f"Example:\n    antiphon {name}" in out
    command = load(name)
    leaves = getattr(command, "commands", {})
    for leaf in leaves:
        assert f"    antiphon {name} {leaf}" in antiphon(name, leaf, "--help").out.partition("Example:")[2]


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name not in ("topics", "schema", "saga", "tracer", "dead", "replay")]
)
def test_every_command_has_the_common_options(antiphon: Antiphon, name: str) -> None:
    """People learn them once."""
    out = antiphon(name, "--help").out

    options = ["-b", "--bootstrap-servers", "--registry", "-n", "--namespace", "--json", "--color", "-v", "--verbose"]
    assert [option for option in options if option not in out] == []


def test_an_unknown_command_suggests_a_near_one(antiphon: Antiphon) -> None:
    """A slip of the finger costs one more try."""
    code, out, err = antiphon("topologi", "x")

    assert (code, out) == (2, "")
    assert err == "error: No such command 'topologi'. Did you mean 'topology'?\n  try: antiphon --help\n"


def test_an_unknown_option_is_wrong_usage(antiphon: Antiphon) -> None:
    """... and where to look is said."""
    code, _, err = antiphon("config", "--jsn")

    assert code == 2
    assert err.startswith("error: No such option: --jsn")
    assert "try: antiphon config --help" in err


def test_common_options_stand_before_or_after_the_command(antiphon: Antiphon) -> None:
    """The last one counts."""
    before = antiphon("-n", "one", "--json", "config").out
    after = antiphon("config", "--json", "-n", "one").out
    both = antiphon("-n", "zero", "--json", "config", "-n", "one").out

    assert before == after == both
    assert '"value": "one"' in both


def test_no_command_prints_the_help(antiphon: Antiphon) -> None:
    """Whoever types the name alone wants to know what there is."""
    assert antiphon() == antiphon("--help")


def test_a_fault_of_ours_keeps_the_traceback_for_the_report(
    antiphon: Antiphon, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A person sees two lines; the report needs the rest. Here it lies where pytest clears up."""

    def broken(_group: object, _argv: list[str]) -> int:
        message = "no such luck"
        raise LookupError(message)

    monkeypatch.setattr(main, "_invoke", broken)
    code, out, err = antiphon("config")

    assert (code, out) == (70, "")
    assert err.startswith("error: LookupError: no such luck\n  this is a fault in antiphon")
    log = Path(err.rpartition("traceback: ")[2].strip())
    assert "in broken" in log.read_text()
    assert log.is_relative_to(tmp_path_factory.getbasetemp())


def test_interrupted_is_quiet(antiphon: Antiphon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C was the user's own wish."""

    def interrupted(_group: object, _argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_invoke", interrupted)

    assert antiphon("config") == (130, "", "")


def test_a_closed_pipe_ends_quietly() -> None:
    """As in `antiphon config | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "antiphon.cli", "config"], stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(writer)

    assert (ended.returncode, ended.stderr) == (0, b"")


def test_the_shell_can_complete_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What typer's completion scripts ask, asked as bash does."""

    def ask(words: str) -> list[str]:
        shell = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_ANTIPHON_COMPLETE": "complete_bash"}
        asked = subprocess.run(
            [sys.executable, "-m", "antiphon.cli"], env=os.environ | shell, capture_output=True, timeout=30, check=False
        )
        return asked.stdout.decode().split()

    assert ask("antiphon to") == ["topology", "topics"]
    assert ask("antiphon config --boot") == ["--bootstrap-servers"]
