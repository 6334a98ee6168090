"""The viewer without a browser: its state, its controls, and what it answers to messages."""

from __future__ import annotations

import base64
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ngff_xarray.errors import NotOmeError, SelectionError
from ngff_xarray.viewing import ChannelView
from ngff_xarray.viewing.regions import Roi
from ngff_xarray.widgets import controls
from ngff_xarray.widgets.controls import ChannelRow
from ngff_xarray.widgets.viewer import Viewer, _caches, view


def volume(name: str = "cells", unit: str = "micrometer", **sizes: int) -> xr.DataArray:
    """Return an image with axes t, c, z, y, x; pixels of 1 x 0.5 x 0.5 in the unit."""
    shape = {"t": 3, "c": 2, "z": 5, "y": 40, "x": 60} | sizes
    values = np.arange(np.prod(list(shape.values()))).reshape(list(shape.values()))
    space = {"axis_type": "space", "units": unit}
    coords = {
        "t": xr.Variable(
            "t", 2.0 * np.arange(shape["t"]), {"units": "second", "axis_type": "time"}
        ),
        "c": xr.Variable("c", [f"ch{i}" for i in range(shape["c"])], {"axis_type": "channel"}),
        "z": xr.Variable("z", np.arange(shape["z"]) * 1.0, space | {"pixel_size": 1.0}),
        "y": xr.Variable("y", np.arange(shape["y"]) * 0.5, space | {"pixel_size": 0.5}),
        "x": xr.Variable("x", np.arange(shape["x"]) * 0.5, space | {"pixel_size": 0.5}),
    }
    return xr.DataArray(values.astype("u2"), dims=list(shape), coords=coords, name=name)


def labelled() -> xr.DataTree:
    """Return an image of two channels with a label image of ids 0 to 3."""
    plane = volume().isel(t=0, z=0, drop=True)
    ids = np.zeros((40, 60), "u4")
    ids[10:20, 10:20], ids[25:30, 40:50], ids[0, 0] = 1, 2, 3
    labels = xr.DataArray(ids, dims=("y", "x"), coords={d: plane[d] for d in "yx"}, name="labels")
    said = {"image-label": {"properties": [{"label-value": 1, "class": "<b>bold</b>"}]}}
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"ome": {"name": "two"}}),
            "/0": plane.to_dataset(name="image"),
            "/labels": xr.Dataset(attrs={"ome": {"labels": ["nuclei"]}}),
            "/labels/nuclei": xr.Dataset(attrs={"ome": said}),
            "/labels/nuclei/0": labels.to_dataset(name="labels"),
        }
    )


@pytest.fixture
def open_viewer() -> Iterator[Callable[..., Viewer]]:
    made: list[Viewer] = []

    def make(*args: Any, **options: Any) -> Viewer:
        made.append(view(*args, **options))
        return made[-1]

    yield make
    for viewer in made:
        viewer.close()


