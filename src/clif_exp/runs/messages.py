"""One-line errors: the field, the value found, how to fix it. And the help text."""

from __future__ import annotations

import errno
import re
from pathlib import Path

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # what a user can mend without us

# Keys of earlier versions -> their names now.
RENAMED = {
    "augmentation.canvas": "augmentation.background_share",
    "augmentation.global.canvas": "augmentation.global.background_share",
    "augmentation.mix.canvas": "augmentation.mix.background_share",
    "augmentation.region.canvas": "augmentation.region.background_share",
    "contrastive.identical_parts": "contrastive.identical_part_threshold",
    "contrastive.max_scale": "contrastive.max_logit_scale",
    "contrastive.norm_weight": "contrastive.norm_loss_weight",
    "contrastive.scale": "contrastive.logit_scale",
    "diffusion.noise_bias": "diffusion.timestep_bias",
    "diffusion.pair_weight": "diffusion.pair_share",
    "diffusion.prior_images": "diffusion.prior.images",
    "diffusion.prior_weight": "diffusion.prior_share",
    "diffusion.validation.pictures": "diffusion.validation.images",
}

HELP = """\
python -m clif_exp [-m] [group=choice ...] [key=value ...]

CLIF: teach a text-to-image model several concepts of your own without confusing them.

Examples
  python -m clif_exp                             the whole method on the embedded default
  python -m clif_exp debug=fast                  the same with the smallest budget
  python -m clif_exp +experiment=ablate_raug     an experiment
  python -m clif_exp -m seed=0,1,2               a sweep
  python -m clif_exp -m hparams_search=stage2    a search for the best settings
  python -m clif_exp dataset=folder dataset.root=my_concepts model=sd15 trainer=gpu

Groups
{groups}

  --cfg job          the composed config         --multirun, -m     a sweep
  --info defaults    what it is composed of      --hydra-help       Hydra's own options
  HYDRA_FULL_ERROR=1 shows an error's traceback.
  `python -m clif_exp.compare multirun/NAME` compares the jobs of a sweep, or any runs.
  `python -m clif_exp.generate --help` draws with an export, `python -m clif_exp.merge --help`
  makes one of several.
  `python -m clif_exp.artifacts ls` shows what has been computed.
  `python -m clif_exp.toonworld words` lists the words that the embedded base model knows.
"""


def help_text() -> str:
    """Return what `--help` prints.

    Hydra's own help loads every config, which takes longer than composing one.
    """
    root = config_folder()
    folders = sorted(
        folder.relative_to(root).as_posix()
        for folder in root.rglob("*")
        if any(folder.glob("*.yaml"))
    )
    signs = {"experiment": "+"}
    return HELP.format(
        groups="\n".join(
            f"  {signs.get(name, '') + name + '=':23s} {', '.join(choices(name))}"
            for name in folders
        )
    )


def config_folder() -> Path:
    """Return conf/: inside the package in a wheel, beside src/ in a checkout."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "conf"


def choices(group: str) -> list[str]:
    """Return the choices of a config group."""
    return sorted(file.stem for file in (config_folder() / group).glob("*.yaml"))


def composition_error(error: BaseException) -> str:
    """Put Hydra's explanation of a config that it cannot compose into one line."""
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import InterpolationResolutionError

    chain = _causes(error)
    for outer, cause in zip([None, *chain], chain, strict=False):
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, choice = cause.missing_cfg_file.rpartition("/")
            options = ", ".join(cause.options or choices(group))
            return f"{group}: {choice!r} is no choice; there are: {options}"
        if isinstance(cause, OverrideParseException):
            return _unreadable(cause.override)
        if isinstance(outer, InterpolationResolutionError) and type(cause) is ValueError:
            return str(cause)  # of a resolver of ours
        if isinstance(cause, OSError) and (cause.filename or cause.errno in DISK_ERRORS):
            return unwritable_run(cause)
    text = "\n".join(str(cause) for cause in chain)
    # Hydra names the key in these texts only.
    if match := re.search(r"Error merging override ([^=\s]+)=", text):
        causes = [line for line in text.splitlines() if line.startswith(("Value ", "Invalid "))]
        return f"{match[1]}: {causes[0] if causes else match[0]}"
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        if "No match in the defaults list" in text:
            return (
                f"{key}: no such config group; `python -m clif_exp --help` lists them (an"
                " experiment is added: +experiment=NAME)"
            )
        if key in RENAMED:
            return f"{key}: is now called {RENAMED[key]}"
        kind = "hydra" if key.startswith("hydra.") else "job"
        return f"{key}: no such key; `python -m clif_exp --cfg {kind}` shows every key"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def _unreadable(override: str) -> str:
    """Explain how a value is written that Hydra's grammar cannot read."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: found no KEY=VALUE; `python -m clif_exp --help` shows examples"
    quoted = value.strip("'\"").replace("'", "\\'")
    return (
        f"{key}: {value!r} cannot be read; a value with letters beyond a-z, quotes or"
        f" signs like = and [ wants two pairs of quotes: \"{key}='{quoted}'\""
    )


def unwritable_run(error: OSError) -> str:
    """Explain why a run's folder cannot be written, and what would do."""
    return (
        f"paths.runs (in a sweep paths.sweeps): {error.filename or 'the folder'} cannot be written"
        f" ({error.strerror}); free some space or choose another folder, as in"
        " paths.root=FOLDER"
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what it was raised from, at most five of them."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 5:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain
