"""What is known of the launchers: which extra installs them, which of their options make sense."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from clif_exp.runs.entry import run
from clif_exp.sweeps.task import run_apart, run_here, run_scheduled


@dataclass(frozen=True)
class Launcher:
    """A launcher of jobs.

    Attributes:
        name: the choice of `hydra/launcher`.
        task: what it calls for a job.
        packages: what it is made of, as imported.
        extra: of this package, which installs them.
    """

    name: str
    task: TaskFunction
    packages: tuple[str, ...] = ()
    extra: str = ""


_SUBMITIT = ("hydra_plugins.hydra_submitit_launcher", "submitit")
_RAY = ("hydra_plugins.hydra_ray_launcher", "ray")
_JOBLIB = ("hydra_plugins.hydra_joblib_launcher", "joblib")
_KNOWN = {  # end of `_target_` -> launcher
    "clif_exp_sweeps.LocalLauncher": Launcher("local", run_here),
    "JoblibLauncher": Launcher("joblib", run_apart, _JOBLIB, "joblib"),
    "submitit_launcher.LocalLauncher": Launcher("submitit_local", run_apart, _SUBMITIT, "slurm"),
    "SlurmLauncher": Launcher("submitit_slurm", run_scheduled, _SUBMITIT, "slurm"),
    "RayLauncher": Launcher("ray", run_scheduled, _RAY, "ray"),
}
_OTHER = Launcher("another launcher", run_apart)
_PACKAGE = "hydra.launcher"


def start_launcher(
    config: DictConfig,
    jobs: Sequence[DictConfig],
    *,
    context: HydraContext,
    task_function: TaskFunction,
) -> HydraLauncher:
    """Return the launcher that a sweep's config names, checked and quiet.

    Args:
        config: of the sweep; `hydra.sweep.dir` is set.
        jobs: the jobs' configs.
        context: of Hydra.
        task_function: what runs a job; around `runs.entry.run` each launcher has a function of its
            own, another is called as it is.

    Raises:
        ValueError: its packages are not installed, or an option cannot work.
    """
    found = launcher_of(config)
    prepare_launcher(found, config, jobs)
    return Plugins.instance().instantiate_launcher(
        hydra_context=context,
        task_function=found.task if task_function is run else task_function,
        config=config,
    )


def launcher_of(config: DictConfig) -> Launcher:
    """Return what is known of the launcher that a sweep's config names.

    Raises:
        ValueError: its packages are not installed; names the extra.
    """
    target = str(OmegaConf.select(config, f"{_PACKAGE}._target_"))
    found = next((it for end, it in _KNOWN.items() if target.endswith(end)), _OTHER)
    if missing := [package for package in found.packages if not _installed(package)]:
        raise ValueError(
            f"hydra/launcher: {found.name!r} needs {' and '.join(missing)}, which"
            f" {'are' if len(missing) > 1 else 'is'} not installed; run"
            f' pip install "clif_exp[{found.extra}]"'
        )
    return found


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def prepare_launcher(launcher: Launcher, config: DictConfig, jobs: Sequence[DictConfig]) -> None:
    """Check a launcher's options before anything is started, and make it quiet.

    Args:
        launcher: from `launcher_of`.
        config: of the sweep.
        jobs: the jobs' configs.

    Raises:
        ValueError: names the option, what was found and what would do.
    """
    options: Any = OmegaConf.to_container(OmegaConf.select(config, _PACKAGE), resolve=True)
    trainers = [dict(OmegaConf.select(job, "trainer") or {}) for job in jobs]
    if launcher.name == "submitit_slurm":
        _check_slurm(options, trainers)
        return
    if several := next((it for it in trainers if it.get("num_nodes", 1) != 1), None):
        raise ValueError(
            f"trainer.num_nodes: found {several['num_nodes']}, but hydra/launcher={launcher.name}"
            " starts a job on one machine; use hydra/launcher=submitit_slurm"
        )
    if launcher.name == "local":
        _at_least(options, "workers", 1, unless="auto")
    elif launcher.name == "joblib" and options.get("n_jobs") == 0:
        raise ValueError(f"{_PACKAGE}.n_jobs: found 0; state how many jobs run at once, as in 2")
    elif launcher.name == "submitit_local":
        _at_least(options, "timeout_min", 1)
        _one_task(options)
        _share_cores(len(jobs))
    elif launcher.name == "ray":
        _check_ray(options, trainers)


def _one_task(options: Mapping[str, Any]) -> None:
    if options.get("tasks_per_node", 1) != 1 or options.get("nodes", 1) != 1:
        raise ValueError(
            f"{_PACKAGE}.tasks_per_node: found {options['tasks_per_node']} on {options['nodes']}"
            " nodes, but on this machine a job starts its other ranks itself; use 1 on 1"
        )


def _share_cores(jobs: int) -> None:
    """Divide the cores among jobs that all start at once, and inherit this environment."""
    from clif_exp.sweeps.local import cores

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))


def _check_ray(options: Mapping[str, Any], trainers: Sequence[Mapping[str, Any]]) -> None:
    remote = (options.get("ray") or {}).get("remote") or {}
    given, most = remote.get("num_gpus") or 0, max(map(_gpus, trainers), default=0)
    if given < most:
        raise ValueError(
            f"{_PACKAGE}.ray.remote.num_gpus: found {given}, but a job uses {most}"
            f" (trainer.devices); use {_PACKAGE}.ray.remote.num_gpus={most}"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to Ray's makers
    # A job that asked for no GPU sees none: those of others are not its own.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")


def _check_slurm(options: Mapping[str, Any], trainers: Sequence[Mapping[str, Any]]) -> None:
    for name, least in {
        "timeout_min": 1,
        "cpus_per_task": 1,
        "mem_gb": 1,
        "array_parallelism": 1,
        "max_num_timeout": 0,
        "signal_delay_s": 0,
    }.items():
        _at_least(options, name, least)
    if options["signal_delay_s"] >= 60 * options["timeout_min"]:
        raise ValueError(
            f"{_PACKAGE}.signal_delay_s: found {options['signal_delay_s']} s before the end of"
            f" {options['timeout_min']} min (timeout_min): a job would be stopped as it starts"
        )
    for key in ("devices", "num_nodes", "accelerator"):
        if len(found := sorted({str(trainer.get(key)) for trainer in trainers})) > 1:
            raise ValueError(
                f"trainer.{key}: found {' and '.join(found)} in one sweep, but Slurm is asked for"
                " the same machines for every job; start a sweep for each"
            )
    trainer = trainers[0]
    for option, key in {"nodes": "num_nodes", "tasks_per_node": "devices"}.items():
        if options.get(option, 1) != trainer.get(key):
            raise ValueError(
                f"{_PACKAGE}.{option}: found {options.get(option, 1)}, but trainer.{key} is"
                f" {trainer.get(key)}; leave {option} out, it follows trainer.{key}"
            )
    _check_slurm_gpus(options, trainer)
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ValueError(
            "hydra/launcher: 'submitit_slurm' finds no sbatch and srun on this machine; start the"
            " sweep where they are, or use hydra/launcher=local"
        )


def _check_slurm_gpus(options: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    needed, stated = _gpus(trainer), options.get("gpus_per_node")
    if options.get("gpus_per_task") is not None:
        stated = options["gpus_per_task"] * options.get("tasks_per_node", 1)
    if stated is None and options.get("gres"):
        return  # a kind of GPU that only the cluster knows
    if (stated or 0) < needed:
        raise ValueError(
            f"{_PACKAGE}.gpus_per_node: found {stated or 0}, but each node runs {needed} rank"
            f"{'s' if needed > 1 else ''} on a GPU of its own (trainer.devices); leave"
            " gpus_per_node out, it follows trainer.devices"
        )
    if stated and not needed:
        raise ValueError(
            f"{_PACKAGE}.gpus_per_node: found {stated}, but trainer.accelerator is"
            f" {trainer.get('accelerator')}, which uses none; use trainer=gpu"
        )


def _gpus(trainer: Mapping[str, Any]) -> int:
    devices = trainer.get("devices")
    uses = trainer.get("accelerator") in ("gpu", "cuda")
    return devices if uses and isinstance(devices, int) else 0


def _at_least(options: Mapping[str, Any], name: str, least: int, unless: str | None = None) -> None:
    value = options.get(name)
    if value is None or value == unless:
        return
    if not isinstance(value, int) or value < least:
        raise ValueError(
            f"{_PACKAGE}.{name}: found {value!r}; use a whole number of at least {least}"
            + (f", or {unless}" if unless else "")
        )
