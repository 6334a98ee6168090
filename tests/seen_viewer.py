"""A viewer on a page, over a pyramid whose colours are known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jupyter_apps import wait_for
from seen_canvas import Seen

if TYPE_CHECKING:
    from playwright.sync_api import Locator

SIZE = (400, 640)  # pixels of half a micrometer
DEPTH = 4  # planes, two micrometers apart
SECRET = "<img src=x onerror=alert(1)>"
NEAR = [160.0, 100.0, 0.5]  # a pixel of the finest level is one of the screen
BROKEN = {"t": 1.0, "z": 6.0}  # where a chunk of the first channel cannot be read


def write_planes(path: Path) -> Path:
    """Write an image (t, c, z, y, x), the same everywhere but for z and halves, and labels.

    The first channel is 1000 times the plane, the second 2000 on the left and 4000 on the right;
    4000 is the end of both windows. Label 7 lies in the middle, at 140 to 180 by 80 to 120 µm.
    """
    from stores import write_image

    shape = (2, 2, DEPTH, *SIZE)
    data = np.zeros(shape, "u2")
    data[:, 0] = 1000 * np.arange(DEPTH)[:, None, None]
    data[:, 1, ..., : SIZE[1] // 2] = 2000
    data[:, 1, ..., SIZE[1] // 2 :] = 4000
    ids = np.zeros((DEPTH, *SIZE), "u4")
    ids[:, 160:240, 280:360] = 7
    window = {"min": 0, "max": 4000, "start": 0, "end": 4000}
    names = {"red": "FF0000", "green": "00FF00"}
    write_image(
        path,
        axes="tczyx",
        data=data,
        chunks=(1, 1, 1, 128, 128),
        labels={
            "cells": {
                "data": ids,
                "axes": "zyx",
                "colors": [{"label-value": 7, "rgba": [0, 0, 255, 255]}],
                "properties": [{"label-value": 7, "class": SECRET}],
            }
        },
        omero={
            "channels": [
                {"label": name, "color": color, "active": True, "window": window}
                for name, color in names.items()
            ]
        },
    )
    (path / "0/c/1/0/3/1/2").write_bytes(b"this is no chunk")
    return path


def cells(path: Path) -> tuple[str, str]:
    """Return the cells of a notebook that shows two viewers of the image."""
    first = f"""\
import xarray as xr
from ngff_xarray.widgets.viewer import view
tree = xr.open_datatree({json.dumps(str(path))})
viewer = view(tree, height=320, z=2.0)
start, canvas = viewer.view, viewer._main.canvas
viewer"""
    return first, "other = view(tree, height=160, z=2.0)\nother"


RESET = f"""\
viewer.ortho, viewer.projection, viewer.tool = False, None, "pan"
viewer.roi, viewer.selection = None, ()
viewer.show(start.moved(({NEAR[0]}, {NEAR[1]}), {NEAR[2]}, viewer.view.size, viewer.view.ratio))"""


@dataclass
class SeenViewer(Seen):
    """A viewer on a page, and the kernel behind it."""

    near: list[float] = field(default_factory=lambda: NEAR)

    @cached_property
    def whole(self) -> Locator:
        return self.page.locator(".ngff-whole").first

    def handle(self, name: str) -> Locator:
        """The handle of an axis's slider."""
        label = self.page.get_by_text(name, exact=True)
        return self.whole.locator(".widget-hslider", has=label).locator(".noUi-handle")

    def checkbox(self, name: str) -> Locator:
        return self.whole.get_by_role("checkbox", name=name, exact=True)

    def button(self, name: str) -> Locator:
        return self.whole.get_by_role("button", name=name)

    def choose(self, tool: str) -> None:
        """Choose a tool, and wait until the canvas has it from the kernel."""
        self.button(tool).click()
        self.whole.locator(f".ngff-viewer[data-tool={tool.lower()}]").first.wait_for()

    def wait_for_color(self, x: float, y: float, rgb: tuple[int, ...], view: Any = None) -> None:
        """Wait until a point of the world has a colour, as far as JPEG keeps it."""

        def met() -> bool:
            found = self.pixel(x, y, view)
            return all(abs(a - b) <= 6 for a, b in zip(found, rgb, strict=True))

        try:
            wait_for(met, "a colour", seconds=30)
        except TimeoutError:
            raise AssertionError(f"expected {rgb}, found {self.pixel(x, y, view)}") from None

    def wait_for_value(self, expression: str, value: Any) -> None:
        """Wait until an expression has a value in the kernel."""

        def met() -> bool:
            return bool(self.kernel.value(expression) == value)

        try:
            wait_for(met, expression)
        except TimeoutError:
            found = self.kernel.value(expression)
            raise AssertionError(f"{expression}: expected {value}, found {found}") from None
