"""Pixel sizes that the user tells, where the store does not say them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ngff_xarray
from ngff_xarray.errors import NgffError, SelectionError, UnitError, UnsupportedError

SIZES = {"y": "0.5 µm", "x": "250 nm"}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    pixels = np.arange(2 * 40 * 60, dtype="u2").reshape(2, 40, 60)
    image = xr.DataArray(pixels, dims=("c", "y", "x"))
    image.ngff.to_zarr(tmp_path / "plain.ome.zarr", levels=2, chunks={"y": 16, "x": 16})
    tree = xr.open_datatree(tmp_path / "plain.ome.zarr")
    tree.ngff.add_labels("cells", (pixels[0] > 1000).astype("u1"))
    return tmp_path / "plain.ome.zarr"


def test_all_levels_and_labels_follow(plain: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(plain)
    assert any("unit" in issue.path for issue in tree.ngff.issues)
    sized = tree.ngff.with_pixel_size(SIZES)
    assert not any("unit" in issue.path for issue in sized.ngff.issues if not issue.group)
    sized.ngff.to_zarr(tmp_path / "sized.ome.zarr")
    for found in (sized, xr.open_datatree(tmp_path / "sized.ome.zarr")):
        assert found.ngff.units == {"y": "micrometer", "x": "micrometer"}
        for image in (found, found.ngff.labels["cells"]):
            for old, new in zip(tree.ngff.levels, image.ngff.levels, strict=True):
                np.testing.assert_allclose(new.y, old.y * 0.5)
                np.testing.assert_allclose(new.x, old.x * 0.25)
        assert np.array_equal(found.ngff.level(0), tree.ngff.level(0))
    assert tree.ngff.units == {"y": None, "x": None}


def test_sizes_are_told_where_they_are_wrong() -> None:
    cell = xr.open_datatree(ngff_xarray.sample("cell"))
    region = cell.ngff.crop(x=slice("10.7 µm", "30 µm"))
    sized = region.ngff.with_pixel_size(x="0.214 µm")
    assert sized.ngff.pixel_size["x"].magnitude == 0.214
    assert sized.ngff.pixel_size["y"].magnitude == 0.107
    np.testing.assert_allclose(sized["0"].x, region["0"].x * 2)
    assert sized["0/image"].ngff.with_pixel_size(x=3).ngff.units["x"] is None


def test_files_and_stores_take_them_alike(plain: Path, tmp_path: Path) -> None:
    for source in (plain, xr.open_datatree(plain), xr.open_datatree(plain)["0/image"]):
        opened = ngff_xarray.open_image(source, pixel_size=SIZES)
        assert {k: v.magnitude for k, v in opened.ngff.pixel_size.items()} == {"y": 0.5, "x": 0.25}
    ngff_xarray.convert(plain, tmp_path / "new.ome.zarr", pixel_size=SIZES)
    assert str(xr.open_datatree(tmp_path / "new.ome.zarr").ngff.pixel_size["x"]) == (
        "0.25 micrometer"
    )


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"z": 1}, SelectionError, "there is no axis 'z'; there are y, x"),
        ({"c": 1}, SelectionError, "there is no axis 'c'"),
        ({"x": 0}, SelectionError, "expected more than 0"),
        ({"x": "3 s"}, NgffError, "cannot convert 3.0 second to micrometer"),
        ({"x": "wide"}, NgffError, "'wide'"),
    ],
)
def test_what_is_no_size_is_refused(
    plain: Path, sizes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        xr.open_datatree(plain).ngff.with_pixel_size(sizes)


def test_whoever_lacks_units_is_told_how_to_give_them(plain: Path) -> None:
    tree = xr.open_datatree(plain)
    with pytest.raises(UnitError, match="with_pixel_size"):
        tree.ngff.sel(x=slice("1 µm", "5 µm"))
    with pytest.raises(UnitError, match=r"with_pixel_size.*to_zarr"):
        tree.ngff.with_pixel_size(SIZES).ngff.apply(lambda b: b > 0, channels="0", to="labels/a")


def test_what_would_not_be_right_is_refused(plain: Path, tmp_path: Path) -> None:
    array = xr.open_datatree(plain)["0/image"]
    with pytest.raises(SelectionError, match="not evenly spaced"):
        array.isel(x=[0, 1, 3]).ngff.with_pixel_size(x=2)
    linked = array.assign_attrs(ome={"coordinateTransformations": [{"type": "identity"}]})
    with pytest.raises(UnsupportedError, match="coordinate systems"):
        linked.ngff.with_pixel_size(x=2)
    for name in ("channel_names", "labels"):
        with pytest.raises(SelectionError, match=name):
            ngff_xarray.open_image(plain, **{name: ["a", "b"]})
    ngff_xarray.write_plate({"A1": array}, tmp_path / "plate.ome.zarr")
    with pytest.raises(SelectionError, match="found a plate"):
        ngff_xarray.open_image(tmp_path / "plate.ome.zarr", pixel_size=SIZES)
