"""The life of a viewer: pages that are loaded again, cells that run again, kernels that end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_apps import App, Watch, new_page, wait_for
from seen_viewer import BROKEN, RESET, SECRET, SeenViewer, cells

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LEFT, APART, INSIDE = (100.0, 60.0), (280.0, 60.0), (150.0, 100.0)
AT_0, AT_2, AT_4, AT_6 = (0, 128, 0), (64, 128, 0), (128, 128, 0), (191, 128, 0)
_COUNT_BITMAPS = """
    window.bitmaps = 0;
    const make = window.createImageBitmap;
    window.createImageBitmap = async (...all) => {
        const made = await make.apply(window, all);
        window.bitmaps++;
        return made;
    };
    const close = ImageBitmap.prototype.close;
    ImageBitmap.prototype.close = function () {
        window.bitmaps--;
        close.call(this);
    };
"""
_COMMAND = "(name) => void jupyterapp.commands.execute(name)"
_FRAMES = "viewer._main._frames._number"


@pytest.fixture
def watched(browser: Browser) -> Iterator[tuple[Page, Watch]]:
    page, watch = new_page(browser, viewport={"width": 1200, "height": 1300})
    page.add_init_script(_COUNT_BITMAPS)
    yield page, watch
    page.context.close()


@pytest.fixture
def page(watched: tuple[Page, Watch], keep_screenshot: list[Page]) -> Iterator[Page]:
    page, watch = watched
    keep_screenshot.append(page)
    yield page
    assert watch.outside == []
    assert watch.errors == []


@contextmanager
def opened(lab: App, page: Page, name: str, *notebook: str) -> Iterator[SeenViewer]:
    """A notebook that was run, near the middle of the finest level of its first viewer."""
    lab.open(page, *notebook, name=name)
    page.wait_for_selector(".ngff-tiles")
    with lab.kernel() as kernel:
        seen = SeenViewer(page, kernel)
        kernel.run(RESET)
        seen.wait_for_color(*LEFT, AT_2)
        yield seen


def canvases(page: Page, count: int) -> None:
    wait_for(lambda: page.locator(".ngff-tiles").count() == count, f"{count} canvases")


def command(page: Page, name: str) -> None:
    page.evaluate(_COMMAND, name)


def run_cell(page: Page, index: int) -> None:
    """Run a cell once more."""
    page.evaluate(f"jupyterapp.shell.currentWidget.content.activeCellIndex = {index}")
    command(page, "notebook:run-cell")


def test_a_page_that_is_loaded_again_shows_what_it_did(lab: App, page: Page, planes: Path) -> None:
    with opened(lab, page, "again", cells(planes)[0]) as seen:
        seen.checkbox("cells").check()
        seen.kernel.run(f"viewer.position = {BROKEN}")
        seen.wait_for_text("note", "could not be read")
        page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        page.reload()
        page.wait_for_selector(".ngff-tiles")
        seen.wait_for_color(*APART, (191, 255, 0))
        seen.wait_for_text("note", "could not be read")
        seen.kernel.run("viewer.position = {'t': 0.0}")
        seen.page.mouse.move(*seen.at(*INSIDE))
        seen.wait_for_text("label", SECRET)
        seen.checkbox("cells").uncheck()
        seen.wait_for_color(*INSIDE, AT_6)
        seen.handle("z").press("ArrowLeft")
        seen.wait_for_color(*LEFT, AT_4)


def test_a_viewer_in_two_cells(lab: App, page: Page, planes: Path) -> None:
    with opened(lab, page, "twice", cells(planes)[0], "viewer") as seen:
        canvases(page, 2)
        seen.handle("z").press("ArrowRight")
        colors = """() => [...document.querySelectorAll(".ngff-tiles")].map((canvas) => {
            const [x, y] = [canvas.width / 4, canvas.height / 4];
            return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].join();
        })"""
        seen.wait_for_color(*LEFT, AT_4)
        wait_for(lambda: len(set(page.evaluate(colors))) == 1, "the same in both")
        assert page.get_by_text("4 µm", exact=True).count() == 2
        page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
        command(page, "notebook:clear-cell-output")
        canvases(page, 1)
        seen.wait_for_color(*LEFT, AT_4)
        seen.handle("z").press("ArrowRight")
        seen.wait_for_color(*LEFT, AT_6)


def test_an_output_that_is_cleared_is_drawn_for_nobody(lab: App, page: Page, planes: Path) -> None:
    with opened(lab, page, "cleared", cells(planes)[0], "1", "viewer") as seen:
        canvases(page, 2)
        command(page, "notebook:clear-all-cell-outputs")
        canvases(page, 0)
        seen.wait_for_value("viewer._main.canvas.size", [0.0, 0.0])
        frames = seen.kernel.value(_FRAMES)
        seen.kernel.run("viewer.position = {'z': 0.0}")
        page.wait_for_timeout(300)
        assert seen.kernel.value(_FRAMES) == frames
        assert page.evaluate("window.bitmaps") == 0
        run_cell(page, 2)
        canvases(page, 1)
        seen.wait_for_color(*LEFT, AT_0)


def test_a_cell_that_runs_again_leaves_nothing_at_work(lab: App, page: Page, planes: Path) -> None:
    again = """\
