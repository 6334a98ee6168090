"""What a user does with the canvas, in Chromium, and what the kernel hears of it."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from jupyter_apps import App, Watch, new_page, wait_for
from PIL import Image
from seen_canvas import CELL, NEAR, Seen
from solid_tiles import color

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RESET = """\
server.delay, server.blocked, server.state = 0, 0, "0"
server.broken.clear(), server.wants.clear(), server.shown.clear(), server.probes.clear()
canvas.tool, canvas.roi, canvas.selection, canvas.crosshair = "pan", None, [], None
canvas.send({"type": "note", "text": ""})
canvas.view = """


@pytest.fixture(scope="module")
def opened(browser: Browser, lab: App) -> Iterator[tuple[Seen, Watch]]:
    page, watch = new_page(browser)
    lab.open(page, CELL, name="canvas")
    page.wait_for_selector(".ngff-tiles")
    with lab.kernel() as kernel:
        yield Seen(page, kernel), watch
    page.context.close()


@pytest.fixture
def seen(opened: tuple[Seen, Watch], keep_screenshot: list[Page]) -> Iterator[Seen]:
    """The canvas as it was at first, near the middle of its finest level."""
    canvas, watch = opened
    keep_screenshot.append(canvas.page)
    canvas.page.mouse.move(2, 2)
    canvas.page.evaluate("document.activeElement.blur()")
    canvas.page.wait_for_timeout(200)  # what the last test moved has been published
    canvas.kernel.run(f"{RESET}[0, 0, 2]")
    canvas.kernel.run(f"{RESET}{NEAR}")
    canvas.wait_for_pixel(400, 400, color("0", 0, 1, 1))
    yield canvas
    assert watch.outside == []
    assert watch.errors == []


def test_the_page_shows_the_colours_of_the_tiles(seen: Seen) -> None:
    for column, row in [(0, 0), (1, 2), (2, 1), (3, 3)]:
        x, y = 256 * column + 128, 256 * row + 128
        x, y = min(max(x, 512 - 280), 512 + 280), min(max(y, 512 - 200), 512 + 200)
        seen.wait_for_pixel(x, y, color("0", 0, int(x // 256), int(y // 256)))
    picture = Image.open(io.BytesIO(seen.page.screenshot())).convert("RGB")
    for x, y in [(400, 400), (600, 600), (510, 400), (514, 400)]:
        left, top = seen.at(x, y)
        assert picture.getpixel((int(left), int(top))) == color("0", 0, x // 256, y // 256)


def test_no_seam_between_tiles_at_any_zoom(seen: Seen) -> None:
    """No pixel along a line over the tiles' edges is but one of their two colours."""
    for upp in (0.37, 0.731, 0.93):
        view = [512.3, 400.1, upp]
        seen.kernel.run(f"canvas.view = {view}")
        left, right = color("0", 0, 1, 1), color("0", 0, 2, 1)
        seen.wait_for_pixel(500, 400, left, view)
        seen.wait_for_pixel(524, 400, right, view)
        seen.page.wait_for_timeout(200)
        row = seen.pixels([(512 + i * upp / 4, 400) for i in range(-12, 13)], view)
        assert set(row) == {left, right}


def test_dragging_pans(seen: Seen) -> None:
    x, y = seen.at(512, 512)
    seen.drag((x, y), (x - 100, y - 50))
    seen.wait_for_view([612, 562, 1])
    seen.wait_for_pixel(800, 600, color("0", 0, 3, 2), [612, 562, 1])


def test_the_middle_button_pans_with_any_tool(seen: Seen) -> None:
    seen.kernel.run("canvas.tool = 'rectangle'")
    x, y = seen.at(512, 512)
    seen.page.mouse.move(x, y)
    seen.page.mouse.down(button="middle")
    seen.page.mouse.move(x + 40, y, steps=3)
    seen.page.mouse.up(button="middle")
    seen.wait_for_view([472, 512, 1])
    assert seen.kernel.value("canvas.roi") is None


def test_the_wheel_zooms_about_the_pointer(seen: Seen) -> None:
    x, y = seen.at(600, 450)
    seen.page.mouse.move(x, y)
    for _ in range(3):
        seen.page.mouse.wheel(0, -120)
    wait_for(lambda: seen.kernel.value("canvas.view")[2] < 0.6, "a closer view")
    seen.page.wait_for_timeout(300)
    view = seen.kernel.value("canvas.view")
    assert seen.at(600, 450, view) == pytest.approx((x, y), abs=1)  # wheels turn at whole pixels
    assert (
        seen.page.evaluate("document.querySelector('.jp-WindowedPanel-outer')?.scrollTop ?? 0") == 0
    )


