"""Draws repr.png and viewer.png of the README, in JupyterLab: ``python docs/screens.py``."""

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from jupyter_apps import App, chromium, new_page  # noqa: E402  # found by the line above

IMAGES = Path(tempfile.gettempdir()) / "images"  # the address in the picture
GO = f"import os; os.chdir({str(IMAGES)!r})"
MAKE = """\
import colorsys
import ngff_xarray, xarray as xr
import numpy as np
from skimage import color, feature, filters, measure, segmentation

pixel_size = {"y": "0.5 µm", "x": "0.5 µm"}
ngff_xarray.convert(ngff_xarray.sample("histology"), "tissue.ome.zarr", pixel_size=pixel_size)

def nuclei(block):
    stain = color.rgb2hed(block.transpose("y", "x", "c"))[..., 0]
    mask, hills = filters.gaussian(stain, 1), filters.gaussian(stain, 3)
    mask = mask > filters.threshold_otsu(mask)
    peaks = feature.peak_local_max(hills, min_distance=3, labels=measure.label(mask))
    seeds = np.zeros(mask.shape, "int32")
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return segmentation.watershed(-hills, seeds, mask=mask)

tissue = xr.open_datatree("tissue.ome.zarr")
found = tissue.ngff.apply(nuclei).compute()
colors = {n: colorsys.hsv_to_rgb(n * 0.618 % 1, 0.7, 0.9) for n in range(1, int(found.max()) + 1)}
colors = {n: tuple(round(255 * part) for part in color) for n, color in colors.items()}
tissue.ngff.add_labels("nuclei", found, colors=colors);"""
REPR = """\
import xarray as xr
tree = xr.open_datatree("tissue.ome.zarr")
tree.ngff"""
VIEW = """\
viewer = tree.ngff.view(labels="nuclei", height=420)
viewer.viewport = {"x": ("80 µm", "200 µm"), "y": ("126 µm", "210 µm")}
viewer"""


def draw(folder: Path) -> None:
    """Run the notebook, and take its pictures."""
    with chromium(folder) as browser, App("lab", folder / "lab") as app:
        page, _ = new_page(browser, viewport={"width": 1280, "height": 1800})
        app.open(page, f"{GO}\n{MAKE}", REPR, VIEW)
        seen = page.locator(".ngff-whole")
        box = page.locator(".ngff-tiles").bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
        page.wait_for_timeout(3000)
        seen.screenshot(path=HERE / "viewer.png")
        box = page.locator(".jp-CodeCell").nth(1).bounding_box()
        page.screenshot(
            path=HERE / "repr.png", clip={**box, "width": 740, "height": box["height"] - 8}
        )


if __name__ == "__main__":
    IMAGES.mkdir()
    try:
        with tempfile.TemporaryDirectory() as made:
            draw(Path(made))
    finally:
        shutil.rmtree(IMAGES)
