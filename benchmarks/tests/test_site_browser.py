"""The site of the report in a real browser: Chromium, driven by Playwright, offline."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewshot_bench.report import write_report
from fewshot_bench.statistics import summarise
from fewshot_bench.web.marks import panels

from .made_results import failed_result, made_result, store

api = pytest.importorskip("playwright.sync_api", reason="Playwright: `nox -s browser` has it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe: see above")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no Chromium here: `apt-get install chromium`", allow_module_level=True)

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
METHODS = ("so", "lora", "dora", "full")
RUNS = [
    made_result(80 + 2 * i + s, peak=(9 - i) * 1_000_000, method=m, backbone=b, seed=s)
    for i, m in enumerate(METHODS)
    for b in ("tiny-vit", "tiny-clip")
    for s in range(3)
]
RUNS += [made_result(30, checkpoint="random"), failed_result(method="bias")]
RUNS += [made_result(70, backbone=f"new {SCRIPT}", dataset=f"../../{SCRIPT}&$x$", lr=0.25)]
SHOWN = [m for panel in panels(summarise(RUNS)) for m in panel["marks"] if m["group"] != "control"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    store(folder, *RUNS)
    write_report(folder)
    return folder / "report"


@pytest.fixture(scope="module")
def browser() -> Iterator["api.Browser"]:
    with api.sync_playwright() as driver:
        # Without the sandbox, which root cannot have; the pages are our own.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def context(browser: "api.Browser") -> Iterator["api.BrowserContext"]:
    with browser.new_context() as made:
        yield made


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: the folder that `nox -s browser` names, or one that goes."""
    folder = os.environ.get("FEWSHOT_SCREENSHOTS")
    place = Path(folder) if folder else tmp_path_factory.mktemp("shots")
    place.mkdir(parents=True, exist_ok=True)
    return place


def outside(address: str) -> list[str]:
    """Give the address if it is neither a file nor part of the page."""
    return [] if address.startswith(("file:", "data:")) else [address]


def visit(context: "api.BrowserContext", site: Path, name: str = "index.html") -> "api.Page":
    """Open a page; whatever it complains about, or asks of the network, fails the test."""
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda asked: page.complaints.extend(outside(asked.url)))
    page.goto((site / name).as_uri())
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every(plot => plot.dataset.ready)"
    )
    return page


def visible(page: "api.Page") -> list[str]:
    return page.locator("#rows tbody tr:not([hidden]) th").all_inner_texts()


def measured(axis: str) -> int:
    return sum(m["error"] is not None and m[axis] is not None for m in SHOWN)


def test_every_page_loads_without_a_complaint(context, site: Path):
    names = sorted(path.name for path in site.glob("*.html"))
    assert len(names) == 1 + 3 + 2 + len(METHODS) + 1  # overview, backbones, datasets, methods
    for name in names:
        page = visit(context, site, name)
        assert not page.complaints, name
        assert page.locator("h1").count() == 1
        page.close()


@pytest.mark.parametrize("axis", ["memory", "step"])
def test_the_plots_have_a_mark_per_measured_row(context, site: Path, axis: str):
    page = visit(context, site)
    points = page.locator(f".plot[data-axis={axis}] path.point")
    assert points.count() == measured(axis)
    said = points.evaluate_all("all => all.map(point => point.getAttribute('aria-label'))")
    for mark in (m for m in SHOWN if m["error"] is not None):
        wanted = f"memory {mark['memory']:g} MB"
        assert any(mark["label"] in label and wanted in label for label in said), mark
    # Plotly draws where the numbers are: more memory lies further to the right.
    places = (
        page.locator(".plot[data-axis=memory]")
        .nth(1)
        .evaluate("plot => plot.data.slice(1).map(d => [d.x[0], d.y[0]])")
    )
    first = panels(summarise(RUNS))[1]["marks"]
    expected = [[m["memory"], m["error"]] for m in first if m["group"] != "control"]
    assert [number for place in places for number in place] == pytest.approx(
        [number for place in expected for number in place]
    )


def test_the_control_is_drawn_where_it_is_asked_for(context, site: Path):
    page = visit(context, site)
    before = page.locator("path.point").count()
    page.get_by_label("draw the control").check()
    page.wait_for_selector("path.point[aria-label*='so (random)']")
    assert page.locator("path.point").count() == before + 2


def test_filters_choose_rows_and_marks(context, site: Path):
    page = visit(context, site)
    total = len(visible(page))
    page.get_by_label("backbone").select_option("tiny-clip")
    assert set(visible(page)) == set(METHODS)
    page.get_by_label("group").select_option("others")
    assert set(visible(page)) == {"lora", "dora"}
    page.wait_for_function("document.querySelectorAll('path.point').length === 4")
    page.get_by_label("method contains").fill("DOR")
    assert visible(page) == ["dora"]
    assert page.locator("#count").inner_text() == f"1 of {total} rows"
    page.get_by_label("method contains").fill("no such method")
    assert visible(page) == []
    assert page.locator("path.point").count() == 0
    assert not page.complaints


def test_a_heading_sorts_by_mouse_and_keyboard(context, site: Path):
    page = visit(context, site)

    def column() -> list[float]:
        cells = page.locator("#rows tbody tr td:nth-child(7)")
        return [float(v) for v in cells.evaluate_all("all => all.map(c => c.dataset.value)") if v]

    button = page.get_by_role("button", name="memory, MB")
    button.click()
    assert column() == sorted(column(), reverse=True)
    assert column() != sorted(column())
    button.focus()
    page.keyboard.press("Enter")
    assert column() == sorted(column())
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("memory")


def test_marks_show_their_values_under_the_pointer_and_the_keyboard(context, site: Path):
    page = visit(context, site)
    plot = page.locator(".plot").nth(2)  # the first two have a single mark
    plot.scroll_into_view_if_needed()
    box = plot.locator("path.point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer text")
    plot.locator("path.point").first.focus()
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first != second
    page.wait_for_function(
        "name => document.querySelector('.hoverlayer text')?.textContent.includes(name)",
        arg=second.split(";")[0],
    )
    assert plot.locator("path.point[tabindex='0']").count() == 1
    assert not page.complaints


def test_the_tab_key_reaches_everything(context, site: Path):
    page = visit(context, site)
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.add(page.evaluate("document.activeElement.tagName.toLowerCase()"))
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none", page.evaluate("document.activeElement.outerHTML")
    assert {"a", "summary", "select", "input", "path", "button"} <= reached


@pytest.mark.parametrize("name", ["index.html", "method-lora.html"])
def test_a_phone_scrolls_down_only(browser, site: Path, name: str):
    with browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True) as context:
        page = visit(context, site, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing(browser, site: Path, scheme: str, width: int, shots: Path):
    size = {"width": width, "height": 800}
    with browser.new_context(color_scheme=scheme, viewport=size) as context:
        page = visit(context, site)
        page.screenshot(path=shots / f"overview-{scheme}-{width}.png", full_page=True)
        # Preloading fetches style sheets, which the pages' policy forbids.
        found = axe.Axe().run(page, options={"preload": False}).response
        assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
        assert len(found["passes"]) > 20
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_axe_can_find_something(context, site: Path):
    page = visit(context, site)
    page.evaluate("document.documentElement.removeAttribute('lang')")
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    assert "html-has-lang" in [violation["id"] for violation in found]


def test_names_from_strangers_are_text(context, site: Path):
    page = visit(context, site)
    assert SCRIPT in page.locator("#rows").inner_text()
    assert page.locator("script:not([src]):not([type])").count() == 0
    assert page.locator("img").count() == 0
    assert not page.complaints
