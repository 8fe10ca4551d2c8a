"""The artifact store: computed once, published whole, resumed where it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from clif_exp.artifacts.__main__ import main as command_line
from clif_exp.artifacts.__main__ import scan
from clif_exp.artifacts.locks import is_free, process_lock
from clif_exp.artifacts.store import ArtifactStore, built_at, fingerprint
from clif_exp.errors import Refused

BUILDER = """
import sys, time
from pathlib import Path
from clif_exp.artifacts.store import ArtifactStore

def build(out):
    for index in range(int(sys.argv[2])):
        file = out / f"{index}.txt"
        if not file.exists():
            file.write_text("done")
            print(index, flush=True)
            time.sleep(float(sys.argv[3]))

artifact = ArtifactStore(Path(sys.argv[1])).get_or_build(
    "stage", version=1, config={"a": 1}, inputs={}, build=build
)
print("reused" if artifact.reused else "built", flush=True)
"""


def start_builder(root: Path, *, pieces: int, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(BUILDER), str(root), str(pieces), str(seconds)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def put(store: ArtifactStore, *, config=None, build=None, **rest):
    def write(out: Path) -> None:
        (out / "file.txt").write_text("content")

    return store.get_or_build(
        "stage", version=1, config=config or {"a": 1}, inputs={}, build=build or write, **rest
    )


def test_concurrent_processes_build_once(tmp_path):
    builders = [start_builder(tmp_path, pieces=4, seconds=0.1) for _ in range(3)]
    outputs = [builder.communicate(timeout=60)[0].split() for builder in builders]
    assert sorted(lines[-1] for lines in outputs) == ["built", "reused", "reused"]
    assert sorted(line for lines in outputs for line in lines[:-1]) == [
        "0",
        "1",
        "2",
        "3",
    ], "each piece once"


def test_a_killed_build_frees_its_lock_and_is_resumed(tmp_path):
    first = start_builder(tmp_path, pieces=4, seconds=30)
    assert first.stdout.readline().strip() == "0"
    first.send_signal(signal.SIGKILL)
    first.wait()
    (partial,) = (tmp_path / "stage").glob("*.partial")
    assert not list((tmp_path / "stage").glob("*/artifact.json")), "nothing is published yet"
    second = start_builder(tmp_path, pieces=4, seconds=0)
    lines = second.communicate(timeout=60)[0].split()
    assert lines == ["1", "2", "3", "built"], "piece 0 is not made again"
    assert not partial.exists()


def test_a_failed_build_publishes_nothing_and_leaves_its_work(tmp_path):
    store = ArtifactStore(tmp_path)

    def fail(out: Path) -> None:
        (out / "half.txt").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        put(store, build=fail)
    assert store.records() == []
    artifact = put(store)
    assert sorted(file.name for file in artifact.path.iterdir()) == [
        "artifact.json",
        "file.txt",
        "half.txt",
    ]


def test_an_artifact_says_where_it_comes_from(tmp_path):
    before = time.time()
    artifact = put(ArtifactStore(tmp_path), work=20)
    begun, ended = built_at(artifact)
    assert before - 0.01 <= begun <= ended <= time.time() + 0.01
    record = json.loads((artifact.path / "artifact.json").read_text())
    assert record["stage"] == "stage"
    assert record["config"] == {"a": 1}
    assert record["work"] == 20
    assert record["versions"]["clif_exp"]
    assert record["seconds"] >= 0
    assert record["peak_memory_mb"] > 0
    assert (
        artifact.path.name
        == record["fingerprint"]
        == fingerprint("stage", version=1, config={"a": 1}, inputs={})
    )


def test_the_fingerprint_depends_on_every_declared_thing_and_no_order():
    def digest(stage="s", version=1, config=None, inputs=None):
        return fingerprint(
            stage, version=version, config=config or {"a": 1, "b": 2}, inputs=inputs or {"i": "x"}
        )

    assert digest() == digest(config={"b": 2, "a": 1})
    assert (
        len(
            {
                digest(),
                digest(stage="t"),
                digest(version=2),
                digest(config={"a": 1, "b": 3}),
                digest(inputs={"i": "y"}),
            }
        )
        == 5
    )


def test_a_second_request_reuses_and_another_config_does_not(tmp_path):
    store = ArtifactStore(tmp_path)
    assert not put(store).reused
    assert put(ArtifactStore(tmp_path)).reused
    assert not put(store, config={"a": 2}).reused


def test_without_reuse_an_artifact_is_replaced_once(tmp_path):
    before = put(ArtifactStore(tmp_path))
    (before.path / "old.txt").write_text("old")
    store = ArtifactStore(tmp_path, reuse=False)
    after = put(store)
    assert not after.reused
    assert after.path == before.path
    assert not (after.path / "old.txt").exists()
    stamp = (after.path / "artifact.json").stat().st_ino
    put(store)
    assert (after.path / "artifact.json").stat().st_ino == stamp, (
        "not built again for a second reader in the same run"
    )


def test_before_is_told_what_was_found(tmp_path):
    told = []
    for _ in range(2):
        put(ArtifactStore(tmp_path), before=told.append)
    assert told[0] is None
    assert told[1].reused


def test_estimates_follow_the_measured_rate(tmp_path):
    store = ArtifactStore(tmp_path)
    assert store.estimate_seconds("stage", work=10) is None
    put(store, build=lambda _: time.sleep(0.1), work=1)
    assert 1.0 <= store.estimate_seconds("stage", work=10) < 3.0


def test_the_lock_excludes_other_processes(tmp_path):
    lock = tmp_path / "lock"
    script = (
        "import sys; from pathlib import Path; from clif_exp.artifacts.locks import process_lock\n"
        "with process_lock(Path(sys.argv[1])): print('in', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline().strip() == "in"
    assert not is_free(lock)
    waited = []
    with pytest.raises(TimeoutError), process_lock(lock, timeout=0.1, on_wait=waited.append):
        pass
    assert waited
    assert waited[0].endswith(f":{other.pid}")
    other.communicate("\n", timeout=30)
    with process_lock(lock, timeout=5):
        pass
    assert is_free(lock)
    assert not lock.exists()


def test_gc_removes_garbage_and_only_what_it_is_told(tmp_path, capsys):
    store = ArtifactStore(tmp_path)
    artifact = put(store)
    (tmp_path / "stage" / ("0" * 64 + ".partial")).mkdir()
    (tmp_path / "stage" / ".garbage-1").mkdir()
    assert sorted(entry.state for entry in scan(tmp_path)) == ["finished", "garbage", "partial"]
    command_line(["ls", "--root", str(tmp_path)])
    assert artifact.fingerprint[:12] in capsys.readouterr().out
    command_line(["gc", "--root", str(tmp_path), "--dry-run"])
    assert len(scan(tmp_path)) == 3
    command_line(["--root", str(tmp_path), "gc"])
    assert sorted(entry.state for entry in scan(tmp_path)) == ["finished", "partial"]
    command_line(["gc", "--root", str(tmp_path), "--partial"])
    assert [entry.state for entry in scan(tmp_path)] == ["finished"]
    old = time.time() - 3 * 86400
    os.utime(artifact.path / "artifact.json", (old, old))
    command_line(["gc", "--root", str(tmp_path), "--unused-for", "4d"])
    assert artifact.path.exists()
    command_line(["gc", "--root", str(tmp_path), "--unused-for", "2d"])
    assert not artifact.path.exists()


def test_gc_leaves_alone_what_is_not_the_stores(tmp_path, capsys):
    photo = tmp_path / "photos" / "2023" / "family.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_text("dear")
    (tmp_path / "photos" / "me.jpg").write_text("dear")
    with pytest.raises(SystemExit):
        command_line(["gc", "--root", str(tmp_path)])
    assert "holds no artifacts" in capsys.readouterr().err
    put(ArtifactStore(tmp_path))  # one that keeps its artifacts beside them
    command_line(["gc", "--root", str(tmp_path), "--partial", "--damaged"])
    assert photo.is_file() and (tmp_path / "photos" / "me.jpg").is_file()


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "the content of file.txt has changed": lambda path: _flip(path / "file.txt"),
    "file.txt has 3 of 7 bytes": lambda path: os.truncate(path / "file.txt", 3),
    "file.txt is missing": lambda path: (path / "file.txt").unlink(),
    "artifact.json cannot be read": lambda path: os.truncate(path / "artifact.json", 40),
    "artifact.json is missing": lambda path: (path / "artifact.json").unlink(),
    "artifact.json is no JSON object": lambda path: (path / "artifact.json").write_text("[]"),
}


@pytest.mark.parametrize("found", DAMAGES)
def test_a_damaged_artifact_is_named_set_aside_and_computed_again(tmp_path, capsys, found):
    path = put(ArtifactStore(tmp_path)).path
    DAMAGES[found](path)
    assert command_line(["--root", str(tmp_path), "verify"]) == 1
    assert found in capsys.readouterr().out
    assert command_line(["--root", str(tmp_path), "ls"]) == 0
    said: list[str] = []
    again = put(ArtifactStore(tmp_path, say=said.append))
    assert not again.reused
    assert (again.path / "file.txt").read_text() == "content"
    (aside,) = (tmp_path / "stage").glob("*.damaged-*")
    assert len(said) == 1
    assert found in said[0]
    assert str(aside) in said[0]
    assert put(ArtifactStore(tmp_path, say=said.append)).reused
    assert command_line(["--root", str(tmp_path), "verify"]) == 0
    command_line(["--root", str(tmp_path), "gc"])
    assert aside.exists(), "what was set aside is removed on request only"
    command_line(["--root", str(tmp_path), "gc", "--damaged"])
    assert [entry.state for entry in scan(tmp_path)] == ["finished"]


def test_a_damaged_artifact_is_not_found(tmp_path):
    path = put(ArtifactStore(tmp_path)).path
    _flip(path / "file.txt")
    said: list[str] = []
    store = ArtifactStore(tmp_path, say=said.append)
    assert store.find("stage", version=1, config={"a": 1}, inputs={}) is None
    assert "file.txt has changed" in said[0]
    assert path.exists(), "a run that computes nothing moves nothing"


def test_an_artifact_of_an_earlier_version_is_used_as_it_is(tmp_path, capsys):
    path = put(ArtifactStore(tmp_path)).path
    record = json.loads((path / "artifact.json").read_text())
    del record["files"]
    (path / "artifact.json").write_text(json.dumps(record))
    assert put(ArtifactStore(tmp_path)).reused
    assert command_line(["--root", str(tmp_path), "verify"]) == 0
    assert "1 of an earlier version" in capsys.readouterr().out


def test_a_short_build_is_not_extrapolated(tmp_path):
    store = ArtifactStore(tmp_path)
    put(store, build=lambda _: time.sleep(0.05), work=4)
    assert store.estimate_seconds("stage", work=400) is None
    put(store, config={"a": 2}, build=lambda _: time.sleep(0.05), work=100)
    assert store.estimate_seconds("stage", work=400) < 5 * 0.05 * 4


def test_a_store_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for root in (tmp_path / "file", Path("/proc/store")):
        with pytest.raises(Refused, match=r"artifacts\.root.*cannot be written.*artifacts\.root="):
            put(ArtifactStore(root), build=lambda _: pytest.fail("it was built"))


def test_what_is_computed_can_be_used_from_a_store_that_cannot_be_written(tmp_path):
    put(ArtifactStore(tmp_path))
    (tmp_path / "stage").chmod(0o500)
    assert put(ArtifactStore(tmp_path)).reused
