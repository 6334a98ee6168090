"""Pictures: which level, plane, channels and labels are drawn, and how the figure reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from stores import edit_attributes, write_image

from ngff_xarray import picture, planes, render
from ngff_xarray.errors import NotOmeError, SelectionError
from ngff_xarray.model import Channel, Window
from ngff_xarray.plot import scale_bar


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def tree(scan: Path) -> xr.DataTree:
    return xr.open_datatree(scan)


def _composited(planes: xr.DataArray) -> np.ndarray:
    colors, windows = [(0, 0, 255), (0, 255, 0)], [(100.0, 50000.0), (200.0, 60000.0)]
    return render.composite(list(planes.values), colors, windows)


# ---- rgb ---------------------------------------------------------------------------------------


def test_rgb_uses_the_stores_colours_windows_and_defaults(tree: xr.DataTree) -> None:
    drawn = tree.ngff.rgb()
    assert drawn.dims == ("y", "x", "rgb")
    assert drawn.dtype == np.uint8
    expected = _composited(tree["0/image"].isel(t=1, z=2))  # rdefs: defaultT 1, defaultZ 2
    np.testing.assert_array_equal(drawn, expected)
    xr.testing.assert_equal(drawn["x"].drop_vars("x"), tree["0/x"].drop_vars("x"))


def test_without_rdefs_it_is_the_first_time_and_the_middle_of_z(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="tzyx", shape=(3, 5, 32, 32))
    tree = xr.open_datatree(path)
    plane = tree["0/image"].isel(t=0, z=2).values
    expected = render.composite([plane], [(255, 255, 255)], [render.auto_window(plane)])
    np.testing.assert_array_equal(tree.ngff.rgb(), expected)


def test_positions_regions_channels_and_levels(tree: xr.DataTree) -> None:
    region = {"x": slice("10 µm", "15 µm"), "y": slice(0, "5 µm")}
    drawn = tree.ngff.rgb(t="2 s", z="6 µm", **region)
    assert drawn.shape == (11, 11, 3)
    part = tree["0/image"].isel(t=2, z=3, x=slice(20, 31), y=slice(0, 11))
    np.testing.assert_array_equal(drawn, _composited(part))
    green = tree.ngff.rgb(channels="GFP")
    assert green.sel(rgb=["red", "blue"]).max() == 0
    np.testing.assert_array_equal(green, tree.ngff.rgb(c="GFP"))
    np.testing.assert_array_equal(green, tree["0/image"].isel(c=1).ngff.rgb())
    assert tree.ngff.rgb(level=1).shape == (25, 31, 3)
    assert tree.ngff.rgb(level="2 µm").shape == (13, 16, 3)


def test_a_level_is_chosen_for_the_size(tree: xr.DataTree) -> None:
    assert tree.ngff.rgb(max_pixels=31 * 25).shape == (25, 31, 3)
    assert tree.ngff.rgb(max_pixels=31 * 25, x=slice(0, 5), y=slice(0, 5)).shape == (11, 11, 3)
    strided = tree["0/image"].ngff.rgb(max_pixels=100)
    assert strided.shape[0] * strided.shape[1] <= 200
    assert strided.ngff.pixel_size["x"].magnitude == 3.0


@pytest.mark.parametrize("how", ["max", "mean", "min"])
def test_projection(tree: xr.DataTree, how: Any) -> None:
    drawn = tree.ngff.rgb(projection=how, t=0)
    expected = _composited(getattr(tree["0/image"].isel(t=0), how)("z"))
    np.testing.assert_array_equal(drawn, expected)
    part = tree.ngff.rgb(projection=how, t=0, z=slice("2 µm", "4 µm"))
    expected = _composited(getattr(tree["0/image"].isel(t=0, z=[1, 2]), how)("z"))
    np.testing.assert_array_equal(part, expected)


def test_a_projection_reads_a_bounded_number_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="czyx", shape=(2, 9, 64, 64), levels=3)
    tree = xr.open_datatree(path)
    whole = tree.ngff.rgb(projection="mean")
    for most in (1, 1000, 20_000, 10**6):
        monkeypatch.setattr(planes, "_SLAB", most)
        xr.testing.assert_equal(tree.ngff.rgb(projection="mean"), whole)
    monkeypatch.setattr(planes, "MAX_PROJECTED", 2 * 2 * 9 * 32 * 32)
    assert tree.ngff.rgb(projection="max").shape == (32, 32, 3)  # the finest that is small enough
    message = "would read 147,456 bytes of level 0, more than 36,864: level=1 is small enough"
    with pytest.raises(SelectionError, match=message):
        tree.ngff.rgb(projection="max", level=0)
    assert tree.ngff.rgb(projection="max", level=0, z=slice(0, 3)).shape == (64, 64, 3)
    monkeypatch.setattr(planes, "MAX_PROJECTED", 100)
    with pytest.raises(SelectionError, match="no level is small enough; a region of z reads less"):
        tree.ngff.rgb(projection="max")


def test_no_more_than_a_slab_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "_SLAB", 10_000)
    image = xr.DataArray(np.ones((20, 40, 50), "u2"), dims=("z", "y", "x"))
    image.encoding["preferred_chunks"] = {"z": 4, "y": 16, "x": 16}
    sizes: list[int] = []
    project = render.project

    def counted(slabs: Any, how: Any) -> Any:
        found = list(slabs)
        sizes.extend(slab.nbytes for slab in found)
        return project(found, how)

    monkeypatch.setattr(render, "project", counted)
    assert image.ngff.rgb(projection="max").shape == (40, 50, 3)
    assert len(sizes) > 8
    assert max(sizes) <= 10_000
    assert sum(sizes) == image.nbytes


def test_inactive_channels_are_left_out_unless_asked_for(scan: Path) -> None:
    edit_attributes(scan, lambda ome: ome["omero"]["channels"][0].update(active=False))
    tree = xr.open_datatree(scan)
    np.testing.assert_array_equal(tree.ngff.rgb(), tree.ngff.rgb(channels=["GFP"]))
    assert tree.ngff.rgb(channels=["DAPI"]).sel(rgb="blue").max() > 0


def test_an_inverted_channel_is_bright_where_it_is_dark(scan: Path) -> None:
    before = xr.open_datatree(scan).ngff.rgb(channels="GFP").sel(rgb="green")
    edit_attributes(scan, lambda ome: ome["omero"]["channels"][1].update(inverted=True))
    after = xr.open_datatree(scan).ngff.rgb(channels="GFP").sel(rgb="green")
    assert int(abs(before.astype(int) + after.astype(int) - 255).max()) <= 1


def test_gamma_of_the_store_and_looks_that_are_asked_for(scan: Path) -> None:
    changes = {"family": "polynomial", "coefficient": 0.5, "inverted": True}
    edit_attributes(scan, lambda ome: ome["omero"]["channels"][1].update(changes))
    tree = xr.open_datatree(scan)
    plane = tree["0/image"].isel(t=1, z=2, c=1).values
    window = (200.0, 60000.0)
    expected = render.composite([plane], [(0, 255, 0)], [window], gammas=[0.5], inverted=[True])
    np.testing.assert_array_equal(tree.ngff.rgb(channels="GFP"), expected)
    assert "gamma 0.5, inverted" in repr(tree.ngff)
    looks: list[Any] = [
        {"GFP": {"inverted": False, "gamma": 1, "window": (0, 900), "colormap": "magma"}},
        [Channel("GFP", window=Window(0, 900), colormap="magma")],
        Channel("GFP", window=Window(0, 900), colormap="magma"),
    ]
    mapped = render.composite([plane], [render.colormap("magma")], [(0, 900)])
    for channels in looks:
        np.testing.assert_array_equal(tree.ngff.rgb(channels=channels), mapped)
    red = tree.ngff.rgb(channels={"GFP": "#ff0000"})
    assert red.sel(rgb=["green", "blue"]).max() == 0
    xr.testing.assert_equal(red, tree.ngff.rgb(channels={"GFP": (255, 0, 0)}))
    grey = tree.ngff.rgb(channels={"GFP": "Greys_r"})  # one of matplotlib's
    assert grey.max() > 0


def test_what_the_store_said_of_looks_is_written_back(scan: Path, tmp_path: Path) -> None:
    changes = {"family": "exponential", "coefficient": 3, "inverted": True, "lut": "cool.lut"}
    edit_attributes(scan, lambda ome: ome["omero"]["channels"][1].update(changes))
    tree = xr.open_datatree(scan)
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
    (written,) = xr.open_datatree(tmp_path / "b.ome.zarr")["0/image"].isel(c=[1]).ngff.channels
    assert written.inverted
    kept = xr.open_datatree(tmp_path / "b.ome.zarr").attrs["ome"]["omero"]["channels"][1]
    assert changes.items() <= kept.items()


def test_three_channels_of_bytes_without_metadata_are_true_colour(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype("uint8")
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", data=data, levels=1)
    drawn = xr.open_datatree(path).ngff.rgb()
    np.testing.assert_array_equal(drawn.transpose("rgb", "y", "x"), data)


def test_at_most_eight_channels_are_drawn(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", shape=(12, 16, 16), levels=1)
    tree = xr.open_datatree(path)
    names = [str(i) for i in range(8)]
    np.testing.assert_array_equal(tree.ngff.rgb(), tree.ngff.rgb(channels=names))


@pytest.mark.parametrize("dtype", ["bool", "int8", ">u2", "uint64", "float32", "float64"])
def test_every_dtype_can_be_drawn(tmp_path: Path, dtype: str) -> None:
    data = (np.arange(256).reshape(16, 16) % 120).astype(dtype)
    if data.dtype.kind == "f":
        data[0, 0], data[0, 1] = np.nan, np.inf
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", data=data, levels=1)
    drawn = xr.open_datatree(path).ngff.rgb()
    assert drawn.max() == 255
    assert drawn.min() == 0


def test_windows_that_show_nothing_of_computed_values_are_chosen_anew(tree: xr.DataTree) -> None:
    image = tree["0/image"].load()
    for computed in (image / float(image.max()), image > int(image.median()), np.log1p(image)):
        drawn = computed.ngff.rgb()
        assert drawn.max() == 255
        assert drawn.min() == 0
    dark = tree.ngff.map(lambda level: level * 0)
    assert tree["0/image"].isel(t=0, z=0).ngff.rgb().equals(tree.ngff.rgb(t=0, z=0))
    assert dark.ngff.rgb().max() == 0


def test_the_package_draws_its_own_colours(tree: xr.DataTree) -> None:
    drawn = tree.ngff.rgb()
    xr.testing.assert_equal(drawn.ngff.rgb(), drawn)
    assert drawn.ngff.plot().get_xlabel() == "x [µm]"


def test_what_is_no_picture_says_so(tmp_path: Path) -> None:
    plane = xr.DataArray(np.zeros((4, 4), "complex64"), dims=("y", "x"))
    with pytest.raises(NotOmeError, match="complex64 is no dtype of pictures"):
        plane.ngff.rgb()
    with pytest.raises(SelectionError, match="axis c is empty"):
        xr.DataArray(np.zeros((0, 4, 4)), dims=("c", "y", "x")).ngff.rgb()
    with pytest.raises(NotOmeError, match="p has no positions"):
        xr.DataArray(np.zeros((2, 4, 4)), dims=("z", "y", "x")).stack(p=("z", "y")).ngff.rgb()
    floats = xr.DataArray(np.zeros((4, 4)), dims=("y", "x"), name="labels")
    with pytest.raises(NotOmeError, match="labels must be integers"):
        floats.ngff.rgb()


def test_an_axis_of_names_is_cut_by_name() -> None:
    image = xr.DataArray(
        np.arange(48, dtype="uint8").reshape(3, 4, 4),
        dims=("stain", "y", "x"),
        coords={"stain": ["h", "e", "dab"]},
    )
    xr.testing.assert_equal(image.ngff.rgb(stain="e"), image.sel(stain="e").ngff.rgb())
    assert image.ngff.plot().get_title() == "stain h"


def test_a_plane_of_too_many_chunks_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=1)
    file = path / "0" / "zarr.json"
    document = json.loads(file.read_text())
    document["shape"] = [2**20, 2**20]
    file.write_text(json.dumps(document))
    tree = xr.open_datatree(path)
    with pytest.raises(SelectionError, match=r"chunks, .* draw a region, with y=slice"):
        tree.ngff.plot()
    assert tree.ngff.rgb(x=slice(0, 10), y=slice(0, 10)).shape == (21, 21, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "RFP"}, "no channel"),
        ({"channels": []}, "no channel"),
        ({"level": 7}, "no level 7"),
        ({"labels": "nuclei"}, "no label image 'nuclei'; the label images are cells"),
        ({"projection": "median"}, "projection: expected one of"),
        ({"q": 3}, "no axis 'q'"),
        ({"x": 3}, "x: a picture needs a region"),
        ({"z": slice(0, 3)}, "z: a region of it needs a projection"),
        ({"z": "1 m"}, "outside the image"),
    ],
)
def test_what_cannot_be_drawn_says_so(
    tree: xr.DataTree, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SelectionError, match=message):
        tree.ngff.rgb(**options)


# ---- labels ------------------------------------------------------------------------------------


def test_labels_are_laid_over_at_the_same_place(tree: xr.DataTree) -> None:
    plain, over = tree.ngff.rgb(), tree.ngff.rgb(labels="cells")
    labels = tree["labels/cells/0/labels"].isel(t=1, z=2).values
    changed = (plain != over).any("rgb").values
    assert not changed[labels == 0].any()
    assert changed[labels > 0].mean() > 0.95
    expected = render.overlay_labels(
        plain.values, labels, stored=tree.ngff.labels["cells"].ngff.colors
    )
    np.testing.assert_array_equal(over, expected)
    for same in (True, ["cells"], tree.ngff.labels["cells"]):
        np.testing.assert_array_equal(tree.ngff.rgb(labels=same), expected)


def test_labels_follow_regions_coarse_levels_and_reversed_axes(tree: xr.DataTree) -> None:
    region = {"x": slice(5, 12), "y": slice(6, 20)}
    whole = tree.ngff.rgb(labels="cells")
    part = tree.ngff.rgb(labels="cells", **region)
    xr.testing.assert_equal(part, whole.sel(x=part["x"], y=part["y"]))
    coarse = tree.ngff.rgb(level=1, labels="cells")
    labels = tree["labels/cells/1/labels"].isel(t=1, z=2).values
    stored = tree.ngff.labels["cells"].ngff.colors
    expected = render.overlay_labels(tree.ngff.rgb(level=1).values, labels, stored=stored)
    np.testing.assert_array_equal(coarse, expected)
    image = tree["0/image"].isel(x=slice(None, None, -1))
    flipped = image.ngff.rgb(labels=tree.ngff.labels["cells"])
    xr.testing.assert_equal(flipped, whole.isel(x=slice(None, None, -1)))


def test_labels_are_projected_with_the_image(tree: xr.DataTree) -> None:
    plain, over = (tree.ngff.rgb(projection="max", t=0, labels=on) for on in (None, "cells"))
    labels = tree["labels/cells/0/labels"].isel(t=0).max("z").values
    stored = tree.ngff.labels["cells"].ngff.colors
    expected = render.overlay_labels(plain.values, labels, stored=stored)
    np.testing.assert_array_equal(over, expected)


def test_labels_may_have_a_channel_axis_and_axes_of_other_names(tmp_path: Path) -> None:
    channel = {"axes": "cyx", "data": np.ones((1, 50, 62), "uint8")}
    labels = {"c": channel, "names": {"axes": "yx"}}
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", labels=labels)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in ("Zeile", "Spalte")]
    edit_attributes(path / "labels" / "names", lambda ome: ome["multiscales"][0].update(axes=axes))
    tree = xr.open_datatree(path)
    assert tree.ngff.labels["c"].ngff.rgb().shape == (50, 62, 3)
    for name in ("c", "names"):
        assert (tree.ngff.rgb(labels=name) != tree.ngff.rgb()).any()


def test_fine_labels_are_read_to_the_size_of_the_picture(tmp_path: Path) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr", axes="yx", shape=(512, 512), levels=4, labels={"n": {"levels": 1}}
    )
    tree = xr.open_datatree(path)
    plain, over = tree.ngff.rgb(level=3), tree.ngff.rgb(level=3, labels="n")
    labels = tree["labels/n/0/labels"]
    nearest = labels.sel(y=plain["y"] + 0.01, x=plain["x"] + 0.01, method="nearest").values
    stored = tree.ngff.labels["n"].ngff.colors
    np.testing.assert_array_equal(over, render.overlay_labels(plain.values, nearest, stored=stored))


def test_labels_that_cover_a_part_only(tree: xr.DataTree) -> None:
    labels = tree.ngff.labels["cells"].ngff.crop(x=slice(10, 20), y=slice(10, 15))
    plain, over = tree.ngff.rgb(), tree.ngff.rgb(labels=labels)
    changed = (plain != over).any("rgb")
    inside = (abs(changed["x"] - 15) < 5.5) & (abs(changed["y"] - 12.5) < 3)
    assert changed.where(inside, False).any()
    assert not changed.where(~inside, False).any()


def test_a_label_image_is_drawn_in_its_colours(tree: xr.DataTree) -> None:
    labels = tree.ngff.labels["cells"]
    drawn = labels.ngff.rgb().values
    plane = labels["0/labels"].isel(t=0, z=2).values
    for value, color in labels.ngff.colors.items():
        if (plane == value).any() and color[3] == 255:
            assert (drawn[plane == value] == color[:3]).all()
    assert (drawn[plane == 0] == 0).all()


# ---- plot --------------------------------------------------------------------------------------


def _bar(axes: Axes) -> AnchoredSizeBar:
    return next(artist for artist in axes.artists if isinstance(artist, AnchoredSizeBar))


def _bar_text(axes: Axes) -> str:
    return str(_bar(axes).txt_label.get_text())


def test_plot_has_physical_axes_a_scale_bar_names_and_a_title(tree: xr.DataTree) -> None:
    axes = tree.ngff.plot()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x [µm]", "y [µm]")
    assert axes.get_title() == "scan · t 1 s · z 4 µm"
    assert axes.get_xlim() == (-0.25, 30.75)
    assert axes.get_ylim() == (24.75, -0.25)
    assert _bar_text(axes) == "5 µm"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["DAPI", "GFP"]
    assert [patch.get_facecolor()[:3] for patch in legend.get_patches()] == [(0, 0, 1), (0, 1, 0)]


def test_plot_takes_axes_and_leaves_out_what_is_not_wanted(tree: xr.DataTree) -> None:
    _, axes = plt.subplots()
    returned = tree.ngff.plot(ax=axes, scale_bar=False, legend=False, title="mine")
    assert returned is axes
    assert axes.get_title() == "mine"
    assert axes.get_legend() is None
    assert not axes.artists
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "czyx", "tczyx"])
@pytest.mark.parametrize("projection", [None, "max"])
def test_plot_draws_two_to_five_dimensions(tmp_path: Path, axes: str, projection: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes=axes)
    drawn = xr.open_datatree(path).ngff.plot(projection=projection)
    drawn.figure.canvas.draw()
    assert drawn.images[0].get_array().shape == (50, 62, 3)


def test_axes_of_different_units_keep_their_proportions(tmp_path: Path) -> None:
    axes = [
        {"name": "y", "type": "space", "unit": "nanometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    path = write_image(
        tmp_path / "a.ome.zarr", axes=axes, shape=(20, 20), scale=(100, 0.1), levels=1
    )
    drawn = xr.open_datatree(path).ngff.plot()
    assert drawn.get_aspect() == pytest.approx(0.001)
    box = _bar(drawn).get_window_extent(drawn.figure.canvas.get_renderer())
    assert box.height < box.width


def test_axes_that_cannot_be_compared_are_drawn_all_the_same(tmp_path: Path) -> None:
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    path = write_image(tmp_path / "a.ome.zarr", axes=axes, shape=(20, 20), levels=1)
    assert xr.open_datatree(path).ngff.plot().get_ylabel() == "t [s]"


def test_images_without_units_are_drawn_in_pixels(tmp_path: Path) -> None:
    array = xr.DataArray(np.zeros((4, 4), "uint8"), dims=("y", "x"))
    axes = array.ngff.plot()
    assert axes.get_xlabel() == "x [pixels]"
    assert not axes.artists


def test_hostile_names_are_drawn_as_text(scan: Path) -> None:
    def edit(ome: dict[str, Any]) -> None:
        ome["multiscales"][0]["name"] = "$\\frac{1}{$ \x1b[31m\u202e" + "x" * 10_000
        ome["omero"]["channels"][0]["label"] = "$_hidden^$"
        ome["omero"]["channels"][1]["label"] = "_hidden"

    edit_attributes(scan, edit)
    axes = xr.open_datatree(scan).ngff.plot()
    axes.figure.canvas.draw()
    assert "\x1b" not in axes.get_title()
    assert len(axes.get_title()) < 100
    legend = axes.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 2


@pytest.mark.parametrize(
    ("longest", "unit", "expected"),
    [
        (14.7, "micrometer", (10, "10 µm")),
        (0.03, "millimeter", (0.02, "20 µm")),
        (4000, "nanometer", (2000, "2 µm")),
        (999.9, "micrometer", (500, "500 µm")),
        (1000, "micrometer", (1000, "1 mm")),
        (0.7, "angstrom", (0.5, "0.5 Å")),
        (3, "inch", (2, "2 in")),
    ],
)
def test_scale_bars_are_round(longest: float, unit: str, expected: tuple[float, str]) -> None:
    length, text = scale_bar(longest, unit)
    assert (pytest.approx(length), text) == expected


# ---- thumbnails --------------------------------------------------------------------------------


def test_thumbnails_are_small_and_of_the_coarsest_level(tree: xr.DataTree) -> None:
    small = picture.thumbnail(tree)
    assert small is not None
    np.testing.assert_array_equal(small, tree.ngff.rgb(level=2))
    shrunk = picture.thumbnail(tree["0/image"], size=20)
    assert shrunk is not None
    assert max(shrunk.shape) <= 20


def test_there_is_no_thumbnail_of_thousands_of_chunks(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=1, chunks=(1, 1))
    assert picture.thumbnail(xr.open_datatree(path)) is None


def test_there_is_no_thumbnail_of_a_coarsest_level_that_is_large(tmp_path: Path) -> None:
    data = np.zeros((1, 1), "uint8")
    huge = xr.DataArray(np.broadcast_to(data, (10**6, 10**6)), dims=("y", "x"))
    assert picture.thumbnail(huge) is None
    assert "coarsest level is large" in huge.ngff._repr_html_()
