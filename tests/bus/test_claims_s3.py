"""Large values in an object store, against a small one on this machine that looks at what the client sends."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from antiphon.agents.agent import agent
from antiphon.bus.claim import Claim
from antiphon.bus.connect import claim_check
from antiphon.bus.errors import ClaimMissingError, ClaimStoreError, SettingsError
from antiphon.bus.settings import Settings
from antiphon.schemas.event import Event
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.serving import LocalServer
from antiphon.testing.waiting import eventually

LARGE = 2_000_000
CONTENT = b"x" * 3_000
PLACE = "s3://claims/under/this"


class ObjectStore:
    """One bucket, `claims`. Only what is signed with its key, content included, is taken."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.refused: list[str] = []
        """What was wrong with what the client sent."""
        self.status: int | None = None
        """Set to have every request answered by it."""
        self._server = LocalServer(_handler(self))

    @property
    def port(self) -> int:
        return self._server.port

    def close(self) -> None:
        self._server.close()

    def get(self, path: str) -> tuple[int, bytes]:
        if not path.startswith("/claims/"):
            return 404, _error("NoSuchBucket")
        if path not in self.objects:
            return 404, _error("NoSuchKey")
        return 200, self.objects[path]

    def problem(self, headers: dict[str, str], body: bytes) -> str | None:
        """Say what a request lacks."""
        signed = re.match(
            r"AWS4-HMAC-SHA256 Credential=me/\d{8}/us-east-1/s3/aws4_request, SignedHeaders=(\S+), Signature=[0-9a-f]{64}$",
            headers.get("authorization", ""),
        )
        if signed is None:
            return f"signature: {headers.get('authorization')}"
        if "x-amz-content-sha256" not in signed[1].split(";"):
            return "the content's hash is not signed"
        if headers.get("x-amz-content-sha256") != hashlib.sha256(body).hexdigest():
            return "the hash is not the content's"
        return None


def _handler(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self._is_welcome(body):
                store.objects[self.path] = body
                self._answer(200, b"")

        def do_GET(self) -> None:
            if self._is_welcome(b""):
                self._answer(*store.get(self.path))

        def _is_welcome(self, body: bytes) -> bool:
            store.requests.append(f"{self.command} {self.path}")
            problem = store.problem({name.lower(): value for name, value in self.headers.items()}, body)
            if store.status is not None:
                self._answer(store.status, _error("SlowDown"))
            elif problem is not None:
                store.refused.append(problem)
                self._answer(403, _error("AccessDenied"))
            else:
                return True
            return False

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: a test's output is the test's."""

    return Handler


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """The store, and an environment that names it."""
    store = ObjectStore()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{store.port}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret-of-mine",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("antiphon.bus.claims._RETRY_S", 0.01)
    yield store
    store.close()


class Written(Event, type="s3.written"):
    text: str


class Read(Event, type="s3.read"):
    n: int


@agent
async def reader(event: Written) -> Read:
    return Read(n=len(event.text))


def mesh() -> MemoryMesh:
    return MemoryMesh(1, claims=claim_check(Settings(claims=PLACE)))


async def test_there_and_back(store: ObjectStore) -> None:
    """Under its hash, by requests that are signed with their content, and none but one put and one get."""
    run = mesh()
    async with run.running(reader):
        await run.publish(Written(text="x" * LARGE))
        assert await run.eventually(Read, count=1) == [Read(n=LARGE)]
    [(place, content)] = store.objects.items()
    digest = Claim.of(content).digest
    assert place == f"/claims/under/this/{digest[:2]}/{digest}"
    assert (store.requests, store.refused) == ([f"PUT {place}", f"GET {place}"], [])


@pytest.mark.parametrize(
    ("damage", "error"),
    [(None, "ClaimMissingError"), (b"short", "ClaimChangedError"), (b"y" * (LARGE + 14), "ClaimChangedError")],
)
async def test_f26_missing_or_changed(store: ObjectStore, damage: bytes | None, error: str) -> None:
    """The event is set aside with that reason, and the next one is handled."""
    run = mesh()
    await run.prepare(reader)
    await run.publish(Written(text="x" * LARGE))
    [place] = store.objects
    if damage is None:
        del store.objects[place]
    else:
        store.objects[place] = damage
    async with run.running(reader):
        await run.publish(Written(text="small"))
        assert await run.eventually(Read, count=1) == [Read(n=5)]
    [letter] = await run.records("reader.dead")
    assert dict(letter.headers)["antiphon_dead_error"] == error.encode()


async def test_f21_a_store_that_is_away(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events wait, others go on; nothing is set aside, and when it is back all are handled."""
    run = mesh()
    monkeypatch.setattr("antiphon.bus.claims_s3._TRIES", 1)
    await run.prepare(reader)
    await run.publish(Written(text="x" * LARGE))
    store.status = 503
    asked = len(store.requests)
    async with run.running(reader):
        await run.publish(Written(text="small"))
        assert await run.eventually(Read, count=1) == [Read(n=5)]
        await eventually(lambda: len(store.requests) >= asked + 3, what="three more tries")
        assert await run.records("reader.dead") == []
        store.status = None
        assert sorted(event.n for event in await run.eventually(Read, count=2)) == [5, LARGE]
    assert await run.records("reader.dead") == []


def test_what_is_said_when_nobody_answers(store: ObjectStore) -> None:
    """After a bounded number of tries, with what to look at, and without the secret."""
    from antiphon.bus.claims_s3 import S3Claims  # noqa: PLC0415 - as its users do

    claims, claim = S3Claims(PLACE), Claim.of(CONTENT)
    with pytest.raises(ClaimMissingError, match=rf"expected {re.escape(str(claim))} in {PLACE}, got nothing"):
        claims.get(claim)
    with pytest.raises(ClaimStoreError, match="NoSuchBucket"):
        S3Claims("s3://other").get(claim)
    store.status = 503
    asked = len(store.requests)
    with pytest.raises(
        ClaimStoreError, match=r"at s3://claims/under/this to answer, got: SlowDown: .*AWS_ENDPOINT"
    ) as at:
        claims.put(CONTENT)
    assert (len(store.requests) - asked, "secret" in str(at.value)) == (3, False)


def test_without_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said at the start which extra to install."""

    def nothing(_name: str) -> None:
        """Find no module."""

    monkeypatch.setattr("antiphon.bus.connect.find_spec", nothing)
    with pytest.raises(SettingsError, match=r"pip install 'antiphon\[s3\]'"):
        claim_check(Settings(claims=PLACE))
