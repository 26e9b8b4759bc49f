"""An HTTP server on this machine, for the length of a test."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """Serves from when it is made until `close`, in a thread of its own, on a free port."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._handler = handler
        self.port = 0
        self.open()

    def open(self) -> None:
        """Answer, at the same port where it was closed before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        # Looks for `close` this often; half a second is the library's default.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; who connects is refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
