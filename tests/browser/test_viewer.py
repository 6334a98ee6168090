"""What a user does with a viewer, in Chromium: controls and canvas together."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_apps import App, Watch, new_page, wait_for, write_notebook
from seen_viewer import BROKEN, NEAR, RESET, SECRET, SeenViewer, cells

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LEFT, RIGHT = (100.0, 60.0), (220.0, 60.0)
APART = (280.0, 60.0)  # in another tile
INSIDE = (150.0, 100.0)  # of label 7, in the left half
AT_2 = (64, 128, 0), (64, 255, 0)  # the colours of both halves in the plane at 2 µm


@pytest.fixture(scope="module")
def opened(browser: Browser, lab: App, planes: Path) -> Iterator[tuple[SeenViewer, Watch]]:
    page, watch = new_page(browser, viewport={"width": 1200, "height": 1300})
    lab.open(page, *cells(planes), name="viewer")
    page.wait_for_function("document.querySelectorAll('.ngff-tiles').length === 2")
    with lab.kernel() as kernel:
        yield SeenViewer(page, kernel), watch
    page.context.close()


@pytest.fixture
def seen(opened: tuple[SeenViewer, Watch], keep_screenshot: list[Page]) -> Iterator[SeenViewer]:
    """The viewer as it was at first, near the middle of its finest level."""
    viewer, watch = opened
    keep_screenshot.append(viewer.page)
    viewer.page.mouse.move(2, 2)
    viewer.page.evaluate("document.activeElement.blur()")
    viewer.page.wait_for_timeout(150)  # what the last test moved has been published
    viewer.kernel.run(RESET)
    viewer.wait_for_color(*LEFT, AT_2[0])
    viewer.wait_for_color(*RIGHT, AT_2[1])
    yield viewer
    assert watch.outside == []
    assert watch.errors == []


# ---- where one looks ---------------------------------------------------------------------------


def test_dragging_pans_and_is_told(seen: SeenViewer) -> None:
    x, y = seen.at(*LEFT)
    seen.drag((x, y), (x - 40, y + 20))
    view = [NEAR[0] + 20, NEAR[1] - 10, NEAR[2]]
    seen.wait_for_view(view)
    seen.wait_for_color(*RIGHT, AT_2[1], view)
    seen.wait_for_value("tuple(round(v, 3) for v in viewer.view.center)", (180.0, 90.0))


def test_the_wheel_zooms_to_another_level_and_home_shows_all(seen: SeenViewer) -> None:
    asked = "viewer._server.plan(viewer.view).resolutions[0].level"
    assert seen.kernel.value(asked) == 0
    seen.page.mouse.move(*seen.at(160, 100))
    for _ in range(4):
        seen.page.mouse.wheel(0, 240)
    seen.wait_for_value(f"{asked} > 0", True)
    seen.button("Show everything").first.click()
    seen.wait_for_value("viewer.viewport['x'][0] < 0 and viewer.viewport['x'][1] > 320", True)
    upp = seen.kernel.value("viewer.view.scale")
    seen.wait_for_color(20, 20, AT_2[0], [159.75, 99.75, upp])
    seen.wait_for_color(300, 180, AT_2[1], [159.75, 99.75, upp])


def test_the_kernel_sets_what_is_seen(seen: SeenViewer) -> None:
    seen.kernel.run("viewer.position = {'z': '6 µm'}")
    seen.wait_for_color(*LEFT, (191, 128, 0))
    assert "6 µm" in (seen.whole.text_content() or "")
    seen.kernel.run("viewer.channels = ['red']")
    seen.wait_for_color(*LEFT, (191, 0, 0))
    assert not seen.checkbox("green").is_checked()
    seen.kernel.run("viewer.viewport = {'x': (150, 200)}")
    upp = seen.kernel.value("viewer.view.scale")
    assert seen.kernel.value("viewer.viewport['x']") == pytest.approx((150, 200))
    seen.wait_for_color(170, 100, (191, 0, 0), [175, 100, upp])


def test_the_full_screen_has_the_controls(seen: SeenViewer) -> None:
    seen.button("Full screen").first.click()
    seen.page.wait_for_function(
        "document.fullscreenElement?.classList.contains('ngff-whole')"
        " && document.querySelector('.ngff-stage').clientHeight > 500"
    )
    assert seen.handle("z").is_visible()
    seen.page.evaluate("document.exitFullscreen()")
    seen.page.wait_for_function("document.querySelector('.ngff-stage').clientHeight === 320")


# ---- along the axes ----------------------------------------------------------------------------


def test_a_slider_moves_along_its_axis_in_units(seen: SeenViewer) -> None:
    seen.handle("z").press("ArrowRight")
    seen.wait_for_color(*LEFT, (128, 128, 0))
    seen.page.get_by_text("4 µm", exact=True).first.wait_for()
    assert seen.kernel.value("viewer.position") == {"t": 0.0, "z": 4.0}
    seen.handle("z").press("ArrowLeft")
    seen.wait_for_color(*LEFT, AT_2[0])


def test_playing_runs_to_the_last_plane(seen: SeenViewer) -> None:
    seen.whole.locator(".widget-play").last.locator("button").first.click()
    seen.wait_for_value("viewer.position['z']", 6.0)
    seen.wait_for_color(*LEFT, (191, 128, 0))


def test_a_projection_is_over_all_planes(seen: SeenViewer) -> None:
    seen.whole.locator("select").select_option("max projection")
    seen.wait_for_color(*LEFT, (191, 128, 0))
    seen.whole.locator("select").select_option("mean projection")
    seen.wait_for_color(*LEFT, (96, 128, 0))
    assert seen.kernel.value("viewer.projection") == "mean"


# ---- channels and labels -----------------------------------------------------------------------


def test_channels_are_switched_coloured_and_windowed(seen: SeenViewer) -> None:
    seen.checkbox("green").uncheck()
    seen.wait_for_color(*LEFT, (64, 0, 0))
    seen.checkbox("green").check()
    picker = seen.whole.locator("input[type=color]").nth(1)
    picker.evaluate(
        "(it) => { it.value = '#0000ff'; it.dispatchEvent(new Event('change', {bubbles: true})); }"
    )
    seen.wait_for_color(*LEFT, (64, 0, 128))
    assert seen.kernel.value("viewer.channels['green']['color']") == "#0000ff"


def test_a_window_is_dragged_and_chosen_by_itself(seen: SeenViewer) -> None:
    row = seen.whole.locator(".widget-hslider", has=seen.page.locator(".noUi-handle-upper"))
    upper = row.first.locator(".noUi-handle-upper")
    box = upper.bounding_box()
    track = row.first.locator(".noUi-base").bounding_box()
    assert box is not None
    assert track is not None
    y = box["y"] + box["height"] / 2
    seen.drag((box["x"] + box["width"] / 2, y), (track["x"] + track["width"] / 2, y))
    seen.wait_for_value("1800 < viewer.channels['red']['window'][1] < 2200", True)
    seen.wait_for_color(*LEFT, (round(255e3 / seen_end(seen)), 128, 0))
    seen.button("auto").first.click()
    seen.wait_for_value("viewer.channels['red']['window']", None)
    histogram = seen.whole.get_by_role("img", name="histogram").first

    def is_aligned() -> bool:  # however wide the readout is
        boxes = histogram.bounding_box(), row.first.locator(".noUi-base").bounding_box()
        (a, b), (c, d) = [(box["x"], box["width"]) for box in boxes if box is not None]
        return abs(a - c) <= 1 and abs(b - d) <= 1

    wait_for(is_aligned, "a histogram as wide as the track")


def seen_end(seen: SeenViewer) -> float:
    return float(seen.kernel.value("viewer.channels['red']['window'][1]"))


def test_labels_are_shown_faded_and_outlined(seen: SeenViewer) -> None:
    seen.wait_for_color(*INSIDE, AT_2[0])
    seen.checkbox("cells").check()
    opacity = seen.kernel.value("viewer.view.layers[0].labels[0].opacity")
    both = zip(AT_2[0], (0, 0, 255), strict=True)
    mixed = tuple(round((1 - opacity) * a + opacity * b) for a, b in both)
    seen.wait_for_color(*INSIDE, mixed)
    slider = seen.whole.locator(".widget-hslider").filter(has_text="%").first
    slider.locator(".noUi-handle").press("End")
    seen.wait_for_color(*INSIDE, (0, 0, 255))
    seen.checkbox("outline").check()
    seen.wait_for_color(*INSIDE, AT_2[0])
    seen.checkbox("outline").uncheck()
    seen.checkbox("cells").uncheck()
    seen.wait_for_color(*INSIDE, AT_2[0])


def test_hovering_tells_place_intensities_and_label(seen: SeenViewer) -> None:
    seen.checkbox("cells").check()
    seen.page.mouse.move(*seen.at(*INSIDE))
    seen.wait_for_text("label", "label 7: ")
    seen.wait_for_text("values", "red 1000")
    seen.wait_for_text("values", "green 2000")
    seen.wait_for_text("position", "x 150")
    seen.wait_for_text("position", "z 2 µm")
    assert SECRET in seen.text("label")
    assert seen.page.locator("img[src=x]").count() == 0


def test_the_position_keeps_its_digits_while_the_pointer_moves(seen: SeenViewer) -> None:
    seen.page.evaluate(
        """() => {
            const line = document.querySelector(".ngff-position");
            window.texts = [];
            const watch = () => window.texts.push(line.textContent);
            window.watcher = new MutationObserver(watch);
            window.watcher.observe(line, {childList: true, characterData: true, subtree: true});
        }"""
    )
    for i in range(12):
        seen.page.mouse.move(*seen.at(150 + i / 3, 100.15))
        seen.page.wait_for_timeout(40)
    seen.wait_for_text("position", "z 2 µm")
    texts = seen.page.evaluate("() => { window.watcher.disconnect(); return window.texts; }")
    line = r"x 15\d\.\d µm, y 100\.[12] µm(, t 0 s, z 2 µm)?"
    told = [text for text in texts if text.startswith("x ")]
    assert len(told) > 5
    assert [text for text in told if not re.fullmatch(line, text)] == []


# ---- regions and selections --------------------------------------------------------------------


def test_a_rectangle_is_a_region_of_the_kernel(seen: SeenViewer) -> None:
    seen.choose("Rectangle")
    seen.drag(seen.at(110, 70), seen.at(150, 90))
    seen.wait_for_value("viewer.roi is not None", True)
    (x0, y0), (x1, y1) = seen.kernel.value("viewer.roi.points")
    assert (x0, y0, x1, y1) == pytest.approx((110, 70, 150, 90), abs=0.6)
    assert seen.kernel.value("viewer.roi.unit") == "micrometer"
    sizes = seen.kernel.value("dict(tree.ngff.sel(viewer.roi)['0'].sizes)")
    assert (sizes["y"], sizes["x"]) == pytest.approx((40, 80), abs=2)


def test_a_polygon_is_a_region_of_the_kernel(seen: SeenViewer) -> None:
    seen.choose("Polygon")
    for point in [(110, 70), (150, 70), (150, 90)]:
        seen.page.mouse.click(*seen.at(*point))
    seen.page.keyboard.press("Enter")
    seen.wait_for_value("viewer.roi and viewer.roi.kind", "polygon")
    assert len(seen.kernel.value("viewer.roi.points")) == 3
    seen.page.keyboard.press("Delete")
    seen.wait_for_value("viewer.roi is None", True)


def test_a_click_selects_a_label(seen: SeenViewer) -> None:
    seen.checkbox("cells").check()
    seen.page.mouse.move(*seen.at(*INSIDE))
    seen.wait_for_text("label", "label 7")
    seen.choose("Select")
    seen.page.mouse.click(*seen.at(*INSIDE))
    seen.wait_for_value("viewer.selection", (7,))
    seen.wait_for_value("[*viewer.view.layers[0].labels[0].selected]", [7])


# ---- several planes, several viewers -----------------------------------------------------------


def test_a_click_in_another_plane_moves_the_slider(seen: SeenViewer) -> None:
    seen.button("Ortho").click()
    panes = seen.whole.locator(".ngff-tiles")
    wait_for(lambda: panes.count() == 3, "three planes")
    assert seen.kernel.value("[side.canvas.axes for side in viewer._sides]") == [
        ["z", "y"],
        ["x", "z"],
    ]
    below = panes.nth(2)
    wait_for(lambda: seen.kernel.value("viewer._sides[1].canvas.size")[0] > 0, "a size")
    seen.page.wait_for_timeout(1000)  # the planes are laid out and show the same place
    box = below.bounding_box()
    assert box is not None
    x, z, upp = seen.kernel.value("(*viewer._sides[1].view.center, viewer._sides[1].view.scale)")
    below.click(
        position={
            "x": box["width"] / 2 + (180 - x) / upp,
            "y": box["height"] / 2 + (6 - z) / upp,
        }
    )
    seen.wait_for_value("abs(viewer.position['z'] - 6) < 0.5", True)
    seen.page.get_by_text("6 µm", exact=True).first.wait_for()
    assert seen.kernel.value("viewer._main.canvas.crosshair[0]") == pytest.approx(180, abs=1)
    seen.button("Ortho").click()
    wait_for(lambda: panes.count() == 1, "one plane")


def test_a_linked_viewer_follows(seen: SeenViewer) -> None:
    seen.kernel.run("unlink = viewer.link(other)")
    x, y = seen.at(*LEFT)
    seen.drag((x, y), (x - 60, y))
    seen.wait_for_view([190.0, 100.0, 0.5])
    seen.handle("z").press("ArrowRight")
    seen.wait_for_value("other.position", {"t": 0.0, "z": 4.0})
    seen.wait_for_value("[round(v, 3) for v in other._main.canvas.view]", [190.0, 100.0, 0.5])
    seen.kernel.run("unlink()")


# ---- when something is wrong -------------------------------------------------------------------


def test_a_chunk_that_cannot_be_read_leaves_a_mark_and_a_note(seen: SeenViewer) -> None:
    seen.kernel.run(f"viewer.position = {BROKEN}")
    seen.wait_for_text("note", "could not be read")
    seen.wait_for_color(*APART, (191, 255, 0))
    colors = set(seen.pixels([(140 + i / 2, 100.2) for i in range(40)]))
    assert not any(green > 160 for _, green, _ in colors), colors
    seen.page.mouse.move(*seen.at(150, 100))
    seen.wait_for_text("label", "⚠")
    seen.kernel.run("viewer.position = {'t': 0.0}")
    seen.wait_for_color(*INSIDE, (191, 128, 0))
    wait_for(lambda: seen.text("note") == "", "no note")


def test_a_busy_kernel_is_told(seen: SeenViewer) -> None:
    hint = seen.whole.locator(".ngff-hint")
    seen.kernel.run("import time; time.sleep(1.5)", wait=False)
    x, y = seen.at(*LEFT)
    seen.drag((x, y), (x - 30, y))
    hint.wait_for(state="visible")
    assert hint.text_content() == "Kernel busy…"
    hint.wait_for(state="hidden")
    seen.wait_for_view([NEAR[0] + 15, NEAR[1], NEAR[2]])


# ---- keys --------------------------------------------------------------------------------------


def keys_belong_to_the_control(seen: SeenViewer) -> None:
    """Press keys that notebooks take for commands."""
    seen.whole.locator("select").press("ArrowDown")
    seen.wait_for_value("viewer.projection", "max")
    seen.button("Polygon").press("Enter")
    seen.wait_for_value("viewer.tool", "polygon")
    seen.button("Rectangle").press(" ")
    seen.wait_for_value("viewer.tool", "rectangle")


def test_keys_belong_to_the_control_that_has_the_focus(seen: SeenViewer) -> None:
    keys_belong_to_the_control(seen)


# ---- other front-ends --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notebook", "voila"])
def test_the_viewer_in_other_front_ends(
    name: str, browser: Browser, planes: Path, tmp_path: Path, keep_screenshot: list[Page]
) -> None:
    page, watch = new_page(browser)
    keep_screenshot.append(page)
    with App(name, tmp_path) as app:
        app.open(page, cells(planes)[0])
        page.wait_for_selector(".ngff-tiles")
        with app.kernel() as kernel:
            seen = SeenViewer(page, kernel)
            kernel.run(RESET)
            seen.wait_for_color(*LEFT, AT_2[0])
            track = seen.handle("z").locator("xpath=ancestor::*[contains(@class,'noUi-base')]")
            box = track.bounding_box()
            assert box is not None
            seen.handle("z").press("ArrowUp")
            seen.wait_for_color(*LEFT, (128, 128, 0))
            seen.handle("z").press("ArrowLeft")
            seen.wait_for_color(*LEFT, AT_2[0])
            page.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
            seen.wait_for_color(*LEFT, (191, 128, 0))
            seen.checkbox("green").uncheck()
            seen.wait_for_color(*LEFT, (191, 0, 0))
            keys_belong_to_the_control(seen)
    assert watch.outside == []
    assert watch.errors == []


def test_a_page_without_a_kernel_has_a_picture(planes: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("nbconvert")
    import nbformat

    path = write_notebook(tmp_path / "static.ipynb", cells(planes)[0])
    notebook = nbformat.read(path, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", App.imports())
        nbclient.NotebookClient(notebook, timeout=120).execute()
    nbformat.write(notebook, path)
    convert = [sys.executable, "-m", "nbconvert", "--to", "html", str(path)]
    subprocess.run(convert, check=True, capture_output=True, timeout=120)
    start = "data:image/png;base64,"
    page = path.with_suffix(".html").read_text()
    assert start in page
    png = page.split(start, 1)[1].split('"', 1)[0]
    assert base64.b64decode(png)[:8] == b"\x89PNG\r\n\x1a\n"
