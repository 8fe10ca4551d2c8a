"""A Hugging Face hub on loopback, for the official client: repositories of one commit each."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """Serves `repositories`, name -> file -> content, and notes which files were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.sent: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, folder: Path, *others: str) -> str:
        """Add a folder's files as a repository, and beside them others that nobody reads."""
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        self.repositories[name] = files | dict.fromkeys(others, b"not read")
        return name


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/[^/]+(/.+)?)?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        found = api or file
        files = self.server.repositories.get(found[1]) if found else None
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif file:
            self._send_file(file[2], files)
        elif api and api[3]:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})  # no folder of that name
        elif api and api[2] == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}
                for name, data in files.items()
            ]
            self._send(200, json.dumps(entries).encode(), {})
        else:
            siblings = [{"rfilename": name} for name in files]
            about = {"id": found[1], "sha": COMMIT, "private": False, "tags": []}
            self._send(200, json.dumps(about | {"siblings": siblings}).encode(), {})

    def _send_file(self, name: str, files: dict[str, bytes]) -> None:
        if name not in files:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        if self.command == "GET":
            self.server.sent.append(name)
        etag = f'"{_digest(files[name])}"'
        self._send(200, files[name], {"ETag": etag, "X-Repo-Commit": COMMIT})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
