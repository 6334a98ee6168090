"""Folders and patterns of files: planes put together, fields of plates, collections."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from PIL import Image

from ngff_xarray import convert, open_image
from ngff_xarray.errors import NgffError, NotOmeError, SelectionError, StoreError

RNG = np.random.default_rng(0)
CENTIMETER = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}


def write_planes(folder: Path, pixels: np.ndarray, names: list[str], form: str) -> None:
    """Write the planes of an array, each to the file whose name is made of its place."""
    folder.mkdir(parents=True, exist_ok=True)
    for at in np.ndindex(pixels.shape[:-2]):
        path = folder / form.format(**dict(zip(names, at, strict=True)))
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, pixels[at], compression="zlib", **CENTIMETER)


@pytest.fixture
def planes(tmp_path: Path) -> tuple[Path, np.ndarray]:
    pixels = RNG.integers(0, 999, (2, 12, 30, 40), dtype="uint16")
    write_planes(tmp_path / "scan", pixels, ["c", "z"], "img_w{c}_{z}.tif")
    return tmp_path / "scan", pixels


@pytest.mark.parametrize(
    "pattern",
    ["img_{c}_{z:d}.tif", "img_{c}_{z}.tif", r"img_(?P<c>\w+?)_(?P<z>\d+)\.tif", "*_{c}_{z}.tif"],
)
def test_planes_by_the_names_of_their_files(
    planes: tuple[Path, np.ndarray], pattern: str, tmp_path: Path
) -> None:
    folder, pixels = planes
    tree = open_image(folder, pattern=pattern, pixel_size={"z": "2 µm"})
    finest = tree.ngff.level(0)
    assert finest.dims == ("c", "z", "y", "x")
    assert finest.c.values.tolist() == ["w0", "w1"]
    np.testing.assert_array_equal(finest.values, pixels)
    np.testing.assert_array_equal(finest[1, ::-5, 20:2:-3, 7].values, pixels[1, ::-5, 20:2:-3, 7])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(finest))[0].values, pixels[0])
    assert str(tree.ngff.pixel_size["x"]) == "0.5 micrometer"
    assert tree.ngff.issues == ()
    said = convert(folder, tmp_path / "a.ome.zarr", pattern=pattern)
    assert said.reader == "folder" and said.images == ("",)
    again = xr.open_datatree(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(again.ngff.level(0).values, pixels)
    assert [each.name for each in again.ngff.channels] == ["w0", "w1"]


def test_the_pattern_may_be_the_source(planes: tuple[Path, np.ndarray]) -> None:
    folder, pixels = planes
    for source in (folder / "img_{c}_{z}.tif", str(folder / "img_{c}_{z:d}.tif")):
        np.testing.assert_array_equal(open_image(source).ngff.level(0).values, pixels)
    some = open_image(folder / "img_w1_*.tif", pattern="img_{c}_{z}.tif")
    np.testing.assert_array_equal(some.ngff.level(0).values, pixels[1:, ...])


def test_a_file_that_is_missing_is_told(planes: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, pixels = planes
    (folder / "img_w1_3.tif").unlink()
    (folder / "notes.txt").write_text("")
    with pytest.raises(StoreError, match="1 files missing of 24, the first at c w1, z 3"):
        convert(folder, tmp_path / "a.ome.zarr", pattern="img_{c}_{z}.tif")
    tree = open_image(folder, pattern="img_{c}_{z}.tif", missing="fill")
    assert not tree.ngff.level(0)[1, 3].values.any()
    np.testing.assert_array_equal(tree.ngff.level(0)[1, 4].values, pixels[1, 4])
    said = convert(folder, tmp_path / "a.ome.zarr", pattern="img_{c}_{z}.tif", missing="fill")
    assert said.dropped == ("1 files that are called otherwise",)


def test_a_file_of_another_size_or_that_is_broken_fails(
    planes: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, _ = planes
    tifffile.imwrite(folder / "img_w1_3.tif", np.zeros((30, 41), "uint16"))
    target = tmp_path / "a.ome.zarr"
    with pytest.raises(StoreError, match=r"img_w1_3.tif: is .*41"):
        convert(folder, target, pattern="img_{c}_{z}.tif")
    with pytest.raises(NgffError):
        xr.open_datatree(target, engine="ngff")
    tifffile.imwrite(folder / "img_w1_3.tif", np.zeros((30, 40), "uint16"))
    convert(folder, target, pattern="img_{c}_{z}.tif")  # what was begun is no hindrance
    assert xr.open_datatree(target).ngff.level(0).shape == (2, 12, 30, 40)


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("img_{c}.tif", "none of 24 files is called as the pattern says; one is 'img_w0_0.tif'|or"),
        ("img_{q}_{z}.tif", "'q' is unknown: expected names of t, c, z"),
        ("(?P<z>[", "no regular expression"),
        ("img_*.tif", "it names nothing"),
        ("img_w*_{z}.tif", "the pattern leaves out what they differ in"),
    ],
)
def test_patterns_that_do_not_fit(
    planes: tuple[Path, np.ndarray], pattern: str, match: str
) -> None:
    if pattern == "img_{c}.tif":
        pattern = "image_{c}.tif"
    with pytest.raises(SelectionError, match=match):
        open_image(planes[0], pattern=pattern)


def test_a_plate_of_files(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 999, (2, 3, 2, 2, 20, 30), dtype="uint16")
    for at in np.ndindex(pixels.shape[:4]):
        row, column, field, channel = at
        path = tmp_path / "plate" / f"{'BC'[row]}{column + 9:02d}_s{field}_w{channel}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, pixels[at])
    pattern = "{well}_s{field}_w{c}.tif"
    said = convert(tmp_path / "plate", tmp_path / "a.ome.zarr", pattern=pattern)
    assert len(said.images) == 12 and "plate of 12 images" in said.kept
    for tree in (
        open_image(tmp_path / "plate", pattern=pattern),
        xr.open_datatree(tmp_path / "a.ome.zarr", wells="all"),
    ):
        assert list(tree.ngff.wells.index) == ["B/9", "B/10", "B/11", "C/9", "C/10", "C/11"]
        field = tree.ngff.well("C/10").ngff.fields["1"]
        np.testing.assert_array_equal(field.ngff.level(0).values, pixels[1, 1, 1])


@pytest.mark.parametrize(
    ("pattern", "name", "well"),
    [
        ("*_{well}_s{field}_w{c}.tif", "screen_{r}{c:02d}_s{f}_w{w}.tif", "B/3"),
        (
            "r{row:02d}c{column:02d}f{field:02d}p{z:02d}-ch{c}*.tiff",
            "r{n:02d}c{c:02d}f{f:02d}p01-ch{w}sk1fk1fl1.tiff",
            "2/3",
        ),
        (
            "*_{well}_T{t:4d}F{field:3d}L*Z{z:2d}C{c:2d}.tif",
            "AssayPlate_{r}{c:02d}_T0001F{f:03d}L01A01Z01C{w:02d}.tif",
            "B/3",
        ),
        (
            r"(?P<row>[A-H]) - (?P<column>\d+)\(fld (?P<field>\d+) wv (?P<c>\w+)\)\.tif",
            "{r} - {c:02d}(fld {f} wv {w}).tif",  # InCell
            "B/3",
        ),
    ],
)
def test_names_of_screening_microscopes(pattern: str, name: str, well: str, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 999, (2, 3, 2, 2, 20, 30), dtype="uint16")
    for at in np.ndindex(pixels.shape[:4]):
        row, column, field, channel = at
        said = {"r": "AB"[row], "n": row + 1, "c": column + 1, "f": field + 1, "w": channel + 1}
        tifffile.imwrite(tmp_path / name.format(**said), pixels[at])
    convert(tmp_path, tmp_path / "a.ome.zarr", pattern=pattern)
    plate = xr.open_datatree(tmp_path / "a.ome.zarr", wells="all").ngff
    assert len(plate.wells) == 6
    assert list(plate.well(well).ngff.fields) == ["1", "2"]
    found = plate.well(well).ngff.fields["2"].ngff.level(0)
    np.testing.assert_array_equal(found.values.squeeze(), pixels[1, 2, 1])
    again = open_image(tmp_path, pattern=pattern)  # and the store beside the files is none of them
    assert len(again.ngff.wells) == 6


def test_series_are_a_collection(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 999, (3, 4, 20, 30), dtype="uint16")
    write_planes(tmp_path / "days", pixels, ["day", "t"], "day {day}/{t:02d}.tif")
    tree = open_image(tmp_path / "days", pattern="{series}/{t:02d}.tif")
    assert list(tree.ngff.images) == ["day_0", "day_1", "day_2"]
    np.testing.assert_array_equal(tree.ngff.images["day_2"].ngff.level(0).values, pixels[2])
    one = open_image(tmp_path / "days", pattern="{series}/{t:02d}.tif", series="day_1")
    np.testing.assert_array_equal(one.ngff.level(0).values, pixels[1])


def test_stacks_are_put_together(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 999, (3, 5, 20, 30), dtype="uint16")
    for t in range(3):
        meta = {"axes": "ZYX", "PhysicalSizeZ": 2, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tifffile.imwrite(tmp_path / f"t{t}.ome.tif", pixels[t], metadata=meta)
    tree = open_image(tmp_path / "t{t}.ome.tif", pixel_size={"t": "3 s"})
    np.testing.assert_array_equal(tree.ngff.level(0).values, pixels)
    assert tree.ngff.issues == ()
    with pytest.raises(SelectionError, match="has an axis z of its own"):
        open_image(tmp_path / "t{z}.ome.tif")


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "1", "P", "RGBA"])
def test_pictures(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        picture = Image.fromarray(RNG.integers(0, 60_000, (20, 30), dtype="uint16"))
    else:
        picture = Image.fromarray(RNG.integers(0, 255, (20, 30, 3), dtype="uint8")).convert(mode)
    picture.save(path)
    found = open_image(path).ngff.level(0)
    with Image.open(path) as again:
        expected = np.asarray(again.convert("RGB") if mode == "P" else again)
    expected = np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(found[..., 3:9, ::-2].values, expected[..., 3:9, ::-2])
    convert(path, tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(
        xr.open_datatree(tmp_path / "a.ome.zarr").ngff.level(0).values, expected
    )


def test_planes_of_png(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (11, 20, 30), dtype="uint8")
    for z, plane in enumerate(pixels):
        Image.fromarray(plane).save(tmp_path / f"z{z}.png", dpi=(72, 72))
    tree = open_image(tmp_path / "z{z}.png")
    np.testing.assert_array_equal(tree.ngff.level(0).values, pixels)
    assert {issue.path for issue in tree.ngff.issues} == {"dpi", "pixel size"}


def test_a_folder_without_a_pattern_is_a_collection(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    arrays = {f"img{i}": RNG.integers(0, 255, (20 + i, 30), dtype="uint8") for i in (1, 2, 10)}
    for name, each in arrays.items():
        tifffile.imwrite(folder / f"{name}.tif", each)
    (folder / "notes.txt").write_text("")
    (folder / ".hidden.tif").write_text("")
    said = convert(folder, tmp_path / "a.ome.zarr")
    assert said.images == ("img1", "img2", "img10")
    assert said.dropped == ("notes.txt: no reader claims it",)
    for path, each in xr.open_datatree(tmp_path / "a.ome.zarr").ngff.images.items():
        np.testing.assert_array_equal(each.ngff.level(0).values, arrays[path])
    (folder / "img3.tif").write_bytes(b"II*\0")
    with pytest.raises(NgffError, match="img3"):
        open_image(folder)
    found = open_image(folder, missing="fill")
    assert list(found.ngff.images) == ["img1", "img2", "img10"]


def test_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(NotOmeError, match="folder: holds 1 files, none of which"):
        open_image(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such files"):
        open_image(tmp_path / "*.tif")


def test_files_of_one_image_are_one_image(tmp_path: Path) -> None:
    from test_convert_tiff import write_files

    folder = tmp_path / "times"
    folder.mkdir()
    arrays = RNG.integers(0, 255, (3, 2, 20, 30)).astype("uint16")
    write_files(folder, arrays)
    tree: Any = open_image(folder)
    assert list(tree.ngff.images) == ["t0"]
    np.testing.assert_array_equal(tree.ngff.images["t0"].ngff.level(0).values, arrays)


def test_doctests_of_names_hold_for_regular_expressions() -> None:
    from ngff_xarray.converting.naming import pattern_of

    assert pattern_of("a.{t:3d}").fullmatch("a.012")
    assert not pattern_of("a.{t:3d}").fullmatch("ax012")
    assert re.compile(pattern_of("{c}_{z:d}").pattern)