class Browser:
    """Stands for the canvas in a page: keeps what it is sent, and answers."""

    def __init__(self, pane: Any) -> None:
        self.canvas = pane.canvas
        self.messages: list[tuple[dict[str, Any], list[bytes]]] = []
        self.frame_sizes: list[int] = []
        self._complete = threading.Condition()
        pane.canvas.send = self._take

    def _take(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        with self._complete:
            self.messages.append((message, buffers))
            if message["type"] == "frame":
                self.frame_sizes.append(sum(map(len, buffers)))
            self._complete.notify_all()

    def say(self, **message: Any) -> None:
        self.canvas._handle_custom_msg(message, [])

    def want(
        self, cx: float, cy: float, upp: float, size: tuple[int, int] = (300, 200), **more: Any
    ) -> None:
        self.say(type="want", view=[cx, cy, upp], size=list(size), ratio=1.0, have=[], **more)

    def wait(self, kind: str = "frame") -> dict[str, Any]:
        """Return the next message of a kind that ends something, and answer it."""

        def found() -> dict[str, Any] | None:
            for message, _ in self.messages:
                if message["type"] == kind and message.get("complete", True):
                    return message
            return None

        with self._complete:
            assert self._complete.wait_for(lambda: found() is not None, timeout=30)
            message = found()
            self.messages.clear()
        assert message is not None
        if kind == "frame":
            self.say(type="shown", frame=message["frame"])
        return message


def png_size(data: str) -> tuple[int, int]:
    width, height = struct.unpack(">II", base64.b64decode(data)[16:24])
    return width, height


# ---- state -------------------------------------------------------------------------------------


def test_state_is_read_and_set_in_units(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume())
    assert viewer.position == {"t": 0.0, "z": 2.0}
    viewer.position = {"z": "3 µm"}
    assert viewer.position == {"t": 0.0, "z": 3.0}
    assert viewer.view.place == viewer.position
    viewer.viewport = {"x": ("5 µm", "15 µm"), "y": (0, 1)}
    start, end = viewer.viewport["x"]
    assert (start, end) == pytest.approx((5, 15))
    left, right = viewer.viewport["y"]
    assert (left + right) / 2 == pytest.approx(0.5)
    assert viewer.view.center == pytest.approx((10, 0.5))


def test_channels_are_chosen_by_name_and_changed_in_part(
    open_viewer: Callable[..., Viewer],
) -> None:
    viewer = open_viewer(volume(), channels="ch1")
    assert [name for name, how in viewer.channels.items() if how["active"]] == ["ch1"]
    viewer.channels = {"ch0": {"color": "#00ff00", "window": (10, 20), "active": True}}
    assert viewer.channels["ch0"]["color"] == "#00ff00"
    assert viewer.channels["ch0"]["window"] == (10.0, 20.0)
    assert viewer.channels["ch1"]["active"]
    viewer.channels = ["ch0"]
    assert not viewer.channels["ch1"]["active"]
    assert viewer.view.layers[0].channels[0].window == (10.0, 20.0)


def test_changes_are_observed_once(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume())
    seen: list[tuple[str, Any]] = []
    viewer.observe(lambda change: seen.append((change["name"], change["new"])), ["position"])
    viewer.position = {"t": 4.0}
    assert seen == [("position", {"t": 4.0, "z": 2.0})]


@pytest.mark.parametrize(
    ("trait", "value", "text"),
    [
        ("position", {"q": 1}, "there is no axis 'q'"),
        ("viewport", {"z": (0, 1)}, "expected axes x, y"),
        ("viewport", {"x": (2, 1)}, "below its end"),
        ("selection", "nuclei", "expected ids of labels"),
        ("selection", 7, "expected ids of labels"),
        ("channels", ["ch9"], "there is no channel 'ch9'"),
        ("channels", {"ch0": {"colour": 1}}, "has no 'colour'"),
    ],
)
def test_what_cannot_be_shown_is_said(
    open_viewer: Callable[..., Viewer], trait: str, value: Any, text: str
) -> None:
    viewer = open_viewer(volume())
    before = viewer.view
    with pytest.raises(SelectionError, match=text):
        setattr(viewer, trait, value)
    assert viewer.view == before


def test_what_is_no_image_is_said() -> None:
    with pytest.raises(NotOmeError):
        view(xr.Dataset())
    with pytest.raises(SelectionError, match="there is no channel 'DAPI'"):
        view(volume(), channels="DAPI")
    with pytest.raises(SelectionError, match="there is no label image 'cells'"):
        view(labelled(), labels="cells")


# ---- controls ----------------------------------------------------------------------------------


def test_sliders_follow_and_lead(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume())
    row = viewer._sliders["z"]
    assert (row.slider.value, row.text.value) == (2, "2 µm")
    row.slider.value = 4
    assert viewer.position["z"] == 4.0
    viewer.position = {"z": 1.0}
    assert (row.slider.value, row.text.value) == (1, "1 µm")


def test_channel_rows_follow_and_lead(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume())
    row = viewer._channel_rows["ch0"]
    row.color.value = "#0000ff"
    row.active.value = False
    assert viewer.channels["ch0"]["color"] == "#0000ff"
    assert not viewer.channels["ch0"]["active"]
    viewer.channels = {"ch0": {"window": (100, 900)}}
    assert row.window.value == (100.0, 900.0)
    row.window.value = (100, 800)
    assert viewer.channels["ch0"]["window"] == (100.0, 800.0)
    row.auto.click()
    assert viewer.channels["ch0"]["window"] is None


def test_the_handles_of_integers_stand_on_integers() -> None:
    row = ChannelRow(ChannelView("a", window=(0, 255)), is_integer=True, changed=lambda said: None)
    row.describe(np.array([5, 3]), np.array([-0.5, 127.5, 255.5]))
    assert (row.window.min, row.window.max, row.window.value) == (0, 255, (0, 255))


def test_of_many_channels_the_shown_ones_have_controls(
    open_viewer: Callable[..., Viewer],
) -> None:
    viewer = open_viewer(volume(t=1, z=1, c=500, y=8, x=8))
    assert len(viewer._channel_box.children) == 8
    assert viewer._choice is not None
    assert len(viewer._choice.options) == 500
    viewer._choice.value = ("ch499",)
    assert [name for name, how in viewer.channels.items() if how["active"]] == ["ch499"]
    assert len(viewer._channel_box.children) == 1


def test_the_choice_of_channels_follows(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume(t=1, z=1, c=20, y=8, x=8))
    assert viewer._choice is not None
    viewer.channels = ["ch12", "ch3"]
    assert viewer._choice.value == ("ch3", "ch12")
    viewer._choice.value = tuple(f"ch{i}" for i in range(12))
    assert viewer._choice.value == tuple(f"ch{i}" for i in range(8))


def test_a_channel_switched_on_has_a_histogram(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume(t=1, z=1, c=20, y=8, x=8))
    viewer.channels = ["ch15"]
    row = viewer._channel_rows["ch15"]
    end = time.monotonic() + 30
    while "<svg" not in row.histogram.value:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert row.window.max >= 15 * 64


def test_a_window_told_again_after_another_one_is_no_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[Any] = []
    row = ChannelRow(ChannelView("a", window=(0, 255)), is_integer=True, changed=chosen.append)
    row.show(ChannelView("a"), (20, 21))
    row.show(ChannelView("a", window=(0, 100)), (0, 100))
    row.window.value = (20.0, 21.0000000002)  # on its way when the second was told
    row.window.value = (0.0, 100.0)
    assert chosen == []
    row.window.value = (5.0, 100.0)
    assert chosen == [{"window": (5.0, 100.0)}]
    monkeypatch.setattr(controls, "_ECHO", 0.0)  # a person, later
    row.window.value = (20.0, 21.0)
    assert chosen[1:] == [{"window": (20.0, 21.0)}]


def test_a_window_told_again_by_the_browser_stays_automatic(
    open_viewer: Callable[..., Viewer],
) -> None:
    viewer = open_viewer(volume(), channels="ch0")
    row = viewer._channel_rows["ch0"]
    row.show(viewer.view.layers[0].channels[0], (100.0, 900.0))
    row.window.value = (100.0, 900.0000002)
    assert viewer.channels["ch0"]["window"] is None
    row.window.value = (100.0, 800.0)
    assert viewer.channels["ch0"]["window"] == (100.0, 800.0)


def test_names_are_shown_as_text(open_viewer: Callable[..., Viewer]) -> None:
    image = volume().assign_coords(c=["<img src=x>", "b\x1b[31m"])
    image["c"].attrs["axis_type"] = "channel"
    viewer = open_viewer(image)
    assert [row.active.description for row in viewer._channel_rows.values()] == [
        "<img src=x>",
        "b�[31m",
    ]
    assert not any(row.active.description_allow_html for row in viewer._channel_rows.values())


def test_labels_are_there_and_shown_when_asked(open_viewer: Callable[..., Viewer]) -> None:
    hidden, shown = open_viewer(labelled()), open_viewer(labelled(), labels="nuclei")
    plain, colored = hidden.screenshot(), shown.screenshot()
    assert (plain != colored).any()
    hidden._label_rows["two", "nuclei"].visible.value = True
    assert (hidden.screenshot() == colored).all()
    hidden._label_rows["two", "nuclei"].outline.value = True
    assert (hidden.screenshot() != colored).any()
    shown.selection = (1,)
    assert shown.view.layers[0].labels[0].selected == {1}
    assert shown._main.canvas.selection == ["1"]
    for ids in (np.array([2, 1]), pd.Index([2, 1], name="label-value"), [2, 1]):
        shown.selection = ids
        assert shown.selection == (2, 1)
    shown.selection = pd.Index([], dtype="int64")
    assert shown.selection == ()


def test_a_label_image_that_is_hidden_takes_one_line(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(labelled())
    row = viewer._label_rows["two", "nuclei"]
    assert row.opacity.layout.display == "none"
    row.visible.value = True
    assert row.opacity.layout.display is None


# ---- regions -----------------------------------------------------------------------------------


def test_a_region_selects_and_masks(open_viewer: Callable[..., Viewer]) -> None:
    image = volume()
    viewer = open_viewer(image)
    points = [[5.0, 2.0], [10.0, 4.0]]
    viewer._main.canvas.roi = {"kind": "rectangle", "points": points}
    assert viewer.roi == Roi("rectangle", ((5.0, 2.0), (10.0, 4.0)), ("x", "y"), "micrometer")
    part = image.ngff.sel(viewer.roi)
    assert dict(part.sizes) == {"t": 3, "c": 2, "z": 5, "y": 5, "x": 11}
    mask = viewer.roi.mask(image)
    assert mask.dims == ("y", "x")
    assert (image.where(mask, drop=True).sizes["x"], int(mask.sum())) == (11, 55)
    viewer.roi = None
    assert viewer._main.canvas.roi is None


def test_a_region_is_set_by_its_axes(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume())
    viewer.roi = {"x": ("5 µm", "10 µm"), "y": slice("2000 nm", "4000 nm")}
    assert viewer.roi == Roi("rectangle", ((5.0, 2.0), (10.0, 4.0)), ("x", "y"), "micrometer")
    assert viewer._main.canvas.roi["points"] == [[5.0, 2.0], [10.0, 4.0]]
    before = viewer.roi
    for wrong in ({"x": (1, 2)}, {"x": (2, 1), "y": (1, 2)}, [1, 2, 3, 4], "all"):
        with pytest.raises(SelectionError, match="expected"):
            viewer.roi = wrong
    assert viewer.roi is before


def test_a_polygon_masks_what_it_holds() -> None:
    image = volume()
    triangle = Roi("polygon", ((0.0, 0.0), (10.0, 0.0), (0.0, 10.0)), ("x", "y"), "micrometer")
    y, x = np.meshgrid(image["y"], image["x"], indexing="ij")
    inside = triangle.mask(image).values
    assert inside[(x > 0) & (y > 0) & (x + y < 9.99)].all()
    assert not inside[x + y > 10.01].any()
    nanometers = Roi("polygon", ((0, 0), (1e4, 0), (0, 1e4)), ("x", "y"), "nanometer")
    off_edge = abs(x + y - 10) > 0.01
    assert (nanometers.mask(image).values == inside)[off_edge].all()


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("rectangle", ()),
        ("polygon", ((0, 0), (1, 1))),
        ("circle", ((0, 0),)),
        ("rectangle", ((0, 0), (0, float("nan")))),
    ],
)
def test_what_is_no_region_is_said(kind: Any, points: Any) -> None:
    with pytest.raises(SelectionError):
        Roi(kind, points)