viewer = view(tree, height=100, z=2.0)
seen = [*globals().get("seen", []), viewer]
viewer.link(other)
viewer"""
    with opened(lab, page, "rerun", *cells(planes), again) as seen:
        canvases(page, 3)
        wait_for(lambda: page.evaluate("window.bitmaps") > 0, "pictures")
        page.wait_for_timeout(500)
        bitmaps = page.evaluate("window.bitmaps")
        for count in range(2, 6):
            run_cell(page, 2)
            seen.wait_for_value("len(seen)", count)
            seen.wait_for_value("viewer._main.canvas.size[0] > 0", True)
            wait_for(lambda: seen.kernel.value(_FRAMES) > 0, "a frame")
        canvases(page, 3)
        seen.wait_for_value("[all(old._main.canvas.size) for old in seen]", [False] * 4 + [True])
        wait_for(lambda: page.evaluate("window.bitmaps") <= bitmaps, "pictures of the last alone")
        frames = "[old._main._frames._number for old in seen]"
        before = seen.kernel.value(frames)
        seen.kernel.run("other.position = {'z': 0.0}")
        seen.wait_for_value("[old.position['z'] for old in seen]", [0.0] * 5)
        wait_for(lambda: seen.kernel.value(frames)[-1] > before[-1], "a frame of the last")
        assert seen.kernel.value(frames)[:-1] == before[:-1]
        mine = "[t.name for t in __import__('threading').enumerate() if t.name.startswith('ngff')]"
        try:
            wait_for(lambda: seen.kernel.value(mine) == [], "threads to end", seconds=40)
        except TimeoutError:
            found = seen.kernel.value(mine), seen.kernel.value(frames)
            raise AssertionError(f"threads and frames: {found}") from None


def test_a_kernel_that_is_restarted_is_told(lab: App, page: Page, planes: Path) -> None:
    hint = page.locator(".ngff-hint").first
    with opened(lab, page, "restart", cells(planes)[0]) as seen:
        page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        wait_for(lambda: "kernel is gone" in (hint.text_content() or ""), "a hint")
        seen.drag(seen.at(*LEFT), seen.at(110, 70))  # what it does is in vain, and no error
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(300)
        assert "kernel is gone" in (hint.text_content() or "")
    page.wait_for_function(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    run_cell(page, 0)
    wait_for(lambda: hint.text_content() == "", "no hint")
    with lab.kernel() as kernel:
        seen = SeenViewer(page, kernel)
        kernel.run(RESET)
        seen.wait_for_color(*LEFT, AT_2)


def test_a_viewer_that_is_out_of_sight(lab: App, page: Page, planes: Path) -> None:
    with opened(lab, page, "hidden", cells(planes)[0], *["print('\\n' * 40)"] * 8) as seen:
        page.evaluate("window.notebook = jupyterapp.shell.currentWidget.id")
        command(page, "launcher:create")
        seen.wait_for_value("viewer._main.canvas.size", [0.0, 0.0])
        frames = seen.kernel.value(_FRAMES)
        seen.kernel.run("viewer.position = {'z': 6.0}")
        page.wait_for_timeout(300)
        assert seen.kernel.value(_FRAMES) == frames
        page.evaluate("jupyterapp.shell.activateById(window.notebook)")
        seen.wait_for_color(*LEFT, AT_6)
        scroll = "(index) => jupyterapp.shell.currentWidget.content.scrollToItem(index)"
        page.evaluate(scroll, 8)
        page.wait_for_timeout(500)
        assert not page.locator(".ngff-tiles").first.is_visible() or seen.box["y"] < 0
        seen.kernel.run("viewer.position = {'z': 4.0}")
        page.evaluate(scroll, 0)
        seen.wait_for_color(*LEFT, AT_4)
