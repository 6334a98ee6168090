"""xarray objects as layers of one world: where each lies, and what goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stores import AXES, write_image

from ngff_xarray.errors import NotOmeError, SelectionError, UnitError
from ngff_xarray.viewing import World, home_view, make_world
from ngff_xarray.viewing.layers import Along

SPACE = [AXES[name] for name in "zyx"]


def array(shape: tuple[int, ...], dims: str, name: str = "image", **coords: Any) -> xr.DataArray:
    return xr.DataArray(np.zeros(shape, "u1"), dims=tuple(dims), coords=coords or None, name=name)


def along(dim: str, values: Any, unit: str | None = None) -> xr.Variable:
    return xr.Variable(dim, np.asarray(values, float), {"units": unit} if unit else {})


def placed_in_world(path: Path, transformation: dict[str, Any]) -> xr.DataTree:
    write_image(
        path,
        version="0.6",
        axes="zyx",
        systems=[{"name": "world", "axes": SPACE}],
        transformations=[
            {**transformation, "input": {"name": "physical"}, "output": {"name": "world"}}
        ],
        labels={"cells": {}},
    )
    return xr.open_datatree(path).ngff.to_system("world")


# ---- what goes in ------------------------------------------------------------------------------


def test_trees_datasets_and_arrays_are_images(scan: Path) -> None:
    tree = xr.open_datatree(scan)
    for obj, levels in ((tree, 3), (tree["1"].to_dataset(), 1), (tree["2/image"], 1)):
        (layer,) = make_world(obj).layers
        assert (layer.kind, len(layer.levels)) == ("image", levels)
        assert [channel.name for channel in layer.channels] == ["DAPI", "GFP"]


def test_label_images_lie_over_their_image_or_alone(scan: Path) -> None:
    tree = xr.open_datatree(scan)
    (layer,) = make_world(tree).layers
    assert [(each.name, each.kind) for each in layer.labels] == [("cells", "labels")]
    assert layer.labels[0].about(1).startswith("area ")
    (alone,) = make_world(tree.ngff.labels["cells"]).layers
    assert (alone.kind, alone.labels) == ("labels", ())
    assert make_world(tree, labels=None).layers[0].labels == ()
    with pytest.raises(SelectionError, match="nuclei"):
        make_world(tree, labels="nuclei")


def test_layers_have_names_apart() -> None:
    one = array((2, 2), "yx")
    names = [layer.name for layer in make_world([one, one, one]).layers]
    assert names == ["image", "image 2", "image 3"]
    assert [layer.name for layer in make_world({"a": one, "b": one}).layers] == ["a", "b"]


def test_names_are_fit_to_print() -> None:
    world = make_world({"\x1b[31m" + "a" * 500: array((2, 2), "yx")})
    assert world.layers[0].name.isprintable()
    assert len(world.layers[0].name) <= 60


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ([], "nothing to view"),
        ("image", "str is no image"),
        ([3], "int is no image"),
        (array((2, 2), "yx").astype(complex), "complex128 is no dtype of pictures"),
        (array((4,), "x"), "no picture"),
    ],
)
def test_what_is_no_image(obj: Any, message: str) -> None:
    with pytest.raises(NotOmeError, match=message):
        make_world(obj)


def test_a_plate_is_not_an_image() -> None:
    plate = xr.DataTree(xr.Dataset(attrs={"ome": {"plate": {}}}))
    with pytest.raises(NotOmeError, match="plate"):
        make_world(plate)


@pytest.mark.parametrize("dims", ["yx", "zyx", "tczyx"])
@pytest.mark.parametrize("chunks", [None, {}])
def test_nothing_is_read(tmp_path: Path, dims: str, chunks: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes=dims, labels={"cells": {}})
    for chunk in path.glob("**/c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    world = make_world(xr.open_datatree(path, chunks=chunks))
    assert home_view(world).layers[0].labels[0].name == "cells"


# ---- where they lie ----------------------------------------------------------------------------


def test_coordinates_are_of_centres_and_extents_of_edges() -> None:
    image = array(
        (2, 4), "yx", y=along("y", [10, 20], "nanometer"), x=along("x", range(4), "nanometer")
    )
    world = make_world(image)
    assert (world.extent, world.unit) == ((-0.5, 5.0, 3.5, 25.0), "nanometer")
    assert world.layers[0].levels[0].affine() == (1.0, 0.0, 0.0, 10.0, -0.5, 5.0)


def test_descending_coordinates() -> None:
    image = array((2, 3), "yx", y=along("y", [20, 10]), x=along("x", [4, 2, 0]))
    world = make_world(image)
    assert world.extent == (-1.0, 5.0, 5.0, 25.0)
    assert world.layers[0].levels[0].affine() == (-2.0, 0.0, 0.0, -10.0, 5.0, 25.0)


def test_images_without_coordinates_are_in_pixels() -> None:
    world = make_world(array((2, 3), "yx"))
    assert (world.extent, world.unit) == ((-0.5, -0.5, 2.5, 1.5), None)


def test_axes_of_length_one_have_the_size_that_is_stated() -> None:
    y = xr.Variable("y", [5.0], {"pixel_size": 0.5})
    assert make_world(array((1, 3), "yx", y=y, x=along("x", range(3)))).extent == (
        -0.5,
        4.75,
        2.5,
        5.25,
    )


@pytest.mark.parametrize("values", [[0, np.nan, 2], [np.inf, 1, 2]])
def test_coordinates_that_are_no_places_count_pixels(values: list[float]) -> None:
    assert make_world(array((2, 3), "yx", x=along("x", values))).extent is not None


def test_levels_lie_over_each_other(scan: Path) -> None:
    (layer,) = make_world(xr.open_datatree(scan)).layers
    corners = [level.affine().apply(0, 0) for level in layer.levels]
    assert np.allclose(corners, corners[0])
    assert [level.affine().lengths for level in layer.levels] == [(0.5,) * 2, (1,) * 2, (2,) * 2]


def test_axes_of_any_name() -> None:
    image = xr.DataArray(
        np.zeros((4, 5, 6), "u1"),
        dims=("depth", "row", "col"),
        coords={
            dim: xr.Variable(dim, np.arange(n), {"axis_type": "space"})
            for dim, n in (("depth", 4), ("row", 5), ("col", 6))
        },
    )
    world = make_world(image)
    assert (world.down, world.right, world.space) == ("row", "col", ("depth", "row", "col"))
    assert [dim.name for dim in world.dims] == ["depth"]


def test_layers_in_other_units_share_a_world() -> None:
    micro = array(
        (2, 2), "yx", y=along("y", [0, 1], "micrometer"), x=along("x", [0, 1], "micrometer")
    )
    nano = array(
        (2, 2), "yx", y=along("y", [0, 500], "nanometer"), x=along("x", [0, 500], "nanometer")
    )
    world = make_world([micro, nano])
    assert world.unit == "micrometer"
    assert world.layers[1].extent == pytest.approx((-0.25, -0.25, 0.75, 0.75))
    late = array((2, 2), "yx", y=along("y", [0, 1], "second"), x=along("x", [0, 1], "second"))
    with pytest.raises(UnitError):
        make_world([micro, late])


# ---- turned and sheared ------------------------------------------------------------------------

ROTATION = {"type": "rotation", "rotation": [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]}
SHEAR = {"type": "affine", "affine": [[1, 0, 0, 0], [0, 1, 0, 3], [0.5, 0.25, 1, 2]]}


@pytest.mark.parametrize("transformation", [ROTATION, SHEAR])
def test_layers_lie_where_to_system_put_them(tmp_path: Path, transformation: Any) -> None:
    tree = placed_in_world(tmp_path / "a.ome.zarr", transformation)
    (layer,) = make_world(tree).layers
    for each in (layer, *layer.labels):
        for number, level in enumerate(each.levels):
            image = each.arrays[number]
            for z, row, column in ((0, 0, 0), (3, 5, 2), (2, 1, 7)):
                at = image.isel(dict(zip(image.dims, (z, row, column), strict=True)))
                x, y = level.affine({str(image.dims[0]): z}).apply(column + 0.5, row + 0.5)
                assert (x, y) == pytest.approx((float(at["x"]), float(at["y"])))


def test_a_turned_layer_over_one_that_is_not(tmp_path: Path) -> None:
    turned = placed_in_world(tmp_path / "a.ome.zarr", ROTATION)
    straight = xr.open_datatree(write_image(tmp_path / "b.ome.zarr", axes="zyx"))
    world = make_world({"straight": straight, "turned": turned})
    assert (world.down, world.right, world.unit) == ("y", "x", "micrometer")
    upright = [layer.levels[0].affine().is_upright for layer in world.layers]
    assert upright == [True, False]


# ---- other planes ------------------------------------------------------------------------------


def volume() -> World:
    image = array(
        (4, 5, 6),
        "zyx",
        z=along("z", np.arange(4) * 3, "micrometer"),
        y=along("y", range(5), "micrometer"),
        x=along("x", range(6), "micrometer"),
    )
    return make_world(image)


def test_planes_of_a_volume() -> None:
    world = volume()
    side = world.on(("z", "x"))
    assert side.extent == (-0.5, -1.5, 5.5, 10.5)
    assert [dim.name for dim in side.dims] == ["y"]
    assert world.on(("y", "z")).extent == (-1.5, -0.5, 10.5, 4.5)
    # the same pixels: what was read for one is there for the others
    sources = {world.layers[0].levels[0].source.number, side.layers[0].levels[0].source.number}
    assert len(sources) == 1


@pytest.mark.parametrize("plane", [("x", "x"), ("t", "x"), ("q", "w")])
def test_planes_that_there_are_not(plane: Any) -> None:
    with pytest.raises(SelectionError):
        volume().on(plane)


def test_flat_layers_are_left_out_of_planes_along_z() -> None:
    flat = array((5, 6), "yx", name="flat")
    world = make_world([volume().layers[0].arrays[0], flat])
    assert [layer.name for layer in world.on(("z", "x")).layers] == ["image"]


# ---- axes that are not drawn -------------------------------------------------------------------


def test_positions_along_an_axis() -> None:
    even, uneven = Along(4, 10.0, -2.0), Along(3, 0.0, None, np.array([0.0, 1.0, 10.0]))
    assert [even.index(at) for at in (10, 8.9, 4, -100, 100)] == [0, 1, 3, 3, 0]
    assert [uneven.index(at) for at in (0.4, 0.6, 7)] == [0, 1, 2]
    assert [even.holds(at) for at in (11, 11.1, 3, 2.9)] == [True, False, True, False]
    assert Along(1, 5.0, 1.0).holds(1e9)
    assert not Along(0, 0.0, 1.0).holds(0)


def test_sliders_have_texts() -> None:
    image = array(
        (2, 3, 4, 4), "tzyx", t=along("t", [0, 90], "second"), z=along("z", [0, 1, 2], "micrometer")
    )
    time, depth = make_world(image).dims
    assert (time.name, time.type, time.unit, time.count, time.step) == (
        "t",
        "time",
        "second",
        2,
        90.0,
    )
    assert (time.text(90.0), depth.text(1.0), depth.index(1.4)) == ("90 s", "1 µm", 1)


def test_axes_of_names_have_those_as_texts() -> None:
    image = array((2, 4, 4), "pyx", p=["left\x1b", "right"])
    (dim,) = make_world(image).dims
    assert [dim.text(at) for at in (0.0, 1.0)] == ["left\ufffd", "right"]


def test_the_longest_axis_of_a_name_is_the_slider() -> None:
    still = array((1, 4, 4), "tyx", name="still")
    moving = array((5, 4, 4), "tyx", name="moving")
    (dim,) = make_world([still, moving]).dims
    assert dim.count == 5


# ---- labels ------------------------------------------------------------------------------------


def test_what_is_said_of_a_label_is_short_and_plain() -> None:
    said = {
        "image-label": {
            "properties": [
                {
                    "label-value": 7,
                    "area": 12.345678,
                    "class": "<b>a</b>\x1b[0m",
                    "long": "x" * 999,
                },
                {"label-value": "7"},
                3,
            ]
        }
    }
    labels = array((2, 2), "yx", name="labels").assign_attrs(ome=said)
    (layer,) = make_world(labels).layers
    text = layer.about(7)
    assert text.startswith("area 12.3457, class <b>a</b>\ufffd[0m, long xxx")
    assert len(text) <= 200
    assert text.isprintable()
    assert layer.about(8) == ""


def test_a_million_properties_are_looked_up_once() -> None:
    entries = [{"label-value": i, "area": i} for i in range(10**6)]
    labels = array((2, 2), "yx", name="labels").assign_attrs(
        ome={"image-label": {"properties": entries}}
    )
    (layer,) = make_world(labels).layers
    assert layer.about(999_999) == "area 999999"
    assert layer.properties is layer.properties
