"""Formats that bioio's plugins read, where they are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from stores.lif import write_lif

from ngff_xarray import convert, open_image
from ngff_xarray.errors import MissingDependencyError, NotOmeError

RNG = np.random.default_rng(0)


def write_czi(path: Path, pixels: np.ndarray) -> None:
    """Write an image of t, c, z, y, x with Zeiss's own library."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(path)) as document:
        for t, c, z in np.ndindex(pixels.shape[:3]):
            plane = {"T": t, "C": c, "Z": z}
            document.write(data=pixels[t, c, z][..., None], plane=plane)
        document.write_metadata(
            document_name="cells",
            channel_names={0: "DAPI", 1: "GFP"},
            scale_x=0.2e-6,
            scale_y=0.2e-6,
            scale_z=1e-6,
        )


def test_czi(tmp_path: Path) -> None:
    pytest.importorskip("bioio_czi")
    written = RNG.integers(0, 999, (2, 2, 3, 60, 80), dtype="uint16")
    write_czi(tmp_path / "cells.czi", written)
    tree = open_image(tmp_path / "cells.czi")
    np.testing.assert_array_equal(tree.ngff.level(0).values, written)
    said = convert(tmp_path / "cells.czi", tmp_path / "a.ome.zarr")
    assert said.reader == "bioio" and "channels: DAPI, GFP" in said.kept
    assert [issue.path for issue in said.issues] == ["time step"]
    again = xr.open_datatree(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(again.ngff.level(0).values, written)
    assert {axis: str(size) for axis, size in again.ngff.pixel_size.items()} == {
        "t": "1.0 dimensionless",
        "z": "1.0 micrometer",
        "y": "0.2 micrometer",
        "x": "0.2 micrometer",
    }
    assert "ImageDocument" in again.attrs["original_metadata"]["text"]


def test_lif(tmp_path: Path) -> None:
    pytest.importorskip("bioio_lif")
    written = RNG.integers(0, 60_000, (2, 3, 2, 40, 48), dtype="uint16")
    path = write_lif(tmp_path / "a.lif", {"cells": written}, (2.0, 0.25, 0.5))
    said = convert(path, tmp_path / "a.ome.zarr")
    assert said.reader == "bioio"
    found = xr.open_datatree(tmp_path / "a.ome.zarr").ngff.level(0)
    np.testing.assert_array_equal(found.transpose("t", "z", "c", "y", "x").values, written)


def test_the_plugin_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGFF_BIOFORMATS", str(tmp_path / "nothing.jar"))
    path = tmp_path / "cells.lif"
    path.write_bytes(b"nothing")
    monkeypatch.setattr("ngff_xarray.converting.bioio.find_spec", lambda name: None)
    with pytest.raises(NotOmeError) as caught:
        open_image(path)
    text = str(caught.value)
    assert 'pip install "ngff-xarray[bioio]"' in text and "bioformats_package.jar" in text


@pytest.mark.parametrize(
    ("name", "head", "module", "extra"),
    [
        ("a.tif", b"II*\0", "tifffile", "tiff"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "h5py", "hdf5"),
        ("a.nii", b"", "nibabel", "nifti"),
    ],
)
def test_the_extra_that_is_missing_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    head: bytes,
    module: str,
    extra: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(head)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("NGFF_BIOFORMATS", str(tmp_path / "nothing.jar"))
    with pytest.raises(MissingDependencyError, match=rf'pip install "ngff-xarray\[{extra}\]"'):
        convert(path, tmp_path / "a.ome.zarr")
