"""Trackers: a run is continued by the job that goes on, nothing is sent twice, nothing waits."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from clif_exp.errors import Refused, TimeBudgetExhausted, exit_code
from clif_exp.runs.tracking.continuing import LEDGER, LOCK, take_over
from clif_exp.runs.tracking.labels import Labels, telling
from clif_exp.runs.tracking.ledger import Ledger
from clif_exp.runs.tracking.trackers import Trackers
from support import default_config, settings
from wandb_files import history_of, offline_runs, steps_of, summary_of

HOLD = """
import os, signal, sys
from pathlib import Path
from clif_exp.artifacts.locks import process_lock

with process_lock(Path(sys.argv[1]) / sys.argv[2]):
    print("started", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""
TRACK = """
import os, signal, sys
from pathlib import Path
from clif_exp.runs.tracking.labels import Labels
from clif_exp.runs.tracking.trackers import Trackers
from support import default_config

folder, first, last, end = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
trackers = Trackers(default_config("logger=wandb", *sys.argv[5:]).logger, folder=folder)
trackers.start({"seed": 0}, labels=Labels("job", "group", "clif", ()))
print("started", flush=True)
for step in range(first, last + 1):
    trackers.point("diffusion", step, {"loss": 1 / step}, content="abc")
sys.stdin.readline()
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
trackers.finish(int(end))
print("ended", flush=True)
"""
LABELS = Labels("job", "group", "clif", ())


def start(script: str, *arguments: object, **environment: str) -> subprocess.Popen:
    """Start a job that ends when it is sent a line; returns when it has said that it started."""
    job = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    )
    assert job.stdout is not None and job.stdout.readline() == "started\n", job.stderr
    return job


def run_folder(path: Path, *, status: str, config: str = "seed: 0", identity: str = "") -> Path:
    (path / ".hydra").mkdir(parents=True)
    (path / ".hydra" / "config.yaml").write_text(config)
    (path / "summary.json").write_text(json.dumps({"status": status}))
    if identity:
        Ledger(path / LEDGER, identity=identity).close()
    return path


def continued(folder: Path) -> str | None:
    take_over(folder)
    return json.loads((folder / LEDGER).read_text())["id"] if (folder / LEDGER).exists() else None


@pytest.mark.parametrize("status", ["killed", "failed", "refused", "finished"])
def test_only_an_unfinished_jobs_run_is_continued_and_only_once(tmp_path, status):
    first = run_folder(tmp_path / "1", status=status, identity="abcd1234")
    other = run_folder(tmp_path / "2", status="killed", config="seed: 1")
    again, third = (run_folder(tmp_path / name, status="killed") for name in "34")
    assert continued(other) is None, "a job of another config"
    assert continued(again) == (None if status == "finished" else "abcd1234")
    assert continued(third) == (None if status == "finished" else "abcd1234"), "3 was killed too"
    assert (first / LEDGER).exists() == (status == "finished"), "the file moves"


def test_a_running_jobs_run_is_not_continued_before_it_is_killed(tmp_path):
    first = run_folder(tmp_path / "1", status="killed", identity="abcd1234")
    again = run_folder(tmp_path / "2", status="killed")
    job = start(HOLD, first, LOCK)
    assert continued(again) is None
    job.communicate("\n", timeout=60)
    assert continued(again) == "abcd1234"


def test_a_sweeps_job_finds_its_run_in_its_own_folder_however_it_ended(tmp_path):
    beside = run_folder(tmp_path / "a", status="killed", identity="beside00")
    job = run_folder(tmp_path / "job", status="finished", identity="abcd1234")
    assert continued(job) == "abcd1234"
    assert (beside / LEDGER).exists()


def test_a_ledger_lets_no_step_pass_twice(tmp_path):
    file = tmp_path / "ledger.json"
    first = Ledger(file)
    assert [first.due("diffusion", step, content="a") for step in (0, 1, 2, 2, 1)] == [
        *(True, True, True),
        *(False, False),
    ]
    assert first.due("diffusion/samples", 0, content="a"), "another curve"
    rows = [first.next_row() for _ in range(2)]
    file.write_text(file.read_text() + '"left of a longer one"}')
    again = Ledger(file)  # the first was killed
    assert again.identity == first.identity
    assert [again.due("diffusion", step, content="a") for step in (2, 3)] == [False, True]
    assert again.due("diffusion", 0, content="b"), "of other weights"
    assert again.next_row() > max(rows)
    assert Ledger(file, identity="other").due("diffusion", 0, content="b"), "another run"


def test_names_hold_the_overrides_that_tell_runs_apart():
    given = ["+experiment=clif", "diffusion.rank=16", "seed=1", "logger=wandb", "num_workers=2"]
    given += ["logger.wandb.mode=online", "artifacts.root=x", "method=mix_only", "+a@b.c=d"]
    assert telling(given) == ["rank=16", "seed=1", "method=mix_only", "c=d"]


def test_trackers_are_told_how_a_run_ended():
    errors = [ValueError(), Refused(), TimeBudgetExhausted(), KeyboardInterrupt(), SystemExit(143)]
    assert [exit_code(error) for error in errors] == [1, 2, 75, 130, 143]