def test_the_wheel_ends_at_both_ends(seen: Seen) -> None:
    seen.page.mouse.move(*seen.at(600, 450))
    for delta in (-240, 240):
        for _ in range(40):
            seen.page.mouse.wheel(0, delta)
    seen.page.wait_for_timeout(500)
    view = seen.kernel.value("canvas.view")
    assert 0 <= view[0] <= 1024
    assert view[2] < 10


def test_a_double_click_comes_closer(seen: Seen) -> None:
    x, y = seen.at(600, 450)
    seen.page.mouse.dblclick(x, y)
    seen.wait_for_view([556, 481, 0.5], within=0.5)  # clicks are at whole pixels


def test_keys_move_and_zoom_and_leave_the_notebook_alone(seen: Seen) -> None:
    page = seen.page
    width, height = seen.box["width"], seen.box["height"]
    page.locator(".ngff-tiles").focus()
    page.keyboard.press("ArrowRight")
    seen.wait_for_view([512 + 0.15 * width, 512, 1])
    page.keyboard.press("ArrowUp")
    seen.wait_for_view([512 + 0.15 * width, 512 - 0.15 * height, 1])
    page.keyboard.press("+")
    seen.wait_for_view([512 + 0.15 * width, 512 - 0.15 * height, 1 / 1.5])
    page.keyboard.press("-")
    seen.wait_for_view([512 + 0.15 * width, 512 - 0.15 * height, 1])
    for key in ("d", "d", "a", "b", "x", "m", "j"):  # a notebook's commands
        page.keyboard.press(key)
    page.keyboard.press("Home")
    wait_for(lambda: seen.kernel.value("canvas.view") is None, "home")
    assert page.locator(".jp-Notebook .jp-Cell").count() == 1
    page.keyboard.press("0")
    assert seen.text("position").startswith("x 512")


def test_what_keys_point_at_is_said(seen: Seen) -> None:
    seen.page.locator(".ngff-tiles").focus()
    for key in ("ArrowLeft", "ArrowUp"):
        seen.page.keyboard.press(key)
    seen.wait_for_text("live", "label 1152921504606846977")
    seen.wait_for_text("live", "DAPI")


def test_hovering_tells_label_and_properties_while_the_kernel_is_busy(seen: Seen) -> None:
    seen.wait_for_text("scale-text", "100 µm")
    seen.page.wait_for_timeout(300)  # the ids have come
    seen.kernel.run("server.blocked = 2")
    seen.page.mouse.move(*seen.at(384, 400))
    seen.page.wait_for_timeout(100)
    # markup stays text
    assert seen.text("label") == "label 1152921504606846977: area 16384 <i>px</i>"
    assert seen.text("position") == "x 384 µm, y 400 µm"
    assert "DAPI 384" not in seen.text("values")  # at most those of the place before
    seen.page.mouse.move(*seen.at(640, 400))
    seen.page.wait_for_timeout(100)
    assert seen.text("label").startswith("label 7:")
    seen.page.mouse.move(*seen.at(520, 400))
    seen.page.wait_for_timeout(100)
    assert seen.text("label") == ""


def test_hovering_tells_intensities_and_all_of_the_position(seen: Seen) -> None:
    seen.page.mouse.move(*seen.at(400, 450))
    seen.wait_for_text("position", "x 400.0 µm, y 450.0 µm, z 3 µm")
    assert seen.text("values") == "DAPI 400, GFP 450"
    seen.kernel.run("server.blocked = 0.2; server.probes.clear()")
    for step in range(30):
        seen.page.mouse.move(*seen.at(400 + step, 450))
    seen.wait_for_text("values", "DAPI 429")
    assert seen.kernel.value("len(server.probes)") < 30
    seen.page.mouse.move(2, 2)
    seen.wait_for_text("position", "Drag: move")


def test_a_rectangle_is_drawn_changed_moved_and_removed(seen: Seen) -> None:
    def wait_for_roi(*points: list[int]) -> None:
        def met() -> bool:
            roi = seen.kernel.value("canvas.roi")
            flat = [value for point in (roi or {}).get("points", []) for value in point]
            return flat == pytest.approx([value for point in points for value in point], abs=1e-6)

        wait_for(met, f"{points}, not {seen.kernel.value('canvas.roi')}")

    seen.kernel.run("canvas.tool = 'rectangle'")
    seen.page.wait_for_selector(".ngff-viewer[data-tool=rectangle]")
    seen.drag(seen.at(600, 600), seen.at(400, 450))
    wait_for_roi([400, 450], [600, 600])
    seen.drag(seen.at(600, 450), seen.at(650, 400))  # a corner
    wait_for_roi([400, 400], [650, 600])
    seen.drag(seen.at(500, 500), seen.at(510, 520))  # all of it
    wait_for_roi([410, 420], [660, 620])
    assert seen.kernel.value("canvas.view") == NEAR
    seen.page.keyboard.press("Delete")
    wait_for(lambda: seen.kernel.value("canvas.roi") is None, "no region")


