"""What the comparison page of a large sweep costs: seconds to build, size, seconds to open.

python benchmarks/comparison_page.py --runs 200 --images 24 --out experiments/comparison_page

The runs are made up: settings, metrics, curves of 800 steps, and drawn images. Opening is
measured in headless Chromium from a file, in a new browser profile each time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.compare.page import write_page

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from synthetic_runs import draw_images, sweep

LIMITS = {"build_seconds": 10, "megabytes": 40, "usable_seconds": 2}
OPENED = 5  # times


def build(folder: Path, *, runs: int, images: int, side: int) -> tuple[Path, dict[str, float]]:
    """Write the page of made-up runs; return it and what that cost."""
    drawn = {
        place: draw_images(folder / "drawn", prompts=images // 2, side=side, start=place)
        for place in range(runs)
    }
    found = sweep(runs, images_of=drawn, steps=800, failed=range(7, runs, 40))
    out = folder / "comparison.html"
    wall, processor = time.perf_counter(), time.process_time()
    write_page(found, out, title=f"{runs} runs")
    return out, {
        "build_seconds": round(time.perf_counter() - wall, 2),
        "build_processor_seconds": round(time.process_time() - processor, 2),
        "megabytes": round(out.stat().st_size / 1e6, 1),
    }


def open_in_chromium(file: Path) -> dict[str, float]:
    """Open a page several times.

    Returns:
        Medians in seconds, from the start of the navigation: until the table is drawn and takes
        input, until the whole file is read, and from scrolling to the images until one is seen.
    """
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    usable, loaded, image = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments
        )
        for _ in range(OPENED):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(file.as_uri())
            usable.append(float(page.evaluate("document.documentElement.dataset.usable")) / 1e3)
            timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
            loaded.append(page.evaluate(timing) / 1e3)
            start = time.perf_counter()
            page.locator("#images .cell").first.scroll_into_view_if_needed()
            page.wait_for_function("document.querySelector('#images img[src]')?.naturalWidth > 0")
            image.append(time.perf_counter() - start)
            page.close()
        browser.close()
    medians = {"usable_seconds": usable, "loaded_seconds": loaded, "first_image_seconds": image}
    return {name: round(statistics.median(values), 2) for name, values in medians.items()}


def main() -> None:
    """Print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--images", type=int, default=24, help="of each run")
    parser.add_argument("--side", type=int, default=128, help="of the images, px")
    parser.add_argument("--out", type=Path, help="folder for results.json")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "command": f"python benchmarks/comparison_page.py --runs {args.runs}"
        f" --images {args.images} --side {args.side}",
        "hardware": hardware(),
        "commit": git_commit(digits=7),
    }
    with tempfile.TemporaryDirectory() as name:
        file, costs = build(Path(name), runs=args.runs, images=args.images, side=args.side)
        result |= costs | open_in_chromium(file)
    for measure, value in result.items():
        limit = f" (at most {LIMITS[measure]})" if measure in LIMITS else ""
        print(f"{measure}: {value}{limit}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
