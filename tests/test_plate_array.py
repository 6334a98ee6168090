"""A plate as one array: what it holds, what it reads and when, and what it refuses."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import CountingServer
from stores import edit_attributes, write_image, write_plate

from ngff_xarray.errors import (
    MetadataError,
    NgffError,
    SelectionError,
    StoreError,
    StoreNotFoundError,
    UnitError,
    UnsupportedError,
)

VERSIONS = ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]
IMAGE = {"axes": "cyx", "shape": (2, 16, 20), "chunks": (1, 16, 20)}
OMERO = {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP", "color": "00FF00"}]}
LATENCY = 0.05

zarr_formats = pytest.mark.parametrize("version", ["0.4", "0.5"])


def _write(path: Path, **keywords: Any) -> Path:
    return write_plate(path / "p.ome.zarr", **{"image": IMAGE, **keywords})


def _replace(path: Path, **image: Any) -> None:
    """Write another image in place of a field."""
    shutil.rmtree(path)
    write_image(path, **{**IMAGE, "levels": 2, "seed": 99, **image})


def _fields(path: Path, level: int, wells: Sequence[str], fields: Sequence[str]) -> Any:
    """Return the pixels of all fields, read by zarr alone."""
    return np.array(
        [
            [zarr.open_array(path / well / field / str(level), mode="r")[...] for field in fields]
            for well in wells
        ]
    )


# ---- the table of wells --------------------------------------------------------------------------


def test_the_wells_are_a_table(tmp_path: Path) -> None:
    wells = xr.open_datatree(_write(tmp_path)).ngff.wells
    assert list(wells.columns) == ["row", "column", "path", "acquisition", "fields"]
    assert list(wells.index) == list(wells["path"]) == ["A/1", "A/2", "B/1", "B/2"]
    assert wells.index.name == "well"
    assert list(wells["row"]) == ["A", "A", "B", "B"]
    assert list(wells["column"]) == ["1", "2", "1", "2"]
    assert wells["fields"].isna().all()
    assert wells["acquisition"].isna().all()


def test_the_fields_of_wells_that_were_opened_are_known(tmp_path: Path) -> None:
    acquisitions = [{"id": 1}, {"id": 4}]
    path = _write(tmp_path, acquisitions=acquisitions)
    wells = xr.open_datatree(path, wells=["B/1"]).ngff.wells
    assert wells.loc["B/1", "fields"] == ("0", "1")
    assert wells.loc["B/1", "acquisition"] == (1, 4)
    assert wells["fields"].notna().sum() == 1


@zarr_formats
def test_consolidated_metadata_tell_the_fields_of_all_wells(tmp_path: Path, version: str) -> None:
    _write(tmp_path, version=version, missing=["A/2"], fields=["a", "b"], consolidated=True)
    with CountingServer(tmp_path) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
        server.clear()
        wells = plate.ngff.wells
        assert server.count == 0
    assert list(wells["fields"]) == [("a", "b"), None, ("a", "b"), ("a", "b")]
    assert list(wells["acquisition"]) == [(None, None), None, (None, None), (None, None)]


@pytest.mark.parametrize(
    ("document", "known"),
    [
        ({}, ()),
        ({"images": 3}, ()),
        ({"images": [3, {}, {"path": 1}, {"path": "../x"}]}, ("1",)),
        ([], ()),
    ],
)
def test_wells_whose_documents_are_odd_have_the_fields_that_can_be_told(
    tmp_path: Path, document: Any, known: tuple[str, ...]
) -> None:
    path = _write(tmp_path, consolidated=True)
    stored = json.loads((path / "zarr.json").read_text())
    below = stored["consolidated_metadata"]["metadata"]
    below["A/1"]["attributes"] = {"ome": {"well": document}}
    below["A/2"]["attributes"] = 7
    (path / "zarr.json").write_text(json.dumps(stored))
    wells = xr.open_datatree(path).ngff.wells
    assert list(wells["fields"]) == [known, None, ("0", "1"), ("0", "1")]


# ---- what the array holds ------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("level", [0, 1])
def test_all_fields_of_all_wells(tmp_path: Path, version: str, level: int) -> None:
    path = _write(tmp_path, version=version)
    plate = xr.open_datatree(path)
    array = plate.ngff.to_array(level=level)
    wells = ["A/1", "A/2", "B/1", "B/2"]
    assert array.dims[:2] == ("well", "field")
    assert list(array["well"].values) == wells
    assert list(array["row"].values) == ["A", "A", "B", "B"]
    assert list(array["column"].values) == ["1", "2", "1", "2"]
    assert list(array["field"].values) == [0, 1]
    np.testing.assert_array_equal(array, _fields(path, level, wells, ["0", "1"]))
    field = plate.ngff.well("A/1").ngff.fields["0"].ngff.level(level)
    for name in field.dims:
        xr.testing.assert_identical(array[name].variable, field[name].variable)
    one = array.isel(well=2, field=1, drop=True)
    other = plate.ngff.well("B/1").ngff.fields["1"].ngff.level(level)
    xr.testing.assert_equal(one, other)


def test_the_array_knows_its_channels_units_and_version(tmp_path: Path) -> None:
    path = _write(tmp_path, image={**IMAGE, "omero": OMERO})
    array = xr.open_datatree(path).ngff.to_array()
    assert array.name == "image"
    assert array.ngff.kind == "image"
    assert array.ngff.name == "p"
    assert array.ngff.version == "0.5"
    assert [channel.color for channel in array.sel(c=["GFP"]).ngff.channels] == [(0, 255, 0)]
    assert array["x"].attrs["units"] == "micrometer"
    assert str(array.ngff.pixel_size["y"]) == "0.5 micrometer"
    part = array.ngff.sel(x=slice("1 µm", "3 µm"), c="DAPI")
    assert part.shape == (4, 2, 16, 5)
    assert array.ngff.rgb(well=0, field=1).sizes["rgb"] == 3


@pytest.mark.parametrize(("level", "expected"), [(-1, 8), ("1 µm", 8), ("0.9 µm", 16), (0.5, 16)])
def test_a_level_by_number_or_pixel_size(tmp_path: Path, level: Any, expected: int) -> None:
    array = xr.open_datatree(_write(tmp_path)).ngff.to_array(level=level)
    assert array.sizes["y"] == expected


def test_rows_and_columns_as_dimensions(tmp_path: Path) -> None:
    path = _write(tmp_path, rows="ABCD", columns=["1", "2", "3"], wells=["D/3", "A/1", "D/1"])
    plate = xr.open_datatree(path)
    array = plate.ngff.to_array(by="row")
    assert array.dims == ("row", "column", "field", "c", "y", "x")
    assert list(array["row"].values) == ["A", "D"]
    assert list(array["column"].values) == ["1", "3"]
    assert array["well"].values.tolist() == [["A/1", ""], ["D/1", "D/3"]]
    flat = plate.ngff.to_array()
    assert list(flat["well"].values) == ["D/3", "A/1", "D/1"]
    for well in ("D/3", "A/1", "D/1"):
        row, column = well.split("/")
        np.testing.assert_array_equal(array.sel(row=row, column=column), flat.sel(well=well))
    assert not array.sel(row="A", column="3").any()
    np.testing.assert_array_equal(
        array.isel(row=[1, 0], column=1, field=0)[0], flat.sel(well="D/3", field=0)
    )


def test_wells_of_one_row_and_column_cannot_stand_in_one_place(tmp_path: Path) -> None:
    wells = ["one/A/1", "two/A/1"]
    plate = xr.open_datatree(_write(tmp_path, version="0.2", wells=wells))
    assert list(plate.ngff.to_array()["well"].values) == wells
    with pytest.raises(SelectionError, match="'one/A/1' and 'two/A/1' are in the same row"):
        plate.ngff.to_array(by="row")
    assert plate.ngff.to_array(by="row", wells=["two/A/1"]).sizes["row"] == 1


def test_some_wells_and_fields(tmp_path: Path) -> None:
    path = _write(tmp_path, fields=3)
    plate = xr.open_datatree(path)
    frame = plate.ngff.wells
    whole = plate.ngff.to_array().load()
    ways: list[Any] = [["B/2", "A/1"], ["B2", "A1"], frame.loc[["B/2", "A/1"]], iter(["B/2", "A1"])]
    for wells in ways:
        array = plate.ngff.to_array(wells=wells, fields=[2, 0])
        xr.testing.assert_equal(array, whole.isel(well=[3, 0], field=[2, 0]))
    in_row = plate.ngff.to_array(wells=frame[frame["row"] == "B"], fields=1)
    xr.testing.assert_equal(in_row, whole.isel(well=[2, 3], field=1))
    assert plate.ngff.to_array(wells="A2").sizes["well"] == 1
    assert plate.ngff.to_array(fields=None).sizes["field"] == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"wells": ["C/9"]}, "no well 'C/9'"),
        ({"wells": []}, "no well is chosen"),
        ({"fields": 2}, "there is no field 2"),
        ({"fields": [0, 7]}, "there is no field 7"),
        ({"fields": -1}, "expected a number from 0"),
        ({"fields": []}, "expected a number from 0"),
        ({"fields": [0, 0]}, "several different ones"),
        ({"fields": [0.5]}, "expected a number from 0"),
        ({"level": 2}, "no level 2; there are 2"),
        ({"level": True}, "found True"),
        ({"by": "plate"}, "by: expected one of"),
        ({"missing": "ignore"}, "missing: expected one of"),
        ({"labels": "../0"}, "expected the name of a label image"),
        ({"chunks": {"z": 1}}, "no dimension 'z'"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        xr.open_datatree(_write(tmp_path)).ngff.to_array(**asked)


def test_a_pixel_size_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnitError):
        xr.open_datatree(_write(tmp_path)).ngff.to_array(level="3 kg")


@zarr_formats
def test_label_images_of_the_fields(tmp_path: Path, version: str) -> None:
    path = _write(tmp_path, version=version, labels={"sub/cells": {}})
    shutil.rmtree(path / "B/1/1/labels")
    plate = xr.open_datatree(path)
    array = plate.ngff.to_array(labels="sub/cells")
    assert array.name == "labels"
    assert array.ngff.kind == "labels"
    expected = plate.ngff.well("B/1").ngff.fields["0"].ngff.labels["sub/cells"].ngff.level(0)
    np.testing.assert_array_equal(array.sel(well="B/1", field=0), expected)
    assert not array.sel(well="B/1", field=1).any()
    assert plate.ngff.missing_fields(labels="sub/cells").values.tolist() == [
        ["B/1", 1, "the field is not there"]
    ]
    with pytest.raises(StoreNotFoundError, match="fields with 'labels/nuclei'"):
        plate.ngff.to_array(labels="nuclei")


# ---- indexing ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.DataArray, xr.DataArray]:
    """A lazy array by rows, in which wells and fields lack, and its pixels."""
    path = _write(
        tmp_path_factory.mktemp("indexed"),
        wells=["A/1", "A/2", "B/2"],
        missing=["A/2", "B/2/1"],
        image={**IMAGE, "chunks": (1, 7, 6)},
    )
    array = xr.open_datatree(path).ngff.to_array(by="row")
    pixels = np.zeros(array.shape, array.dtype)
    pixels[0, 0] = _fields(path, 0, ["A/1"], ["0", "1"])[0]
    pixels[1, 1, 0] = _fields(path, 0, ["B/2"], ["0"])[0, 0]
    return array, array.copy(data=pixels)


def _part(size: int) -> st.SearchStrategy[Any]:
    places = st.integers(-size, size - 1)
    # of those that run backwards over nothing, xarray itself gets the shape wrong
    slices = st.slices(size).filter(
        lambda part: (part.step or 1) > 0 or len(range(*part.indices(size))) > 0
    )
    return st.one_of(places, slices, st.lists(places, max_size=4))


@settings(max_examples=60)
@given(data=st.data())
def test_every_index_gives_what_the_whole_array_has_there(
    loaded: tuple[xr.DataArray, xr.DataArray], data: st.DataObject
) -> None:
    array, pixels = loaded
    key = {dim: data.draw(_part(size)) for dim, size in array.sizes.items()}
    xr.testing.assert_identical(array.isel(key).load(), pixels.isel(key))


def test_indexing_by_points(loaded: tuple[xr.DataArray, xr.DataArray]) -> None:
    array, pixels = loaded
    key = {
        "row": xr.DataArray([1, 0, 1], dims="p"),
        "column": xr.DataArray([1, 0, 0], dims="p"),
        "x": xr.DataArray([3, 19, 5], dims="p"),
    }
    xr.testing.assert_identical(array.isel(key).load(), pixels.isel(key))


def test_what_was_read_is_kept_and_can_be_changed(tmp_path: Path) -> None:
    path = _write(tmp_path)
    array = xr.open_datatree(path).ngff.to_array()
    first = array.values
    shutil.rmtree(path / "A")
    np.testing.assert_array_equal(array.values, first)
    array[0, 0] = 7
    assert (array[0, 0] == 7).all()


def test_copies_pickles_and_reading_asynchronously(tmp_path: Path) -> None:
    path = _write(tmp_path)
    array = xr.open_datatree(path).ngff.to_array()
    array[1].load()  # something was found already
    expected = _fields(path, 0, ["A/1", "A/2", "B/1", "B/2"], ["0", "1"])
    for other in (pickle.loads(pickle.dumps(array)), copy.deepcopy(array), array.copy(deep=True)):
        np.testing.assert_array_equal(other, expected)
    np.testing.assert_array_equal(asyncio.run(array.load_async()), expected)


# ---- what is not there ---------------------------------------------------------------------------


@zarr_formats
def test_missing_wells_and_fields_read_as_the_fill_value_and_are_listed(
    tmp_path: Path, version: str
) -> None:
    path = _write(tmp_path, version=version, missing=["A/1", "B/1/1"])
    edit_attributes(path / "B/2", lambda ome: ome["well"]["images"].pop())
    for array in path.glob("*/*/*/0/"):
        name = "zarr.json" if version == "0.5" else ".zarray"
        document = json.loads((array / name).read_text())
        (array / name).write_text(json.dumps({**document, "fill_value": 3}))
    plate = xr.open_datatree(path)
    array = plate.ngff.to_array()
    assert list(array["well"].values) == ["A/1", "A/2", "B/1", "B/2"]
    filled = (array == 3).all(["c", "y", "x"])
    assert filled.values.tolist() == [[True, True], [False, False], [False, True], [False, True]]
    found = plate.ngff.missing_fields()
    assert found.values.tolist() == [
        ["A/1", 0, "the well is not there"],
        ["A/1", 1, "the well is not there"],
        ["B/1", 1, "the field is not there"],
        ["B/2", 1, "the well has 1 field"],
    ]
    assert plate.ngff.missing_fields(wells=["A/2"]).empty
    assert plate.ngff.missing_fields(fields=0)["well"].tolist() == ["A/1"]


@pytest.mark.parametrize(
    ("well", "message"),
    [
        ("A/1", "A/1, field 0: the well is not there"),
        ("B/1", "B/1/1: the field is not there"),
        ("B/2", "B/2, field 1: the well has 1 field"),
    ],
)
def test_missing_wells_and_fields_can_be_errors(tmp_path: Path, well: str, message: str) -> None:
    path = _write(tmp_path, missing=["A/1", "B/1/1"])
    edit_attributes(path / "B/2", lambda ome: ome["well"]["images"].pop())
    array = xr.open_datatree(path).ngff.to_array(missing="raise")
    assert array.sel(well="A/2").load().any()
    with pytest.raises(StoreNotFoundError, match=message):
        array.sel(well=well).load()


def test_nothing_is_there(tmp_path: Path) -> None:
    plate = xr.open_datatree(_write(tmp_path, missing=["A/1", "A/2", "B/1", "B/2"]))
    with pytest.raises(StoreNotFoundError, match="none of the wells' fields is in the store"):
        plate.ngff.to_array()
    assert len(plate.ngff.missing_fields()) == 8


@pytest.mark.parametrize("stated", [None, 0, -3, "many", 1, 10**12])
def test_what_the_plate_says_of_the_number_of_fields_may_be_wrong(
    tmp_path: Path, stated: Any
) -> None:
    array = xr.open_datatree(_write(tmp_path, plate={"field_count": stated})).ngff.to_array()
    assert array.sizes["field"] == 2


def test_more_fields_than_the_first_well_has(tmp_path: Path) -> None:
    path = _write(tmp_path, fields=3)
    edit_attributes(path / "A/1", lambda ome: ome["well"]["images"].pop())
    plate = xr.open_datatree(path)
    assert plate.ngff.to_array().sizes["field"] == 3
    array = plate.ngff.to_array(fields=2)
    assert array.any(["c", "y", "x"]).values.tolist() == [False, True, True, True]


def test_fields_have_names_of_their_own_in_every_well(tmp_path: Path) -> None:
    path = _write(tmp_path, fields=["fov1", "fov2"])
    (path / "A/2/fov2").rename(path / "A/2/other")

    def rename(ome: dict[str, Any]) -> None:
        ome["well"]["images"][1]["path"] = "other"

    edit_attributes(path / "A/2", rename)
    array = xr.open_datatree(path).ngff.to_array()
    pixels = zarr.open_array(path / "A/2/other/0", mode="r")[...]
    np.testing.assert_array_equal(array.sel(well="A/2", field=1), pixels)


# ---- fields that differ --------------------------------------------------------------------------

DIFFERENT: Mapping[str, tuple[dict[str, Any], str]] = {
    "shape": ({"shape": (2, 16, 18)}, r"has shape \(2, 16, 18\), expected \(2, 16, 20\)"),
    "dtype": ({"dtype": "uint8"}, "has dtype uint8, expected uint16"),
    "axes": ({"axes": "zyx"}, r"has axes z.*expected c, y \[micrometer\], x"),
    "unit": (
        {"axes": [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]},
        r"has axes c, y, x, expected c, y \[micrometer\]",
    ),
    "pixel size": ({"scale": (1, 0.5, 0.25)}, r"has pixel size \(1.0, 0.5, 0.25\), expected"),
    "channels": (
        {"omero": {"channels": [{"label": "GFP"}, {"label": "DAPI"}]}},
        r"has channels \['GFP', 'DAPI'\], expected \['DAPI', 'GFP'\]",
    ),
    "fewer levels": ({"levels": 1, "level": 1}, "has 1 levels; there is no level 1"),
}


@pytest.mark.parametrize("how", DIFFERENT)
def test_a_field_that_differs_raises_when_it_is_read(tmp_path: Path, how: str) -> None:
    image, message = DIFFERENT[how]
    level = image.get("level", 0)
    path = _write(tmp_path, image={**IMAGE, "omero": OMERO})
    other = {key: value for key, value in image.items() if key != "level"}
    _replace(path / "B/1/1", **{"omero": OMERO, **other})
    array = xr.open_datatree(path).ngff.to_array(level=level)
    assert array.isel(field=0).load().any()
    assert array.drop_sel(well="B/1").load().any()
    with pytest.raises(MetadataError, match=message) as caught:
        array.load()
    assert isinstance(caught.value, NgffError)
    assert [issue.path for issue in caught.value.issues] == ["B/1/1"]
    assert "uniform=False" in str(caught.value) or how not in ("shape", "dtype")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_may_differ(tmp_path: Path, version: str) -> None:
    path = _write(tmp_path, version=version, image={**IMAGE, "omero": OMERO})
    keywords: dict[str, Any] = {"version": version, "paths": ["full", "half"], "chunks": (2, 5, 6)}
    if version in ("0.4", "0.5", "0.6"):
        keywords["translation"] = (0, 100, 200)
    _replace(path / "B/1/1", **keywords)  # without omero, too
    array = xr.open_datatree(path).ngff.to_array(level=1)
    pixels = zarr.open_array(path / "B/1/1/half", mode="r")[...]
    np.testing.assert_array_equal(array.sel(well="B/1", field=1), pixels)


def test_byte_order_may_differ(tmp_path: Path) -> None:
    path = _write(tmp_path, version="0.4")
    _replace(path / "A/1/0", version="0.4", dtype=">u2")
    array = xr.open_datatree(path).ngff.to_array()
    assert array.dtype == np.dtype("uint16")
    pixels = zarr.open_array(path / "A/1/0/0", mode="r")[...]
    np.testing.assert_array_equal(array[0, 0], pixels)


def test_fields_of_different_sizes_can_have_room_in_one_array(tmp_path: Path) -> None:
    path = _write(tmp_path, image={**IMAGE, "dtype": "uint8"}, missing=["B/2"])
    more = {"channels": [*OMERO["channels"], {"label": "RFP"}]}
    edit_attributes(path / "A/1/0", lambda ome: ome.update(omero=OMERO))
    _replace(path / "A/2/1", shape=(3, 10, 24), omero=more, dtype="uint16")
    array = xr.open_datatree(path).ngff.to_array(uniform=False)
    assert array.shape == (4, 2, 3, 16, 24)
    assert array.dtype == np.dtype("uint16")
    assert list(array["c"].values) == ["DAPI", "GFP", "RFP"]
    assert len(array.ngff.channels) == 3
    assert array["x"].values[-1] == 11.5
    expected = np.zeros(array.shape, array.dtype)
    for well, name in enumerate(["A/1", "A/2", "B/1"]):
        for field in range(2):
            pixels = zarr.open_array(path / name / str(field) / "0", mode="r")[...]
            expected[(well, field, *map(slice, pixels.shape))] = pixels
    np.testing.assert_array_equal(array, expected)
    whole = array.copy(data=expected)
    for key in (
        {"c": 2},
        {"y": 12, "x": [23, 1, 19]},
        {"x": slice(None, None, -3), "y": slice(5, None, 4)},
    ):
        fresh = xr.open_datatree(path).ngff.to_array(uniform=False)
        xr.testing.assert_identical(fresh.isel(key).load(), whole.isel(key))


def test_all_that_have_no_room_in_one_array_are_listed_at_once(tmp_path: Path) -> None:
    path = _write(tmp_path)
    _replace(path / "A/2/0", axes="zyx")
    _replace(path / "B/1/1", dtype="float32")
    _replace(path / "B/2/0", scale=(1, 2, 2), shape=(2, 8, 8))
    (path / "B/2/1/0/zarr.json").unlink()
    with pytest.raises(MetadataError) as caught:
        xr.open_datatree(path).ngff.to_array(uniform=False)
    assert [issue.path for issue in caught.value.issues] == ["A/2/0", "B/1/1", "B/2/0", "B/2/1"]
    assert "there is no array at '0'" in str(caught.value)


def test_an_array_that_has_no_dimension_for_every_axis(tmp_path: Path) -> None:
    path = _write(tmp_path)
    shutil.copytree(path / "A/1/0/1", path / "spare")
    shutil.rmtree(path / "B/2/1/0")
    zarr.create_array(path / "B/2/1/0", shape=(3, 3), dtype="uint16")
    plate = xr.open_datatree(path)
    with pytest.raises(MetadataError, match=r"B/2/1: has shape \(3, 3\)"):
        plate.ngff.to_array().load()
    with pytest.raises(MetadataError, match=r"B/2/1: has shape \(3, 3\)"):
        plate.ngff.to_array(uniform=False)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("B/1/zarr.json", "B/1: zarr.json: is no JSON"),
        ("B/1/1/zarr.json", "B/1/1: zarr.json: is no JSON"),
        ("B/1/1/0/zarr.json", "0/zarr.json: is no JSON"),
        ("B/1/1/0/c/0/0/0", "B/1/1/0: pixels cannot be read"),
    ],
)
def test_what_is_broken_is_named_and_is_no_fill(tmp_path: Path, key: str, message: str) -> None:
    path = _write(tmp_path)
    (path / key).write_bytes(b"{")
    array = xr.open_datatree(path).ngff.to_array()
    assert array.sel(well="B/2").load().any()
    with pytest.raises(NgffError, match=message):
        array.load()


def test_a_first_well_that_is_broken_does_not_keep_the_others(tmp_path: Path) -> None:
    path = _write(tmp_path)
    (path / "A/1/zarr.json").write_text("{")
    array = xr.open_datatree(path).ngff.to_array()
    assert array.sel(well="A/2").load().any()
    with pytest.raises(MetadataError, match="A/1"):
        array.load()
    for well in ("A/2", "B/1", "B/2"):
        (path / well / "zarr.json").write_text("{")
    with pytest.raises(MetadataError, match="A/1"):
        xr.open_datatree(path).ngff.to_array()


def test_axes_that_are_called_as_the_plates_are(tmp_path: Path) -> None:
    axes = [{"name": "row", "type": "space"}, {"name": "x", "type": "space"}]
    path = _write(tmp_path, image={"axes": axes, "shape": (4, 6)})
    with pytest.raises(UnsupportedError, match="an axis called 'row'"):
        xr.open_datatree(path).ngff.to_array()


def test_a_plate_that_comes_from_no_store(tmp_path: Path) -> None:
    plate = xr.open_datatree(_write(tmp_path))
    plate.encoding.clear()
    assert len(plate.ngff.wells) == 4
    with pytest.raises(StoreError, match="open it again"):
        plate.ngff.to_array()


# ---- dask ----------------------------------------------------------------------------------------


def test_chunks_are_those_of_the_fields(tmp_path: Path) -> None:
    path = _write(tmp_path, image={**IMAGE, "chunks": (1, 10, 20)}, missing=["A/2"])
    plate = xr.open_datatree(path)
    array = plate.ngff.to_array(chunks={})
    assert array.chunks == ((1,) * 4, (1,) * 2, (1, 1), (10, 6), (20,))
    assert all(coordinate.chunks is None for coordinate in array.coords.values())
    loaded = plate.ngff.to_array().load()
    xr.testing.assert_identical(array.compute(), loaded)
    assert plate.ngff.to_array(chunks={"y": -1, "well": 3}).chunks[0] == (3, 1)
    assert plate.ngff.to_array(chunks={"y": -1, "well": 3}).chunks[3] == (16,)
    assert plate.ngff.to_array(chunks="auto").chunks == ((4,), (2,), (2,), (16,), (20,))
    assert plate.ngff.to_array(chunks={}, fields=1).chunks[1] == (1, 1)
    mean = array.groupby("row").mean()
    assert list(mean["row"].values) == ["A", "B"]
    xr.testing.assert_allclose(mean.compute(), loaded.groupby("row").mean())


def test_dask_reads_in_other_processes(tmp_path: Path) -> None:
    plate = xr.open_datatree(_write(tmp_path))
    array = plate.ngff.to_array(chunks={"c": -1})
    with dask.config.set(scheduler="processes", num_workers=2):
        mean = array.mean(["well", "field"]).compute()
    xr.testing.assert_allclose(mean, plate.ngff.to_array().mean(["well", "field"]))


# ---- large plates --------------------------------------------------------------------------------


def _large(path: Path, wells: int = 1536, **image: Any) -> Path:
    """Write a plate that lists many wells with nine fields, of which the first is there."""
    rows = [a + b for a in ("", *"ABCDEFGH") for b in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    rows = rows[: -(-wells // 48)]
    columns = [str(n) for n in range(1, 49)]
    listed = [f"{row}/{column}" for row in rows for column in columns][:wells]
    return write_plate(
        path / "p.ome.zarr",
        rows=rows,
        columns=columns,
        wells=listed,
        fields=9,
        missing=listed[1:],
        image={**IMAGE, **image},
    )


def _declare(array: Path, shape: Sequence[int], chunks: Sequence[int]) -> None:
    """Make an array say another size, of which nothing is there."""
    document = json.loads((array / "zarr.json").read_text())
    document["shape"] = list(shape)
    document["chunk_grid"]["configuration"]["chunk_shape"] = list(chunks)
    (array / "zarr.json").write_text(json.dumps(document))


def test_declared_sizes_cost_nothing(tmp_path: Path) -> None:
    path = _large(tmp_path, axes="zyx", shape=(2, 16, 20), levels=1)
    for field in range(9):
        _declare(path / f"A/1/{field}/0", (100_000, 100_000, 100_000), (64, 64, 64))
    plate = xr.open_datatree(path)
    array = plate.ngff.to_array()
    assert array.size == 1536 * 9 * 10**15
    assert "PB" in repr(array) or "EB" in repr(array)
    array._repr_html_()
    part = array.isel(well=[0, 700], y=slice(5, 9), x=7, z=99_999)
    np.testing.assert_array_equal(part, np.zeros((2, 9, 4)))
    for chunks in ({}, {"z": -1}, {"y": -1, "z": -1}, 64):
        with pytest.raises(SelectionError, match=r"tasks, more than 262144: give larger ones"):
            plate.ngff.to_array(chunks=chunks)
    whole = plate.ngff.to_array(chunks=-1)
    assert whole.data.npartitions == 1
    few = plate.ngff.to_array(wells=["A1"], fields=0, chunks={"z": 2000, "y": 2000, "x": 2000})
    assert few.data.npartitions == 125_000


def _memory(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _pace(function: Callable[[], Any]) -> float:
    """Return the shortest processor time of some runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.slow
