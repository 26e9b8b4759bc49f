"""A schema registry inside the test: Confluent's REST contract over HTTP, in memory.

    with RegistryServer() as registry:
        store = RegistryStore(registry.url)

It registers, numbers and finds schemas, and refuses incompatible ones as the
real ones do (BACKWARD, the usual default). For the bad days it can ask for a
password, and answer anything at all.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import avro.errors
import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from antiphon.testing.serving import LocalServer

_TYPE = "application/vnd.schemaregistry.v1+json"


class RegistryServer:
    """A registry on a free port of this machine, until `close`."""

    def __init__(self, *, credentials: str | None = None) -> None:
        self.subjects: dict[str, list[int]] = {}
        """Subject to the ids of its versions, in order."""
        self.schemas: list[str] = []
        """Schema texts; the first one has id 1."""
        self.requests: list[str] = []
        """What was asked, as "GET /subjects"."""
        self.answer: tuple[int, bytes] | None = None
        """Set to a status and a body to have every request answered by these."""
        self._credentials = credentials
        self._lock = threading.Lock()
        self._server = LocalServer(_handler(self))

    @property
    def url(self) -> str:
        """Its address, with the credentials it asks for."""
        user = f"{self._credentials}@" if self._credentials else ""
        return f"http://{user}127.0.0.1:{self._server.port}"

    def open(self) -> None:
        """Answer, at the same address and with the same schemas where it was closed before."""
        self._server.open()

    def close(self) -> None:
        """Stop answering; who connects is refused."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_allowed(self, header: str | None) -> bool:
        """Say whether an Authorization header opens this registry."""
        if self._credentials is None:
            return True
        return header == f"Basic {base64.b64encode(self._credentials.encode()).decode()}"

    def respond(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer one request."""
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        with self._lock:
            match method, parts:
                case "GET", ["subjects"]:
                    return 200, sorted(self.subjects)
                case "GET", ["schemas", "ids", id]:
                    return self._by_id(int(id))
                case "GET", ["subjects", subject, "versions", version]:
                    return self._version(subject, version)
                case "POST", ["subjects", subject, "versions"]:
                    return self._register(subject, body)
                case "POST", ["subjects", subject]:
                    return self._lookup(subject, body)
                case _:
                    return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _by_id(self, id: int) -> tuple[int, Any]:
        if not 1 <= id <= len(self.schemas):
            return 404, {"error_code": 40403, "message": f"Schema {id} not found"}
        return 200, {"schema": self.schemas[id - 1]}

    def _version(self, subject: str, version: str) -> tuple[int, Any]:
        ids = self.subjects.get(subject)
        if ids is None:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        number = len(ids) if version == "latest" else int(version)
        if not 1 <= number <= len(ids):
            return 404, {"error_code": 40402, "message": f"Version {version} not found."}
        id = ids[number - 1]
        return 200, {"subject": subject, "version": number, "id": id, "schema": self.schemas[id - 1]}

    def _lookup(self, subject: str, body: dict[str, Any]) -> tuple[int, Any]:
        ids = self.subjects.get(subject, [])
        for number, id in enumerate(ids, 1):
            if self.schemas[id - 1] == body["schema"]:
                return 200, {"subject": subject, "version": number, "id": id, "schema": body["schema"]}
        return 404, {"error_code": 40403, "message": "Schema not found"}

    def _register(self, subject: str, body: dict[str, Any]) -> tuple[int, Any]:
        text = body["schema"]
        try:
            new = _parsed(text)
        except (ValueError, avro.errors.AvroException) as error:
            return 422, {"error_code": 42201, "message": f"Invalid schema: {error}"}
        ids = self.subjects.get(subject, [])
        if ids:
            old = _parsed(self.schemas[ids[-1] - 1])
            checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # the library's
            found = checker.get_compatibility(new, old)
            if found.compatibility is not SchemaCompatibilityType.compatible:
                problems = "; ".join(sorted(found.messages))
                message = f"Schema being registered is incompatible with an earlier schema for subject '{subject}': {problems}"
                return 409, {"error_code": 409, "message": message}
        if text not in self.schemas:
            self.schemas.append(text)
        id = self.schemas.index(text) + 1
        if id not in ids:
            self.subjects[subject] = [*ids, id]
        return 200, {"id": id}


def _parsed(text: str) -> avro.schema.Schema:
    # The library warns of logical types it does not know. They have no say in compatibility.
    plain = json.loads(text, object_hook=lambda node: {key: node[key] for key in node if key != "logicalType"})
    return avro.schema.parse(json.dumps(plain))


def _handler(registry: RegistryServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # One request a connection: `close` must leave nobody connected. (HTTP/1.0 is the library's default.)

        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            self._respond(json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0")))))

        def _respond(self, body: dict[str, Any]) -> None:
            registry.requests.append(f"{self.command} {self.path}")
            if registry.answer is not None:
                status, raw = registry.answer
            elif not registry.is_allowed(self.headers.get("Authorization")):
                status, raw = 401, json.dumps({"error_code": 401, "message": "Unauthorized"}).encode()
            else:
                status, answer = registry.respond(self.command, self.path, body)
                raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: a test's output is the test's."""

    return Handler
