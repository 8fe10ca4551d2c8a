"""Two processes that want the same images share the work, and end with the bytes of one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

from clif_exp.artifacts.sharing import claim, share
from clif_exp.curation.stage import compose_pairs
from support import settings

PAIRS = 512
SETTINGS = settings("augmentation.global", num_pairs=PAIRS, resolution=64)

WORKER = """
import json, sys, time
from functools import partial
from pathlib import Path
from clif_exp.artifacts.store import ArtifactStore
from clif_exp.curation import composing, stage
from clif_exp.curation.settings import ContrastSettings

root, segments, contexts, own, other = map(Path, sys.argv[1:6])
drawn, real = [], composing.draw
def counted(line, **arguments):
    drawn.append(line["file"])
    return real(line, **arguments)
composing.draw = counted
def build(out, finalize=True):
    settings = ContrastSettings.model_validate_json(sys.argv[6])
    stage.compose_pairs(
        out, kind="G", segments=segments, contexts=contexts, settings=settings, seed=0,
        finalize=finalize,
    )
own.touch()
while not other.exists():  # both start together
    time.sleep(0.005)
artifact = ArtifactStore(root).get_or_build(
    "augment_G", version=1, config={}, inputs={}, build=build,
    contribute=partial(build, finalize=False),
)
print(json.dumps([str(artifact.path), len(drawn)]))
"""


def content(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "artifact.json"]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def test_two_processes_share_the_images_and_end_with_the_bytes_of_one(tmp_path, cutouts):
    (tmp_path / "one").mkdir()
    compose_pairs(
        tmp_path / "one",
        kind="G",
        segments=cutouts[0],
        contexts=cutouts[1],
        settings=SETTINGS,
        seed=0,
    )
    flags = [tmp_path / "first", tmp_path / "second"]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                WORKER,
                *map(str, [tmp_path / "store", *cutouts, own, other]),
                SETTINGS.model_dump_json(),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for own, other in (flags, flags[::-1])
    ]
    (path, first), (same_path, second) = (
        json.loads(process.communicate(timeout=120)[0]) for process in processes
    )
    assert path == same_path
    assert content(Path(path)) == content(tmp_path / "one")
    assert first + second == PAIRS and min(first, second) > 0, (first, second)
    assert not list((tmp_path / "store" / "augment_G").glob("*.partial"))


def test_what_a_dead_process_had_claimed_is_done_by_another(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys, time; from pathlib import Path; from clif_exp.artifacts.sharing import"
                " claim\nwith claim(Path(sys.argv[1]), 'b') as mine:\n print(mine, flush=True);"
                " time.sleep(60)"
            ),
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with claim(tmp_path, "b") as mine:
        assert not mine
    finished: list[str] = []

    def work(key: str) -> None:
        finished.append(key)
        if finished == ["a", "c"]:
            holder.kill()
            holder.wait()

    started = time.monotonic()
    share(tmp_path, "abc", done=finished.__contains__, work=work)
    assert finished == ["a", "c", "b"]
    assert time.monotonic() - started < 30
