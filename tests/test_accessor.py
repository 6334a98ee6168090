"""The accessor: what an object is, levels, channels, labels, selection, units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import edit_attributes, write_image

import ngff_xarray
from ngff_xarray import NgffError, units
from ngff_xarray.errors import MissingDependencyError, NotOmeError, SelectionError, UnitError
from ngff_xarray.model import Channel, Window

DAPI = Channel("DAPI", (0, 0, 255), Window(100, 50000))
GFP = Channel("GFP", (0, 255, 0), Window(200, 60000))


@pytest.fixture
def tree(scan: Path) -> xr.DataTree:
    return xr.open_datatree(scan)


# ---- what an object is -------------------------------------------------------------------------


def test_every_object_knows_its_axes_units_and_pixel_sizes(tree: xr.DataTree) -> None:
    for obj in (tree, tree["0"], tree["0"].to_dataset(), tree["0/image"]):
        assert [axis.name for axis in obj.ngff.axes] == ["t", "c", "z", "y", "x"]
        assert [axis.type for axis in obj.ngff.axes] == ["time", "channel", *["space"] * 3]
        assert obj.ngff.units["z"] == "micrometer"
        assert str(obj.ngff.pixel_size["z"]) == "2.0 micrometer"
        assert set(obj.ngff.pixel_size) == {"t", "z", "y", "x"}
        assert obj.ngff.kind == "image"
        assert obj.ngff.name == "scan"
        assert obj.ngff.channels == (DAPI, GFP)


def test_version_and_levels(tree: xr.DataTree, version: str) -> None:
    assert tree.ngff.version == version
    assert tree["1"].ngff.version == version
    assert [level.shape[-2:] for level in tree.ngff.levels] == [(50, 62), (25, 31), (13, 16)]


def test_the_typed_accessor_is_the_same(tree: xr.DataTree) -> None:
    assert ngff_xarray.ngff(tree["0/image"]).channels == (DAPI, GFP)
    assert ngff_xarray.ngff(tree).labels.keys() == {"cells"}


def test_channels_are_found_by_name(tree: xr.DataTree) -> None:
    image = tree["0/image"]
    assert image.isel(c=1).ngff.channels == (GFP,)
    assert image.isel(c=[1, 0]).ngff.channels == (GFP, DAPI)
    assert image.sel(c="DAPI").ngff.channels == (DAPI,)
    assert (image.isel(c=slice(1, 2)) * 2).ngff.channels == (GFP,)
    assert image.rename({"c": "farbe"}).ngff.channels == (DAPI, GFP)
    assert tree.isel(c=[1]).ngff.channels == (GFP,)


def test_channels_that_lost_their_names_are_nobodys(tree: xr.DataTree) -> None:
    image = tree["0/image"]
    nobody = (Channel("0"),)
    assert image.isel(c=1, drop=True).ngff.channels == nobody
    assert image.isel(c=[1]).drop_vars("c").ngff.channels == nobody
    assert (image.isel(c=1) - image.isel(c=0)).ngff.channels == nobody
    assert image.max("c").ngff.channels == nobody


def test_channel_names_are_made_distinct_and_complete(tmp_path: Path) -> None:
    labels: list[Any] = ["GFP", "GFP", "", None, "GFP_2"]
    omero = {"channels": [{"label": label} for label in labels]}
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", shape=(6, 8, 8), omero=omero)
    names = xr.open_dataset(path)["c"].values.tolist()
    assert names == ["GFP", "GFP_2", "2", "3", "GFP_2_2", "5"]
    assert [channel.name for channel in xr.open_datatree(path).ngff.channels] == names


@pytest.mark.parametrize(
    "omero",
    [
        None, 3, [], {}, {"channels": None}, {"channels": [None, 3]},
        {"channels": [{"color": 5, "window": []}] * 9},
        {"channels": [{"window": {"start": 0, "end": 0}}, {"window": {"start": "a"}}]},
    ],
)  # fmt: skip
def test_odd_omero_still_opens_and_draws(tmp_path: Path, version: str, omero: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="cyx", shape=(2, 16, 16))
    edit_attributes(path, lambda ome: ome.update(omero=omero))
    tree = xr.open_datatree(path)
    assert [channel.window for channel in tree.ngff.channels] == [None, None]
    assert tree.ngff.rgb().shape == (16, 16, 3)
    assert tree.ngff.plot() is not None
    assert "OME-Zarr" in tree.ngff._repr_html_()


# ---- levels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "width"),
    [
        ({"number": 0}, 62),
        ({"number": -1}, 16),
        ({"pixel_size": "1 µm"}, 31),
        ({"pixel_size": "1.99 µm"}, 31),
        ({"pixel_size": 2}, 16),
        ({"pixel_size": "0.002 mm"}, 16),
        ({"pixel_size": "1 nm"}, 62),
        ({"pixel_size": "1 m"}, 16),
        ({"max_pixels": 31 * 25}, 31),
        ({"max_pixels": 1}, 16),
        ({"nbytes": "100 kB"}, 31),
        ({"nbytes": 10}, 16),
    ],
)
def test_level(tree: xr.DataTree, criterion: dict[str, Any], width: int) -> None:
    assert tree.ngff.level(**criterion).sizes["x"] == width


def test_level_takes_quantities(tree: xr.DataTree) -> None:
    import pint

    assert tree.ngff.level(pixel_size=tree.ngff.pixel_size["x"] * 2).sizes["x"] == 31
    micrometers = pint.get_application_registry().Quantity(1000, "nm")
    assert tree.ngff.level(pixel_size=micrometers).sizes["x"] == 31


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ({}, "exactly one"),
        ({"number": 0, "max_pixels": 3}, "number, max_pixels"),
        ({"number": 3}, "there is no level 3; the levels are 0: t 3 x c 2"),
        ({"number": "0"}, "expected a number"),
        ({"number": True}, "expected a number"),
        ({"pixel_size": "0 µm"}, "more than 0"),
        ({"pixel_size": float("nan")}, "more than 0"),
    ],
)
def test_level_says_what_is_wrong(
    tree: xr.DataTree, criterion: dict[str, Any], message: str
) -> None:
    with pytest.raises(SelectionError, match=message):
        tree.ngff.level(**criterion)


@pytest.mark.parametrize("size", ["1 s", "1 furlong", "wide", None, [1]])
def test_level_refuses_what_is_no_length(tree: xr.DataTree, size: Any) -> None:
    with pytest.raises(NgffError):
        tree.ngff.level(pixel_size=size)


def test_an_array_from_level_keeps_its_metadata(tree: xr.DataTree) -> None:
    array = tree.ngff.level(1)
    assert array.ngff.channels == (DAPI, GFP)
    assert array.ngff.name == "scan"


def test_map_computes_every_level_and_keeps_the_labels(tree: xr.DataTree) -> None:
    doubled = tree.ngff.map(lambda image: image.astype("uint32") * 2)
    assert [level.dtype for level in doubled.ngff.levels] == ["uint32"] * 3
    xr.testing.assert_equal(doubled["1/image"], tree["1/image"].astype("uint32") * 2)
    assert doubled.ngff.channels == (DAPI, GFP)
    xr.testing.assert_identical(
        doubled.ngff.labels["cells"].load(), tree.ngff.labels["cells"].load()
    )
    projected = tree.ngff.map(lambda image, over: image.max(over), over="z")
    assert projected.ngff.levels[0].dims == ("t", "c", "y", "x")
    with pytest.raises(TypeError, match="must return a DataArray"):
        tree.ngff.map(lambda image: image.values)


# ---- selection ---------------------------------------------------------------------------------


def test_sel_in_physical_units_on_an_array(tree: xr.DataTree) -> None:
    image = tree["0/image"]
    chosen = image.ngff.sel(x=slice("10 µm", "0.012 mm"), z="3.2 µm", c="GFP", t="1 s")
    assert chosen["x"].values.tolist() == [10.0, 10.5, 11.0, 11.5, 12.0]
    assert float(chosen["z"]) == 4.0
    xr.testing.assert_equal(chosen, image.isel(x=slice(20, 25), z=2, c=1, t=1))
    quantity = image.ngff.pixel_size["x"]
    xr.testing.assert_equal(
        image.ngff.sel(x=slice(quantity * 20, quantity * 24)), image.isel(x=slice(20, 25))
    )
    xr.testing.assert_equal(image.ngff.sel({"y": slice(None, 1)}), image.isel(y=slice(0, 3)))
    xr.testing.assert_equal(image.ngff.sel(c=["GFP", 0]), image.isel(c=[1, 0]))


def test_sel_on_a_dataset_and_of_one_level(tree: xr.DataTree, scan: Path) -> None:
    dataset = xr.open_dataset(scan)
    assert isinstance(dataset.ngff.sel(z=0), xr.Dataset)
    coarse = tree.ngff.sel(x=slice("10 µm", "12 µm"), level="1 µm")
    assert coarse["x"].values.tolist() == [10.25, 11.25, 12.25]


def _bounds(array: xr.DataArray, dim: str) -> tuple[float, float]:
    half = array.ngff.pixel_size[dim].magnitude / 2
    return float(array[dim][0]) - half, float(array[dim][-1]) + half


def test_channels_are_selected_as_xarray_would(tree: xr.DataTree) -> None:
    image = tree["0/image"]
    for value in (slice("DAPI", "GFP"), ["DAPI", "GFP"], image["c"], np.array(["DAPI", "GFP"])):
        xr.testing.assert_equal(image.ngff.sel(c=value), image)
    xr.testing.assert_equal(image.ngff.sel(c=image["c"][1]), image.isel(c=1))
    xr.testing.assert_equal(image.ngff.crop(c=slice("GFP", None)), image.isel(c=[1]))
    for mask in (True, [True, False]):
        with pytest.raises(SelectionError, match="no channel True"):
            image.ngff.sel(c=mask)
    with pytest.raises(UnitError):
        image.ngff.sel(x=True)


def test_the_last_pixels_of_a_pyramid_that_left_some_out(tmp_path: Path) -> None:
    pixels = np.arange(81, dtype="uint16").reshape(9, 9)
    coords = {
        "0": {"y": np.arange(9.0), "x": np.arange(9.0)},
        "1": {"y": 0.5 + 2 * np.arange(4), "x": 0.5 + 2 * np.arange(4)},
    }
    levels = {"0": pixels, "1": pixels[:8:2, :8:2]}
    tree = xr.DataTree.from_dict(
        {p: xr.Dataset({"image": (("y", "x"), levels[p])}, coords[p]) for p in levels}
    )
    assert tree.ngff.sel(x=8)["1/x"] == 6.5
    assert tree.ngff.crop(x=slice(8, 8.4))["1/image"].shape == (4, 1)
    assert tree.ngff.rgb(level=0, x=slice(8, 8.4)).shape == (9, 1, 3)
    with pytest.raises(SelectionError, match=r"from -0\.5 to 8\.5"):
        tree.ngff.sel(x=9)


def test_labels_that_a_region_does_not_reach_are_empty(tree: xr.DataTree) -> None:
    part = tree.ngff.labels["cells"].ngff.crop(x=slice(0, 10))
    nodes = {node.path: node.to_dataset() for node in tree.subtree}
    nodes |= {f"/labels/cells{n.path}".rstrip("/"): n.to_dataset() for n in part.subtree}
    partly = xr.DataTree.from_dict(nodes)
    cropped = partly.ngff.crop(x=slice(15, 20))
    assert cropped["0/image"].sizes["x"] == 11
    assert [level.sizes["x"] for level in cropped.ngff.labels["cells"].ngff.levels] == [0, 0, 0]
    with pytest.raises(SelectionError, match=r"label image /labels/cells: x: 12"):
        partly.ngff.sel(x=12)


def test_crop_covers_the_same_region_on_every_level_and_label(tree: xr.DataTree) -> None:
    cropped = tree.ngff.crop(x=slice("10 µm", "20 µm"), y=slice("3 µm", "7 µm"))
    arrays = [*cropped.ngff.levels, *cropped.ngff.labels["cells"].ngff.levels]
    assert len(arrays) == 6
    for array in arrays:
        for dim, start, stop in (("x", 10, 20), ("y", 3, 7)):
            low, high = _bounds(array, dim)
            step = array.ngff.pixel_size[dim].magnitude
            assert start - step <= low <= start
            assert stop <= high <= stop + step
    assert cropped.ngff.channels == (DAPI, GFP)
    assert cropped.attrs == tree.attrs


def test_cropping_striding_and_reversing_keep_exact_geometry(tmp_path: Path) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr", axes="yx", shape=(64, 64), scale=(0.107, 0.1),
        translation=(3.3, 1e6),
    )  # fmt: skip
    image = xr.open_dataset(path)["image"]
    part = image.ngff.crop(y=slice(5, 6)).isel(x=slice(None, None, -3))
    assert part.ngff.pixel_size["y"].magnitude == 0.107
    assert part.ngff.pixel_size["x"].magnitude == 0.3
    assert float(part["x"][0]) == pytest.approx(1e6 + 6.3, abs=1e-9)
    assert image.isel(x=[0]).ngff.pixel_size["x"].magnitude == 0.1


@settings(max_examples=30, deadline=None)
@given(start=st.floats(0, 30), length=st.floats(0, 30))
def test_every_level_encloses_any_region(
    tmp_path_factory: pytest.TempPathFactory, start: float, length: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "regions.ome.zarr"
    if not path.exists():
        write_image(path, axes="yx", shape=(64, 64))
    stop = min(start + length, 31.5)
    cropped = xr.open_datatree(path).ngff.crop(x=slice(start, stop))
    for array in cropped.ngff.levels:
        low, high = _bounds(array, "x")
        assert low <= start + 1e-5
        assert high >= min(stop, 31.75) - 1e-5


@pytest.mark.parametrize(
    ("indexers", "message"),
    [
        ({"q": 0}, "there is no axis 'q'; the axes are t, c, z, y, x"),
        ({"c": "RFP"}, "there is no channel 'RFP'; the channels are DAPI, GFP"),
        ({"c": 2}, "there is no channel 2"),
        ({"x": "1 m"}, r"x: 1000000 micrometer lies outside .* from -0.25 to 30.75 micrometer"),
        ({"x": slice(40, 50)}, "x: 40 to 50 micrometer lies outside"),
        ({"x": slice(0, 5, 2)}, "a region has no step"),
        ({"x": slice(float("nan"), 5)}, "NaN"),
        ({"x": float("nan")}, "outside"),
    ],
)
def test_sel_says_what_is_wrong(tree: xr.DataTree, indexers: dict[str, Any], message: str) -> None:
    for obj in (tree, tree["0/image"]):
        with pytest.raises(SelectionError, match=message):
            obj.ngff.sel(indexers)


@pytest.mark.parametrize("value", ["3 s", "3 parsnips", "three", None, "9**9**9**9 µm"])
def test_sel_refuses_what_is_no_length(tree: xr.DataTree, value: Any) -> None:
    with pytest.raises(UnitError):
        tree["0/image"].ngff.sel(x=value)


def test_crop_takes_regions_only(tree: xr.DataTree) -> None:
    with pytest.raises(SelectionError, match="use sel"):
        tree.ngff.crop(z="3 µm")


def test_selecting_reads_nothing(tree: xr.DataTree, scan: Path) -> None:
    for chunk in (scan / "0").rglob("[0-9]*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    assert tree.ngff.sel(x=slice(3, 9), c="GFP")["0/image"].shape == (3, 4, 50, 13)
    assert tree.ngff.quantify()["0/image"].shape == tree["0/image"].shape


def test_labels_of_length_one_serve_every_plane(tmp_path: Path) -> None:
    data = np.ones((1, 50, 62), "uint8")
    path = write_image(
        tmp_path / "a.ome.zarr", axes="zyx", labels={"flat": {"data": data, "axes": "zyx"}}
    )
    tree = xr.open_datatree(path)
    assert tree.ngff.sel(z="6 µm").ngff.labels["flat"]["0/labels"].dims == ("y", "x")
    cropped = tree.ngff.crop(z=slice("5 µm", "6 µm"))
    assert cropped.ngff.labels["flat"]["0/labels"].sizes["z"] == 1
    assert tree.ngff.rgb(z="6 µm", labels="flat").shape == (50, 62, 3)


# ---- labels ------------------------------------------------------------------------------------


def test_labels_are_trees_of_their_own(tree: xr.DataTree) -> None:
    labels = tree.ngff.labels["cells"]
    assert labels.parent is None
    assert labels.ngff.kind == "labels"
    assert labels["0/labels"].ngff.kind == "labels"
    assert len(labels.ngff.levels) == 3
    assert labels.ngff.colors[1] == tuple(labels.attrs["ome"]["image-label"]["colors"][0]["rgba"])
    frame = labels.ngff.properties
    assert frame.index.name == "label-value"
    assert frame.index.tolist() == [1, 2, 3, 4, 5]
    assert frame["area"].dtype.kind == "i"


def test_label_colours_and_properties_of_odd_documents(tmp_path: Path) -> None:
    spec = {
        "colors": [
            {"label-value": 1, "rgba": [1, 2, 3, 4]},
            {"label-value": 1, "rgba": [9, 9, 9, 255]},
            {"label-value": 2, "rgba": [1, 2]},
            {"rgba": [0, 0, 0, 0]},
            None,
        ],
        "properties": [{"label-value": 4, "class": "a"}, {"label-value": 4, "size": 2}],
    }
    path = write_image(tmp_path / "a.ome.zarr", labels={"odd": spec})
    labels = xr.open_datatree(path).ngff.labels["odd"].ngff
    assert labels.colors == {1: (9, 9, 9, 255)}
    assert labels.properties.to_dict("index") == {4: {"class": "a", "size": 2}}
    assert len(labels.issues) == 5


def test_labels_without_properties_have_an_empty_frame(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", labels={"a": {"properties": None}})
    frame = xr.open_datatree(path).ngff.labels["a"].ngff.properties
    assert frame.empty
    assert frame.index.name == "label-value"


def test_an_image_without_labels_has_an_empty_mapping(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr")
    assert xr.open_datatree(path).ngff.labels == {}


# ---- units -------------------------------------------------------------------------------------


def test_quantify_gives_quantities_as_coordinates(tree: xr.DataTree) -> None:
    image = tree["0/image"].ngff.quantify()
    assert str(image["x"].pint.units) == "micrometer"
    assert "units" not in image.attrs
    part = image.pint.sel(x=slice(image.ngff.pixel_size["x"] * 2, image["x"].data[4]))
    assert part.sizes["x"] == 3
    assert str(tree.ngff.quantify()["2/x"].pint.units) == "micrometer"
    one = image.isel(x=[3]).pint.to(x=units.registry().Unit("nm"))
    assert one.ngff.pixel_size["x"].to("nm").magnitude == pytest.approx(500)
    assert image.ngff.sel(x=slice("2 µm", "3 µm")).sizes["x"] == 3


def test_what_was_quantified_can_be_written(tree: xr.DataTree, tmp_path: Path) -> None:
    plain = tree.ngff.quantify()["0"].to_dataset().pint.dequantify()
    plain.drop_vars("c").drop_encoding().to_zarr(tmp_path / "plain.zarr", consolidated=False)
    again = xr.open_dataset(tmp_path / "plain.zarr", engine="zarr", consolidated=False)
    assert again["image"].ngff.pixel_size["x"].magnitude == 0.5


def test_quantify_names_the_extra(monkeypatch: pytest.MonkeyPatch, tree: xr.DataTree) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pint_xarray", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "ngff-xarray\[pint\]"'):
        tree["0/image"].ngff.quantify()


# ---- objects that are not OME ------------------------------------------------------------------


@pytest.mark.parametrize("obj", [xr.DataTree(), xr.Dataset(), xr.Dataset({"a": ("q", [1, 2])})])
@pytest.mark.parametrize("name", ["plot", "channels", "labels", "level", "anything"])
def test_other_objects_say_what_is_missing(obj: Any, name: str) -> None:
    with pytest.raises(NotOmeError, match=rf"\.ngff\.{name}: this"):
        getattr(obj.ngff, name)
    assert "no OME-Zarr image" in repr(obj.ngff)
    assert not hasattr(obj.ngff, "_repr_html_")


def test_an_object_that_becomes_an_image_is_looked_at_again() -> None:
    dataset = xr.Dataset()
    assert "no OME-Zarr image" in repr(dataset.ngff)
    dataset["image"] = (("y", "x"), np.zeros((4, 4)))
    assert dataset.ngff.kind == "image"
    assert repr(dataset.ngff).startswith("OME-Zarr image")


def test_dimensions_without_names_and_other_types_say_so() -> None:
    array = xr.DataArray(np.zeros((2, 3)), dims=(0, 1))
    assert "expected names, as text" in repr(array.ngff)
    with pytest.raises(TypeError, match="found int"):
        ngff_xarray.ngff(3)  # type: ignore[call-overload]


def test_a_dataset_with_several_images_says_so() -> None:
    plane = (("y", "x"), np.zeros((2, 2)))
    with pytest.raises(NotOmeError, match="variables: a, b"):
        xr.Dataset({"a": plane, "b": plane}).ngff.plot()


def test_a_plain_array_is_an_image_in_pixels() -> None:
    array = xr.DataArray(np.arange(12, dtype="uint8").reshape(3, 4), dims=("y", "x"))
    assert array.ngff.pixel_size == {}
    assert array.ngff.units == {"y": None, "x": None}
    assert array.ngff.sel(x=slice(1, 2)).shape == (3, 2)
    assert array.ngff.rgb().shape == (3, 4, 3)
    assert "OME-Zarr" in repr(array.ngff)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_an_array_that_is_no_picture(shape: tuple[int, ...]) -> None:
    array = xr.DataArray(np.zeros(shape))
    with pytest.raises(NotOmeError, match="no picture"):
        array.ngff.rgb()
    assert "OME-Zarr" in array.ngff._repr_html_()


def test_labels_in_another_unit_lie_at_the_same_place(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="zyx", labels={"cells": {}})
    expected = xr.open_datatree(path)

    def to_nanometers(ome: dict[str, Any]) -> None:
        (multiscale,) = ome["multiscales"]
        for axis in multiscale["axes"]:
            axis["unit"] = "nanometer"
        thousand = [{"type": "scale", "scale": [1000.0, 1000.0, 1000.0]}]
        multiscale["coordinateTransformations"] = thousand

    edit_attributes(path / "labels" / "cells", to_nanometers)
    tree = xr.open_datatree(path)
    assert float(tree["labels/cells/0/x"][1]) == 500
    for region in (slice(5, 9), slice("5 µm", "9000 nm")):
        part = tree.ngff.sel(x=region, z=2)
        np.testing.assert_array_equal(
            part["labels/cells/0/labels"], expected.ngff.sel(x=region, z=2)["labels/cells/0/labels"]
        )
    for level in (0, 1):
        options = {"labels": "cells", "level": level, "x": slice(2, 20)}
        xr.testing.assert_equal(tree.ngff.rgb(**options), expected.ngff.rgb(**options))
