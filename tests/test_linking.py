"""An image that is given one more coordinate system: what leads there, written and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from test_world import level, random, system, tree

import ngff_xarray
from ngff_xarray.errors import NotOmeError, TransformationError, UnitError, UnsupportedError

MATRIX = [[0.8, -0.6, 3.0], [0.6, 0.8, -4.0]]  # of y and x


def image(**ome: Any) -> xr.DataTree:
    """An image of two channels with two levels, as 0.5 knows it: it names no system."""
    offset = {"y": 10.0, "x": 20.0}
    finest = level(random(2, 12, 16), "cyx", {"y": 0.5, "x": 0.5}, offset)
    coarse = level(random(2, 6, 8), "cyx", {"y": 1, "x": 1}, {"y": 10.25, "x": 20.25})
    return tree([finest, coarse], **ome)


def homogeneous(matrix: Any) -> np.ndarray:
    return np.vstack([matrix, np.eye(len(matrix) + 1)[-1]])


@pytest.mark.parametrize("matrix", [MATRIX, homogeneous(MATRIX)], ids=["offsets", "homogeneous"])
def test_a_matrix_of_the_axes_of_space(matrix: Any) -> None:
    placed = image().ngff.with_system("atlas", matrix)
    assert list(placed.ngff.coordinate_systems) == ["intrinsic", "atlas"]
    found = placed.ngff.transform([[1, 11, 22]], to="atlas")
    np.testing.assert_allclose(found, [[1, *(np.array(MATRIX) @ [11, 22, 1])]])
    assert placed["0/image"].identical(placed.ngff.level(0))  # its levels know it, too
    one = placed["1/image"].ngff.to_system("atlas")
    corner = np.array(MATRIX) @ [10.25, 20.25, 1]
    np.testing.assert_allclose([one["y"].values[0, 0], one["x"].values[0, 0]], corner)


def test_a_matrix_in_the_order_of_other_libraries() -> None:
    transform = pytest.importorskip("skimage.transform")
    found = transform.EuclideanTransform(rotation=0.3, translation=(5, 7))  # of x and y
    placed = image().ngff.with_system("atlas", found.params, axes="xy")
    ((_, y, x),) = placed.ngff.transform([[0, 11, 22]], to="atlas")
    np.testing.assert_allclose([[x, y]], found([[22, 11]]))


def test_a_matrix_without_offsets_and_of_one_axis() -> None:
    placed = image().ngff.with_system("atlas", [[2]], axes=["x"])
    found = placed.ngff.transform([[0, 11, 22]], to="atlas")
    np.testing.assert_array_equal(found, [[0, 11, 44]])
    assert placed.ngff.to_system("atlas").ngff.pixel_size["x"].magnitude == 1


def test_a_shift_and_nothing_at_all() -> None:
    placed = image().ngff.with_system("stage", {"x": "2 mm", "y": -1}).ngff.with_system("same")
    assert placed.ngff.to_system("stage")["0/x"].values[0] == 2020
    assert placed.ngff.to_system("stage")["0/y"].values[0] == 9
    np.testing.assert_array_equal(placed.ngff.to_system("same")["0/x"], placed["0/x"])
    kinds = [link["type"] for link in placed.attrs["ome"]["coordinateTransformations"]]
    assert kinds == ["translation", "identity"]


@pytest.mark.parametrize("part", ["tree", "dataset", "array", "crop", "channel"])
def test_written_and_read_back(part: str, tmp_path: Path) -> None:
    whole = image(name="cells")
    array = whole["0/image"]
    parts = {
        "tree": whole,
        "dataset": whole["0"].to_dataset(),
        "array": array,
        "crop": whole.ngff.sel(x=slice(22, 26)),
        "channel": array.isel(c=1, drop=True),
    }
    placed = parts[part].ngff.with_system("atlas", MATRIX)
    placed.ngff.to_zarr(tmp_path / "a.ome.zarr", version="0.6")
    found = xr.open_datatree(tmp_path / "a.ome.zarr")
    assert not ngff_xarray.validate(tmp_path / "a.ome.zarr").issues
    assert list(found.ngff.coordinate_systems) == ["intrinsic", "atlas"]
    point = {"y": 11, "x": 22, **({} if part == "channel" else {"c": 0})}
    expected = np.array(MATRIX) @ [11, 22, 1]
    np.testing.assert_array_equal(found.ngff.transform(point, to="atlas")[-2:], expected)


def test_what_it_had_stays(tmp_path: Path) -> None:
    source = image(name="cells", extra={"ome": {"ours": 1}})
    before = source.copy()
    placed = source.ngff.with_system("atlas", MATRIX)
    assert source.identical(before)
    assert placed.attrs["ome"]["name"] == "cells"
    assert placed.attrs["ome"]["extra"] == {"ome": {"ours": 1}}
    with pytest.raises(UnsupportedError, match=r"cannot say .*'atlas': write version 0\.6"):
        placed.ngff.to_zarr(tmp_path / "a.ome.zarr", version="0.5")


def test_label_images_come_along() -> None:
    cell = xr.open_datatree(ngff_xarray.sample("cell"))
    there = cell.ngff.with_system("stage", {"y": 100}).ngff.to_system("stage")
    labels = there.ngff.labels["cell"].ngff.level(0)
    np.testing.assert_array_equal(labels["y"], there.ngff.level(0)["y"])
    assert there.ngff.level(0)["y"].values[0] == 100


def test_systems_that_are_there_are_built_on() -> None:
    known = [system("physical", "cyx"), system("world", "cyx")]
    ends = {"input": {"name": "physical"}, "output": {"name": "world"}}
    links = [{"type": "translation", "translation": [0, 0, 5], **ends}]
    placed = image(intrinsic="physical", coordinateSystems=known, coordinateTransformations=links)
    placed = placed.ngff.with_system("stage", {"x": 1})
    assert list(placed.ngff.coordinate_systems) == ["physical", "world", "stage"]
    found = placed.ngff.transform([[0, 0, 0]], from_="world", to="stage")
    np.testing.assert_array_equal(found, [[0, 0, -4]])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([[1, 2]], r"axes y, x: of shape \(2, 3\), \(3, 3\) or \(2, 2\), found \(1, 2\)"),
        ([["a"]], "a matrix of numbers"),
        ([[1, 0, np.nan], [0, 1, 0]], "finite"),
        ([[1, 0, 0], [0, 1, 0], [0.5, 0, 1]], "a projection is no affine"),
        ([[1, 1], [1, 1]], "has no inverse"),
        ({"z": 1}, r"axes of 'intrinsic' \(c, y, x\), found z"),
    ],
)
def test_what_does_not_fit(said: Any, message: str) -> None:
    with pytest.raises(TransformationError, match=message):
        image().ngff.with_system("atlas", said)


def test_axes_units_and_names_that_do_not_fit() -> None:
    source = image()
    for axes in ("xx", "xz", ""):
        with pytest.raises(TransformationError, match=r"expected (axes of|a matrix of)"):
            source.ngff.with_system("atlas", MATRIX, axes=axes)
    with pytest.raises(UnitError, match="second"):
        source.ngff.with_system("atlas", {"x": "3 s"})
    for name in ("intrinsic", "0"):
        with pytest.raises(TransformationError, match=f"there is '{name}' already: give another"):
            source.ngff.with_system(name)
    for nothing in ("", None):
        with pytest.raises(TransformationError, match="expected the name"):
            source.ngff.with_system(nothing)


def test_what_is_no_image_in_its_own_system() -> None:
    placed = image().ngff.with_system("atlas", MATRIX)
    with pytest.raises(TransformationError, match=r"take it back first, to_system\('intrinsic'\)"):
        placed.ngff.to_system("atlas").ngff.with_system("more")
    plate = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"ome": {"plate": {"wells": []}}})})
    with pytest.raises(NotOmeError, match="this is a plate"):
        ngff_xarray.world.with_system(plate, "atlas")
