"""Every bad setting ends in one line that names it, before any work, with nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch

# The command forks a process that has imported everything; alone it takes 2 seconds more.
SECONDS = 5.0
HUGE = 10**9
CONTRADICTION = ["contrastive.basis=null", "generation.prompts.world=generic", "model.family=sd15"]

# Overrides -> how the line begins after "clif_exp: error: ", and what else it says.
BAD = [
    ("diffusion.rank=-1", "diffusion.rank: found -1", "greater than or equal to 1"),
    ("seed=99999999999", "seed: found 99999999999", "less than"),
    ("diffusion.learning_rate=inf", "diffusion.learning_rate: found inf", "finite number"),
    ("diffusion.learning_rate=nan", "diffusion.learning_rate: found nan", "finite number"),
    ("diffusion.learning_rate=1e39", "diffusion.learning_rate: found 1e+39", "less than"),
    ("diffusion.alpha=inf", "diffusion.alpha: found inf", "finite number"),
    ("diffusion.offset_noise=inf", "diffusion.offset_noise: found inf", "finite number"),
    ("generation.guidance_scale=nan", "generation.guidance_scale: found nan", "finite number"),
    ("contrastive.max_logit_scale=inf", "contrastive.max_logit_scale: found inf", "finite"),
    ("trainer.max_time=inf", "trainer.max_time: found inf", "finite number"),
    ("captioner.naming.threshold=nan", "captioner.naming.threshold: found nan", "finite"),
    (f"diffusion.batch_size={HUGE}", f"diffusion.batch_size: found {HUGE}", "16384"),
    (f"diffusion.prior.images={HUGE}", f"diffusion.prior.images: found {HUGE}", "100000"),
    (f"augmentation.mix.num_pairs={HUGE}", f"augmentation.mix.num_pairs: found {HUGE}", "100000"),
    (f"generation.prompts.pairs={HUGE}", f"generation.prompts.pairs: found {HUGE}", "100000"),
    (f"diffusion.rank={HUGE}", f"diffusion.rank: found {HUGE}", "Choose a rank of at most"),
    (f"model.resolution={HUGE}", f"model.resolution: found {HUGE}", "8192"),
    ("generation.num_inference_steps=1001", "generation.num_inference_steps: found 1001", "1000"),
    ("trainer.devices=3", "trainer.strategy: found 'auto' for 3 devices", "trainer=ddp"),
    ("dataset=folder", "dataset.root: ", ""),
    ("dataset.root=${nothing}", "dataset.root: Interpolation key 'nothing' not found", ""),
    ("dataset=folder dataset.root=nowhere", "", "nowhere"),
    ("model.path=nowhere", "model.path: 'nowhere", "give a local folder"),
    (" ".join(CONTRADICTION), "evaluation.reader.kind: ", "evaluation=real"),
    ("stages=[diffusion,curation]", "stages: found", "in the order"),
]
# These leave not even a run folder: they are found before Hydra makes one.
BAD_BEFORE_A_FOLDER = [
    ("diffusion.rnk=3", "diffusion.rnk: no such key", "--cfg job"),
    ("experiment=clif", "experiment: no such config group", "+experiment=NAME"),
    ("method.name=mine", "method.name: it only says", "method=NAME"),
    ("-m seed=0,1 hydra.launcher.wrkers=2", "hydra.launcher.wrkers: no such key", "--cfg hydra"),
    ("dataset=foldr", "dataset: 'foldr' is no choice", "folder"),
    ("dataset=folder dataset.root=Fotos_ä", "dataset.root: 'Fotos_ä' cannot", "='Fotos_ä'\""),
    ("dataset.root=a=b", "dataset.root: 'a=b' cannot be read", "\"dataset.root='a=b'\""),
    ("name=../../evil", "name: found '../../evil'", "it names a folder"),
    ("name=/tmp/evil", "name: found '/tmp/evil'", "it names a folder"),
    ("name=..", "name: found '..'", "it names a folder"),
    ("name=", "name: found ''", "it names a folder"),
    (f"name={'n' * 61}", "name: found 'nnn", "1 to 60"),
    ("+logger.wandb.api_key=sk-X", "logger.wandb.api_key: found a secret", "WANDB_API_KEY"),
    ("paths.runs=/proc/runs", "paths.runs (in a sweep paths.sweeps): /proc/runs", "paths.root="),
]


@pytest.fixture(autouse=True, scope="module")
def _everything_is_imported(warm_starter, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("first")
    warm_starter.run(["--help"], folder=folder, environment=dict(os.environ), timeout=60)


@pytest.fixture
def refused(clif_exp, tmp_path):
    """Run a command that must be refused; returns its one line of error."""

    def run(*arguments: str, store: Path = tmp_path / "store") -> str:
        before = {path.name for path in tmp_path.iterdir()}
        started = time.monotonic()
        result = clif_exp("debug=fast", *arguments, store=store)
        assert time.monotonic() - started < SECONDS
        assert result.code == 2, result.output + result.errors
        assert result.errors.count("\n") == 1, result.errors
        left = {path.name for path in tmp_path.iterdir()} - before
        assert left <= {"runs"}, "nothing is left in the store, and nothing elsewhere"
        for folder in result.folders:
            assert result.summary()["status"] == "refused"
            assert result.summary()["error"] in result.errors
            names = {path.name for path in folder.iterdir()}
            assert names == {".hydra", "run.log", "summary.json"}
        prefix = "clif_exp: error: "
        assert result.errors.startswith(prefix)
        return result.errors.removeprefix(prefix).strip()

    return run


@pytest.mark.parametrize(
    ("overrides", "begins", "says"), BAD + BAD_BEFORE_A_FOLDER, ids=lambda text: text[:40]
)
def test_a_bad_setting_is_refused_in_one_line(refused, tmp_path, overrides, begins, says):
    line = refused(*overrides.split(" "))
    assert line.startswith(begins)
    assert says in line
    assert (tmp_path / "runs").exists() is ((overrides, begins, says) in BAD)
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("trainer", ["gpu", "ddp"])
def test_a_missing_gpu_is_found_before_any_work(refused, trainer):
    line = refused(f"trainer={trainer}")
    assert line == (
        "trainer.accelerator: found 'gpu', but torch finds no CUDA device here; use trainer=cpu"
    )


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()  # a link to the real one
    file.write_bytes(content[: len(content) // 2])


def _overwrite(content: bytes):
    def write(file: Path) -> None:
        file.unlink()
        file.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("file", "harm", "says"),
    [
        ("pipeline/unet/*.safetensors", _cut, "model.path: unet: .* is broken"),
        ("pipeline/vae/*.safetensors", _overwrite(b""), "model.path: vae: .* is broken .0 bytes"),
        (
            "pipeline/text_encoder/*.safetensors",
            _overwrite(b"no header" * 9),
            "model.path: text_encoder: .* is broken",
        ),
        ("pipeline/unet/*.safetensors", Path.unlink, "model.path: unet: .* (lacks|holds no)"),
        ("pipeline/unet/config.json", _cut, "model.path: unet: .* is no JSON object"),
        ("pipeline/tokenizer/*.json", _cut, "model.path: tokenizer: .* is no JSON object"),
        ("pipeline/model_index.json", _cut, "model.path: .*model_index.json is no JSON object"),
        ("clip/*.safetensors", _cut, "model.contrastive.text_encoder: .* is broken"),
        ("sam/*.safetensors", _cut, "model.segmenter_checkpoint: .* is broken"),
        ("oracle/*.safetensors", _cut, "evaluation.reader.path: .* is broken"),
        ("judge_clip/*.safetensors", _cut, "evaluation.judge.path: .* is broken"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)
def test_broken_weights_are_found_before_any_work(refused, base_models, tmp_path, file, harm, says):
    from clif_exp.base_models.spec import packaged_weights

    source = Path(base_models[0].split("=")[1]) if base_models else packaged_weights()
    weights = tmp_path / "weights"
    shutil.copytree(source, weights, copy_function=os.symlink)
    harm(sorted(weights.glob(file))[0])
    line = refused(f"model.path={weights}")
    assert re.match(says, line), line
    assert "again" in line or "save_pretrained" in line


@pytest.mark.parametrize("store", ["/proc/store", "file"])
def test_a_store_that_cannot_be_written_is_refused(refused, tmp_path, store):
    (tmp_path / "file").write_text("no folder")
    line = refused(store=tmp_path / store)
    assert line.startswith(f"artifacts.root: {tmp_path / store} cannot be written")
    assert line.endswith("choose another folder: artifacts.root=FOLDER")


def test_options_may_follow_overrides(clif_exp):
    result = clif_exp("debug=fast", "seed=0,1", "-m", "diffusion.rank=-1")
    assert result.code == 2
    (refused,) = [line for line in result.errors.splitlines() if ": error: " in line]
    assert refused == (
        "clif_exp: error: diffusion.rank: found -1; it should be greater than or equal to 1"
        " (so each of the 2 jobs)"
    )
    assert "rank: -1" in clif_exp("diffusion.rank=-1", "--cfg", "job").output


def test_a_secret_in_a_config_file_is_written_nowhere(clif_exp, tmp_path):
    folder = tmp_path / "mine" / "logger"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(
        "wandb: {mode: offline, project: p, entity: null, group: null, tags: [],"
        " api_key: opensesame}\ntensorboard: null\n"
    )
    result = clif_exp("logger=own", f"--config-dir={tmp_path / 'mine'}")
    assert result.code == 2
    assert "logger.wandb.api_key: no such key (given <hidden>)" in result.errors
    files = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert {"config.yaml", "hydra.yaml", "summary.json"} <= {file.name for file in files}
    texts = [result.output, result.errors, *(file.read_text() for file in files)]
    assert not any("opensesame" in text for text in texts)


def test_the_traceback_is_there_when_asked_for(clif_exp):
    result = clif_exp("debug=fast", "diffusion.rank=-1", HYDRA_FULL_ERROR="1")
    assert result.code != 0
    assert "Traceback" in result.errors


def test_a_warm_up_longer_than_the_training_is_told(clif_exp, tmp_path):
    result = clif_exp(
        "debug=fast", "stages=[diffusion]", "diffusion.warmup_steps=10000", store=tmp_path / "store"
    )
    assert "diffusion.warmup_steps: found 10000 for 4 steps" in result.output
