"""A canvas on a page, as a test sees and touches it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_apps import Kernel, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

CELL = """\
from ngff_xarray.widgets.canvas import Canvas
from solid_tiles import SolidTiles

canvas = Canvas(label="four by four tiles")
server = SolidTiles(canvas)
canvas"""
NEAR = [512.0, 512.0, 1.0]  # the view that tests begin with: the finest level, in the middle


@dataclass
class Seen:
    """A canvas on a page, and the kernel behind it."""

    page: Page
    kernel: Kernel
    near: list[float] = field(default_factory=lambda: NEAR)

    @property
    def box(self) -> dict[str, float]:
        box = self.page.locator(".ngff-tiles").first.bounding_box()
        assert box is not None
        return dict(box)

    def at(self, x: float, y: float, view: list[float] | None = None) -> tuple[float, float]:
        """Where a point of the world is on the page."""
        view = view or self.near
        box = self.box
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        return middle[0] + (x - view[0]) / view[2], middle[1] + (y - view[1]) / view[2]

    def pixels(
        self, points: list[tuple[float, float]], view: list[float] | None = None
    ) -> list[tuple[int, ...]]:
        """The colours that the canvas has at points of the world; (-1, -1, -1) for none."""
        box = self.box
        places = [self.at(x, y, view) for x, y in points]
        data = self.page.evaluate(
            """(points) => {
                const canvas = document.querySelector(".ngff-tiles");
                const ratio = canvas.width / canvas.clientWidth;
                const context = canvas.getContext("2d");
                return points.map(([x, y]) =>
                    [...context.getImageData(x * ratio, y * ratio, 1, 1).data]);
            }""",
            [[left - box["x"], top - box["y"]] for left, top in places],
        )
        return [tuple(rgba[:3]) if rgba[3] else (-1, -1, -1) for rgba in data]

    def pixel(self, x: float, y: float, view: list[float] | None = None) -> tuple[int, ...]:
        """The colour that the canvas has at a point of the world."""
        return self.pixels([(x, y)], view)[0]

    def wait_for_pixel(self, x: float, y: float, rgb: tuple[int, ...], view: Any = None) -> None:
        wait_for(lambda: self.pixel(x, y, view) == rgb, f"{rgb}, not {self.pixel(x, y, view)}")

    def drag(self, *points: tuple[float, float], steps: int = 4) -> None:
        """Drag through points of the page."""
        mouse = self.page.mouse
        mouse.move(*points[0])
        mouse.down()
        for point in points[1:]:
            mouse.move(*point, steps=steps)
        mouse.up()

    def wait_for_view(self, view: list[float], within: float = 1e-6) -> None:
        def met() -> bool:
            now = self.kernel.value("canvas.view")
            return now is not None and all(
                math.isclose(a, b, abs_tol=within) for a, b in zip(now, view, strict=True)
            )

        wait_for(met, f"{view}")

    def text(self, name: str) -> str:
        return self.page.locator(f".ngff-{name}").first.text_content() or ""

    def wait_for_text(self, name: str, part: str) -> None:
        wait_for(lambda: part in self.text(name), f"{part!r}, not {self.text(name)!r}")
