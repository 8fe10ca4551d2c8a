"""CONTRIBUTING's lists are complete: a copy that is extended in the places they name works."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

METRIC = '''

def figures_found(judgement: Judgement) -> Values:
    """Figures per image, 0 and up."""
    return {(): float(judgement.figures)}
'''

METRIC_ROW = """
    Metric(
        name="figures_found",
        title="Figures found",
        groups=("single", "multi"),
        better="higher",
        range=(0, None),
        meaning="Figures per image.",
        judged=confusion.figures_found,
    ),"""

KIND = '''"""Trains the biases of the U-Net's attention outputs."""

from contextlib import contextmanager

from safetensors.torch import load_file, save_file

from clif_exp.base_models.unet_tuning.exported import Exported

FILE = "biases.safetensors"


class BiasTuning:
    merges_text_lora = False

    def check(self, layers):
        assert any(name.endswith("to_out.0") for name in layers)

    def prepare(self, unet, *, seed):
        chosen = [value for name, value in unet.named_parameters() if _is_trained(name)]
        for parameter in chosen:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        self.of_base = [parameter.data.clone() for parameter in chosen]
        return chosen

    @contextmanager
    def switched_off(self, unet):
        chosen = [value for name, value in unet.named_parameters() if _is_trained(name)]
        trained = [parameter.data for parameter in chosen]
        for parameter, value in zip(chosen, self.of_base, strict=True):
            parameter.data = value
        yield
        for parameter, value in zip(chosen, trained, strict=True):
            parameter.data = value

    def save(self, unet, out, *, pipeline_class, text_lora):
        state = unet.state_dict()
        save_file({k: v.contiguous() for k, v in state.items() if _is_trained(k)}, out / FILE)

    @classmethod
    def published_in(cls, folder):
        return (folder / FILE).is_file()

    @classmethod
    def load(cls, pipeline, folder, *, fuse=False):
        found = pipeline.unet.load_state_dict(load_file(folder / FILE), strict=False)
        assert not found.unexpected_keys

    @classmethod
    def export(cls, folder, out, *, facts):
        (out / FILE).write_bytes((folder / FILE).read_bytes())
        code = f"pipe.unet.load_state_dict(safetensors.torch.load_file({FILE!r}), strict=False)"
        return Exported(files={FILE: "diffusers"}, code=(code,))


def _is_trained(name):
    return name.endswith("to_out.0.bias")
'''

METHOD = """# @package _global_
# A method that trains biases.
#   python -m clif_exp method=biases
method:
  name: biases
  contrastive: true
  diffusion: true
diffusion:
  tuning: biases
"""


_KNOB_USE = " * settings.my_bias"


class Copy:
    """A copy of src/ and conf/ to be changed; the weights are linked."""

    def __init__(self, root: Path) -> None:
        self.package, self.conf = root / "src" / "clif_exp", root / "conf"
        original = CHECKOUT / "src" / "clif_exp"
        leave_out = shutil.ignore_patterns("weights", "__pycache__")
        shutil.copytree(original, self.package, ignore=leave_out)
        weights = Path("toonworld", "weights")
        (self.package / weights).symlink_to(original / weights)
        shutil.copytree(CHECKOUT / "conf", self.conf)

    def insert(self, file: str, after: str, text: str) -> None:
        """Put text behind the first match of a pattern; fails where there is none."""
        path = self.package / file
        source = path.read_text()
        match = re.search(after, source, re.M)
        assert match, f"{file}: nothing matches {after!r}; does CONTRIBUTING still hold?"
        path.write_text(source[: match.end()] + text + source[match.end() :])

    def append(self, path: Path, text: str) -> None:
        path.write_text(path.read_text().rstrip("\n") + "\n" + text)

    def add_knob(self) -> None:
        """Three lines: YAML, field, use."""
        self.append(self.conf / "diffusion" / "default.yaml", "my_bias: 1.0   # a test's\n")
        self.insert(
            "diffusion/settings.py", r"^    timestep_bias: .*\n", "    my_bias: AboveZero\n"
        )
        self.insert("diffusion/stage.py", r"timestep_bias=settings\.timestep_bias", _KNOB_USE)

    def add_metric(self) -> None:
        """The function, its row, and the room's VERSION."""
        self.append(self.package / "evaluation" / "confusion.py", METRIC)
        self.insert("evaluation/metrics.py", r"^METRICS: .*= \($", METRIC_ROW)
        path = self.package / "evaluation" / "settings.py"
        version = r"(?s)(class EvaluationSettings.*?VERSION: ClassVar\[int\] = )(\d+)"
        text, count = re.subn(version, lambda m: f"{m[1]}{int(m[2]) + 1}", path.read_text())
        assert count == 1
        path.write_text(text)

    def add_method(self) -> None:
        """A kind of U-Net tuning, its row, its knob, and the config."""
        tuning = "base_models/unet_tuning"
        (self.package / tuning / "biases.py").write_text(KIND)
        importing = f"from clif_exp.{tuning.replace('/', '.')}.biases import BiasTuning\n"
        self.insert(f"{tuning}/registry.py", r"^from clif_exp.*kind import .*\n", importing)
        self.insert(f"{tuning}/registry.py", r"^KINDS: .*= \{", '"biases": BiasTuning, ')
        self.append(self.conf / "diffusion" / "default.yaml", "tuning: lora\n")
        case = '\n        if self.tuning == "biases":\n            return BiasTuning()'
        self.insert("diffusion/settings.py", r"^from clif_exp.*kind import .*\n", importing)
        field = '    tuning: Literal["lora", "biases"]\n'
        self.insert("diffusion/settings.py", r"^    timestep_bias: .*\n", field)
        self.insert("diffusion/settings.py", r'def unet_tuning\(.*\n        """[^"]*"""', case)
        (self.conf / "method" / "biases.yaml").write_text(METHOD)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


def test_a_knob_a_metric_and_a_method_are_added_where_contributing_says(
    copy: Copy, clif_exp, finished, store_with_curation
):
    copy.add_knob()
    copy.add_metric()
    copy.add_method()
    original = finished.summary()
    store = store_with_curation("contrastive", "generation_stage1")
    paths = os.pathsep.join([str(copy.package.parent), str(CHECKOUT / "tests")])
    result = clif_exp(
        *("debug=fast", "method=biases", "diffusion.my_bias=1.5"),
        store=store,
        fresh=True,
        PYTHONPATH=paths,
    )
    assert result.code == 0, result.errors[-2000:]
    summary = result.summary()
    assert summary["status"] == "finished"

    fingerprint = summary["stages"]["diffusion"]["fingerprint"]
    record = json.loads((store / "diffusion" / fingerprint / "artifact.json").read_text())
    assert '"my_bias": 1.5' in json.dumps(record), "the knob enters the fingerprint"

    assert summary["metrics"]["single/figures_found"] >= 0
    assert "figures_found" in result.output or "figures found" in result.output.lower()
    assert "Figures found" in (result.folders[-1] / "report.html").read_text()

    assert summary["method"] == "biases"
    written = [file.name for file in (result.folders[-1] / "export").glob("*.safetensors")]
    assert written == ["biases.safetensors"]

    assert summary["stages"]["contrastive"]["reused"], "stage 1 knows nothing of the additions"
    assert fingerprint != original["stages"]["diffusion"]["fingerprint"]
