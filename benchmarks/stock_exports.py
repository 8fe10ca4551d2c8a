"""Draws with exports by stock diffusers, without this package, and by ours: the same image?

python benchmarks/stock_exports.py runs/*/* --out experiments/stock_exports/results.json
python benchmarks/stock_exports.py both/ runs/default/2026-11-27_10-00-00-000000/export

The README of each export is followed to the letter: its Python for diffusers runs in an interpreter
that cannot import this package. Only the base model's folder, the number of steps, the guidance and
the seed are filled in, which `python -m clif_exp.generate` gets too, with `--no-regional`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.base_models.spec import packaged_weights
from clif_exp.export.reading import read_card

WITHOUT_US = "import sys; sys.modules['clif_exp'] = None; exec(open(sys.argv[1]).read())"
FILLED_IN = "num_inference_steps=25, guidance_scale=5.0, generator=torch.Generator().manual_seed(0)"
CALL = re.compile(r'pipe\("([^"\n]+)"\)')


def check(export: Path, *, work: Path, python: str) -> dict[str, Any]:
    """Draw one image in both ways.

    Args:
        export: an export's folder.
        work: an empty folder.
        python: the interpreter that stock diffusers runs in.

    Returns:
        Its method, whether its README claims that stock tools read all of it, and the largest and
        mean difference of a pixel, of 255; or why there is nothing to compare.
    """
    text = read_card(export)["text"]
    method = re.search(r"method `(\w+)`|merged by `(\w+)`", text)
    found: dict[str, Any] = {"method": next(filter(None, method.groups())) if method else None}
    found["claims_stock"] = "No stock tool reads all of this" not in text
    snippets = [
        code for code in re.findall(r"```python\n(.*?)```", text, re.S) if CALL.search(code)
    ]
    if not snippets:
        return found | {"stock": "its README has no Python for stock diffusers"}
    code = snippets[0].replace("<your toonworld folder>", str(packaged_weights() / "pipeline"))
    prompt = CALL.search(code)[1]  # type: ignore[index]
    code = "import torch\n" + CALL.sub(rf'pipe("\1", {FILLED_IN})', code)
    stock, ours = work / "stock.png", work / "ours.png"
    (work / "snippet.py").write_text(code.replace('"image.png"', repr(str(stock))))
    _run([python, "-I", "-c", WITHOUT_US, str(work / "snippet.py")], cwd=export)
    drawn = ["--prompt", prompt, "--seed", "0", "--out", str(ours), "--device", "cpu"]
    drawn += ["--no-regional"]  # which stock tools do not have
    _run([sys.executable, "-m", "clif_exp.generate", "--model", str(export), *drawn], cwd=work)
    pixels = [np.asarray(Image.open(file).convert("RGB"), dtype=np.int16) for file in (stock, ours)]
    difference = np.abs(pixels[0] - pixels[1])
    return found | {"largest": int(difference.max()), "mean": round(float(difference.mean()), 5)}


def _run(command: list[str], *, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")


def main() -> None:
    """Compare every export that is given; write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="exports, or runs that hold one")
    parser.add_argument("--out", type=Path, help="results as JSON")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="interpreter of an environment with stock diffusers; default: this one, in which"
        " clif_exp is made impossible to import",
    )
    options = parser.parse_args()
    results: dict[str, Any] = {
        "hardware": hardware(),
        "commit": git_commit(digits=7),
        "exports": {},
    }
    for folder in options.folders:
        export = (folder / "export" if (folder / "export").is_dir() else folder).absolute()
        if not (export / "README.md").is_file():
            continue
        with tempfile.TemporaryDirectory() as work:
            found = check(export, work=Path(work), python=options.python)
        name = export.parent.name if export.name == "export" else export.name
        results["exports"][name] = found
        print(f"{name}: {found}", flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