def test_the_array_of_a_large_plate_is_made_faster_than_the_plate_opens(tmp_path: Path) -> None:
    path = _large(tmp_path)
    plate = xr.open_datatree(path)
    assert plate.ngff.to_array().shape == (1536, 9, 2, 16, 20)
    opening = _pace(lambda: xr.open_datatree(path))
    assert _pace(lambda: plate.ngff.to_array()) < opening
    assert _pace(lambda: plate.ngff.wells) < opening
    assert _memory(lambda: plate.ngff.to_array()) < 2**24
    assert _memory(lambda: plate.ngff.to_array(by="row")) < 2**24


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_memory_of_a_process_that_opens_a_large_plate(tmp_path: Path) -> None:
    path = _large(tmp_path, wells=10_000)  # beyond what becomes nodes, too
    # the peak of resource.getrusage would be that of this process, where it was larger
    code = f"""
import pathlib, re, xarray as xr
array = xr.open_datatree({str(path)!r}).ngff.to_array()
assert array.shape[:2] == (10000, 9), array.shape
assert array[0, 3].load().any()
status = pathlib.Path("/proc/self/status").read_text()
print(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(found.stdout) * 1024 < 300e6


def test_a_plate_of_no_known_well_is_looked_at_a_few_at_a_time(tmp_path: Path) -> None:
    path = _large(tmp_path, wells=100)
    shutil.move(path / "A/1", path / "A/7")
    with CountingServer(tmp_path) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
        server.clear()
        array = plate.ngff.to_array()
        # one well, eight more, and of these the seventh has a field
        assert server.count == 1 + 8 + 2
    assert array.sizes["well"] == 100


# ---- over HTTP -----------------------------------------------------------------------------------


def _counted(server: CountingServer, action: Callable[[], Any], trips: int) -> tuple[int, int]:
    """Return requests and the shortest chain of several runs; `action` makes what it reads anew."""
    depths = []
    for _ in range(10):
        action()
        depths.append(server.depth)
        if depths[-1] <= trips:
            break
    asked = [(request.path, request.range) for request in server.requests]
    assert len(set(asked)) == len(asked), "nothing is asked twice"
    return server.count, min(depths)


@pytest.mark.parametrize("wells", [4, 1536])
def test_making_the_array_reads_one_field(tmp_path: Path, wells: int) -> None:
    _large(tmp_path, wells)
    with CountingServer(tmp_path, LATENCY) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
        server.clear()
        array = plate.ngff.to_array(level=1)
        repr(array)
        array._repr_html_()
        part = array.isel(well=slice(1, 3), c=0)
        plate.ngff.to_array(level=1, chunks={}, wells=["A1", "A2"]).isel(x=3)
        below = [request.path.removeprefix("/p.ome.zarr/") for request in server.requests]
        assert below == ["A/1/zarr.json", "A/1/0/zarr.json", "A/1/0/1/zarr.json"] * 2
    assert part.shape == (2, 9, 8, 10)


@zarr_formats
def test_a_consolidated_plate_is_asked_for_pixels_only(tmp_path: Path, version: str) -> None:
    _write(tmp_path, version=version, consolidated=True)
    with CountingServer(tmp_path) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
        server.clear()
        array = plate.ngff.to_array()
        assert server.count == 0
        assert array.isel(well=1, c=0).load().any()
        assert server.count == 2


@zarr_formats
def test_one_well_reads_that_well_only(tmp_path: Path, version: str) -> None:
    _write(tmp_path, version=version)
    with CountingServer(tmp_path, LATENCY) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")

        def read() -> None:
            array = plate.ngff.to_array()
            server.clear()
            assert array.sel(well="B/1").load().any()

        # the well, two fields and their arrays, two chunks each; in three round trips
        assert _counted(server, read, 3) == (1 + 2 * 2 + 2 * 2, 3)
        assert all(request.path.startswith("/p.ome.zarr/B/1") for request in server.requests)
        array = plate.ngff.to_array()
        array.sel(well="B/1", c="0").load()
        server.clear()
        array.sel(well="B/1", c="1", field=0).load()  # what was found is not asked for again
        assert server.count == 1


def test_all_of_24_wells_with_2_fields_each(tmp_path: Path) -> None:
    _write(
        tmp_path,
        rows="ABCD",
        columns=[str(n) for n in range(1, 7)],
        image={**IMAGE, "chunks": (2, 16, 20)},
        missing=["C/3"],
    )
    with CountingServer(tmp_path, LATENCY) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")

        def read() -> None:
            array = plate.ngff.to_array()
            server.clear()
            array.load()

        # 24 wells; then 46 fields and arrays, then a chunk each
        assert _counted(server, read, 4) == (24 + 46 * 2 + 46, 4)
        assert 32 < server.max_concurrent <= 64
        server.clear()
        plate.ngff.missing_fields()
        assert server.count == 24 + 46
        server.clear()
        plate.ngff.to_array(uniform=False)
        first = 3
        assert server.count == first + 24 + 46 * 2


def test_the_many_chunks_of_a_few_fields_are_under_way_together(tmp_path: Path) -> None:
    _write(tmp_path, image={"axes": "yx", "shape": (64, 64), "chunks": (8, 8), "levels": 1})
    with CountingServer(tmp_path, LATENCY) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
        array = plate.ngff.to_array(fields=0)
        server.clear()
        array.load()
        assert 32 < server.max_concurrent <= 64
        assert server.count == 4 + 4 * 2 + 4 * 64


def test_what_cannot_be_reached_is_no_fill(tmp_path: Path, server: CountingServer) -> None:
    _write(tmp_path)
    for key in ("A/2/zarr.json", "B/1/1/zarr.json", "B/2/0/0/zarr.json", "B/2/1/0/c/0/0/0"):
        server.failures[f"/p.ome.zarr/{key}"] = 403
    plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
    array = plate.ngff.to_array()
    assert array.sel(well="A/1").load().any()
    for well, field in (("A/2", 0), ("B/1", 1), ("B/2", 0), ("B/2", 1)):
        with pytest.raises(StoreError, match=f"{well}.*403"):
            array.sel(well=well, field=field).load()
    server.failures.clear()  # it is tried again
    assert array.load().any(["c", "y", "x"]).all()


def test_dask_asks_for_every_chunk_once(tmp_path: Path, server: CountingServer) -> None:
    _write(tmp_path)
    plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
    array = plate.ngff.to_array(chunks={})
    server.clear()
    array.mean().compute()
    asked = [request.path for request in server.requests]
    assert len(asked) == len(set(asked)) == 4 + 8 * 2 + 16


def test_the_table_takes_part_in_what_pandas_does(tmp_path: Path) -> None:
    plate = xr.open_datatree(_write(tmp_path))
    means = plate.ngff.to_array(level=1).mean(["field", "c", "y", "x"]).to_series()
    joined = plate.ngff.wells.join(means.rename("mean"))
    assert isinstance(joined, pd.DataFrame)
    assert joined["mean"].notna().all()
    assert plate.ngff.plot(values=joined["mean"]).get_title() == "p"
