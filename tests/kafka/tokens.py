"""Where tokens come from: an endpoint of OAuth's client credentials, whose tokens nobody signs."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def issuing(secrets: Mapping[str, str]) -> Generator[str]:
    """Give the address of an endpoint that gives a token to each of *secrets*, client to secret, and to nobody else."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = self.headers.get("Authorization", "").removeprefix("Basic ")
            client, _, secret = base64.b64decode(said).decode().partition(":")
            known = bool(client) and secrets.get(client) == secret
            answer = (
                {"access_token": _token(client), "token_type": "Bearer", "expires_in": 600}
                if known
                else {"error": "invalid_client"}
            )
            body = json.dumps(answer).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/token"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _token(client: str) -> str:
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": client, "iat": now, "exp": now + 600, "scope": "kafka"})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
