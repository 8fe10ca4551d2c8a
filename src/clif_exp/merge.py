"""Merge concepts that were customised in different runs into one export.

    python -m clif_exp.merge runs/milo/<timestamp>/export runs/otto/<timestamp>/export \\
      --by gradient_fusion --out both
    python -m clif_exp.generate --model both --prompt "a photo of <milo> next to <otto>" --out .

  addition         the sum of LoRAs (Orthogonal Adaptation): seconds, no model is loaded;
                   exact only where the LoRAs share no direction
  constrained      keys and values of the cross-attention that meet every concept's own
                   (Custom Diffusion)
  gradient_fusion  layers that do for each concept what its own do (Mix-of-Show): text encoders
                   and embeddings per layer too

All exports must be of one base model, which their README.md names; `--base` says where it is.
docs/methods.md says more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.files import probe_folder
from clif_exp.base_models.devices import check_device
from clif_exp.base_models.loading import be_quiet
from clif_exp.errors import report

if TYPE_CHECKING:
    from clif_exp.runs.config import Config

METHODS = {
    "addition": "orthogonal",
    "constrained": "custom_diffusion_merged",
    "gradient_fusion": "mix_of_show",
}
"""Kind of merge -> the method whose config (conf/method) has its settings."""

_SETTABLE = ("method.merging.", "export.")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and merge; a user's error is one line and exit code 2."""
    options = parse(arguments)
    be_quiet()
    try:
        merge(
            options.exports,
            by=options.by,
            out=options.out,
            base=options.base,
            renames=options.name_of,
            overrides=options.set,
            device=options.device,
        )
    except (ValueError, OSError, RuntimeError) as error:
        return report(error, memory="Use --device cpu.")
    print(options.out)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options; argparse itself reports what is wrong."""
    parser = argparse.ArgumentParser(
        "python -m clif_exp.merge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "exports", type=Path, nargs="+", metavar="EXPORT", help="export folders of runs"
    )
    parser.add_argument("--by", choices=list(METHODS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument(
        "--name-of",
        action="extend",
        nargs="+",
        default=[],
        metavar="OLD=NEW",
        help="rename a concept, where several exports have OLD that of the last one",
    )
    parser.add_argument(
        "--base", help="base model, a folder or hub id, instead of the one that README.md names"
    )
    parser.add_argument("--device", default=None, help="cpu, cuda, ...; cuda where there is one")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="other settings than conf/method has: method.merging.ridge.text=0, export.lora_rank=8",
    )
    return parser.parse_intermixed_args(arguments)


def merge(
    exports: list[Path],
    *,
    by: str,
    out: Path,
    base: str | None = None,
    renames: list[str] | None = None,
    overrides: list[str] | None = None,
    device: str | None = None,
) -> None:
    """Merge exports into one.

    Args:
        exports: their folders, two or more.
        by: a key of `METHODS`.
        out: folder of the merged export, missing or empty.
        base: base model instead of the one that the exports name.
        renames: "OLD=NEW" each.
        overrides: "method.merging.KEY=VALUE" or "export.KEY=VALUE" each.
        device: torch device; None takes CUDA where there is one.

    Raises:
        ValueError: an input that cannot work; nothing has been written.
        OSError: the export cannot be written.
    """
    from clif_exp.export.sources import check_kinds, common_base, read_sources

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"out: {out} is there and not empty. Name a new folder.")
    check_device(device)
    sources = read_sources(exports, renames=renames or [])
    config = settings_of(by, overrides or [])
    merging = config.method.merging
    assert merging is not None, "the methods of METHODS merge"
    check_kinds(sources, merging)
    spec = common_base(sources, base=base)
    from clif_exp.runs.preparation import check_merging

    check_merging(spec, merging)
    out = out.absolute()
    try:
        probe_folder(out.parent, size=2**20)
    except OSError as error:
        raise ValueError(
            f"out: {out.parent} cannot be written ({error.strerror}). Choose another folder, or"
            " free some space."
        ) from error
    import torch

    from clif_exp.diffusion.prior import general_texts
    from clif_exp.export.merging import merge_exports

    merge_exports(
        sources,
        out=out,
        spec=spec,
        merging=merging,
        export=config.export,
        general_texts=general_texts,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )


def settings_of(by: str, overrides: list[str]) -> Config:
    """Compose the config of the method that merges so, which holds the merge's settings.

    Raises:
        ValueError: an override of something else, or of a value that cannot be.
    """
    from clif_exp.runs.composing import compose

    for override in overrides:
        if not override.startswith(_SETTABLE):
            raise ValueError(
                f"set: found {override!r}. Only {' and '.join(f'{key}...' for key in _SETTABLE)}"
                " have a say in a merge."
            )
    return compose(f"method={METHODS[by]}", *overrides)


if __name__ == "__main__":
    sys.exit(main())
