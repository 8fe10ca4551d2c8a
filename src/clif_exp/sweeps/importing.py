"""Imports what jobs need, once, in the process that forks them."""

from __future__ import annotations

import importlib
import pkgutil

_LIBRARIES = ("lightning", "matplotlib.pyplot", "peft", "skimage.segmentation", "rich.table")
_CLASSES = {  # both libraries import their classes at first use
    "diffusers": ("StableDiffusionPipeline", "AutoencoderKL", "UNet2DConditionModel"),
    "transformers": ("CLIPModel", "CLIPTextModel", "CLIPTokenizer", "CLIPProcessor", "SamModel"),
}


def import_everything() -> None:
    """Import this package and the libraries' parts that every job uses, about 10 s once."""
    import clif_exp

    for module in pkgutil.walk_packages(clif_exp.__path__, "clif_exp."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LIBRARIES:
        importlib.import_module(name)
    for name, classes in _CLASSES.items():
        library = importlib.import_module(name)
        for one in classes:
            getattr(library, one)