def _loggers(trackers: Trackers, _encoder: str) -> list:
    return trackers.loggers("contrastive", content="abc")


def test_a_stage_is_shown_while_it_trains_and_no_step_twice(tmp_path, backbones, curated):
    from clif_exp.contrastive.stage import train_contrastive

    # `max_time` ends each call after a step, as a kill would: with a new job of the same folder.
    for _ in range(3):
        board = default_config("logger=tensorboard").logger
        trackers = Trackers(board, folder=tmp_path)
        trackers.start({"diffusion": {"rank": 4}, "wandb_api_key": "abcdef123456"}, labels=LABELS)
        try:
            train_contrastive(
                tmp_path / "stage",
                spec=backbones("sd15"),
                concepts=curated["concepts"],
                manifests={"G": curated["manifests"]["G"]},
                features=None,
                seed=0,
                trainer=settings("trainer", precision="32-true", max_time=1e-6),
                settings=settings("contrastive", basis=None, steps=3, batch_size=4),
                loggers=partial(_loggers, trackers),
            )
            code = 0
        except TimeBudgetExhausted as error:
            code = exit_code(error)
        trackers.show_stage("contrastive", tmp_path / "stage", content="abc")
        trackers.finish(code)
    files = [file for file in tmp_path.rglob("*tfevents*") if b"abcdef123456" in file.read_bytes()]
    assert not files, "no secret"
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("loss", "lr", "gradient_norm", "images_per_second", "peak_memory_mb"):
        points = events.Scalars(f"contrastive/{name}")
        assert [point.step for point in points] == [1, 2, 3], name
        assert all(point.value > 0 for point in points), name
    told = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(content)
        for tag, content in events.PluginTagToContent("hparams").items()
    }
    started = told["_hparams_/session_start_info"].session_start_info
    assert started.hparams["diffusion.rank"].number_value == 4
    ended = told["_hparams_/session_end_info"].session_end_info
    assert ended.status == api_pb2.STATUS_SUCCESS, "not that of the first job"
    files = {file.parent for file in tmp_path.rglob("*tfevents*")}
    assert files == {tmp_path / "tensorboard"}, "no run beside it"


@pytest.mark.slow
def test_a_killed_jobs_wandb_run_goes_on_offline(tmp_path):
    first = run_folder(tmp_path / "1", status="killed")
    job = start(TRACK, first, 1, 200, "killed")
    time.sleep(1.0)
    job.communicate("\n", timeout=60)
    again, third = (run_folder(tmp_path / name, status="killed") for name in "23")
    start(TRACK, again, 1, 210, 143).communicate("\n", timeout=60)
    (again / "summary.json").write_text(json.dumps({"status": "finished"}))
    start(TRACK, third, 1, 3, 0).communicate("\n", timeout=60)
    (one,), (two,), (other,) = (offline_runs(folder) for folder in (first, again, third))
    assert one.name[-8:] == two.name[-8:] != other.name[-8:]
    assert steps_of([one], "diffusion") == list(range(1, len(history_of(one)) + 1))
    lost = 200 - len(history_of(one))
    assert lost < 100, "what a kill takes"
    assert steps_of([two], "diffusion") == list(range(201 - lost, 211)), "none twice, none missing"
    assert history_of(two)[0]["_step"] > history_of(one)[-1]["_step"]
    assert [summary_of(run)["exit_code"] for run in (one, two, other)] == [None, 143, 0]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    answer: int | None = None  # None: hangs


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        while self.server.answer is None:  # type: ignore[attr-defined]
            time.sleep(0.1)
        self.send_response(self.server.answer)  # type: ignore[attr-defined]
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    """A server that does what W&B's should not."""
    with _Server(("127.0.0.1", 0), _Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.answer = 500
        running.shutdown()


@pytest.mark.parametrize(
    ("trouble", "limit"),
    [
        ("hangs", 3.0),
        ("401", 3.0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("hangs", 10.0), ("no key", 10.0), ("nobody listens", 10.0))
        ),
    ],
)
def test_wandb_in_trouble_costs_seconds_and_one_warning(tmp_path, server, trouble, limit):
    server.answer = 401 if trouble == "401" else None
    address = f"http://127.0.0.1:{9 if trouble == 'nobody listens' else server.server_port}"
    key = {} if trouble == "no key" else {"WANDB_API_KEY": "a" * 40}
    began = time.monotonic()
    online = ["logger.wandb.mode=online", f"logger.wandb.max_delay={limit}"]
    folder = run_folder(tmp_path / "1", status="killed")
    job = start(TRACK, folder, 1, 2, 0, *online, WANDB_BASE_URL=address, HOME=str(tmp_path), **key)
    output, errors = job.communicate("\n", timeout=60)
    seconds = time.monotonic() - began
    assert (job.returncode, output) == (0, "ended\n"), errors
    warnings = [line for line in errors.splitlines() if "The run goes on without it." in line]
    assert len(warnings) == 1 and warnings[0].startswith("W&B: "), errors
    assert "a" * 40 not in errors
    assert seconds < limit + 8, "the rest are imports"
