"""The Dockerfile, checked as far as that goes without Docker: what it names is there, and its health check works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from licences import lines

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


def said(word: str) -> list[str]:
    """Return what every instruction *word* says."""
    return [line.removeprefix(word).strip() for line in DOCKERFILE.splitlines() if line.startswith(f"{word} ")]


def test_it_stands_on_versions() -> None:
    """Every base is a tag with all its numbers, or a stage of its own."""
    bases = [line.split() for line in said("FROM")]
    stages = {words[2] for words in bases}
    assert [words[0] for words in bases if words[0] not in stages if not re.search(r":\d+\.\d+\.\d+-", words[0])] == []


def test_what_it_copies_is_there_and_is_let_through() -> None:
    """By .dockerignore, which lets nothing through that it does not name."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    through = [line.removeprefix("!").removesuffix("*.txt").rstrip("/") for line in ignore if line.startswith("!")]
    copied = [
        place for line in said("COPY") if not line.startswith("--from") for place in line.split()[:-1] if place != "."
    ]
    assert copied
    assert [place for place in [*copied, *through] if not (ROOT / place).exists()] == []
    assert [place for place in copied if not any(place.startswith(one) for one in through)] == []


def test_whoever_builds_the_wheel_finds_what_it_holds() -> None:
    """The packages of the wheel are let through."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"}
    assert {f"!{name}" for name in packages} <= {*ignore}


def test_antiphon_is_process_1_and_not_root() -> None:
    """Without a shell around it, which would keep SIGTERM to itself."""
    assert (said("ENTRYPOINT"), said("USER"), said("STOPSIGNAL")) == (['["antiphon"]'], ["10001:10001"], ["SIGTERM"])


@contextmanager
def answering(status: int) -> Generator[int]:
    """Answer every question with *status*, as a worker that is ready or not does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_its_health_check_asks_whether_it_is_ready(status: int, healthy: bool) -> None:
    """The very command that the image runs."""
    [check] = said("HEALTHCHECK")
    python, *words = json.loads(check.partition(" CMD ")[2])
    assert python == "python"
    with answering(status) as port:
        environment = {**os.environ, "ANTIPHON_METRICS_PORT": str(port)}
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, check=False)
    assert (done.returncode == 0) is healthy


@pytest.mark.parametrize("name", ["image", "demo"])
def test_an_image_holds_what_was_tested(name: str) -> None:
    """Its pins are among those that the tests ran with, each with its hash."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    pins = {*PIN.findall(text)}
    assert pins
    assert pins - {*PIN.findall((ROOT / "requirements/dev.txt").read_text())} == set()
    assert text.count("--hash=") >= len(pins)


def test_licences_are_listed_from_the_bill_of_materials() -> None:
    """A component that says none is listed too."""
    components = [
        {"name": "b", "version": "1", "licenses": [{"license": {"id": "MIT"}}, {"license": {"name": "MIT"}}]},
        {"name": "a", "version": "2", "licenses": [{"expression": "MIT OR Apache-2.0"}]},
        {"name": "c"},
    ]
    assert lines({"components": components}) == ["a 2  MIT OR Apache-2.0", "b 1  MIT", "c   unknown"]
