"""Neuroglancer in Chromium: what it draws of our states, pixel by pixel."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from stores import write_image

import ngff_xarray  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from ngff_xarray.export.neuroglancer import Neuroglancer

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
WIDTH, HEIGHT = 900, 600
_LOCAL = ("http://127.0.0.1:", "data:", "blob:", "about:")
WINDOW = {"min": 0, "max": 65535, "start": 100, "end": 3000}
CHANNELS = [
    {"label": "DAPI", "color": "0000FF", "window": WINDOW},
    {"label": "GFP", "color": "12FF80", "window": {**WINDOW, "end": 4000}, "inverted": True},
]
LAYOUTS: dict[str, Any] = {
    "0.2": {"version": "0.2"},
    "0.4": {"version": "0.4"},
    "0.5": {"version": "0.5", "shards": (1, 64, 64), "translation": (0, 10.0, 20.0)},
    "0.6": {"version": "0.6", "translation": (0, 10.0, 20.0)},
}


@pytest.fixture(autouse=True)
def package() -> Iterator[None]:
    """The package, whose server ends with the test."""
    if find_spec("neuroglancer") is None:
        (pytest.fail if IN_CI else pytest.skip)("needs neuroglancer: pip install neuroglancer")
    import neuroglancer

    yield
    neuroglancer.stop()


def seen(shown: Neuroglancer, browser: Browser) -> np.ndarray:
    """What a page draws, (down, right, rgb); it must not ask beyond this machine."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        viewer = shown.show()
        page.goto(str(viewer))
        reply = viewer.screenshot(size=[WIDTH, HEIGHT])
    finally:
        page.close()
        shown.close()
    assert all(url.startswith(_LOCAL) for url in asked)
    picture = Image.open(io.BytesIO(reply.screenshot.image)).convert("RGB")
    return np.asarray(picture).astype(int)


GRID = np.stack(np.meshgrid(np.arange(3, 38, 3), np.arange(3, 60, 4), indexing="ij"), -1)


def _check(shown: Neuroglancer, browser: Browser, expected: np.ndarray, tolerance: int) -> None:
    """Compare pixels of the finest level, (50, 62), with what is seen around their centres."""
    picture = seen(shown, browser)
    middle = np.array([24.5, 30.5])  # which is in the middle of the screen
    from_middle = (GRID - middle) / shown.state["crossSectionScale"]
    at = np.round(from_middle + np.array([HEIGHT / 2, WIDTH / 2])).astype(int)
    found = picture[at[..., 0], at[..., 1]]
    wanted = expected[GRID[..., 0], GRID[..., 1]].astype(int)
    assert np.abs(found - wanted).max() <= tolerance


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_draws_what_we_draw(layout: str, browser: Browser, tmp_path: Path) -> None:
    omero = {"channels": CHANNELS}
    path = write_image(tmp_path / "a.zarr", axes="cyx", omero=omero, **LAYOUTS[layout])
    tree = xr.open_datatree(path)
    wanted = {"DAPI": {"gamma": 0.5}, "GFP": {}} if layout == "0.4" else None
    expected = tree.ngff.rgb(level=0, channels=wanted).values
    _check(tree.ngff.to_neuroglancer(channels=wanted), browser, expected, 3)


def test_it_draws_colormaps_and_finds_windows(browser: Browser, tmp_path: Path) -> None:
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="yx"))
    shown = tree.ngff.to_neuroglancer(channels={"0": "viridis"})
    (found,) = re.findall(r"range=\[(.*)\]", shown.state["layers"][0]["shader"])
    low, high = map(float, found.split(","))
    look = {"0": {"colormap": "viridis", "window": (low, high)}}
    expected = tree.ngff.rgb(level=0, channels=look).values
    assert expected.std() > 20  # it shows something
    _check(shown, browser, expected, 6)


def test_labels_are_in_their_colours(browser: Browser, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", axes="yx", labels={"cells": {}})
    labels = xr.open_datatree(path).ngff.labels["cells"]
    pixels, colors = labels.ngff.levels[0].values, labels.ngff.colors
    expected = np.zeros((*pixels.shape, 3), int)
    for value, rgba in colors.items():
        expected[pixels == value] = rgba[:3]  # there is nothing below them
    assert len(set(pixels[GRID[..., 0], GRID[..., 1]].ravel())) > 2
    _check(labels.ngff.to_neuroglancer(), browser, expected, 4)