# ---- several -----------------------------------------------------------------------------------


def test_linked_viewers_show_the_same_place(open_viewer: Callable[..., Viewer]) -> None:
    here, there = open_viewer(volume()), open_viewer(volume(unit="nanometer"))
    there.viewport = {"x": (0, 5)}
    end = here.link(there)
    assert there.viewport["x"] == pytest.approx([1000 * v for v in here.viewport["x"]])
    here.position = {"z": 3.0, "t": 4.0}
    assert there.position == pytest.approx({"z": 3000.0, "t": 4.0})
    there.viewport = {"x": (1000, 2000)}
    assert here.viewport["x"] == pytest.approx((1, 2))
    end()
    here.position = {"z": 0.0}
    assert there.position["z"] == pytest.approx(3000.0)


def test_a_linked_viewer_that_lags_behind_pulls_nobody_back(
    open_viewer: Callable[..., Viewer],
) -> None:
    here, there = open_viewer(volume()), open_viewer(volume())
    here.link(there)
    hand, other = Browser(here._main), Browser(there._main)
    hand.want(10.0, 10.0, 0.25)
    heard = there._main.canvas.told
    hand.want(11.0, 10.0, 0.25)
    other.want(10.0, 10.0, 0.25, told=heard)  # what it was told first
    assert here.view.center == there.view.center == (11.0, 10.0)
    other.want(11.0, 10.0, 0.25, told=there._main.canvas.told)
    other.want(12.0, 10.0, 0.25, told=there._main.canvas.told)  # its own hand
    assert here.view.center == there.view.center == (12.0, 10.0)


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Let threads take turns so often that they meet everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy_threads")
def test_two_threads_move_linked_viewers(open_viewer: Callable[..., Viewer]) -> None:
    here, there = open_viewer(volume()), open_viewer(volume())
    here.link(there)
    browser = Browser(here._main)
    for attempt in range(20):
        start = threading.Barrier(2)
        place = 10.0 + attempt / 4

        def drag(place: float = place, start: threading.Barrier = start) -> None:
            start.wait()
            for step in range(5):
                browser.want(place + step / 64, 10.0, 0.25)

        def step(start: threading.Barrier = start, z: float = attempt % 5) -> None:
            start.wait()
            here.position = {"z": z}

        threads = [threading.Thread(target=act) for act in (drag, step)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert here.position["z"] == there.position["z"] == attempt % 5
        assert there.view.center == here.view.center == (place + 4 / 64, 10.0)


def test_linked_viewers_of_other_proportions_keep_their_zoom(
    open_viewer: Callable[..., Viewer],
) -> None:
    wide, high = open_viewer(volume(), height=200), open_viewer(volume(), height=900)
    wide.link(high)
    scale = wide.view.scale
    for x in (1.0, 2.0, 3.0):
        for viewer in (high, wide):
            viewer.show(viewer.view.moved((x, 5.0)))
    assert wide.view.center == high.view.center == (3.0, 5.0)
    assert wide.view.scale == high.view.scale == scale


def test_images_in_one_world_are_layers(open_viewer: Callable[..., Viewer]) -> None:
    left = volume("left").isel(t=0, z=0, drop=True)
    right = left.assign_coords(x=left["x"] + 100).rename("right")
    right["x"].attrs.update(left["x"].attrs)
    viewer = open_viewer([left, right])
    assert [layer.name for layer in viewer.world.layers] == ["left", "right"]
    assert list(viewer.channels) == ["left: ch0", "left: ch1", "right: ch0", "right: ch1"]
    both = viewer.screenshot()
    viewer._layer_rows["right"].visible.value = False
    assert (viewer.screenshot() != both).any()


# ---- pictures ----------------------------------------------------------------------------------


def test_a_screenshot_needs_no_browser(open_viewer: Callable[..., Viewer], tmp_path: Path) -> None:
    viewer = open_viewer(volume(), height=200)
    pixels = viewer.screenshot(tmp_path / "shot.png", ratio=2)
    assert pixels.shape == (400, 1440, 3)
    assert png_size(base64.b64encode((tmp_path / "shot.png").read_bytes()).decode()) == (1440, 400)


def test_the_bundle_carries_a_picture_and_text(open_viewer: Callable[..., Viewer]) -> None:
    data, _ = open_viewer(volume())._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert png_size(data["image/png"])[0] == 512
    assert data["text/plain"] == "viewer of cells (t 3, c 2, z 5, y 40, x 60)"


@pytest.mark.parametrize(
    "values",
    [np.zeros((0, 5)), np.ones((8, 8)), np.full((8, 8), np.nan), np.zeros((8, 8), ">u8")],
    ids=["empty", "constant", "nan", "big-endian"],
)
def test_odd_pixels_open(open_viewer: Callable[..., Viewer], values: Any) -> None:
    viewer = open_viewer(xr.DataArray(values, dims=("y", "x")))
    assert viewer.screenshot().dtype == np.uint8


# ---- messages ----------------------------------------------------------------------------------


def test_the_browser_is_sent_what_it_wants(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume())
    browser = Browser(viewer._main)
    browser.want(15, 10, 0.1)
    frame = browser.wait()
    assert frame["order"] == ["cells"]
    assert viewer.viewport["x"] == pytest.approx((0, 30))
    viewer.position = {"z": 4.0}
    assert browser.wait()["state"] != frame["state"]
    browser.say(type="probe", x=10.0, y=5.0)
    answer = browser.wait("probe")
    there = volume().sel(t=0, z=4, y=5, x=10)
    assert answer["values"] == [[f"ch{i}", str(int(there[i]))] for i in range(2)]


@pytest.mark.parametrize("near", [True, False])
def test_a_frame_fills_a_packet_of_the_own_machine(
    open_viewer: Callable[..., Viewer], near: bool
) -> None:
    browser = Browser(open_viewer(volume())._main)
    browser.say(type="want", view=[15, 10, 0.1], size=[300, 200], ratio=1.0, have=[], near=near)
    browser.wait()
    assert {total >= 2**16 for total in browser.frame_sizes} == {near}


@pytest.mark.parametrize(
    "message", [None, 5, {}, {"type": "other"}, {"type": ["want"]}, {"type": "shown", "frame": "x"}]
)
def test_other_messages_do_no_harm(open_viewer: Callable[..., Viewer], message: Any) -> None:
    viewer = open_viewer(volume())
    viewer._main.canvas._handle_custom_msg(message, [])
    assert viewer.screenshot().shape[2] == 3


@pytest.mark.parametrize(
    "message",
    [
        {"type": "want"},
        {"type": "want", "view": "here", "size": [1, 1], "ratio": 1, "have": []},
        {"type": "want", "view": [0, 0, 1], "size": [float("inf"), 1], "ratio": 1, "have": []},
        {"type": "want", "view": [0, 0, 1], "size": [9, 9], "ratio": 1, "have": 5},
        {"type": "want", "view": [0, 0, 1], "size": [1e9, 1e9], "ratio": 1e6, "have": []},
        {"type": "probe", "x": None, "y": []},
        {"type": "click", "x": "left"},
        {"type": "shown"},
    ],
)
def test_malformed_messages_are_passed_over(
    open_viewer: Callable[..., Viewer], message: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    viewer = open_viewer(volume())
    browser = Browser(viewer._main)
    browser.canvas._handle_custom_msg(message, [])
    browser.want(15, 10, 0.1)
    assert browser.wait()["order"] == ["cells"]
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err


# ---- many of them ------------------------------------------------------------------------------


def test_a_closed_viewer_leaves_nothing_behind() -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    viewer = view(labelled(), labels=True)
    viewer.screenshot()
    viewer.close()
    viewer.close()
    assert set(_instances) == before


def test_viewers_share_their_caches_and_let_go_of_them(tmp_path: Path) -> None:
    from stores import write_image

    tree = xr.open_datatree(write_image(tmp_path / "image.ome.zarr"))
    before = _caches().chunks.cache.nbytes
    first, second = view(tree), view(tree)
    kept = first._server.chunks.cache
    assert second._server.chunks.cache is kept
    first.screenshot(), second.screenshot()
    both = kept.nbytes
    second.close()
    assert before < kept.nbytes < both
    first.close()
    assert kept.nbytes == before


def test_a_viewer_may_be_closed_while_tiles_are_drawn() -> None:
    viewer = view(volume(y=600, x=600))
    browser = Browser(viewer._main)
    for i in range(5):
        browser.want(150 + i, 150, 0.5)
    viewer.close()
    sent = len(browser.messages)
    viewer._main._frames.want(viewer.view)
    assert len(browser.messages) == sent


# ---- three planes ------------------------------------------------------------------------------


def test_three_planes_are_linked(open_viewer: Callable[..., Viewer]) -> None:
    viewer = open_viewer(volume())
    viewer.ortho = True
    right, below = viewer._sides
    assert (right.canvas.axes, below.canvas.axes) == (["z", "y"], ["x", "z"])
    assert right.view.scale == below.view.scale == viewer.view.scale
    Browser(below).say(type="click", x=12.0, y=3.2)
    assert viewer.position["z"] == pytest.approx(3.2)
    assert viewer._main.canvas.crosshair == [12.0, viewer._cross[1]]
    Browser(viewer._main).say(type="click", x=7.0, y=8.0)
    assert right.view.place["x"] == 7.0
    assert below.view.place["y"] == 8.0
    viewer.ortho = False
    assert viewer._sides == ()
    assert viewer._main.canvas.crosshair is None
