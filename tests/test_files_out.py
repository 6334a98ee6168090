"""Images as files of other formats, read back by those who know these formats, and by us."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import OMERO
from stores import write_image, write_plate
from test_convert_bioformats import here

import ngff_xarray
from ngff_xarray.errors import NotOmeError, StoreError, UnsupportedError
from ngff_xarray.export import files

RNG = np.random.default_rng(0)
AXES = ("t", "c", "z", "y", "x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    data = RNG.integers(0, 2**16, (2, 2, 3, 70, 90)).astype("u2")
    return write_image(
        tmp_path / "a.ome.zarr",
        axes="tczyx",
        data=data,
        levels=1,
        scale=(30, 1, 2, 0.5, 0.25),
        translation=(0, 0, 4, 1, 3),
        chunks=(1, 1, 2, 32, 32),
        omero=OMERO,
    )


def pyramid(path: Path, **factors: int) -> xr.DataTree:
    tree: xr.DataTree = (
        xr.open_datatree(path)
        .ngff.level(0)
        .ngff.pyramid(scale_factors=[factors or {"y": 2, "x": 2}] * 2)
    )
    return tree


# ---- OME-TIFF ----------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["zlib", None])
@pytest.mark.parametrize("most", [files.BLOCK, 5000], ids=["at once", "in parts"])
def test_ome_tiff_holds_all_levels(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: Any, most: int
) -> None:
    monkeypatch.setattr(files.parts, "__defaults__", (None, most))
    tree = pyramid(path)
    target = tmp_path / "a.ome.tif"
    tree.ngff.to_ome_tiff(target, tile=32, compression=compression)
    with tifffile.TiffFile(target) as file:
        assert file.is_ome
        assert file.is_bigtiff
        (series,) = file.series
        assert series.axes == "TCZYX"
        assert len(series.levels) == 3
        for found, wanted in zip(series.levels, tree.ngff.levels, strict=True):
            np.testing.assert_array_equal(found.asarray(), wanted.values)
        assert file.pages[0].tile == (32, 32)
        assert len(file.pages[0].subifds) == 2
    assert [each.name for each in tmp_path.iterdir() if "partial" in each.name] == []


def test_ome_tiff_says_sizes_names_and_colours(path: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(path)
    target = tmp_path / "a.ome.tif"
    tree.ngff.to_ome_tiff(target)
    with tifffile.TiffFile(target) as file:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    said = image["Pixels"]
    assert image["Name"] == "a"
    assert [said[f"PhysicalSize{axis}"] for axis in "XYZ"] == [0.25, 0.5, 2.0]
    assert {said[f"PhysicalSize{axis}Unit"] for axis in "XYZ"} == {"µm"}
    assert (said["TimeIncrement"], said["TimeIncrementUnit"]) == (30.0, "s")
    assert [(each["Name"], each["Color"]) for each in said["Channel"]] == [
        ("DAPI", 0x0000FFFF),
        ("GFP", 0x00FF00FF),
    ]
    again = ngff_xarray.open_image(target).ngff
    assert again.pixel_size == tree.ngff.pixel_size
    colors = [(each.name, each.color) for each in again.channels]
    assert colors == [(each.name, each.color) for each in tree.ngff.channels]
    np.testing.assert_array_equal(again.level(0).values, tree.ngff.level(0).values)


@here
def test_bio_formats_reads_ome_tiff(path: Path, tmp_path: Path) -> None:
    tree = pyramid(path)
    tree.ngff.to_ome_tiff(tmp_path / "a.ome.tif", tile=32)
    found = ngff_xarray.open_image(tmp_path / "a.ome.tif", reader="bioformats")
    np.testing.assert_array_equal(
        found.ngff.level(0).transpose(*AXES).values, tree.ngff.level(0).values
    )
    sizes = {axis: str(size) for axis, size in found.ngff.pixel_size.items()}
    assert sizes == {axis: str(size) for axis, size in tree.ngff.pixel_size.items()}
    assert [(each.name, each.color) for each in found.ngff.channels] == [
        (each.name, each.color) for each in tree.ngff.channels
    ]


def test_levels_that_are_smaller_in_z_are_made_anew(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ngff_xarray.export.ome_tiff._ENOUGH", 40)
    tree = pyramid(path, z=2, y=2, x=2)
    tree.ngff.to_ome_tiff(tmp_path / "a.ome.tif", tile=32)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        found = [level.asarray() for level in file.series[0].levels]
    for each, wanted in zip(found, pyramid(path).ngff.levels, strict=True):
        np.testing.assert_array_equal(each, wanted.values)


def test_axes_are_put_in_order_and_labels_are_written(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 99, (40, 2, 50)).astype("u4")
    array = xr.DataArray(pixels, dims=("y", "c", "x"), name="labels")
    array.ngff.to_ome_tiff(tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.series[0].axes == "CYX"
        np.testing.assert_array_equal(file.asarray(), pixels.transpose(1, 0, 2))
        assert "PhysicalSize" not in file.ome_metadata
    (array[:, 0] > 50).ngff.to_ome_tiff(tmp_path / "b.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.ome.tif"), pixels[:, 0] > 50)


def test_what_no_file_can_hold(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.ome.tif"
    array = xr.DataArray(np.zeros((4, 4), "i8"), dims=("y", "x"))
    with pytest.raises(UnsupportedError, match="its pixels are int64, which OME-TIFF has not"):
        array.ngff.to_ome_tiff(target)
    odd = xr.DataArray(np.zeros((2, 4, 4), "u1"), dims=("angle", "y", "x"))
    with pytest.raises(UnsupportedError, match="its axes are angle, y, x; OME-TIFF has"):
        odd.ngff.to_ome_tiff(target)
    with pytest.raises(UnsupportedError, match="its axes are angle, y, x; NIfTI has"):
        odd.ngff.to_nifti(tmp_path / "a.nii")
    with pytest.raises(UnsupportedError, match=r"called \.nii or \.nii\.gz: found 'a\.img'"):
        array.ngff.to_nifti(tmp_path / "a.img")
    plate = xr.open_datatree(write_plate(tmp_path / "p.ome.zarr"))
    with pytest.raises(NotOmeError, match="this is a plate"):
        plate.ngff.to_ome_tiff(target)
    assert not [each for each in tmp_path.iterdir() if each.is_file()]


@pytest.mark.parametrize("name", ["a.ome.tif", "a.nii", "a.npy"])
def test_a_file_stays_until_the_new_one_is_whole(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    target = tmp_path / name
    target.write_bytes(b"old")
    tree = xr.open_datatree(path)
    write = {"tif": "to_ome_tiff", "nii": "to_nifti", "npy": "to_numpy"}[name.rpartition(".")[2]]
    with pytest.raises(StoreError, match="is there already: give overwrite=True"):
        getattr(tree.ngff, write)(target)
    monkeypatch.setattr(files.parts, "__defaults__", (None, 5000))
    chunk = path / "0/c/1/1/0/0/0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:10])
    with pytest.raises(Exception, match="cannot"):
        getattr(tree.ngff, write)(target, overwrite=True)
    assert target.read_bytes() == b"old"
    chunk.write_bytes(content)
    getattr(tree.ngff, write)(target, overwrite=True)
    found = ngff_xarray.open_image(target, **({"axes": "tczyx"} if write == "to_numpy" else {}))
    np.testing.assert_array_equal(
        found.ngff.level(0).transpose(*AXES).values, tree.ngff.level(0).values
    )
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == [name]


@pytest.mark.parametrize("name", ["a.ome.tif", "a.nii.gz", "a.npy"])
def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    data = np.zeros((40, 512, 512), "u2")
    path = write_image(
        tmp_path / "a.ome.zarr", axes="zyx", data=data, levels=1, chunks=(4, 128, 128)
    )
    nbytes = data.nbytes
    del data
    tree = xr.open_datatree(path)
    monkeypatch.setattr(files.parts, "__defaults__", (None, 2**20))
    write = {"tif": "to_ome_tiff", "gz": "to_nifti", "npy": "to_numpy"}[name.rpartition(".")[2]]
    getattr(tree.ngff, write)(tmp_path / f"first.{name}")  # imports
    tracemalloc.start()
    getattr(tree.ngff, write)(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < nbytes / 2


# ---- NIfTI and NumPy ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_has_its_affine_from_coordinates(path: Path, tmp_path: Path, name: str) -> None:
    tree = xr.open_datatree(path)
    tree.ngff.to_nifti(tmp_path / name)
    found: Any = nibabel.load(tmp_path / name)
    finest = tree.ngff.level(0)
    assert found.shape == (*finest.shape[:1:-1], 2, 2)
    np.testing.assert_array_equal(
        np.asarray(found.dataobj), finest.transpose("x", "y", "z", "t", "c").values
    )
    steps = np.diag([0.25, 0.5, 2, 1])
    steps[:3, 3] = [float(finest[axis][0]) for axis in "xyz"]
    np.testing.assert_allclose(found.affine, steps)
    assert found.header.get_xyzt_units() == ("micron", "sec")
    assert found.header.get_zooms()[3] == 30
    again = ngff_xarray.open_image(tmp_path / name).ngff
    np.testing.assert_array_equal(again.level(0).transpose(*AXES).values, finest.values)
    for axis in "tzyx":
        assert again.pixel_size[axis] == tree.ngff.pixel_size[axis]


def test_nifti_of_a_channel_of_two_dimensions_and_of_other_units(tmp_path: Path) -> None:
    x = xr.Variable("x", [100.0, 150.0, 200.0], {"units": "nanometer"})
    y = xr.Variable("y", [0.0, 1.0], {"units": "millimeter"})
    array = xr.DataArray(
        np.arange(6, dtype="f4").reshape(1, 2, 3), dims=("c", "y", "x"), coords={"x": x, "y": y}
    )
    array.ngff.to_nifti(tmp_path / "a.nii")
    found: Any = nibabel.load(tmp_path / "a.nii")
    assert found.shape == (3, 2)
    assert found.header.get_xyzt_units() == ("micron", "unknown")
    np.testing.assert_array_equal(np.asarray(found.dataobj), array[0].values.T)
    np.testing.assert_allclose(np.diag(found.affine), [0.05, 1000, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(found.affine[:2, 3], [0.1, 0], rtol=1e-6)
    long = xr.DataArray(np.zeros((2, 40_000), "u1"), dims=("y", "x"))
    long.ngff.to_nifti(tmp_path / "b.nii")
    assert isinstance(nibabel.load(tmp_path / "b.nii"), nibabel.Nifti2Image)
    assert nibabel.load(tmp_path / "b.nii").shape == (40_000, 2)


def test_a_turned_image_keeps_its_affine(tmp_path: Path) -> None:
    cos, sin = np.cos(0.5), np.sin(0.5)
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) * [2, 3, 4]
    affine = np.vstack([np.column_stack([turned, [5, 7, -9]]), [0, 0, 0, 1]])
    pixels = RNG.integers(0, 99, (5, 6, 7)).astype("i2")
    image = nibabel.Nifti1Image(pixels, affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(tmp_path / "a.nii")
    tree = ngff_xarray.open_image(tmp_path / "a.nii")
    tree.ngff.to_system("scanner").ngff.to_nifti(tmp_path / "b.nii")
    found: Any = nibabel.load(tmp_path / "b.nii")
    np.testing.assert_allclose(found.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(found.dataobj), pixels)
    assert found.header.get_xyzt_units()[0] == "mm"


def test_numpy(path: Path, tmp_path: Path) -> None:
    tree = pyramid(path)
    for level in (0, 1):
        tree.ngff.to_numpy(tmp_path / f"{level}.npy", level=level)
        found = np.load(tmp_path / f"{level}.npy")
        np.testing.assert_array_equal(found, tree.ngff.level(level).values)
        assert found.dtype == np.dtype("u2")
