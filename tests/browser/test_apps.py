"""The canvas in each front-end that is tested, and in more than one place of a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_apps import App, new_page, wait_for
from seen_canvas import CELL, NEAR, Seen
from solid_tiles import color

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.mark.parametrize("name", ["notebook", "voila"])
def test_the_canvas_in_other_front_ends(
    name: str, browser: Browser, tmp_path: Path, keep_screenshot: list[Page]
) -> None:
    page, watch = new_page(browser)
    keep_screenshot.append(page)
    with App(name, tmp_path) as app:
        app.open(page, CELL)
        page.wait_for_selector(".ngff-tiles")
        with app.kernel() as kernel:
            seen = Seen(page, kernel)
            kernel.run(f"canvas.view = {NEAR}")
            seen.wait_for_pixel(400, 400, color("0", 0, 1, 1))
            x, y = seen.at(512, 512)
            seen.drag((x, y), (x - 100, y - 50))
            seen.wait_for_view([612, 562, 1])
            page.keyboard.press("ArrowLeft")
            seen.wait_for_view([612 - 0.15 * seen.box["width"], 562, 1])
            page.mouse.move(*seen.at(640, 640, kernel.value("canvas.view")))
            seen.wait_for_text("label", "label 11: area")
            seen.wait_for_text("values", "DAPI 640")
    assert watch.outside == []
    assert watch.errors == []


def test_a_canvas_shown_twice(browser: Browser, lab: App, keep_screenshot: list[Page]) -> None:
    page, watch = new_page(browser, device_scale_factor=2)
    keep_screenshot.append(page)
    lab.open(
        page, f"{CELL}\ncanvas.height = 200", "canvas", "canvas.height = 240\ncanvas", name="two"
    )
    page.wait_for_function("document.querySelectorAll('.ngff-tiles').length === 2")
    with lab.kernel() as kernel:
        seen = Seen(page, kernel)
        kernel.run(f"canvas.view = {NEAR}")
        seen.wait_for_pixel(500, 500, color("0", 0, 1, 1))
        assert kernel.value("server.wants[-1]['ratio']") == 2
        page.locator(".ngff-tiles").last.focus()
        page.keyboard.press("+")
        seen.wait_for_view([512, 512, 1 / 1.5])
        wait_for(lambda: kernel.value("server.shown[-1] == server.frame"), "the last frame")
        seen.wait_for_pixel(500, 500, color("0", 0, 1, 1), [512, 512, 1 / 1.5])
    assert watch.outside == []
    assert watch.errors == []


def test_controls_come_along_to_the_full_screen(
    browser: Browser, lab: App, keep_screenshot: list[Page]
) -> None:
    page, watch = new_page(browser)
    keep_screenshot.append(page)
    controls = """\
from ipywidgets import IntSlider, VBox
whole = VBox([IntSlider(description="z"), canvas, IntSlider(description="t")])
whole.add_class("ngff-whole")
whole"""
    lab.open(page, f"{CELL.removesuffix('canvas')}\n{controls}", name="whole")
    page.wait_for_selector(".ngff-tiles")
    with lab.kernel() as kernel:
        wait_for(lambda: kernel.value("server.shown"), "a frame")
        page.get_by_role("button", name="Full screen").click()
        page.wait_for_function("document.fullscreenElement?.classList.contains('ngff-whole')")
        wait_for(lambda: kernel.value("canvas.size")[1] > 650, "a high canvas")
        page.wait_for_timeout(500)
        height = page.evaluate("window.innerHeight")
        for slider in page.locator(".widget-slider").all():
            box = slider.bounding_box()
            assert box is not None
            assert 0 <= box["y"] < box["y"] + box["height"] <= height
        assert page.evaluate("document.fullscreenElement.scrollHeight <= window.innerHeight")
        page.keyboard.press("Escape")
        page.evaluate("document.fullscreenElement && document.exitFullscreen()")
        wait_for(lambda: kernel.value("canvas.size")[1] == 480, "the height it had")
    assert watch.outside == []
    assert watch.errors == []
