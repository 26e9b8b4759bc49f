"""Every block of the documentation does what it shows.

What a fence says decides what is done with its block:

    python      run; one that begins with `# name.py` is written as that file first, and a
                `# test_*.py` is run with pytest. Blocks of a page share their names.
    console     each `$ command` is run and its output compared; ids, times and durations may
                differ, and a line `...` stands for any lines
    sh          not run: its `antiphon` commands, their options and its `make` words must exist
    toml, json, yaml  must parse
    text, avsc  nothing

A comment `<!-- background: antiphon run support:triage -->` starts an embedded broker for the
page, sets ANTIPHON_BOOTSTRAP_SERVERS, and keeps the command running until the page ends.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from sybil import Document
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from antiphon.cli import group, options

ROOT = Path(__file__).parent.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
KINDS = {"python", "console", "sh", "toml", "json", "yaml", "text", "avsc", "mermaid"}
SCRIPTS = Path(sys.executable).parent
SECONDS = 60.0
"""For one command."""


class Block(NamedTuple):
    """A fenced block, or a comment that asks for something in the background."""

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


load: Callable[[str], Any] = group.load  # pyright: ignore[reportUnknownMemberType] - typer's own types
regions: Callable[[Document], Iterable[Any]] = FencedCodeBlockLexer(language=r"[^\n]*")


def blocks(page: Path) -> list[Block]:
    """Return what stands on *page*, in order."""
    text = page.read_text()
    document = Document(text, str(page))
    found: list[tuple[int, str, str]] = [
        (int(region.start), str(region.lexemes["language"]), str(region.lexemes["source"]))
        for region in regions(document)
    ]
    found += [(note.start(), "background", note[1]) for note in re.finditer(r"<!-- background: (.*) -->", text)]
    return [Block(page, text.count("\n", 0, start) + 1, kind, source) for start, kind, source in sorted(found)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a reader would: from the top, in one folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PATH", f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("ANTIPHON_")]:
        monkeypatch.delenv(name)
    with contextlib.ExitStack() as cleanup:
        reader = Reader(page, monkeypatch, cleanup)
        for block in blocks(page):
            reader.read(block)


class Reader:
    """Somebody who tries everything on one page."""

    def __init__(self, page: Path, monkeypatch: pytest.MonkeyPatch, cleanup: contextlib.ExitStack) -> None:
        self._monkeypatch = monkeypatch
        self._cleanup = cleanup
        self._names: dict[str, object] = {}
        cleanup.callback(self._names.clear)
        self._broker = False

    def read(self, block: Block) -> None:
        match block.kind:
            case "python":
                self._python(block)
            case "console":
                for command, expected in commands(block.text):
                    self._console(block, command, expected)
            case "sh":
                for line in block.text.splitlines():
                    assert_exists(line, block)
            case "toml":
                tomllib.loads(block.text)
            case "json":
                json.loads(block.text)
            case "yaml":
                yaml.safe_load(block.text)
            case "background":
                self._background(block.text)
            case kind:
                assert kind in KINDS, f"{block}: expected a fence to say one of {sorted(KINDS)}, got {kind!r}"

    def _python(self, block: Block) -> None:
        file = re.match(r"# (\w+\.py)\n", block.text)
        if file:
            Path(file[1]).write_text(block.text)
            if file[1].startswith("test_"):
                self._console(
                    block, f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -q -p no:cacheprovider {file[1]}", "..."
                )
                return
        module = types.ModuleType(Path(file[1]).stem if file else "page")
        module.__dict__.update(self._names)
        self._monkeypatch.setitem(sys.modules, module.__name__, module)
        # Its functions refer to all that it made, and would keep a client of it until somebody looks for garbage: long after
        # the broker is gone, which the client says on every other test's terminal.
        self._cleanup.callback(module.__dict__.clear)
        # As many empty lines before it as on the page, so that a traceback names the page's own line.
        source = "\n" * block.line + block.text
        code = compile(source, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(types.FunctionType(code, module.__dict__)())
        else:
            exec(code, module.__dict__)
        self._names |= {name: value for name, value in vars(module).items() if not name.startswith("__")}

    def _console(self, block: Block, command: str, expected: str) -> None:
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )
        got = done.stdout + done.stderr
        assert matches(got, expected), (
            f"{block}: $ {command}\n\nexpected:\n{expected}\n\ngot ({done.returncode}):\n{got}"
        )

    def _background(self, command: str) -> None:
        if not self._broker:
            said = self._start("antiphon dev --port 0 --json", until="bootstrap_servers")
            self._monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", json.loads(said)["bootstrap_servers"])
            self._broker = True
        self._start(command, until="ready")

    def _start(self, command: str, *, until: str) -> str:
        """Start *command* and return the first line it prints that has *until* in it."""
        process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._cleanup.callback(end, process)
        lines: list[str] = []
        assert process.stdout is not None
        while line := process.stdout.readline():
            if until in line:
                return line
            lines.append(line)
        raise AssertionError(f"{command}: expected a line with {until!r}, got:\n{''.join(lines)}")


def end(process: subprocess.Popen[str]) -> None:
    """End *process* as a service manager does."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output that is shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, output = part, ""
        head = re.match(r"(?:[^\n]*\\\n)*[^\n]*(?:\n|$)", part)
        if head:
            command, output = head[0], part[head.end() :]
        yield command.strip(), output


