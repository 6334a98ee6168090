"""The notebook of viewing in JupyterLab, as a reader of the course has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_apps import App, new_page, wait_for
from seen_viewer import SeenViewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CELL = (45.8, 40.1)  # µm: its middle, which the label covers
BESIDE = (46.0, 28.0)


@pytest.mark.slow
def test_the_viewer_of_the_notebook_draws_and_follows_the_hand(
    browser: Browser, lab: App, keep_screenshot: list[Page]
) -> None:
    pytest.importorskip("skimage", reason="the sample comes out of scikit-image")
    page, watch = new_page(browser, viewport={"width": 1200, "height": 1000})
    keep_screenshot.append(page)
    page.context.set_default_timeout(180_000)  # for all of its cells
    outputs = lab.open_file(page, NOTEBOOKS / "02_view.ipynb")
    assert all("error" not in kinds for kinds in outputs)
    assert sum("display_data" in kinds or "execute_result" in kinds for kinds in outputs) >= 8

    with lab.kernel() as kernel:
        page.evaluate(
            """() => {
                const notebook = jupyterapp.shell.currentWidget.content;
                const said = "viewer = cell.ngff.view";
                const place = notebook.widgets.findIndex(
                    (each) => each.model.sharedModel.getSource().startsWith(said));
                return notebook.scrollToItem(place, "start");
            }"""
        )
        page.locator(".ngff-tiles").first.wait_for()
        seen = SeenViewer(page, kernel)

        def view() -> list[float]:
            found: list[float] = kernel.value("list(viewer._main.canvas.view)")
            return found

        def colors() -> list[tuple[int, ...]]:
            return seen.pixels([CELL, BESIDE], view())

        def is_drawn() -> bool:
            """Tell whether the cell is bright and yellow, as the notebook asks, on dark ground."""
            inside, outside = colors()
            return inside[0] > 150 and inside[2] < 90 and 0 <= max(outside) < 100

        wait_for(is_drawn, "the cell, in yellow", seconds=60)
        labelled = colors()[0]
        seen.checkbox("cell").uncheck()  # its label
        wait_for(lambda: colors()[0] != labelled, "the cell without its label", seconds=60)
        red, green, blue = colors()[0]
        assert green / red == pytest.approx(0xD0 / 0xFF, abs=0.05)  # in the colour of the channel
        assert blue < 20

        start = kernel.value("viewer.viewport['x'][0]")
        x, y = seen.at(*CELL, view())
        seen.drag((x, y), (x - 100, y + 40))
        wait_for(lambda: kernel.value("viewer.viewport['x'][0]") > start + 2, "the view to move")
        wait_for(is_drawn, "the cell, where it was dragged", seconds=60)
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.context.close()
    assert watch.outside == []
    assert watch.errors == []
