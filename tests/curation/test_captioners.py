"""Captioners: the official client against an OpenAI-compatible server on loopback."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from clif_exp.concepts.concept import Concept
from clif_exp.curation.captioners import OpenAICaptioner, build_captioner, parse_parts
from support import default_config

RICK = Concept("rick", "man", ())
IMAGE = [Image.new("RGB", (40, 60), "teal")]


class Server(ThreadingHTTPServer):
    """Plays back one behaviour per request, the last one for ever, and keeps the requests."""

    daemon_threads = True

    def __init__(self, *behaviours: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.asked = list(behaviours), []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        behaviour = (
            self.server.behaviours.pop(0)
            if len(self.server.behaviours) > 1
            else self.server.behaviours[0]
        )
        if behaviour == "stall":
            time.sleep(1.5)
            return
        if behaviour.isdigit():
            self._send(int(behaviour), {"error": {"message": "overloaded"}})
            return
        message = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": behaviour},
        }
        self._send(
            200,
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [message],
            },
        )

    def _send(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch):
    servers = []

    def start(*behaviours: str) -> Server:
        server = Server(*behaviours)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        servers.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(cache: Path | None = None, **settings) -> list[str]:
    own = default_config("captioner=openai", "captioner.settings.model=m").captioner.own()
    own |= {"cache": str(cache) if cache else None, "timeout": 5.0, "max_retries": 1}
    return OpenAICaptioner(**own | settings).parts(RICK, IMAGE)


def test_a_good_answer_is_asked_for_once_and_kept(serve, tmp_path):
    server = serve('["Hat", "lab coat", "hat"]')
    assert ask(tmp_path) == ask(tmp_path) == ["hat", "lab coat"]
    assert len(server.asked) == 1
    text, image = server.asked[0]["messages"][0]["content"]
    assert "a man" in text["text"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert "sk-secret" not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


def test_a_passing_error_is_tried_again(serve):
    server = serve("503", '```json\n["hat"]\n```')
    assert ask() == ["hat"]
    assert len(server.asked) == 2


def test_a_lasting_error_names_the_concept_and_the_remedy(serve):
    serve("500")
    with pytest.raises(
        RuntimeError, match=r"concept 'rick'.*status 500 .*overloaded.*captioner=provided"
    ):
        ask()


def test_a_server_that_stalls_is_given_up(serve):
    serve("stall")
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no answer within 0.3 s, 2 times"):
        ask(timeout=0.3)
    assert time.monotonic() - started < 8


def test_a_server_that_is_not_there_is_named(serve, monkeypatch):
    serve("500")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(RuntimeError, match=r"http://127.0.0.1:9/v1/?: no connection"):
        ask(max_retries=0)


@pytest.mark.parametrize(
    "answer",
    [
        "Sure! The parts are a hat and a coat.",
        "[]",
        '{"parts": ["hat"]}',
        '["hat", 3]',
        '["<script>"]',
        "",
    ],
)
def test_an_answer_that_is_no_list_of_names_is_shown(serve, tmp_path, answer):
    serve(answer)
    with pytest.raises(ValueError, match=f"concept 'rick'.*{re.escape(repr(answer))}"):
        ask(tmp_path)
    assert not list(tmp_path.iterdir()), "nonsense must not be cached"


def test_long_lists_are_cut_and_names_are_normalised():
    assert parse_parts('["Hat", " Boots ", "coat"]', where="x", max_parts=2) == ["hat", "boots"]


def test_missing_keys_and_unknown_captioners_are_refused(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    for overrides, expected in (
        (["captioner=openai"], "OPENAI_MODEL"),
        (["captioner=openai", "captioner.settings.model=m"], "OPENAI_API_KEY is not set"),
        (
            ["captioner=vlm", "captioner.settings.model=null"],
            "captioner.settings.model: found None",
        ),
        (["captioner.name=telepathy"], "'provided', 'openai' or 'vlm'"),
    ):
        with pytest.raises(ValueError, match=expected):
            build_captioner(default_config(*overrides).captioner)
    provided = build_captioner(default_config("captioner=provided").captioner)
    assert provided.parts(Concept("rick", "man", (), ("hat",)), []) == ["hat"]
