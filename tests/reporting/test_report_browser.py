"""The page in a real browser: what a reader does with it, by mouse and by keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from corgi.cli.browser import find_browser
from corgi.reporting.page.render import page
from tests.reporting.example_cases import HOSTILE, example_pictures, large_report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
COUNT = 230

if find_browser() is None:
    pytest.skip("no browser of the Chromium family found: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two runs, with pictures on the cards of the smallest radii."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page(large_report(COUNT), example_pictures, "ab" * 32, 60_000), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def only_tab(browser: playwright.Browser) -> playwright.Page:
    opened = browser.new_page()
    opened.set_default_timeout(120_000)  # of a machine that does ten other things
    return opened


@pytest.fixture
def tab(only_tab: playwright.Page, file: Path) -> Iterator[playwright.Page]:
    """The page, newly open; at the end it must have raised no error and asked nobody for anything."""
    faults: list[str] = []
    listeners = {
        "pageerror": lambda error: faults.append(str(error)),
        "console": lambda message: faults.append(message.text),
        "request": lambda request: faults.append(request.url) if is_foreign(request.url) else None,
    }
    for event, listener in listeners.items():
        only_tab.on(event, listener)
    only_tab.emulate_media(color_scheme="light", media="screen")
    only_tab.set_viewport_size({"width": 1280, "height": 900})
    only_tab.goto("about:blank")
    only_tab.goto(file.as_uri())
    yield only_tab
    for event, listener in listeners.items():
        only_tab.remove_listener(event, listener)
    assert not faults


def is_foreign(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def names(tab: playwright.Page) -> list[str]:
    return tab.locator("#rows .name").all_inner_texts()


def column(tab: playwright.Page, title: str) -> list[str]:
    titles = [t.split(" ")[0] for t in tab.locator("#rows th").all_inner_texts()]
    return tab.locator(f"#rows tbody td:nth-child({titles.index(title) + 1})").all_inner_texts()


def sort_by(tab: playwright.Page, title: str) -> None:
    tab.get_by_role("columnheader", name=title).get_by_role("button").click()


def test_opens_with_figures_charts_and_rows(tab: playwright.Page) -> None:
    assert tab.title() == "Many signs"
    assert tab.locator("#count").inner_text() == f"{COUNT + 11} results"
    assert len(names(tab)) == 100
    assert tab.locator(".run:visible .headline dd").count() >= 5
    assert tab.locator(".run:visible svg").count() == 3
    tab.get_by_role("button", name="Next").click()
    assert tab.locator("#place").inner_text() == "page 2 of 3"


def test_a_name_that_is_markup_is_text(tab: playwright.Page) -> None:
    tab.locator("#text").fill("alert")
    assert names(tab) == [HOSTILE.removeprefix("a/")]
    tab.locator("#rows .name").click()
    tab.wait_for_selector("dialog[open]")
    assert tab.locator("#card-title").inner_text() == HOSTILE
    assert "No answer" in tab.locator("#card .claim").inner_text()


def test_sorts_both_ways_with_empty_cells_last(tab: playwright.Page) -> None:
    tab.locator("#of-run").select_option("0")
    sort_by(tab, "Certified")
    up = [float(text) for text in column(tab, "Certified")]
    assert up == sorted(up)
    assert up[0] == 0.0001
    sort_by(tab, "Certified")
    down = [float(text) for text in column(tab, "Certified")]
    assert down == sorted(down, reverse=True)
    assert tab.locator("th[aria-sort=descending]").inner_text().startswith("Certified")
    for _ in range(2):
        tab.get_by_role("button", name="Next").click()
    assert column(tab, "Certified")[-1] == "-"


def test_filters_by_text_run_status_and_radius(tab: playwright.Page) -> None:
    for field, value, count in (("#of-run", "1", 10), ("#of-status", "failed", 1)):
        tab.locator(field).select_option(value)
        assert len(names(tab)) == count
        tab.get_by_role("button", name="Clear").click()
        playwright.expect(tab.locator("#count")).to_have_text(f"{COUNT + 11} results")
    tab.locator("#text").fill("no entry 007")
    assert set(names(tab)) == {"007.png"}
    tab.locator("#text").fill("")
    tab.locator("#from").fill("0.001")
    tab.locator("#to").fill("0.002")
    shown = [float(text) for text in column(tab, "Certified")]
    assert shown
    assert all(0.001 <= radius <= 0.002 for radius in shown)


def test_a_click_opens_the_card_with_pictures_and_json(tab: playwright.Page) -> None:
    tab.get_by_role("button", name="000.png").first.click()
    tab.wait_for_selector("dialog[open]")
    card = tab.locator("#card")
    assert "For every image within" in card.locator(".claim").inner_text()
    assert "confirmed by onnxruntime" in card.inner_text()
    assert card.locator(".panels img").count() == 7
    assert card.locator("rect.kept").count() > 15
    assert card.locator("rect.lost").count() > 0
    broken = (
        "[...document.querySelectorAll('#card img')].filter((i) => !i.complete || !i.naturalWidth).length"
    )
    for _ in range(100):  # wait_for_function would evaluate text in the page, which its policy forbids
        if tab.evaluate(broken) == 0:
            break
        tab.wait_for_timeout(50)
    assert tab.evaluate(broken) == 0
    card.locator("summary").click()
    assert json.loads(card.locator("pre").inner_text())["image"] == "a/000.png"
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save as file").click()
    assert json.loads(download.value.path().read_text())["image"] == "a/000.png"
    tab.get_by_role("button", name="Close").click()
    assert not card.is_visible()
    tab.get_by_role("button", name="001.png").first.click()
    card.get_by_text("Without pictures").wait_for()


def test_everything_works_from_the_keyboard(tab: playwright.Page) -> None:
    def focused() -> str:
        return str(tab.evaluate("document.activeElement.textContent"))

    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "text"
    tab.keyboard.type("png")
    tab.keyboard.press("ArrowDown")
    assert focused() == "000.png"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("dialog[open]")
    assert tab.locator("#card-title").inner_text() == "a/001.png"
    assert tab.url.endswith("#image-2")
    tab.keyboard.press("ArrowRight")
    playwright.expect(tab.locator("#card-title")).to_have_text("a/002.png")
    tab.keyboard.press("Escape")
    playwright.expect(tab.locator("#card")).not_to_be_visible()
    assert focused() == "002.png"
    tab.locator("#rows .name").last.focus()
    tab.keyboard.press("ArrowDown")
    assert focused() == "100.png"
    assert tab.locator("#place").inner_text() == "page 2 of 3"
    tab.keyboard.press("ArrowUp")
    assert focused() == "099.png"


def test_a_link_to_a_card_opens_it(tab: playwright.Page, file: Path) -> None:
    tab.goto(f"{file.as_uri()}#image-5")
    tab.wait_for_selector("dialog[open]")
    assert tab.locator("#card-title").inner_text() == "a/004.png"


def test_compares_two_runs(tab: playwright.Page) -> None:
    compared = tab.locator("#compared")
    assert "images in both runs" in compared.inner_text()
    assert compared.locator("dd").first.inner_text().startswith("10")
    assert (compared.locator("path.points").get_attribute("d") or "").count("M") == 10
    tab.locator("#second").select_option("0")
    assert compared.inner_text() == "Choose two different runs."
    tab.locator("#second").select_option("1")
    compared.get_by_role("button").first.click()
    tab.wait_for_selector("dialog[open]")


def test_shows_one_run_at_a_time(tab: playwright.Page) -> None:
    tab.locator("#run").select_option("1")
    assert tab.locator(".run:visible h3").all_inner_texts() == ["run 2: method crown"]


def test_dark_by_system_and_by_button(tab: playwright.Page) -> None:
    def ground() -> int:
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in str(colour).strip("rgb()").split(",")[:3])

    assert ground() == 3 * 255
    tab.emulate_media(color_scheme="dark")
    assert ground() < 150
    tab.get_by_role("button", name="Light").click()
    assert ground() == 3 * 255


def test_fits_a_phone(tab: playwright.Page) -> None:
    for width in (320, 375):
        tab.set_viewport_size({"width": width, "height": 700})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator("#rows .name").first.click()
    tab.wait_for_selector("dialog[open]")
    box = tab.locator("#card").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 375


def test_prints_all_rows_and_all_runs(tab: playwright.Page) -> None:
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(names(tab)) == COUNT + 11
    assert tab.locator(".run:visible").count() == 2
    assert not tab.locator("#filters").is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert len(names(tab)) == 100


def test_without_its_script_the_page_says_so_and_keeps_its_figures(
    browser: playwright.Browser, file: Path
) -> None:
    tab = browser.new_context(java_script_enabled=False).new_page()
    tab.goto(file.as_uri())
    assert "Without its script" in tab.locator("main").inner_text()
    assert tab.locator(".run").nth(1).is_visible()
    tab.context.close()
