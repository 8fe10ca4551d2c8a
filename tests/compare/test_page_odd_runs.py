"""What `comparison.html` makes of runs that are not as they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clif_exp.compare.page import write_page
from synthetic_runs import draw_images, page_of, sweep

EVIL = "<script>document.title='broken'</script><img src=x onerror=alert(1)>"


def test_text_of_users_is_never_read_as_html(tmp_path, open_page):
    image = replace(draw_images(tmp_path / "images", prompts=1, seeds=1)[0], prompt=EVIL, part=EVIL)
    runs = [
        replace(
            run,
            name=f"method={EVIL} {run.seed}",
            error=f"{EVIL} </script>\nmore {EVIL}",
            settings={"method": f"{EVIL}{run.seed}", EVIL: run.seed, "same": EVIL},
            metrics={f"multi/{EVIL}": 0.5 + run.seed},
            provenance={"command": f"{EVIL}{run.seed}", EVIL: EVIL, "commit": str(run.seed)},
            curves={f"{EVIL}/{EVIL}": [(0, 1.0), (1, 2.0)]},
            images=[image],
        )
        for run in sweep(3, images=[image])
    ]
    page = open_page(page_of(tmp_path, runs, title=EVIL))
    assert "<script>" in page.locator("h1").inner_text()
    assert "<script>" in page.locator("#table tbody").inner_text()
    for summary in page.locator("main summary").all():
        summary.click(force=True)
    page.get_by_label("Fold seeds").check(force=True)
    page.locator("#images .cell").first.click(force=True)
    page.keyboard.press("f")
    assert page.title().startswith("Comparison")
    assert page.locator("img[src=x], main script:not([type]) ~ script:not([type])").count() == 0


def test_runs_that_have_nothing_are_shown(tmp_path, open_page):
    bare = {"metrics": {}, "curves": {}, "images": (), "seconds": {}, "provenance": {}}
    cases = {
        "one run": sweep(1),
        "no metrics, curves or images": [replace(run, **bare) for run in sweep(3)],
        "all failed": [
            replace(run, status="failed", error="It broke.", **bare) for run in sweep(3)
        ],
        "empty": [replace(run, settings={}, name="", **bare) for run in sweep(2)],
        "not finite": [
            replace(
                run,
                metrics={"multi/identity": float("nan")},
                curves={"diffusion/loss": [(0, float("inf")), (1, float("nan"))]},
            )
            for run in sweep(2)
        ],
    }
    for number, (case, runs) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        page = open_page(page_of(folder, runs, title=case))
        assert page.locator("#table tbody tr").count() == len(runs), case
        page.locator("#search").fill("nowhere")
        page.get_by_role("button", name="Clear filters").click()
        page.locator("#table .pick input").last.check()
        assert page.locator("#table tr.chosen").count() == 1, case
        assert page.locator("#images").count() == 0, case


def test_images_beside_the_file_are_found_and_old_ones_removed(tmp_path, open_page):
    runs = sweep(3, images=draw_images(tmp_path / "drawn"))
    old = sweep(3, images=draw_images(tmp_path / "old", start=9))
    page_of(tmp_path, old, images="beside")
    out = page_of(tmp_path, runs, images="beside")
    assert len(list((tmp_path / "comparison_images").glob("*.webp"))) == 8
    assert "base64" not in out.read_text()
    page = open_page(out)
    page.locator("#images").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#images img[src]')?.naturalWidth === 64")
    assert page.locator("#images .cell img").first.get_attribute("src").startswith("comparison_i")


def test_a_page_without_runs_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no runs"):
        write_page([], tmp_path / "comparison.html", title="nothing")