def test_a_polygon_is_drawn_by_clicks_and_given_up_by_escape(seen: Seen) -> None:
    page = seen.page
    seen.kernel.run("canvas.tool = 'polygon'")
    page.wait_for_selector(".ngff-viewer[data-tool=polygon]")
    for point in [(400, 400), (600, 420)]:
        page.mouse.click(*seen.at(*point))
    page.keyboard.press("Escape")
    corners = [(400, 400), (600, 420), (550, 600)]
    for point in corners[:-1]:
        page.mouse.click(*seen.at(*point))
        page.wait_for_timeout(50)
    page.mouse.dblclick(*seen.at(*corners[-1]))
    wait_for(lambda: seen.kernel.value("canvas.roi") is not None, "a polygon")
    roi = seen.kernel.value("canvas.roi")
    assert roi["kind"] == "polygon"
    found = [tuple(point) for point in roi["points"]]
    assert len(found) == 3
    for got, wanted in zip(found, corners, strict=True):
        assert got == pytest.approx(wanted, abs=1e-6)
    seen.drag(seen.at(600, 420), seen.at(640, 380))
    wait_for(
        lambda: seen.kernel.value("canvas.roi")["points"][1] == pytest.approx([640, 380]),
        "a corner",
    )


def test_regions_are_drawn_by_keys(seen: Seen) -> None:
    page = seen.page
    seen.kernel.run("canvas.tool = 'rectangle'")
    page.wait_for_selector(".ngff-viewer[data-tool=rectangle]")
    page.locator(".ngff-tiles").focus()
    for key in ("Enter", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    wait_for(lambda: seen.kernel.value("canvas.roi") is not None, "a rectangle")
    (x0, y0), (x1, y1) = seen.kernel.value("canvas.roi")["points"]
    assert (x0, y0) == (512, 512)
    assert x1 - x0 == pytest.approx(0.15 * seen.box["width"])
    assert y1 - y0 == pytest.approx(0.15 * seen.box["height"])


def test_a_region_and_a_crosshair_of_the_kernel_are_drawn(seen: Seen) -> None:
    def marks() -> int:
        return int(
            seen.page.evaluate(
                """() => {
                    const canvas = document.querySelector(".ngff-marks");
                    const { width, height } = canvas;
                    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
                    return data.filter((value, i) => i % 4 === 3 && value > 0).length;
                }"""
            )
        )

    wait_for(lambda: marks() == 0, "no marks")
    seen.kernel.run(
        "canvas.roi = {'kind': 'polygon', 'points': [[450, 450], [600, 450], [500, 600]]}"
    )
    wait_for(lambda: marks() > 500, "a polygon")
    seen.kernel.run("canvas.roi = None")
    wait_for(lambda: marks() == 0, "no marks")
    seen.kernel.run("canvas.crosshair = [500, 500]")
    wait_for(lambda: marks() > 1000, "a crosshair")


def test_clicks_select_labels(seen: Seen) -> None:
    def wait_for_selection(*ids: str) -> None:
        wait_for(lambda: seen.kernel.value("canvas.selection") == list(ids), f"{ids}")

    page = seen.page
    page.wait_for_timeout(300)
    seen.kernel.run("canvas.tool = 'select'")
    page.wait_for_selector(".ngff-viewer[data-tool=select]")
    page.mouse.click(*seen.at(384, 400))
    wait_for_selection("1152921504606846977")
    page.keyboard.down("Shift")
    page.mouse.click(*seen.at(640, 400))
    page.keyboard.up("Shift")
    wait_for_selection("1152921504606846977", "7")
    seen.drag(seen.at(384, 400), seen.at(404, 400))  # moves, and selects nothing
    wait_for_selection("1152921504606846977", "7")
    page.mouse.click(*seen.at(520, 400))
    wait_for_selection()


def test_buttons_say_what_they_do_and_do_it(seen: Seen) -> None:
    page = seen.page
    page.get_by_role("button", name="Zoom in").click()
    seen.wait_for_view([512, 512, 1 / 1.5])
    page.get_by_role("button", name="Zoom out").click()
    seen.wait_for_view(NEAR)
    page.get_by_role("button", name="Show everything").click()
    wait_for(lambda: seen.kernel.value("canvas.view") is None, "home")
    assert page.get_by_role("application", name="four by four tiles").count() == 1


def test_full_screen_and_back(seen: Seen) -> None:
    page = seen.page
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement?.classList.contains('ngff-viewer')")
    wait_for(lambda: seen.kernel.value("canvas.size")[1] > 700, "a high canvas")
    page.wait_for_timeout(300)
    seen.wait_for_pixel(512 + 300, 400, color("0", 0, 3, 1))
    page.keyboard.press("f")
    page.wait_for_function("!document.fullscreenElement")
    wait_for(lambda: seen.kernel.value("canvas.size")[1] == 480, "the height it had")


def test_a_narrow_page_is_no_clipped_canvas(seen: Seen) -> None:
    page = seen.page
    before = seen.kernel.value("canvas.size")
    page.set_viewport_size({"width": 800, "height": 900})
    wait_for(lambda: seen.kernel.value("canvas.size")[0] < before[0] - 200, "a narrow canvas")
    width = page.evaluate("document.querySelector('.jp-OutputArea-output').clientWidth")
    assert seen.box["width"] <= width
    seen.wait_for_pixel(480, 400, color("0", 0, 1, 1))
    page.set_viewport_size({"width": 1100, "height": 900})
    wait_for(lambda: seen.kernel.value("canvas.size") == before, "the width it had")


def test_a_tile_that_cannot_be_read_is_marked_and_the_rest_is_there(seen: Seen) -> None:
    seen.kernel.run("server.broken.add('0/2/1'); server.show('1')")
    seen.wait_for_pixel(400, 400, color("1", 0, 1, 1))
    found = set(seen.pixels([(x, 400) for x in range(560, 620)]))
    assert (0x3A, 0x23, 0x23) in found
    assert len(found) > 1
    seen.page.mouse.move(*seen.at(640, 400))
    seen.wait_for_text("label", "chunk <b>0/2/1</b> is truncated")
    assert (
        seen.page.locator(".ngff-tiles").get_attribute("title") == "chunk <b>0/2/1</b> is truncated"
    )


def test_a_busy_kernel_is_told_and_the_old_pixels_stay(seen: Seen) -> None:
    hint = seen.page.locator(".ngff-hint")
    seen.kernel.run("server.blocked = 1.5")
    x, y = seen.at(512, 512)
    seen.drag((x, y), (x + 40, y))
    hint.wait_for(state="visible")
    assert hint.text_content() == "Kernel busy…"
    assert seen.pixel(400, 400, [472, 512, 1]) == color("0", 0, 1, 1)
    hint.wait_for(state="hidden")
    seen.wait_for_view([472, 512, 1])


def test_of_many_moves_the_newest_is_asked_for(seen: Seen) -> None:
    seen.kernel.run("server.delay = 0.1; server.wants.clear()")
    x, y = seen.at(512, 512)
    seen.page.mouse.move(x, y)
    seen.page.mouse.down()
    begin = time.monotonic()
    for step in range(1, 41):
        seen.page.mouse.move(x - 4 * step, y)
        seen.page.wait_for_timeout(10)
    seen.page.mouse.up()
    seen.wait_for_view([672, 512, 1])
    wait_for(
        lambda: seen.kernel.value("server.wants[-1]['view']") == [672, 512, 1], "the last view"
    )
    wait_for(lambda: seen.kernel.value("server.shown[-1] == server.frame"), "the last frame")
    took = time.monotonic() - begin
    assert 2 <= seen.kernel.value("len(server.wants)") <= 2 + took / 0.1
    seen.wait_for_pixel(900, 600, color("0", 0, 3, 2), [672, 512, 1])


def test_tiles_that_are_there_are_not_asked_for_again(seen: Seen) -> None:
    seen.kernel.run("server.wants.clear()")
    x, y = seen.at(512, 512)
    seen.drag((x, y), (x - 30, y))
    wait_for(lambda: seen.kernel.value("len(server.wants)") > 0, "a question")
    assert {"0/1/1", "0/2/2"} <= set(seen.kernel.value("server.wants[-1]['have']"))


def test_the_old_picture_stays_until_the_new_one_is_complete(seen: Seen) -> None:
    seen.kernel.run(
        "server._begin = {'type': 'frame', 'state': '1', 'order': ['image'], 'tiles': []}"
    )
    seen.kernel.run("canvas.send({**server._begin, 'frame': server.frame + 1, 'complete': False})")
    seen.page.wait_for_timeout(300)
    assert seen.pixel(400, 400) == color("0", 0, 1, 1)
    seen.kernel.run("server.frame += 1; server.show('1')")
    seen.wait_for_pixel(400, 400, color("1", 0, 1, 1))
    seen.wait_for_pixel(600, 600, color("1", 0, 2, 2))


def test_a_note_is_text(seen: Seen) -> None:
    seen.kernel.run("canvas.send({'type': 'note', 'text': '<img src=x onerror=alert(1)>'})")
    seen.wait_for_text("note", "<img src=x onerror=alert(1)>")
    assert seen.page.locator(".ngff-note img").count() == 0


def test_two_fingers_pinch(seen: Seen) -> None:
    session = seen.page.context.new_cdp_session(seen.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", seen.at(500, 512), seen.at(524, 512))
    for step in range(1, 6):
        touch("touchMove", seen.at(500 - 4.8 * step, 512), seen.at(524 + 4.8 * step, 512))
    touch("touchEnd")
    seen.wait_for_view([512, 512, 1 / 3])


LAYERS = """
import math, numpy as np, io
from PIL import Image

def tile(key, layer, level, matrix, rgba):
    stream = io.BytesIO()
    Image.fromarray(np.full((256, 256, 4), rgba, np.uint8)).save(stream, "png")
    entry = {"key": key, "layer": layer, "level": level, "matrix": matrix}
    return {**entry, "width": 256, "height": 256, "format": "png"}, stream.getvalue()

cos, sin = math.cos(0.5), math.sin(0.5)
def turned(k, i):
    x, y = k * cos, k * sin
    return [x, y, -y, x, 500 + i * 256 * x, 300 + i * 256 * y]

tiles, buffers = zip(
    tile("below", "below", 0, [4, 0, 0, 4, 0, 0], (0, 100, 200, 255)),
    tile("coarse", "over", 1, turned(2, 0), (255, 255, 255, 128)),
    tile("left", "over", 0, turned(1, 0), (200, 0, 0, 128)),
    tile("right", "over", 0, turned(1, 1), (200, 0, 0, 128)),
)
server.frame += 1
canvas.send({"type": "frame", "frame": server.frame, "state": "layers", "complete": True,
             "order": ["below", "over"], "tiles": list(tiles)}, list(buffers))
"""


def test_a_translucent_turned_layer_lies_once_over_the_one_below(seen: Seen) -> None:
    seen.kernel.run(LAYERS)
    seen.wait_for_pixel(300, 300, (0, 100, 200))
    cos, sin = math.cos(0.5), math.sin(0.5)
    # along the row in the middle of both tiles, over the edge between them
    line = [(500 + x * cos - 128 * sin, 300 + x * sin + 128 * cos) for x in range(10, 420, 7)]
    line += [
        (500 + x * cos - 128 * sin, 300 + x * sin + 128 * cos) for x in (255, 255.5, 256, 256.5)
    ]
    for rgb in seen.pixels(line):
        assert rgb == pytest.approx((100, 50, 100), abs=8)
    coarse = (500 + 100 * cos - 400 * sin, 300 + 100 * sin + 400 * cos)
    assert seen.pixel(*coarse) == pytest.approx((128, 178, 228), abs=3)
    # and with an opacity of the layer
    seen.kernel.run("server.frame += 1")
    seen.kernel.run(
        """canvas.send({"type": "frame", "frame": server.frame, "state": "layers", "complete": True,
        "order": ["below", "over"], "opacity": [1, 0.5], "tiles": []}, [])"""
    )
    wait_for(lambda: seen.pixel(*line[3]) == pytest.approx((50, 75, 150), abs=8), "half of it")
    seen.wait_for_pixel(300, 300, (0, 100, 200))


def test_a_frame_that_is_not_complete_is_told_and_does_not_hold_up_the_next(seen: Seen) -> None:
    hint = seen.page.locator(".ngff-hint")
    seen.kernel.run(
        "server._frame = {'type': 'frame', 'state': '0', 'order': ['image'], 'tiles': []}"
    )
    seen.kernel.run("server.frame += 1")
    seen.kernel.run("canvas.send({**server._frame, 'frame': server.frame, 'complete': False})")
    hint.wait_for(state="visible")
    assert hint.text_content() == "Loading…"
    x, y = seen.at(512, 512)
    seen.drag((x, y), (x - 30, y))
    wait_for(lambda: seen.kernel.value("server.shown[-1] == server.frame"), "the next frame")
    hint.wait_for(state="hidden")
