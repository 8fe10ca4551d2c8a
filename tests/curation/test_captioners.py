"""Captioners: the official client against an OpenAI-compatible server on loopback."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from clif_exp.concepts.concept import Concept
from clif_exp.curation.captioners.answers import parse_parts
from clif_exp.curation.captioners.build import build_captioner
from clif_exp.curation.captioners.openai_server import MAX_BYTES, OpenAICaptioner
from support import default_config

RICK = Concept("rick", "man", ())
IMAGE = [Image.new("RGB", (40, 60), "teal")]


KEY = "sk-secret"


class Server(ThreadingHTTPServer):
    """Plays back one behaviour per request, the last one for ever, and keeps the requests.

    A number: an error of that status. A name in `Handler.ODD`: what that method does. Else: what
    the model says.
    """

    daemon_threads = True

    def __init__(self, *behaviours: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.asked, self.sent = list(behaviours), [], 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        behaviour = (
            self.server.behaviours.pop(0)
            if len(self.server.behaviours) > 1
            else self.server.behaviours[0]
        )
        if odd := self.ODD.get(behaviour):
            odd(self)
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

    def _send(self, status: int, body: object, kind: str = "application/json", **more) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": len(data), "Retry-After": 0} | more
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def _stall(self) -> None:
        time.sleep(1.5)

    def _endless(self, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with contextlib.suppress(OSError):
            while self.server.sent < 50 * MAX_BYTES:
                self.server.sent += self.wfile.write(b" " * 65536)

    def _drip(self, start: bytes = b"HTTP/1.0 200 OK\r\n\r\n") -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(start)
            for _ in range(200):
                self.wfile.write(b"a")
                time.sleep(0.05)

    def _refuse(self, option: str) -> None:
        message = f"Unsupported parameter: '{option}' is not supported with this model."
        self._send(400, {"error": {"message": message, "param": option}})

    def _refuse_and_quote_the_key(self) -> None:
        # The key is where a message is cut, and in a broken line.
        quoted = self.headers["Authorization"].split()[-1]
        message = f"{'no ' * 60}\nInvalid key {quoted}, you sent {quoted}"
        self._send(401, {"error": {"message": message}})

    ODD: ClassVar = {
        "stall": _stall,
        "endless": _endless,
        "endless error": lambda self: self._endless(400),
        "drip": _drip,
        "dripping headers": lambda self: self._drip(b"HTTP/1.0 200 OK\r\nX-Slow: "),
        "bomb": lambda self: self._send(
            200, gzip.compress(bytes(30_000_000)), **{"Content-Encoding": "gzip"}
        ),
        "html": lambda self: self._send(200, b"<!doctype html>\n<h1>Hello</h1>", "text/html"),
        "html error": lambda self: self._send(404, b"<!doctype html>\n<h1>Hello</h1>", "text/html"),
        "string": lambda self: self._send(200, "hello"),
        "null": lambda self: self._send(200, None),
        "no choice": lambda self: self._send(200, {"choices": []}),
        "odd choice": lambda self: self._send(200, {"choices": [{"message": "hat"}]}),
        "deep": lambda self: self._send(200, b"[" * 100_000),
        "echo": lambda self: self._send(200, self.headers["Authorization"]),
        "redirect": lambda self: self._send(307, b"", Location="http://127.0.0.1:9/v1"),
        "no max_tokens": lambda self: self._refuse("max_tokens"),
        "no temperature": lambda self: self._refuse("temperature"),
        "401": _refuse_and_quote_the_key,
    }

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
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
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
    assert KEY not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


def test_a_passing_error_is_tried_again(serve):
    server = serve("503", '```json\n["hat"]\n```')
    assert ask() == ["hat"]
    assert len(server.asked) == 2


def test_a_model_that_takes_no_limit_or_temperature_is_asked_without(serve):
    server = serve("no max_tokens", "no temperature", '["hat"]')
    assert ask() == ["hat"]
    given = [{"temperature", "max_tokens"} & set(request) for request in server.asked]
    assert given == [{"temperature", "max_tokens"}, {"temperature"}, set()]


def test_an_option_that_is_refused_though_it_is_not_sent_ends_the_run(serve):
    server = serve("no max_tokens")
    with pytest.raises(RuntimeError, match=r"concept 'rick'.*status 400 .*'max_tokens' is not"):
        ask()
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
    with pytest.raises(RuntimeError, match=r"no whole answer within 0.3 s, 2 times"):
        ask(timeout=0.3)
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("behaviour", ["drip", "dripping headers"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up_in_time(serve, behaviour):
    serve(behaviour)
    started = time.monotonic()
    with pytest.raises(
        RuntimeError, match=r"concept 'rick'.* no whole answer within 0.5 s, 1 time"
    ):
        ask(timeout=0.5, max_retries=0)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("behaviour", ["endless", "endless error"])
def test_an_answer_without_end_is_read_no_further_than_a_megabyte(serve, behaviour):
    server = serve(behaviour)
    with pytest.raises(RuntimeError, match=r"concept 'rick'.*more than 1,048,576 bytes"):
        ask()
    assert len(server.asked) == 1, "what is too long once is too long again"
    # What the kernel holds between the two has been sent too.
    assert server.sent < 20 * MAX_BYTES


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        ("bomb", "a compressed answer"),
        ("html", "no text of a chat completion but text/html: <!doctype html> <h1>Hello"),
        ("html error", "status 404 .*<!doctype html> <h1>Hello"),
        ("string", 'application/json: "hello"'),
        ("null", "application/json: null"),
        ("no choice", r'application/json: {"choices": \[\]}'),
        ("odd choice", "application/json: "),
        ("deep", "application/json: .{200}…"),
        ("echo", r'application/json: "Bearer <hidden>"'),
        ("redirect", "status 307"),
    ],
)
def test_an_odd_answer_is_one_line(serve, behaviour, found):
    serve(behaviour)
    with pytest.raises(RuntimeError, match=f"concept 'rick'.*{found}.*captioner=provided") as error:
        ask()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_key_that_the_server_quotes_is_masked(serve):
    serve("401")
    with pytest.raises(RuntimeError, match=r"status 401 \(.*no no") as error:
        ask()
    shown = "".join(traceback.format_exception(error.value))
    assert "sk-" not in shown, "not even its beginning, where a message is cut"


def test_a_model_that_says_the_key_is_shown_without_it(serve):
    serve(f"The key is {KEY}.")
    with pytest.raises(ValueError, match=r"answered 'The key is <hidden>\.'"):
        ask()


def test_a_password_in_the_address_is_masked(serve, monkeypatch, caplog):
    port = serve("401").server_address[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://me:hunter22@127.0.0.1:{port}/v1")
    caplog.set_level("INFO")
    with pytest.raises(RuntimeError, match=r"http://<hidden>@127.0.0.1") as error:
        ask(max_retries=0)
    for secret in ("hunter22", base64.b64encode(b"me:hunter22").decode()):
        assert secret not in str(error.value) + caplog.text


@pytest.mark.parametrize("key", ["sk-schlüssel", "sk-a\nb"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(serve, monkeypatch, key):
    serve("500")
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters") as error:
        ask()
    assert "sk-" not in str(error.value)


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
