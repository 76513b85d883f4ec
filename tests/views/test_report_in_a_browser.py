"""The report in a headless Chromium: no error, no request, accessible, and its script does what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request

from lrfind.views.report.page import write_report
from tests.helpers.browser import browser as start_browser
from tests.helpers.pages import RUNS, result_of, run_of

PAGES = (*RUNS, "several")
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from start_browser()


@pytest.fixture(scope="module")
def pages(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of runs of all kinds, and one of several runs."""
    folder = tmp_path_factory.mktemp("reports")
    results = {name: result_of(run_of(name, folder)) for name in RUNS}
    files = {name: write_report([result], folder / f"{name}.html") for name, result in results.items()}
    several = [results[name] for name in ("grid", "search", "find", "range-test")]
    return files | {"several": write_report(several, folder / "several.html")}


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path]) -> Iterator[Open]:
    """Open a page. At the end nothing may have been requested, and nothing may stand on the console."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def requested(request: Request) -> None:
        if request.url not in (pages[name].as_uri() for name in pages) and not request.url.startswith(
            "data:"
        ):
            problems.append(f"requested {request.url}")

    def open_page(name: str, *, width: int = 1000, **options: str) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("request", requested)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(pages[name].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(opened: Open, name: str) -> None:
    page = opened(name, color_scheme="light")
    open_all(page)
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, runOnly=["color-contrast"]) == []


def violations(page: Page, **options: object) -> list[tuple[str, list[str]]]:
    """The rules of axe that a page breaks, each with the elements that break it."""
    found = Axe().run(page, options=options).response
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_a_screen_of_360_pixels(opened: Open, name: str) -> None:
    page = opened(name, width=360)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_copy_button_copies_the_snippet(opened: Open) -> None:
    page = opened("find")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    snippet = page.locator("#run0-snippet")
    page.get_by_role("button", name="Copy").first.click()
    assert page.evaluate("navigator.clipboard.readText()") == snippet.text_content()
    assert page.get_by_role("button", name="Copied").count() == 1
    assert page.get_by_role("status").text_content() == "Copied to the clipboard"


def test_the_copy_button_works_without_the_clipboard_of_the_browser(opened: Open) -> None:
    page = opened("find")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.addEventListener('copy', () => { window.copied = String(getSelection()); })")
    page.get_by_role("button", name="Copy").first.click()
    assert "optimizer = torch.optim.SGD" in page.evaluate("window.copied")


def chart(page: Page, title: str) -> Locator:
    return page.locator("figure.chart", has=page.get_by_role("heading", name=title))


def test_hovering_a_point_shows_its_values(opened: Open) -> None:
    page = opened("grid")
    figure = chart(page, "Final validation loss")
    tip = figure.locator(".tip")
    assert not tip.is_visible()
    point = figure.locator("path.dot.c0").first
    point.hover(force=True)
    lr, loss = point.get_attribute("data-x"), float(str(point.get_attribute("data-y")))
    lines = [line.text_content() or "" for line in tip.locator("p").all()]
    assert float(lines[0].removeprefix("learning rate ")) == float(str(lr))
    assert any(line == f"median of 2 seeds: {loss:.4g}" for line in lines)
    page.mouse.move(5, 5)
    assert not tip.is_visible()


def test_the_arrow_keys_read_the_values_of_a_chart(opened: Open) -> None:
    page = opened("train")
    figure = chart(page, "Loss, step by step")
    heard = figure.locator("[aria-live]")
    figure.locator(".frame").focus()
    page.keyboard.press("ArrowRight")
    assert (heard.text_content() or "").startswith("step 0, seed 0: ")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert (heard.text_content() or "").startswith("step 18, seed 0: ")
    page.keyboard.press("ArrowDown")
    assert "seed" in (heard.text_content() or "")
    page.keyboard.press("Escape")
    assert not figure.locator(".tip").is_visible()


def test_the_other_scale_moves_every_mark_and_the_axis_and_back_again(opened: Open) -> None:
    page = opened("train")
    figure = chart(page, "Loss, step by step")
    line, axis = figure.locator("path.line").first, figure.locator("svg[data-box]")
    drawn_by_python = line.get_attribute("d")
    dots = places(figure)
    before = axis.get_attribute("data-scale")
    other = "linear" if before == "log" else "log"
    figure.get_by_role("button", name=other).click()
    assert axis.get_attribute("data-scale") == other
    assert figure.get_by_role("button", name=other).get_attribute("aria-pressed") == "true"
    assert figure.locator(f"g.{other}").is_visible()
    assert not figure.locator(f"g.{before}").is_visible()
    assert line.get_attribute("d") != drawn_by_python
    assert places(figure) != pytest.approx(dots, abs=5)
    figure.get_by_role("button", name=str(before)).click()
    assert places(figure) == pytest.approx(dots, abs=0.2)


def places(figure: Locator) -> list[float]:
    """The height of each point of a chart."""
    dots = figure.locator(".frame path.dot").all()
    return [float(str(dot.get_attribute("transform")).rstrip(")").split()[1]) for dot in dots]


def test_the_script_draws_a_line_where_python_drew_it(opened: Open) -> None:
    page = opened("range-test")
    figure = chart(page, "Loss on the ramp")
    line = figure.locator(".frame path.line.bold")
    box = "line => { const { x, y, width, height } = line.getBBox(); return [x, y, width, height]; }"
    before = line.evaluate(box)
    for scale in ("log", "linear"):
        figure.get_by_role("button", name=scale).click()
        moved = line.evaluate(box)
        assert (moved == pytest.approx(before, abs=3)) is (scale == "linear")  # in tenths of a unit


def test_the_legend_hides_and_shows_lanes(opened: Open) -> None:
    page = opened("train")
    figure = chart(page, "Loss, step by step")
    key = figure.get_by_role("button", name="seed 1")
    line = figure.locator("path.line[data-s='1']")
    assert line.is_visible()
    key.press("Enter")
    assert key.get_attribute("aria-pressed") == "false"
    assert not line.is_visible()
    key.click()
    assert line.is_visible()


def test_the_theme_follows_the_system_until_the_button_chooses(opened: Open) -> None:
    page = opened("find", color_scheme="dark")
    color = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(color)
    page.get_by_role("button", name="Light theme").click()
    light = page.evaluate(color)
    assert (dark, light) == ("rgb(15, 19, 24)", "rgb(246, 247, 249)")

    def color_after_reload() -> str:
        page.reload()
        return str(page.evaluate(color))

    # A busy browser stores the choice a moment after the click.
    assert any(color_after_reload() == light for _ in range(5))
    assert opened("find", color_scheme="light").evaluate(color) == light


def test_a_map_of_layers_shows_its_values(opened: Open) -> None:
    page = opened("train")
    figure = page.locator("figure.heat")
    figure.locator(".map svg").first.hover(position={"x": 3, "y": 3})
    shown = figure.locator(".tip").text_content() or ""
    assert shown.startswith(f"{figure.locator('ol li').first.text_content()}, step 0gradient / weight: ")


def test_a_printed_page_is_light_and_shows_what_was_closed(opened: Open) -> None:
    page = opened("several", color_scheme="dark")
    assert not page.locator("#run3-lanes").is_visible()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#run3-lanes").is_visible()
    assert not page.get_by_role("button", name="Copy").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.locator("#run3-lanes").is_visible()


def test_a_link_to_a_run_opens_it(opened: Open) -> None:
    page = opened("several")
    assert not page.locator("#run1-lanes").is_visible()
    page.get_by_role("navigation").get_by_role("link", name="search").click()
    page.locator("#run1-lanes").wait_for(state="visible")


def test_the_report_is_whole_without_its_script(browser: Browser, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["grid"].as_uri())
    assert page.locator("figure.chart path.line").first.is_visible()
    assert not page.locator("#theme").is_visible()
    context.close()
