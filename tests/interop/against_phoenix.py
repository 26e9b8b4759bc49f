"""Run the demo, have a tracer export it to Arize Phoenix, and read back from there that every workflow is one trace of the right shape.

`make interop`. Phoenix is somebody else's receiver: it takes OTLP, keeps spans in a
database of its own, and answers by its own API. It runs on this machine, in an environment of its
own (tests/interop/phoenix.txt), which is made the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from antiphon.bus.kafka.embedded import EmbeddedBroker
from antiphon.bus.names import Names
from antiphon.schemas.envelope import format_time
from antiphon.tracing import Index, Search
from antiphon.tracing.spans.making import spans_of
from antiphon.tracing.spans.span import Span

HERE = Path(__file__).parent
PINS, FOLDER = HERE / "phoenix.txt", HERE.parent.parent / ".interop"
NAMESPACE = "interop"
STARTS_WITHIN_S = 180.0
ENDS_WITHIN_S = 300.0
PAGE = 1_000


def interpreter() -> Path:
    """Return the Python that has Phoenix, installed where it is not yet."""
    python, made_from = FOLDER / "bin/python", FOLDER / "made-from.txt"
    pins = PINS.read_text()
    if not (python.exists() and made_from.exists() and made_from.read_text() == pins):
        say("installing Phoenix (once, a minute or two) ...")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"]
        subprocess.run([*pip, "--require-hashes", "--no-deps", "--requirement", str(PINS)], check=True)
        made_from.write_text(pins)
    return python


@contextlib.contextmanager
def started(name: str, command: list[str], log: Path, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    """Run *command* for the length of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
        try:
            yield process
            if process.poll() not in (None, 0):
                sys.exit(f"{name} ended with {process.returncode}:\n{last_words(log)}")
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def asked(url: str) -> Any:
    """What Phoenix answers; None while it does not."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return orjson.loads(response.read() or b"null") if "/v1/" in url else response.status
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def spans_at(url: str) -> list[dict[str, Any]]:
    """Every span that Phoenix has."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = asked(f"{url}/v1/projects/default/spans?limit={PAGE}{cursor}")
        if page is None:
            return found
        found += page["data"]
        if not page.get("next_cursor"):
            return found
        cursor = f"&cursor={page['next_cursor']}"


def expected(index: Path) -> dict[str, Span]:
    """The spans of every workflow in the index, by id."""
    with Index.opened(index) as opened:
        ids = [one.correlation_id for one in opened.workflows(Search())]
        workflows = [workflow for id in ids if (workflow := opened.workflow(id)) is not None]
    return {span.id: span for workflow in workflows for span in spans_of(workflow, names=Names(NAMESPACE))}


def differences(wanted: Mapping[str, Span], got: list[dict[str, Any]]) -> list[str]:
    """What is not there as it was sent, and what is there and was not."""
    found: list[str] = []
    by_id = {one["context"]["span_id"]: one for one in got}
    if len(by_id) != len(got):
        found.append(f"{len(got) - len(by_id)} spans are there twice")
    found += [f"{by_id[id]['name']} was not sent" for id in by_id.keys() - wanted.keys()]
    for id, span in wanted.items():
        one = by_id.get(id)
        if one is None:
            found.append(f"{span.name} is not there")
            continue
        status = "UNSET" if span.error is None else "ERROR"
        sent = (span.name, span.parent, span.context.trace_id, status, format_time(span.end_us)[:-1])
        ended = datetime.fromisoformat(one["end_time"]).strftime("%Y-%m-%dT%H:%M:%S.%f")
        told = (one["name"], one["parent_id"], one["context"]["trace_id"], one["status_code"], ended)
        lacking = {name for name in span.attributes if name not in one["attributes"]}
        if told != sent or lacking:
            found.append(
                f"{span.name}: expected {sent[1:]}, got {told[1:]}, without {', '.join(sorted(lacking)) or '-'}"
            )
    traces: defaultdict[str, set[str | None]] = defaultdict(set)
    for one in got:
        traces[one["context"]["trace_id"]].add(one["parent_id"])
    found += [f"trace {trace} has no root" for trace, parents in traces.items() if None not in parents]
    return found


async def main() -> None:
    python = interpreter()
    with tempfile.TemporaryDirectory(prefix="antiphon-interop-") as name:
        folder, port, begun = Path(name), free_port(), time.monotonic()
        url = f"http://127.0.0.1:{port}"
        environment = {
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        protocol = os.environ.get("INTEROP_PROTOCOL", "http/protobuf")
        to = url if protocol == "http/protobuf" else f"http://127.0.0.1:{environment['PHOENIX_GRPC_PORT']}"
        say("starting Phoenix, and a broker ...")
        serve = [str(python), "-m", "phoenix.server.main", "serve"]
        with started("Phoenix", serve, folder / "phoenix.log", **environment) as phoenix:
            async with EmbeddedBroker() as broker:
                await until(lambda: asked(f"{url}/healthz"), phoenix, folder / "phoenix.log", STARTS_WITHIN_S)
                say(f"Phoenix answers after {time.monotonic() - begun:.0f} s; running the demo ...")
                here = [sys.executable, "-m", "antiphon.cli"]
                said = {"ANTIPHON_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "ANTIPHON_NAMESPACE": NAMESPACE}
                index = folder / "index"
                tracer = [*here, "tracer", "run", "--index", str(index), "--otlp", to, "--otlp-protocol", protocol]
                environment = {**said, "OTEL_METRICS_EXPORTER": "none"}
                with started("the tracer", tracer, folder / "tracer.log", **environment) as tracing:
                    demo = [*here, "-b", broker.bootstrap_servers, "-n", NAMESPACE, "--json", "demo"]
                    done = await asyncio.to_thread(subprocess.run, demo, capture_output=True, check=True)
                    packages: list[dict[str, Any]] = orjson.loads(done.stdout)["packages"]
                    roots = {package["correlation_id"].replace("-", "") for package in packages}
                    say(f"{len(packages)} packages; waiting for their traces ...")

                    def all_there() -> bool:
                        there = {one["context"]["trace_id"] for one in spans_at(url) if one["parent_id"] is None}
                        return roots <= there and len(spans_at(url)) >= len(expected(index))

                    await until(all_there, tracing, folder / "tracer.log", ENDS_WITHIN_S)
                wanted, got = expected(index), spans_at(url)
    kinds = Counter(one["name"].partition(" ")[0] for one in got)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    say(f"{len(roots)} workflows, {len(got)} spans by {protocol}: {counted}; {time.monotonic() - begun:.0f} s")
    if found := differences(wanted, got):
        sys.exit("\n".join(["expected what was made of the log, got:", *found[:20]]))
    say("each workflow is one trace, each span where it was made to be, none twice")


async def until(condition: Any, process: subprocess.Popen[bytes], log: Path, within_s: float) -> None:
    """Wait for *condition*, as long as *process* runs."""
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"it did not come to that; {log.name} ends with:\n{last_words(log)}")
        await asyncio.sleep(0.5)


def last_words(log: Path) -> str:
    return log.read_text()[-2_000:]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
