"""What `comparison.html` does in a browser."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synthetic_runs import draw_images, page_of, sweep


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    """Twelve runs over methods, ranks and seeds, of which the fifth failed."""
    folder = tmp_path_factory.mktemp("twelve")
    images = {place: draw_images(folder / "images", start=place) for place in range(12)}
    runs = sweep(12, images_of=images, failed=[4])
    figure = "<svg width='40' height='9'><rect width='40' height='9'></rect></svg>"
    return page_of(folder, runs, sections=[("Importance", figure)])


def names(page):
    return page.locator("#table tbody tr:visible .name > span:nth-child(2)").all_inner_texts()


def column(page, key):
    return page.locator(f"#table tbody td[data-key='{key}'] .value").all_inner_texts()


def pick(page, *places):
    for place in places:
        page.locator(f"#table tr[data-run='{place}'] .pick input").check()


def flip_shown(page):
    return page.locator("#viewer .side.front").get_attribute("src")


def test_the_head_says_what_is_compared_and_what_differs(twelve, open_page):
    page = open_page(twelve)
    head = page.locator("header").inner_text()
    assert "ranks" in head and "12 runs" in head
    pills = page.locator(".facts span").all_inner_texts()
    assert pills == ["finished11", "failed1", "seeds3", "commit0a0f276"]
    assert page.locator(".differing dt").all_inner_texts() == ["method", "diffusion.rank"]
    assert "diffusion.steps" not in page.locator("#settings").inner_text(), "folded"
    page.locator("#settings summary").click()
    assert "diffusion.steps\t800" in page.locator("#settings").inner_text()
    assert page.locator("#more-1 svg rect").count() == 1
    assert page.locator("nav a[href='#more-1']").inner_text() == "Importance"


def test_a_column_sorts_best_first_then_back_and_unmeasured_runs_stay_last(twelve, open_page):
    page = open_page(twelve)
    title = page.locator("th[data-key='metric:multi/identity']")
    title.locator("button").click()
    values = column(page, "metric:multi/identity")
    assert values[-1] == "–"
    assert values[:-1] == sorted(values[:-1], reverse=True) and len(values) == 12
    assert title.get_attribute("aria-sort") == "descending"
    title.locator("button").click()
    values = column(page, "metric:multi/identity")
    assert values[-1] == "–" and values[:-1] == sorted(values[:-1])
    title.locator("button").click()
    assert names(page)[0] == "method=clif, rank=4, seed=0", "the order of the runs again"
    page.locator("th[data-key='metric:multi/leakage'] button").click()
    values = [float(v.replace("−", "-")) for v in column(page, "metric:multi/leakage")[:-1]]
    assert values == sorted(values), "less is better"


def test_the_best_value_is_marked_by_a_sign_and_again_among_what_is_shown(twelve, open_page):
    page = open_page(twelve)
    best = page.locator("td.best[data-key='metric:multi/confusion']")
    values = [float(value) for value in column(page, "metric:multi/confusion") if value != "–"]
    assert best.inner_text() == f"★{min(values):.3f}"
    assert best.locator("[aria-label=best]").count() == 1
    page.locator("#search").fill("joint_lora")
    shown = [float(value) for value in column(page, "metric:multi/confusion") if value != "–"]
    assert min(shown) > min(values)
    assert best.inner_text() == f"★{min(shown):.3f}"
    assert page.locator("td[data-key='metric:told_apart']").count() == 0, "not chosen"


def test_what_a_failed_run_left_is_shown_but_neither_best_nor_in_a_mean(tmp_path, open_page):
    runs = [replace(run, metrics={"multi/identity": 0.1 * (run.seed + 1)}) for run in sweep(3)]
    runs[2] = replace(
        runs[2],
        status="failed",
        error="Traceback (most recent call last):\n  line\nValueError: why",
    )
    page = open_page(page_of(tmp_path, runs))
    assert column(page, "metric:multi/identity") == ["0.100", "0.200", "0.300"]
    assert page.locator("td.best").inner_text() == "★0.200"
    assert "why" in page.locator("#table .why").inner_text()
    page.get_by_label("Fold seeds").check()
    assert column(page, "metric:multi/identity") == ["0.150"]


def test_text_status_and_values_filter_and_are_cleared_together(twelve, open_page):
    page = open_page(twelve)
    page.locator("#search").fill("diffusion.rank=8 seed=1")
    assert names(page) == ["method=clif, rank=8, seed=1"]
    assert page.locator("#shown").inner_text() == "1 of 12 runs shown"
    page.locator("#search").fill("OutOfMemory")
    assert names(page) == ["method=joint_lora, rank=4, seed=1"]
    assert "2.00 GiB" in page.locator("#table .why").inner_text()
    page.get_by_role("button", name="Clear filters").click()
    assert len(names(page)) == 12 and page.locator("#search").input_value() == ""
    page.locator("#filter-status summary").click()
    page.get_by_label("finished (11)").uncheck()
    assert names(page) == ["method=joint_lora, rank=4, seed=1"]
    page.get_by_role("button", name="Clear filters").click()
    page.locator("[data-setting='diffusion.rank'] summary").click()
    page.locator("[data-setting='diffusion.rank']").get_by_label("4", exact=True).uncheck()
    assert len(names(page)) == 3 and all("rank=8" in name for name in names(page))
    page.locator("#search").fill("nothing at all")
    assert "No run passes the filters" in page.locator("#table").inner_text()
    assert "No run passes the filters" in page.locator("#curves").inner_text()


def test_columns_are_chosen_in_table_and_axes(twelve, open_page):
    page = open_page(twelve)
    page.locator("#columns summary").click()
    page.locator("#columns").get_by_label("told_apart").check()
    assert len(column(page, "metric:told_apart")) == 12
    assert page.locator("#parallel .axis[data-key='metric:told_apart']").count() == 1
    page.locator("#columns").get_by_label("rank").uncheck()
    assert page.locator("#table [data-key='setting:diffusion.rank']").count() == 0
    page.keyboard.press("Escape")
    assert not page.locator("#columns .panel").is_visible()


def test_seeds_fold_into_mean_and_deviation_and_open_again(twelve, open_page):
    page = open_page(twelve)
    page.get_by_label("Fold seeds").check()
    assert page.locator("#table tr.group").count() == 4
    first = page.locator("#table tr.group").first
    assert "method=clif, rank=4" in first.inner_text() and "3 seeds" in first.inner_text()
    cell = first.locator("[data-key='metric:multi/identity']").inner_text().lstrip("★")
    mean, deviation = (float(number) for number in cell.split(" ± "))
    failed = page.locator("#table tr.group").nth(1)
    assert "2 finished, 1 failed" in failed.inner_text()
    title = failed.locator("[data-key='metric:multi/identity']").get_attribute("title")
    assert title == "Mean of 2 of 3 seeds"
    first.locator(".opener").press("Enter")
    values = [float(value) for value in column(page, "metric:multi/identity")[1:4]]
    assert page.locator("#table tr:not(.group) .star").count() == 0, "means compete with means"
    assert mean == pytest.approx(sum(values) / 3, abs=0.001)
    spread = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert deviation == pytest.approx(spread, abs=0.001)
    first.locator(".pick input").check()
    assert page.locator("#table tr.chosen").count() == 3
    page.locator("th[data-key='metric:multi/identity'] button").click()
    ordered = [
        float(text.lstrip("★").split(" ±")[0])
        for text in page.locator(
            "#table tr.group [data-key='metric:multi/identity']"
        ).all_inner_texts()
    ]
    assert ordered == sorted(ordered, reverse=True)


def test_a_brush_filters_table_and_images_and_a_click_lets_go(twelve, open_page):
    page = open_page(twelve)
    page.locator("#axes").scroll_into_view_if_needed()
    box = page.locator("#parallel .axis[data-key='setting:diffusion.rank'] .hit").bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert len(names(page)) == 3 and all("rank=8" in name for name in names(page))
    heads = page.locator("#images .run-head").all_inner_texts()
    assert heads and all("rank=8" in head for head in heads)
    assert page.locator("#parallel path.out").count() == 9
    page.locator("#ranges summary").click()
    low = page.get_by_label("diffusion · rank: lowest")
    assert 4 < float(low.input_value()) <= 8, "the brush as numbers"
    page.mouse.click(x, box["y"] + box["height"] / 2)
    assert len(names(page)) == 12


def test_ranges_are_set_by_keyboard_alone(twelve, open_page):
    page = open_page(twelve)
    page.locator("#ranges summary").focus()
    page.keyboard.press("Enter")
    page.get_by_label("multi · Identity ↑: lowest").focus()
    page.keyboard.type("0.7")
    page.keyboard.press("Tab")
    values = [float(value) for value in column(page, "metric:multi/identity")]
    assert values and min(values) >= 0.7 and len(values) < 11
    assert page.locator("#parallel .active .brush").count() == 1
    page.get_by_label("method: lowest").select_option("joint_lora")
    assert not any("method=clif" in name for name in names(page))


def test_curves_follow_the_ticked_runs_in_colour_and_line_style(twelve, open_page):
    page = open_page(twelve)
    pick(page, 3, 6)
    curves = page.locator("#curves path.curve")
    assert curves.count() == 2
    legend = page.locator("#curves .legend-table tbody th")
    assert legend.locator("span").all_inner_texts() == [
        "method=joint_lora, rank=4, seed=0",
        "method=mix_of_show, rank=4, seed=0",
    ]
    assert len(set(legend.locator("svg text").all_text_contents())) == 2, "markers"
    styles = [(c.get_attribute("style"), c.get_attribute("stroke-dasharray")) for c in curves.all()]
    assert styles[0][0] != styles[1][0] and styles[0][1] != styles[1][1]
    before = curves.first.get_attribute("d")
    page.locator("#curve").select_option(label="loss")
    assert curves.first.get_attribute("d") != before, "of another curve"
    before = curves.first.get_attribute("d")
    page.locator("#smoothing").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert curves.first.get_attribute("d") != before
    assert page.locator("#curves path.raw").count() == 2, "what was measured stays behind it"
    before = curves.first.get_attribute("d")
    page.locator("#log").check()
    assert curves.first.get_attribute("d") != before
    page.locator("#curves svg.curves").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "at step" in page.locator("#curves .legend-table thead").inner_text()
    assert "–" not in page.locator("#curves .legend-table tbody tr").first.inner_text()


def test_images_load_when_seen_and_follow_part_and_prompt(twelve, open_page):
    page = open_page(twelve)
    pick(page, 0, 3)
    images = page.locator("#images .cell img")
    assert page.evaluate("document.querySelectorAll('#images img[src]').length") == 0, "lazy"
    page.locator("#images").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#images img[src]')?.naturalWidth === 64")
    assert images.first.get_attribute("src").startswith("data:image/webp;base64,")
    assert page.locator("#images .run-head").count() == 2
    assert images.count() == 8, "two prompts and two seeds of two runs"
    page.locator("#part").select_option("single")
    page.locator("#prompt").select_option("a picture of <ada> on the beach")
    assert images.count() == 4
    assert images.first.get_attribute("alt").startswith("a picture of <ada> on the beach, seed 0")


def test_two_runs_images_flip_by_key(twelve, open_page):
    page = open_page(twelve)
    pick(page, 0, 3)
    page.locator("#images .cell").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible()
    assert "A" in page.locator("#viewer .caption").inner_text()
    first = flip_shown(page)
    page.keyboard.press("f")
    second = flip_shown(page)
    assert second != first
    assert "rank=4, seed=0" in page.locator("#viewer .caption").inner_text()
    assert "B" in page.locator("#viewer .badge").inner_text()
    page.keyboard.press("f")
    assert flip_shown(page) == first
    page.keyboard.press("ArrowDown")
    assert flip_shown(page) != first, "the next prompt or seed"
    wide = page.locator("#viewer .side.front").bounding_box()["width"]
    page.keyboard.press("+")
    assert page.locator("#viewer .side.front").bounding_box()["width"] > wide
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    page.locator("#images .cell").nth(1).click()
    assert page.locator("#viewer .badge").inner_text() == "B", "the run that was opened is shown"


def test_two_runs_are_told_apart_by_settings_and_metrics(twelve, open_page):
    page = open_page(twelve)
    assert "the same but for the seed: 0 and 1" in page.locator("#pair").inner_text()
    page.locator("#run-b").select_option(label="method=clif, rank=8, seed=0")
    rows = page.locator("#pair [aria-label='Settings that differ'] tbody tr").all_inner_texts()
    assert rows == ["diffusion.rank\t4\t8"]
    row = page.locator("#pair [aria-label=Metrics] tbody tr", has_text="multi Identity").first
    _, a, b, difference, verdict = row.inner_text().split("\t")
    assert float(difference.replace("−", "-")) == pytest.approx(float(b) - float(a), abs=0.0011)
    assert verdict == ("B better" if float(b) > float(a) else "A better")
    page.get_by_role("button", name="Swap").click()
    assert row.inner_text().split("\t")[1:3] == [b, a]


def test_provenance_says_once_what_runs_share(twelve, open_page):
    page = open_page(twelve)
    shared = page.locator("#provenance .shared").inner_text()
    assert "AMD EPYC" in shared and "0a0f276c1d" in shared
    page.locator("#provenance summary", has_text="Of each run").click()
    table = page.locator("#provenance [aria-label='Provenance of each run']")
    table.wait_for()  # drawn when it is opened
    assert table.locator("tbody tr").count() == 12
    assert "diffusion.rank=8" in table.inner_text()
    page.locator("#provenance summary", has_text="Time of each stage").click()
    assert "reused" in page.locator("[aria-label='Time of each stage']").inner_text()


def test_the_table_is_used_by_keyboard_with_a_visible_focus(twelve, open_page):
    page = open_page(twelve)
    page.locator("#table").focus()
    page.keyboard.press("Tab")  # all runs
    page.keyboard.press("Tab")  # the first column's title
    page.keyboard.press("Enter")
    assert page.locator("th[data-key=name]").get_attribute("aria-sort") == "ascending"
    focused = page.evaluate("document.activeElement.closest('th')?.dataset.key")
    assert focused == "name", "sorting keeps the focus"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    box = page.locator("#table tbody .pick input").first
    box.focus()
    page.keyboard.press("Space")
    assert page.locator("#table tr.chosen").count() == 1
    assert page.evaluate("document.activeElement.type") == "checkbox"
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((found) =>"
        " !found.labels?.length && !found.ariaLabel && !found.textContent.trim()).length"
    )
    assert unnamed == 0, "controls without a name"


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen(twelve, open_page, width):
    page = open_page(twelve, width=width)
    page.locator("#ranges summary").click()
    for summary in page.locator("#provenance summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_follows_the_system_and_the_button(twelve, open_page):
    def surface(page):
        return page.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")

    light = surface(open_page(twelve, color_scheme="light"))
    page = open_page(twelve, color_scheme="dark")
    assert surface(page) != light
    page.locator("#theme").click()
    assert surface(page) == light and "light" in page.locator("#theme").get_attribute("aria-label")
    page.locator("#theme").click()
    assert surface(page) != light
