"""Figures: panels, orthogonal views, plates, groups, overlays. Golden pictures are block means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from servers import CountingServer
from stores import edit_attributes, write_image, write_plate, write_scene, write_series

import ngff_xarray
from ngff_xarray import mosaic, picture, sample
from ngff_xarray.errors import NotOmeError, SelectionError, TransformationError
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts

_WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 3000}
OMERO = {
    "channels": [
        {"label": "DAPI", "color": "0000FF", "window": _WINDOW},
        {"label": "GFP", "color": "00FF00", "window": _WINDOW},
    ],
    "rdefs": {"defaultT": 1, "defaultZ": 2, "model": "color"},
}
HOSTILE = "$\\frac{1}{$ <b>\x1b[31m\u202e"


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def tree(tmp_path: Path) -> xr.DataTree:
    path = tmp_path / "scan.ome.zarr"
    return xr.open_datatree(write_image(path, axes="tczyx", labels={"cells": {}}, omero=OMERO))


@pytest.fixture
def plate(tmp_path: Path) -> xr.DataTree:
    path = write_plate(
        tmp_path / "screen.ome.zarr",
        rows="ABC",
        columns=("1", "2", "3", "4"),
        wells=[f"{row}/{column}" for row in "ABC" for column in "1234" if row + column != "C4"],
        missing=["B/3"],
        image={"axes": "cyx", "shape": (2, 32, 40), "omero": OMERO},
    )
    (path / "A" / "2" / "0" / "zarr.json").write_text("{broken")
    return xr.open_datatree(path)


@pytest.fixture
def series(tmp_path: Path) -> xr.DataTree:
    return xr.open_datatree(write_series(tmp_path / "series.ome.zarr", count=3))


def titles(axes: Sequence[Any]) -> list[str]:
    return [ax.get_title() for ax in axes]


def suptitle(axes: Any) -> str:
    return str(np.ravel(axes)[0].figure.get_suptitle())


def pixels(ax: Any) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def bars(axes: Any) -> int:
    artists = [artist for ax in np.ravel(axes) for artist in ax.artists]
    return sum(isinstance(artist, AnchoredSizeBar) for artist in artists)


# ---- panels ------------------------------------------------------------------------------------


def test_a_panel_for_each_channel_has_its_name_and_colour(tree: xr.DataTree) -> None:
    axes = tree.ngff.plot(facet="c")
    assert titles(axes) == ["DAPI", "GFP"]
    assert suptitle(axes) == "scan · t 1 s · z 4 µm"
    for ax, name in zip(axes, ("DAPI", "GFP"), strict=True):
        np.testing.assert_array_equal(pixels(ax), tree.ngff.rgb(channels=name))
    assert bars(axes) == 1
    one = tree.ngff.plot(facet="c", channels={"GFP": "magma"})
    np.testing.assert_array_equal(pixels(one[0]), tree.ngff.rgb(channels={"GFP": "magma"}))


def test_panels_along_an_axis_have_places_in_units(tree: xr.DataTree) -> None:
    axes = tree.ngff.plot(facet="z", labels="cells")
    assert titles(axes) == ["z 0 µm", "z 2 µm", "z 4 µm", "z 6 µm"]
    np.testing.assert_array_equal(pixels(axes[3]), tree.ngff.rgb(z=6, labels="cells"))
    part = tree.ngff.plot(facet="z", z=slice(2, 4), t=0)
    assert titles(part) == ["z 2 µm", "z 4 µm"]
    assert suptitle(part) == "scan · t 0 s"
    assert titles(tree.ngff.plot(facet="t", projection="max")) == ["t 0 s", "t 1 s", "t 2 s"]


def test_many_panels_are_evenly_chosen(tree: xr.DataTree) -> None:
    long = xr.DataArray(np.zeros((500, 4, 4), "u1"), dims=("c", "y", "x"))
    axes = long.ngff.plot(facet="c")
    assert len(axes) == 12
    assert titles(axes)[0] == "0"
    assert titles(axes)[-1] == "499"
    assert suptitle(axes) == "12 of 500 c"
    assert titles(tree.ngff.plot(facet="z", panels=2)) == ["z 0 µm", "z 6 µm"]


def test_panels_of_images_without_windows_are_in_one_contrast() -> None:
    image = xr.DataArray(np.arange(48, dtype="f4").reshape(3, 4, 4), dims=("z", "y", "x"))
    means = [float(pixels(ax).mean()) for ax in image.ngff.plot(facet="z")]
    assert means[0] < 50 < means[1] < 200 < means[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"facet": "q"}, "no axis 'q' to go along; those not drawn are t, c, z"),
        ({"facet": "x"}, "no axis 'x' to go along"),
        ({"facet": "z", "panels": 0}, "is 0; expected 1 or more"),
        ({"facet": "z", "projection": "max"}, "either a max projection or each position"),
        ({"facet": "z", "kind": "ortho"}, "facet and kind='ortho': expected one of them"),
        ({"kind": "round"}, "kind: expected one of"),
        ({"opacity": 2}, "opacity is 2; expected 0 to 1"),
        ({"channels": {"GFP": "jte"}}, "no colormap 'jte'|'jte' is no colour"),
        ({"channels": {"GFP": {"gamma": 0}}}, "channel 'GFP': gammas are"),
        ({"channels": {"GFP": {"windw": 1}}}, "channel 'GFP': expected a colormap, a colour"),
        ({"channels": {"GFP": {"window": 3}}}, "a window is .start, end., two numbers"),
        ({"channels": {"GFP": {"color": "zzz"}}}, "'zzz' is no colour"),
        ({"channels": {"GFP": {"colormap": 7}}}, "a colormap is meant by its name"),
        ({"channels": {"RFP": "magma"}}, "no channel 'RFP'; the channels are DAPI, GFP"),
        ({"over": 3}, "over: expected images, found int"),
    ],
)
def test_what_is_no_figure_says_so(
    tree: xr.DataTree, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SelectionError, match=message):
        tree.ngff.plot(**options)


# ---- orthogonal views --------------------------------------------------------------------------


def test_an_orthogonal_view_is_three_planes_through_a_point(tree: xr.DataTree) -> None:
    main, right, below = tree.ngff.plot(kind="ortho", x="10 µm", y="5 µm", z="2 µm", t=0)
    assert (right.get_xlabel(), below.get_ylabel()) == ("z [µm]", "z [µm]")
    assert (main.get_ylabel(), below.get_xlabel()) == ("y [µm]", "x [µm]")
    assert suptitle(main) == "scan · t 0 s · x 10 µm · y 5 µm · z 2 µm"
    image = tree["0/image"].isel(t=0)
    for ax, part in ((main, {"z": 1}), (right, {"x": 20}), (below, {"y": 10})):
        plane = image.isel(part)
        plane = plane.transpose("c", "y", "z") if "x" in part else plane
        expected = xr.DataArray(plane.values, dims=("c", "y", "x"), attrs=image.attrs)
        expected = expected.assign_coords(c=image["c"])
        np.testing.assert_array_equal(pixels(ax), expected.ngff.rgb())


def test_an_orthogonal_view_has_one_scale(tree: xr.DataTree) -> None:
    axes = tree.ngff.plot(kind="ortho")
    axes[0].figure.canvas.draw()
    scales = []
    for ax in axes:
        box = ax.get_window_extent()
        scales += [box.width / np.ptp(ax.get_xlim()), box.height / np.ptp(ax.get_ylim())]
    np.testing.assert_allclose(scales, scales[0], rtol=0.03)
    labelled = tree.ngff.plot(kind="ortho", labels="cells", x=slice(2, 20), z=4)
    assert labelled[0].get_xlim() == (1.75, 20.25)


def test_projections_from_three_sides(tree: xr.DataTree) -> None:
    _, right, _ = tree.ngff.plot(kind="ortho", projection="max")
    assert suptitle(right) == "scan · t 1 s · max projection"
    assert pixels(right).shape == (50, 4, 3)
    with pytest.raises(
        SelectionError, match="three axes of space; the axes of this image are y, x"
    ):
        tree["0/image"].isel(t=0, c=0, z=0).ngff.plot(kind="ortho")


# ---- plates ------------------------------------------------------------------------------------


def test_a_plate_is_a_mosaic_with_the_names_of_rows_and_columns(plate: xr.DataTree) -> None:
    ax = plate.ngff.plot()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "3", "4"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["A", "B", "C"]
    assert ax.get_title() == "screen"
    assert ax.get_xlabel() == "grey: listed, not in the store (B/3)   ×: cannot be read (A/2)"
    assert bars(ax) == 1
    found = pixels(ax)
    high, wide = found.shape[0] // 3, found.shape[1] // 4
    well = found[high : 2 * high - 1, wide : 2 * wide - 1]
    expected = plate.ngff.well("B/2").ngff.fields["0"].ngff.rgb()
    np.testing.assert_array_equal(well, expected[:-1, :-1])
    assert (found[2 * high + 1 :, 3 * wide + 1 :] == 255).all()  # the plate has no well there
    assert (found[high + 1 : 2 * high - 1, 2 * wide + 1 : 3 * wide - 1] == 222).all()


def test_a_plate_is_read_no_finer_than_it_is_shown(plate: xr.DataTree) -> None:
    drawn = mosaic.mosaic(plate, Choice(), max_pixels=12 * 100)
    assert drawn.rgb().size <= 3 * 12 * 100 * 1.3
    whole = [cell.picture.rgb.shape for cell in drawn.cells if cell.picture is not None]
    assert set(whole) == {(16, 20, 3)}  # level 1
    assert plate.ngff.rgb(max_pixels=1200).shape == drawn.rgb().shape


def test_wells_are_read_at_the_same_time_and_one_field_each(
    tmp_path: Path, server: CountingServer
) -> None:
    columns = [str(n) for n in range(1, 9)]
    write_plate(tmp_path / "p.ome.zarr", rows="A", columns=columns, fields=3, consolidated=False)
    plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
    server.clear()
    server.latency = 0.05
    plate.ngff.plot()
    asked = [request.path for request in server.requests]
    assert all(any(f"/A/{n}/0/" in path for path in asked) for n in columns)
    assert not any(f"/A/{n}/{field}/" in path for path in asked for n in columns for field in "12")
    assert server.max_concurrent >= 8
    assert server.depth <= 6


def test_a_plate_shows_another_field_and_labels(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", rows="A", columns=["1"], labels={"n": {}})
    plate = xr.open_datatree(path)
    second = plate.ngff.plot(field=1, labels="n")
    expected = plate.ngff.well("A1").ngff.fields["1"].ngff.rgb(labels="n")
    np.testing.assert_array_equal(pixels(second)[:-1, :-1], expected[:-1, :-1])
    opened = xr.open_datatree(path, wells="all")
    np.testing.assert_array_equal(pixels(opened.ngff.plot(field=1, labels="n")), pixels(second))
    with pytest.raises(SelectionError, match="2 fields; there is no field 7"):
        plate.ngff.plot(field=7)
    with pytest.raises(SelectionError, match="no channel 'RFP'"):
        plate.ngff.plot(channels="RFP")


@pytest.mark.parametrize(
    "values",
    [
        {"A/1": 3, "B2": 5.5, ("C", "3"): 7},
        pd.Series([3, 5.5, 7], index=["A1", "B/02", "C3"], name="count"),
        pd.Series([3, 5.5, 7], index=pd.MultiIndex.from_tuples([("A", 1), ("B", 2), ("C", 3)])),
    ],
)
def test_a_heat_map_of_a_number_a_well(plate: xr.DataTree, values: Any) -> None:
    ax = plate.ngff.plot(values=values)
    shown = ax.images[1].get_array()
    assert shown[0, 0] == 3
    assert shown[1, 1] == 5.5
    assert shown[2, 2] == 7
    assert shown.mask.sum() == 9
    assert [text.get_text() for text in ax.texts] == ["3", "5.5", "7"]
    listed = ax.images[0].get_array()
    assert listed.mask.sum() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Z/9": 1}, "no well 'Z/9'; the plate lists A/1, A/2"),
        ({"A/1": "many"}, "expected a number for well 'A/1', found 'many'"),
        ([1, 2], "expected a mapping or a Series"),
    ],
)
def test_what_is_no_heat_map(plate: xr.DataTree, values: Any, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        plate.ngff.plot(values=values)
    with pytest.raises(SelectionError, match="no colormap 'jte'"):
        plate.ngff.plot(values={}, colormap="jte")


def test_a_plate_of_100_000_places_is_refused(tmp_path: Path) -> None:
    names = [str(n) for n in range(320)]
    path = write_plate(tmp_path / "p.ome.zarr", rows=names, columns=names, wells=["0/0"], fields=1)
    with pytest.raises(SelectionError, match="102400 pictures, more than 16384"):
        xr.open_datatree(path).ngff.plot()
    with pytest.raises(SelectionError, match="16384 wells at most"):
        xr.open_datatree(path).ngff.plot(values={"0/0": 1})


# ---- other groups ------------------------------------------------------------------------------


def test_fields_of_a_well_stand_side_by_side(plate: xr.DataTree) -> None:
    well = plate.ngff.well("B/2")
    axes = well.ngff.plot()
    assert titles(axes) == ["0", "1"]
    assert suptitle(axes) == "well B/2"
    np.testing.assert_array_equal(pixels(axes[1]), well.ngff.fields["1"].ngff.rgb())
    assert bars(axes) == 1  # both in one scale
    with pytest.raises(NotOmeError, match="was not opened"):
        plate["B/2"].ngff.plot()
    with pytest.raises(SelectionError, match="values: only plates"):
        well.ngff.plot(values={})


def test_images_of_a_collection_stand_side_by_side(series: xr.DataTree) -> None:
    assert titles(series.ngff.plot()) == ["0", "1", "2"]
    some = series.ngff.plot(panels=2)
    assert titles(some) == ["0", "2"]
    assert suptitle(some) == "2 of 3 images"
    assert series.ngff.rgb().shape == (64, 80, 3)


def test_images_of_a_group_keep_their_own_colours(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.ome.zarr", count=2, image={"axes": "cyx", "omero": OMERO})
    edit_attributes(path / "1", lambda ome: ome["omero"]["channels"][0].update(color="FF0000"))
    series = xr.open_datatree(path)
    axes = series.ngff.plot()
    for ax, image in zip(axes, series.ngff.images.values(), strict=True):
        np.testing.assert_array_equal(pixels(ax), image.ngff.rgb())
    assert all(ax.get_legend() is None for ax in axes)  # one legend would be wrong for one of them


def test_images_of_a_scene_over_one_another(tmp_path: Path) -> None:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    link = {"type": "translation", "translation": [4, 8], "output": {"name": "world"}}
    links = [{**link, "input": {"path": path, "name": "physical"}} for path in "ab"]
    links[0]["translation"] = [0, 0]
    image = {"axes": "yx", "data": np.full((10, 10), 5, "u1"), "scale": (1, 1), "levels": 1}
    path = write_scene(
        tmp_path / "s.ome.zarr",
        images={"a": image, "b": image},
        transformations=links,
        systems=[{"name": "world", "axes": axes}],
    )
    scene = xr.open_datatree(path)
    assert titles(scene.ngff.plot()) == ["a", "b"]
    placed = scene.ngff.to_system("world").ngff.images
    ax = placed["a"].ngff.plot(over=placed["b"])
    assert ax.get_xlim() == (-0.5, 17.5)
    assert ax.get_ylim() == (13.5, -0.5)


def test_an_image_that_cannot_be_read_does_not_spoil_the_others(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.ome.zarr", count=2)
    chunk = next(file for file in (path / "1" / "0" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(b"no chunk")
    axes = xr.open_datatree(path).ngff.plot()
    assert len(axes[0].images) == 1
    assert "cannot be read" in axes[1].texts[0].get_text()


def test_an_empty_group_says_so() -> None:
    empty = xr.DataTree(xr.Dataset(attrs={"ome": {"bioformats2raw.layout": 3}}))
    for door in (empty.ngff.plot, empty.ngff.thumbnail, empty.ngff.rgb):
        with pytest.raises(SelectionError, match="nothing to draw"):
            door()


def test_thumbnails_are_pictures_of_images_and_of_groups(
    tree: xr.DataTree, plate: xr.DataTree
) -> None:
    small = tree.ngff.thumbnail()
    np.testing.assert_array_equal(np.asarray(small), picture.thumbnail(tree))
    assert max(tree.ngff.thumbnail(10).size) <= 10
    assert max(plate.ngff.thumbnail(100).size) <= 100
    with pytest.raises(SelectionError, match="size is 0"):
        tree.ngff.thumbnail(0)
    huge = xr.DataArray(np.broadcast_to(np.uint8(1), (10**6, 10**6)), dims=("y", "x"))
    with pytest.raises(SelectionError, match="too large to be read for a thumbnail"):
        huge.ngff.thumbnail()


# ---- images over one another -------------------------------------------------------------------


def _placed(path: Path, matrix: Sequence[Sequence[float]], data: np.ndarray) -> xr.DataTree:
    """An image with an affine transformation to a system called world."""
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    link = {"type": "affine", "affine": matrix}
    link |= {"input": {"name": "physical"}, "output": {"name": "world"}}
    write_image(
        path,
        version="0.6",
        axes="yx",
        data=data,
        scale=(1, 1),
        levels=1,
        systems=[{"name": "world", "axes": axes}],
        transformations=[link],
    )
    return xr.open_datatree(path)


WHITE = {"0": {"window": (0, 100)}}


@pytest.fixture
def below(tmp_path: Path) -> xr.DataTree:
    return _placed(tmp_path / "below.ome.zarr", [[1, 0, 0], [0, 1, 0]], np.full((20, 20), 40, "u1"))


def test_images_lie_where_their_transformations_place_them(
    tmp_path: Path, below: xr.DataTree
) -> None:
    moved = [[1, 0, 10], [0, 1, 15]]
    over = _placed(tmp_path / "over.ome.zarr", moved, np.eye(20, dtype="u1"))
    ax = below.ngff.plot(over=over, system="world", opacity=0.5, channels=WHITE)
    assert ax.get_title() == "below + over"
    assert ax.get_xlim() == (-0.5, 34.5)
    assert ax.get_ylim() == (29.5, -0.5)
    drawn = pixels(ax)
    assert drawn.shape == (30, 35, 3)
    assert (drawn[:10, :15] == 102).all()  # the one below alone
    assert (drawn[:10, 21:] == 0).all()  # neither
    inside = drawn[10:, 15:, 0]
    assert (abs(np.diagonal(inside)[:5] - 178.5) < 1).all()  # half of 102, half of 255
    assert inside[0, 1] == 51  # half of it, under black
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["below", "over"]


def test_rotated_images_are_drawn_rotated(tmp_path: Path, below: xr.DataTree) -> None:
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    turned = _placed(tmp_path / "a.ome.zarr", [[c, -s, 3], [s, c, 4]], np.full((10, 14), 9, "u1"))
    ax = below.ngff.plot(over=[turned], system="world", opacity=1, channels=WHITE)
    drawn = pixels(ax)
    left, right = ax.get_xlim()
    bottom, top = ax.get_ylim()
    y = np.linspace(top, bottom, 2 * len(drawn) + 1)[1::2, np.newaxis]
    x = np.linspace(left, right, 2 * drawn.shape[1] + 1)[1::2]
    v, u = c * (y - 3) + s * (x - 4), -s * (y - 3) + c * (x - 4)
    inside = (abs(v - 4.5) < 4.5) & (abs(u - 6.5) < 6.5)
    outside = (abs(v - 4.5) > 5.5) | (abs(u - 6.5) > 7.5)
    below_it = (abs(y - 9.5) < 10) & (abs(x - 9.5) < 10)
    assert inside.sum() > 100
    assert (drawn[inside] == 0).all()  # constant: the dark end of its window
    assert (drawn[outside & below_it] == 102).all()
    assert (drawn[outside & ~below_it] == 0).all()


def test_each_image_has_its_opacity_and_labels_hide_nothing_beside_them(
    below: xr.DataTree,
) -> None:
    image = below["0/image"]
    labels = xr.zeros_like(image).rename("labels")
    labels[3:6, 3:6] = 1
    ax = below.ngff.plot(over=[image, labels], opacity=[0, 1], channels=WHITE)
    drawn = pixels(ax)
    assert (drawn[0, 0] == 102).all()
    assert drawn[4, 4].tolist() == [39, 85, 198]
    with pytest.raises(SelectionError, match="opacity: expected 1 numbers from 0 to 1"):
        below.ngff.plot(over=[image], opacity=[0, 1])


def test_a_finer_image_is_drawn_in_its_own_pixels() -> None:
    coarse = xr.DataArray(np.zeros((8, 8), "u1"), dims=("y", "x"))
    coarse = coarse.ngff.with_pixel_size(y="4 µm", x="4 µm")
    fine = xr.DataArray(np.eye(8, dtype="u1"), dims=("y", "x"))
    fine = fine.ngff.with_pixel_size(y="1 µm", x="1 µm").assign_attrs(ome={"name": "fine"})
    fine = fine.assign_coords(y=fine["y"] + 0.5, x=fine["x"] + 0.5)  # where pixels are drawn
    ax = coarse.ngff.plot(over=[fine], opacity=1, channels={"fine": {"window": (0, 1)}})
    drawn = pixels(ax)
    assert drawn.shape == (32, 32, 3)
    np.testing.assert_array_equal(drawn[2:10, 2:10, 0], 255 * np.eye(8))


def test_channels_of_images_that_lie_over_it_are_named_as_in_the_legend(below: xr.DataTree) -> None:
    coords = {"c": ["DAPI", "GFP"]}
    values = np.full((2, 20, 20), 40, "u1")
    over = xr.DataArray(values, coords, ("c", "y", "x"), attrs={"ome": {"name": "cells"}})
    red = {"color": "#ff0000", "window": (0, 80)}

    def drawn(asked: dict[str, Any]) -> tuple[list[int], list[str]]:
        ax = below.ngff.plot(over=[over], opacity=1, channels=asked)
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        return pixels(ax)[5, 5].tolist(), names

    for name in ("GFP", "cells GFP"):
        assert drawn({name: red}) == ([128, 0, 0], ["below", "cells GFP"])
    assert drawn({"below": red, "GFP": red})[0] == [128, 0, 0]
    with pytest.raises(SelectionError, match="there is no channel 'RFP'; the channels are 0"):
        drawn({"RFP": red, "GFP": red})


def test_what_cannot_be_laid_over(below: xr.DataTree) -> None:
    with pytest.raises(TransformationError, match="no coordinate system 'mars'"):
        below.ngff.plot(over=[below], system="mars")
    with pytest.raises(SelectionError, match="has no axis 'y'"):
        below.ngff.plot(over=[xr.DataArray(np.zeros((3, 3)), dims=("v", "u"))])
    huge = xr.DataArray(np.broadcast_to(np.uint8(1), (10**6, 10**6)), dims=("y", "x"))
    with pytest.raises(SelectionError, match="no coarser level: draw a region"):
        huge.ngff.plot(over=[huge])
    part = huge.ngff.plot(over=[huge], x=slice(0, 50), y=slice(0, 40))
    assert pixels(part).shape == (40, 50, 3)


# ---- names and golden pictures -----------------------------------------------------------------


def test_hostile_names_are_text_in_every_figure(tmp_path: Path) -> None:
    channels = [{"label": HOSTILE, "color": "FF0000"}, {"label": "_b", "color": "00FF00"}]
    image = {"axes": "czyx", "shape": (2, 3, 16, 16), "omero": {"channels": channels}}
    path = write_plate(
        tmp_path / "p.ome.zarr", rows="A", columns=["1"], image=image, plate={"name": HOSTILE}
    )
    edit_attributes(path / "A/1/0", lambda ome: ome["multiscales"][0].update(name=HOSTILE))
    plate = xr.open_datatree(path)
    field = plate.ngff.well("A1").ngff.fields["0"]
    series = pd.Series({"A1": 1.0}, name=HOSTILE)
    figures: list[Callable[[], Any]] = [
        plate.ngff.plot,
        lambda: plate.ngff.plot(values=series),
        plate.ngff.well("A1").ngff.plot,
        lambda: field.ngff.plot(facet="c"),
        lambda: field.ngff.plot(kind="ortho"),
        lambda: field.ngff.plot(over=[field["0/image"]]),
    ]
    for draw in figures:
        figure = np.ravel(draw())[0].figure
        figure.canvas.draw()
        assert not any("\x1b" in text.get_text() for text in figure.findobj(plt.Text))


# the mean colour of each of 3 x 4 parts of a figure, row by row
GOLDEN: dict[str, str] = {
    "plane": (
        "d6abb4 b96d8b bd6c98 dfbacb c9a69f bb626a 621e75 aa8fbe 9a97a6 6a5186 6b518e c1b0cf"
    ),
    "inverted": (
        "8ca78c 224f22 224d22 899b89 789778 002800 006e00 78ba78 9de29d 45ae45 44ab44 a0cea0"
    ),
    "facet c": (
        "8d8dce 6565c3 70bf7b 69d169 3d3db5 000064 10a616 046304 7f7f90 535374 5f7562 5a7b5a"
    ),
    "facet z": (
        "60c2b6 3f9b98 36b8ab 75b1af 53968f 318482 257f77 6ea6a4 5da29b 3a6f6b 31867d 789895"
    ),
    "ortho": (
        "96e0da 24b6ab 31a79e b4e9e5 8ba8a6 126b65 245a56 b0cac7 b7e9e5 6ccec7 98b0ae fefefe"
    ),
    "plate": (
        "548894 cdc7c9 3f6268 7fa6a5 286152 389072 9fa7a8 6ca89c 496d8f 367d76 64aea0 f8f8f8"
    ),
    "heat map": (
        "875c91 ededed eeeeee eef1e7 d0cdd6 5eaca9 e8e8e8 d9e4e2 ededed edeac9 fdf180 edecf2"
    ),
    "well": ("89aca0 81c5ad 6fb89a 96a7a1 35715c 2b8866 0d3929 55ac8a 79bba5 72d0ad 5d8777 93aca2"),
    "series": (
        "847b84 8f858f 778a77 9fa29f aaa6aa 989798 ced7ce dbdddb 7d7c7d 898889 ffffff ffffff"
    ),
    "over": ("65c0c3 21a2a6 229fa3 a5cfd0 4aa8ab 009ea4 004042 a6b5b5 7b8585 435f60 466465 c0c8c8"),
    "labels": (
        "7b8475 304436 55476c 412c4b 868a55 0d2113 020203 050505 808080 434343 414141 4c4c4c"
    ),
}


def golden_figures(tree: xr.DataTree, plate: xr.DataTree, series: xr.DataTree) -> dict[str, Any]:
    over = tree["1/image"].isel(t=0)
    return {
        "plane": lambda: tree.ngff.plot(labels="cells", channels={"DAPI": "magma"}),
        "inverted": lambda: tree.ngff.plot(channels={"GFP": {"inverted": True, "gamma": 0.5}}),
        "facet c": lambda: tree.ngff.plot(facet="c"),
        "facet z": lambda: tree.ngff.plot(facet="z", labels="cells", outline=True),
        "ortho": lambda: tree.ngff.plot(kind="ortho"),
        "plate": plate.ngff.plot,
        "heat map": lambda: plate.ngff.plot(values={"A1": 1, "B2": 2, "C3": 3}),
        "well": plate.ngff.well("B/2").ngff.plot,
        "series": series.ngff.plot,
        "over": lambda: tree.ngff.plot(over=over, z=4, opacity=0.4),
        "labels": tree.ngff.labels["cells"].ngff.plot,
    }


def block_means(figure: Any) -> str:
    figure.set_dpi(50)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    rows, columns = (
        np.array_split(np.arange(n), k) for n, k in zip(drawn.shape, (3, 4), strict=False)
    )
    means = [drawn[np.ix_(row, column)].mean(axis=(0, 1)) for row in rows for column in columns]
    return " ".join(bytes(np.rint(mean).astype("u1")).hex() for mean in means)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_pictures(
    name: str, tree: xr.DataTree, plate: xr.DataTree, series: xr.DataTree
) -> None:
    axes = golden_figures(tree, plate, series)[name]()
    found = block_means(np.ravel(axes)[0].figure)
    colors = (
        np.array([list(bytes.fromhex(c)) for c in text.split()]) for text in (found, GOLDEN[name])
    )
    difference = np.subtract(*(each.astype(int) for each in colors))
    assert abs(difference).max() <= 14, found


def test_grids_of_panels_are_wide_rather_than_tall() -> None:
    for count in range(1, 13):
        axes = parts.grid(count, 0.8)
        assert len(axes) == count
        width, height = axes[0].figure.get_size_inches()
        assert width > 0.8 * height


def test_a_colour_picture_has_no_legend() -> None:
    tree = xr.open_datatree(sample("histology"))
    assert tree.ngff.plot().get_legend() is None
    assert tree.ngff.sel(c=["red", "green"]).ngff.plot().get_legend() is not None


def test_wells_can_be_compared_by_eye(tmp_path: Path) -> None:
    """Each field has the window of its own range, as writers store it; the mosaic has one."""
    dim = xr.DataArray(np.tile(np.arange(64, dtype="u2"), (64, 1)), dims=("y", "x"))
    ngff_xarray.write_plate({"A1": dim, "A2": 4 * dim}, tmp_path / "p.ome.zarr")
    plate = xr.open_datatree(tmp_path / "p.ome.zarr")
    ends = [plate.ngff.well(w).ngff.images["0"].ngff.channels[0].window.end for w in ("A1", "A2")]
    assert ends[1] > 3 * ends[0]
    picture = plate.ngff.rgb()
    first, second = np.split(picture.isel(rgb=0).values.astype(float), 2, axis=1)
    assert second.max() > 200
    assert first[:60, :60].max() == pytest.approx(second[:60, :60].max() / 4, abs=2)
    own = plate.ngff.rgb(channels={"0": {"window": (0, 63)}})
    assert own.isel(rgb=0).values[:60, :60].max() > 230
