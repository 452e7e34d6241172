"""Stands between a client and the server, and keeps what the client sends: method, path, headers, body.

    client ──▶ Recorder ──▶ edge server        answers come back as they are, a stream piece by piece
                  │
                  └─▶ shapes, media cut out

What was recorded is replayed by tests/contract/test_recorded_clients.py, without the clients.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: Of what a client sends, what may differ from another client's to our harm.
_HEADERS = ("accept", "accept-encoding", "authorization", "content-type", "connection", "transfer-encoding")
_LONG = re.compile(r"[A-Za-z0-9+/]{200,}=*")
_WITHIN_S = 120.0


class Recorder:
    """A proxy for one server; a context.

    Args:
        server: http://host:port of it.
    """

    def __init__(self, server: str) -> None:
        self.requests: list[dict[str, Any]] = []
        self._server = urlsplit(server)
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                recorder._pass(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self._proxy.server_port}"

    def __enter__(self) -> Recorder:
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()

    def _pass(self, handler: BaseHTTPRequestHandler) -> None:
        body = _body_of(handler)
        self.requests.append(_shape(handler, body))
        server = http.client.HTTPConnection(str(self._server.hostname), self._server.port, timeout=_WITHIN_S)
        sent = {
            name: value
            for name, value in handler.headers.items()
            if name.lower() not in ("host", "connection", "content-length", "transfer-encoding")
        }
        server.request(handler.command, handler.path, body or None, sent)
        answer = server.getresponse()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                handler.send_header(name, value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while piece := answer.read1(65_536):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")
        server.close()


def _body_of(handler: BaseHTTPRequestHandler) -> bytes:
    if "chunked" in handler.headers.get("Transfer-Encoding", ""):
        pieces = []
        while size := int(handler.rfile.readline(), 16):
            pieces.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(pieces)
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def _shape(handler: BaseHTTPRequestHandler, body: bytes) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in handler.headers.items() if name.lower() in _HEADERS}
    shape: dict[str, Any] = {"method": handler.command, "path": handler.path, "headers": headers}
    if body:
        # What media is made of is not the client's; where it stood is.
        shape["body"] = json.loads(_LONG.sub("MEDIA", body.decode()))
    return shape
