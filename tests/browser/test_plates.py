"""A plate in JupyterLab: all wells in one canvas, a name under the pointer, a click opens one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_apps import App, Watch, new_page, wait_for
from seen_canvas import Seen
from stores import write_plate

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CELL = """\
import xarray as xr

viewer = xr.open_datatree({path!r}).ngff.view(height=360)
viewer"""


@pytest.fixture
def opened(
    browser: Browser, lab: App, tmp_path: Path, keep_screenshot: list[Page]
) -> Iterator[tuple[Seen, Watch]]:
    rows, columns = "ABCDEF", [str(n) for n in range(1, 9)]
    path = write_plate(
        tmp_path / "screen.ome.zarr",
        rows=rows,
        columns=columns,
        wells=[f"{row}/{column}" for row in rows for column in columns if row + column != "C5"],
        missing=["D/7"],
        image={
            "axes": "czyx",
            "shape": (2, 3, 150, 200),
            "levels": 3,
            "chunks": (1, 1, 150, 200),
            "omero": {
                "channels": [
                    {"label": "DAPI", "color": "3060FF", "active": True},
                    {"label": "GFP", "color": "40FF40", "active": True},
                ]
            },
        },
    )
    (path / "B/4/zarr.json").write_text("{no JSON")
    page, watch = new_page(browser, viewport={"width": 1200, "height": 1500})
    keep_screenshot.append(page)
    lab.open(page, CELL.format(path=str(path)), name="plate")
    page.wait_for_selector(".ngff-tiles")
    with lab.kernel() as kernel:
        yield Seen(page, kernel), watch
    page.context.close()
    assert watch.outside == []
    assert watch.errors == []


def test_a_plate_is_seen_and_a_click_opens_a_well(opened: tuple[Seen, Watch]) -> None:
    seen, _ = opened
    kernel, page = seen.kernel, seen.page
    wait_for(lambda: kernel.value("viewer.plate._main.canvas.size")[0] > 0, "a size")
    page.wait_for_timeout(500)  # the page is laid out
    view = kernel.value("[*viewer.plate.view.center, viewer.plate.view.scale]")
    x, y = kernel.value("viewer.scenery.middle('B/3')")
    left = (x - 60, y)  # a well's neighbour has pixels as well
    wait_for(lambda: max(seen.pixel(*left, view)) > 0, "pixels")
    page.mouse.move(*seen.at(x, y, view))
    seen.wait_for_text("position", "well B/3 (row B, column 3)")
    seen.wait_for_text("values", "DAPI")
    gone = kernel.value("viewer.scenery.middle('B/4')")
    wait_for(lambda: seen.pixel(gone[0], gone[1] + 9, view)[0] > 70, "a mark")
    page.wait_for_selector("text=1 well cannot be shown")
    page.mouse.click(*seen.at(x, y, view))
    wait_for(lambda: kernel.value("viewer.well") == "B/3", "the well")
    page.wait_for_function("document.querySelectorAll('.ngff-tiles').length === 2")
    page.wait_for_selector("strong:text('Well B/3')")
    assert kernel.value("viewer.fields.chosen") == "0"
    page.get_by_label("Field").select_option("1")
    wait_for(lambda: kernel.value("viewer.fields.chosen") == "1", "the other field")
    name = page.get_by_placeholder("click a well, or type its name")
    name.fill("e2")
    name.press("Enter")
    page.wait_for_selector("strong:text('Well E/2')")
