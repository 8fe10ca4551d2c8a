"""Launchers: what Slurm would be asked for, and options that are refused before anything starts."""

from __future__ import annotations

import os
import re

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from clif_exp.runs.messages import config_folder
from clif_exp.sweeps.launchers import launcher_of, prepare_launcher

# The program ignores it (runs/entry.py), pytest shows it all the same.
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher/\w+' is validated")


def composed(*overrides: str) -> DictConfig:
    """A sweep's config, with Hydra's part."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        found = hydra.compose("config", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(found)
    return found


def prepare(*overrides: str) -> DictConfig:
    config = composed(*overrides)
    prepare_launcher(launcher_of(config), config, [config])
    return config


@pytest.fixture
def slurm_tools(tmp_path, monkeypatch):
    """Stand for a cluster's programs: they are looked for, and not started."""
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def sbatch_lines(config: DictConfig, folder) -> dict[str, str]:
    """What submitit would submit for it."""
    import submitit
    from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

    launcher = instantiate(config.hydra.launcher)
    asked = {}

    class Recorded(Exception):
        pass

    def record(self, *_args):
        asked["text"] = _make_sbatch_string(command="true", folder=folder, **self.parameters)
        raise Recorded

    launcher.params["submitit_folder"] = str(folder)
    launcher.config = config
    before = submitit.AutoExecutor.map_array
    submitit.AutoExecutor.map_array = lambda self, *_: record(self._executor)
    try:
        with pytest.raises(Recorded):
            launcher.launch([["seed=0"]], 0)
    finally:
        submitit.AutoExecutor.map_array = before
    assert SlurmExecutor.affinity() > 0
    return dict(re.findall(r"#SBATCH --([\w-]+)=(\S+)", asked["text"]))


@pytest.mark.usefixtures("slurm_tools")
@pytest.mark.parametrize(
    ("trainer", "nodes", "tasks", "gpus"),
    [
        (["trainer=gpu"], "1", "1", "1"),
        (["trainer=ddp", "trainer.devices=4"], "1", "4", "4"),
        (["trainer=ddp", "trainer.devices=8", "trainer.num_nodes=2"], "2", "8", "8"),
        (["trainer=cpu"], "1", "1", None),
    ],
)
def test_slurm_is_asked_for_what_the_trainer_uses(tmp_path, trainer, nodes, tasks, gpus):
    config = prepare("hydra/launcher=submitit_slurm", "hydra.sweep.dir=/sweep", *trainer)
    lines = sbatch_lines(config, tmp_path / "jobs")
    assert (lines["nodes"], lines["ntasks-per-node"]) == (nodes, tasks)
    assert lines.get("gpus-per-node") == gpus
    assert (lines["time"], lines["signal"], lines["mem"]) == ("1440", "USR2@120", "32GB")
    assert lines["job-name"] == "default"
    assert "partition" not in lines


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["trainer=ddp", "tasks_per_node=1"], "tasks_per_node: found 1, but trainer.devices is 2"),
        (["trainer=ddp", "gpus_per_node=1"], "gpus_per_node: found 1, but each node runs 2 ranks"),
        (["trainer=ddp", "nodes=3"], "nodes: found 3, but trainer.num_nodes is 1"),
        (["trainer=cpu", "gpus_per_node=2"], "gpus_per_node: found 2, but trainer.accelerator is"),
        (["timeout_min=0"], "timeout_min: found 0; use a whole number of at least 1"),
        (["timeout_min=2"], "signal_delay_s: found 120 s before the end of 2 min"),
        (["cpus_per_task=0"], "cpus_per_task: found 0"),
        (["array_parallelism=0"], "array_parallelism: found 0"),
        ([], "finds no sbatch and srun"),
    ],
)
def test_slurm_options_that_make_no_sense_are_refused(monkeypatch, tmp_path, overrides, says):
    monkeypatch.setenv("PATH", str(tmp_path))
    given = [one if "trainer" in one else f"hydra.launcher.{one}" for one in overrides]
    with pytest.raises(ValueError, match=re.escape(says)):
        prepare("hydra/launcher=submitit_slurm", "hydra.sweep.dir=/sweep", *given)


@pytest.mark.usefixtures("slurm_tools")
def test_slurm_is_not_asked_for_jobs_of_two_kinds():
    config = composed("hydra/launcher=submitit_slurm", "hydra.sweep.dir=/sweep", "trainer=ddp")
    others = [composed("trainer=ddp", f"trainer.devices={number}") for number in (2, 4)]
    with pytest.raises(ValueError, match=r"trainer\.devices: found 2 and 4 in one sweep"):
        prepare_launcher(launcher_of(config), config, others)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["hydra.launcher.workers=0"], "hydra.launcher.workers: found 0"),
        (["hydra.launcher.workers=many"], "hydra.launcher.workers: found 'many'"),
        (["trainer=ddp", "trainer.num_nodes=2"], "use hydra/launcher=submitit_slurm"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs: found 0"),
        (
            ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2"],
            "hydra.launcher.tasks_per_node: found 2",
        ),
        (
            ["hydra/launcher=ray", "trainer=ddp", "hydra.launcher.ray.remote.num_gpus=1"],
            "hydra.launcher.ray.remote.num_gpus: found 1, but a job uses 2",
        ),
    ],
)
def test_options_of_other_launchers_that_make_no_sense_are_refused(overrides, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        prepare("hydra.sweep.dir=/sweep", *overrides)


@pytest.mark.parametrize(
    ("launcher", "blocked", "extra"),
    [
        ("joblib", "joblib", "joblib"),
        ("submitit_slurm", "submitit", "slurm"),
        ("ray", "ray", "ray"),
    ],
)
def test_a_missing_launcher_is_refused_by_its_extra(
    clif_exp, tmp_path, monkeypatch, launcher, blocked, extra
):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {blocked!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    result = clif_exp("-m", "seed=0,1", f"hydra/launcher={launcher}", fresh=True)
    assert result.code == 2
    said = [line for line in result.errors.splitlines() if "clif_exp: error:" in line]
    assert said == [
        f"clif_exp: error: hydra/launcher: '{launcher}' needs {blocked}, which is not installed;"
        f' run pip install "clif_exp[{extra}]"'
    ]
    assert not (tmp_path / "multirun").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["hydra/launcher=slrm"], "hydra/launcher: 'slrm' is no choice; there are: "),
        (
            ["hydra/launcher=joblib", "hydra.launcher.n_jobs=two"],
            "hydra.launcher.n_jobs: Value 'two'",
        ),
        (["hydra/launcher=joblib", "hydra.launcher.jobs=2"], "hydra.launcher.jobs: no such key"),
    ],
)
def test_a_launchers_unknown_name_and_options_are_refused_in_a_line(clif_exp, overrides, says):
    result = clif_exp("-m", "seed=0,1", *overrides, fresh=True)
    assert result.code == 2
    assert result.errors.startswith(f"clif_exp: error: {says}")
    assert len(result.errors.splitlines()) == 1
