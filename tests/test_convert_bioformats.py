"""Formats that only Bio-Formats reads, by its tools as processes of their own."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from stores.lif import write_lif
from test_convert_tiff import OME, write_companion, write_lsm, write_slide

from ngff_xarray import convert, open_image
from ngff_xarray.converting import bioformats
from ngff_xarray.converting.bioformats import NoBioFormatsError
from ngff_xarray.errors import NotOmeError, StoreError

RNG = np.random.default_rng(0)
SMOOTH = np.ones((32, 32, 1), "uint8")


def _is_here() -> bool:
    try:
        bioformats.jar()
    except NoBioFormatsError:
        return False
    return shutil.which("java") is not None


here = pytest.mark.skipif(
    not _is_here(), reason="needs java and the jar of Bio-Formats, which NGFF_BIOFORMATS names"
)


def write_ics(path: Path, pixels: np.ndarray) -> None:
    """Write an image as the Image Cytometry Standard has it: t, c, z, y, x in two files."""
    sizes = " ".join(str(size) for size in pixels.shape[::-1])
    lines = [
        "\t",
        "ics_version\t1.0",
        f"filename\t{path.stem}",
        "layout\tparameters\t6",
        "layout\torder\tbits x y z ch t",
        f"layout\tsizes\t16 {sizes}",
        "layout\tcoordinates\tvideo",
        "layout\tsignificant_bits\t16",
        "representation\tformat\tinteger",
        "representation\tsign\tunsigned",
        "representation\tcompression\tuncompressed",
        "representation\tbyte_order\t1 2",
        "parameter\torigin\t0 0 0 0 0 0",
        "parameter\tscale\t1 0.25 0.25 1.5 1 3",
        "parameter\tunits\tbits micrometers micrometers micrometers undefined ms",
    ]
    path.write_text("\n".join(lines) + "\n")
    path.with_suffix(".ids").write_bytes(pixels.astype("<u2").tobytes())


@here
def test_an_image_that_only_bio_formats_reads(tmp_path: Path) -> None:
    written = RNG.integers(0, 999, (3, 2, 4, 30, 40), dtype="uint16")
    write_ics(tmp_path / "cells.ics", written)
    tree = open_image(tmp_path / "cells.ics")
    finest = tree.ngff.level(0)
    assert finest.dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(finest.values, written)
    np.testing.assert_array_equal(finest[1, :, ::-2, 3, 5:9].values, written[1, :, ::-2, 3, 5:9])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(finest))[2].values, written[2])
    assert {axis: str(size) for axis, size in tree.ngff.pixel_size.items()} == {
        "t": "3.0 millisecond",
        "z": "1.5 micrometer",
        "y": "0.25 micrometer",
        "x": "0.25 micrometer",
    }
    said = convert(tmp_path / "cells.ics", tmp_path / "a.ome.zarr")
    assert (said.reader, said.format) == (
        "bioformats",
        "Image Cytometry Standard, by Bio-Formats",
    )
    again = xr.open_datatree(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(again.ngff.level(0).values, written)
    assert "SizeT" in again.attrs["original_metadata"]["text"]


@here
def test_lif(tmp_path: Path) -> None:
    arrays = {
        "cells": RNG.integers(0, 60_000, (2, 3, 2, 40, 48), dtype="uint16"),
        "overview": RNG.integers(0, 255, (1, 1, 1, 20, 32), dtype="uint8"),
    }
    path = write_lif(tmp_path / "a.lif", arrays, (2.0, 0.25, 0.5))
    said = convert(path, tmp_path / "a.ome.zarr", reader="bioformats")
    assert said.format == "Leica Image File Format, by Bio-Formats"
    images = xr.open_datatree(tmp_path / "a.ome.zarr").ngff.images
    for tree, written in zip(images.values(), arrays.values(), strict=True):
        finest = tree.ngff.level(0)
        order = [axis for axis in "tzcyx" if axis in finest.dims]
        np.testing.assert_array_equal(finest.transpose(*order).values.squeeze(), written.squeeze())
    sizes = {axis: str(size) for axis, size in images["0"].ngff.pixel_size.items()}
    assert (sizes["z"], sizes["y"], sizes["x"]) == (
        "2.0 micrometer",
        "0.25 micrometer",
        "0.5 micrometer",
    )


def fake(folder: Path, **what: Any) -> Path:
    """Return a file that Bio-Formats reads as an image that it makes up, as its name says."""
    path = folder / ("a&" + "&".join(f"{key}={value}" for key, value in what.items()) + ".fake")
    path.touch()
    return path


@here
def test_series_colours_and_levels(tmp_path: Path) -> None:
    path = fake(tmp_path, sizeX=64, sizeY=48, sizeC=3, rgb=3, series=2, resolutions=2)
    tree = open_image(path)
    assert tree.ngff.kind == "collection"
    assert [each.ngff.level(0).shape for each in tree.ngff.images.values()] == [(3, 48, 64)] * 2
    said = convert(path, tmp_path / "a.ome.zarr", series=1)
    assert said.dropped == ("1 smaller levels (they are made anew)",)
    found = xr.open_datatree(tmp_path / "a.ome.zarr").ngff
    assert [each.name for each in found.channels] == ["red", "green", "blue"]
    # the number of the series is in the first pixels, as that of the channel
    assert found.level(0)[:, 0, 0].values.tolist() == found.level(0)[:, 0, 5].values.tolist()


@here
def test_plates(tmp_path: Path) -> None:
    path = fake(
        tmp_path, sizeX=24, sizeY=20, plates=1, plateRows=2, plateCols=3, fields=2, plateAcqs=1
    )
    tree = open_image(path)
    assert tree.ngff.kind == "plate"
    assert list(tree.ngff.wells.index) == ["A/1", "A/2", "A/3", "B/1", "B/2", "B/3"]
    assert tree.ngff.well("B/3").ngff.fields["1"].ngff.level(0).shape[-2:] == (20, 24)


@here
def test_companion_files_are_what_bio_formats_reads(tmp_path: Path) -> None:
    path = write_companion(tmp_path, RNG.integers(0, 999, (3, 2, 40, 50), dtype="uint16"))
    ours, theirs = (open_image(path, reader=name).ngff for name in ("companion", "bioformats"))
    np.testing.assert_array_equal(ours.level(0).values, theirs.level(0).values)
    assert ours.pixel_size == theirs.pixel_size


@here
def test_what_bio_formats_does_not_know_or_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no image")
    with pytest.raises(NotOmeError, match="bioformats: Bio-Formats does not know its format"):
        open_image(path)
    write_ics(tmp_path / "cells.ics", np.zeros((1, 1, 1, 30, 40)))
    (tmp_path / "cells.ids").unlink()
    with pytest.raises(StoreError, match="Bio-Formats cannot read it"):
        convert(tmp_path / "cells.ics", tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr").exists()


def test_without_bio_formats_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cells.oir"
    path.write_text("")
    monkeypatch.setenv("NGFF_BIOFORMATS", str(tmp_path / "nothing.jar"))
    with pytest.raises(NotOmeError, match="let NGFF_BIOFORMATS be the path"):
        open_image(path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotOmeError, match="there is no Java"):
        open_image(path)


@here
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ome.tif", "tif", "svs", "lsm"])
def test_files_of_tiff_are_what_bio_formats_reads(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    pixels = RNG.integers(0, 200, (2, 3, 2, 64, 80), dtype="uint16")
    if kind == "svs":
        write_slide(path, np.kron(pixels[0, :, 0, :16, :20].T.astype("uint8"), SMOOTH))
    elif kind == "lsm":
        write_lsm(path, pixels.swapaxes(1, 2).astype("uint8"))
    elif kind == "tif":
        meta = {"axes": "TZCYX", "spacing": 2.0, "unit": "um", "finterval": 0.5}
        tifffile.imwrite(path, pixels, imagej=True, resolution=(2, 2), metadata=meta)
    else:
        tifffile.imwrite(path, pixels, compression="zlib", tile=(32, 32), metadata=OME)
    mine, other = open_image(path), open_image(path, reader="bioformats")
    if kind == "svs":
        other = other.ngff.images["0"]
    assert mine.ngff.level(0).dims == other.ngff.level(0).dims
    difference = mine.ngff.level(0).values.astype(int) - other.ngff.level(0).values
    assert np.abs(difference).max() <= (2 if kind == "svs" else 0)  # decoders of JPEG round
    known = "zyx" if kind == "lsm" else "tzyx"  # its time stamps are elsewhere in the file
    sizes = [
        {axis: f"{size:.6g}" for axis, size in tree.ngff.pixel_size.items() if axis in known}
        for tree in (mine, other)
    ]
    assert sizes[0] == sizes[1]
    if kind == "ome.tif":
        assert mine.ngff.channels == other.ngff.channels
        assert mine.ngff.name == other.ngff.name
