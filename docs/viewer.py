"""Draws viewer.png of the README: the viewer on a built-in image, in JupyterLab."""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from jupyter_apps import App, chromium, new_page  # noqa: E402  # found by the line above

CELL = """\
import ngff_xarray, xarray as xr
tree = xr.open_datatree(ngff_xarray.sample("cell"))
viewer = tree.ngff.view(labels="cell", height=420)
viewer.viewport = {"x": ("21 µm", "58 µm"), "y": ("28 µm", "54 µm")}
viewer"""

if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium(Path(folder)) as browser,
        App("lab", Path(folder) / "lab") as app,
    ):
        page, _ = new_page(browser, viewport={"width": 1280, "height": 900})
        app.open(page, CELL)
        seen = page.locator(".ngff-whole")
        box = page.locator(".ngff-tiles").bounding_box()
        page.mouse.move(box["x"] + 0.65 * box["width"], box["y"] + 0.45 * box["height"])
        page.wait_for_function("document.querySelector('.ngff-label').textContent !== ''")
        page.wait_for_timeout(2000)
        seen.screenshot(path=HERE / "viewer.png")