def normal(text: str) -> list[str]:
    """Return the lines of *text* without what differs from run to run."""
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", "TIME", text)
    text = re.sub(r"\b\d[\d.,]*\s?(us|µs|ms|s|min)\b", "DURATION", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r" *[▓▒░█]+", "", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def matches(got: str, expected: str) -> bool:
    """Say whether *got* is what is shown; a line `...` there stands for any lines, none included."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in normal(expected)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in normal(got))) is not None


def assert_exists(line: str, block: Block) -> None:
    """Check that what a reader is told to type names commands, options and make's words that exist."""
    words = shlex.split(line, comments=True)
    while words and re.match(r"\w+=", words[0]):
        words.pop(0)
    match words:
        case ["antiphon", *rest]:
            strange = strangers(rest)
            assert not strange, f"{block}: antiphon has no {', '.join(strange)}"
        case ["make", *rest]:
            known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
            strange = [word for word in rest if "=" not in word and word not in known]
            assert not strange, f"{block}: make has no {', '.join(strange)}"
        case _:
            pass


def strangers(words: Iterable[str]) -> list[str]:
    """Return what names neither a command nor an option of it."""
    options.reset()
    flags = {"--help"}
    commands: dict[str, Any] = dict.fromkeys(group.COMMANDS)
    strange: list[str] = []
    depth = 0
    for word in words:
        if word in {"|", ">", "&&"}:
            break
        if word.startswith("-") and len(word) > 1:
            strange += [] if word.split("=")[0] in flags else [word]
        elif depth == 0 and word not in commands:
            return [word]
        elif commands:
            depth += 1
            command: Any = load(word) if depth == 1 else commands.get(word)
            if command is None:
                return [*strange, word]
            commands = getattr(command, "commands", {})
            params: list[Any] = command.params
            flags |= {text for param in params for text in (*param.opts, *param.secondary_opts)}
    return strange


def test_every_page_is_read() -> None:
    """A page outside the two globs would rot unread."""
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    elsewhere = {"examples"}  # run by tests/examples
    pages = {ROOT / name for name in tracked.stdout.split() if Path(name).parts[0] not in elsewhere}
    assert pages <= {*PAGES}


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("took 3.1 s\n", "took 41 ms", True),
        ("id 0199f2c1-0000-7000-8000-000000000000", "id 0199aaaa-0000-7000-8000-000000000001", True),
        ("one\ntwo\nthree", "one\n...", True),
        ("one\nthree", "one\n...\nthree", True),
        ("one\ntwo", "one", False),
        ("partitions: 4", "partitions: 12", False),
    ],
)
def test_only_ids_and_times_may_differ(got: str, expected: str, same: bool) -> None:
    """A comparison that forgives too much shows nothing."""
    assert matches(got, expected) is same
