"""Conversions while a cluster is active: its workers read the files, and pixels are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from stores.imaris import pixels as imaris_pixels
from stores.imaris import pyramid, write_imaris
from test_convert_arrays import write_n5
from test_distributed import counted, distributed, same, started
from xarray.core import indexing

from ngff_xarray import convert
from ngff_xarray.pyramid import building
from ngff_xarray.write import journal

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 999, (8, 60, 70), dtype="uint16")


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    with started(n_workers=2) as running, distributed.Client(running, set_as_default=False) as one:
        yield one


def tiff(folder: Path) -> Any:
    tifffile.imwrite(folder / "a.tif", PIXELS, compression="zlib", metadata={"axes": "ZYX"})
    return folder / "a.tif", {}


def with_levels(folder: Path) -> Any:
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as writer:
        writer.write(PIXELS, metadata={"axes": "ZYX"}, subifds=1, tile=(32, 32))
        writer.write(PIXELS[:, ::2, ::2], subfiletype=1, tile=(32, 32))
    return folder / "a.ome.tif", {}


def planes(folder: Path) -> Any:
    for z, plane in enumerate(PIXELS):
        tifffile.imwrite(folder / f"z{z}.tif", plane)
    return folder, {"pattern": "z{z}.tif"}


def pictures(folder: Path) -> Any:
    for z, plane in enumerate(PIXELS):
        Image.fromarray(plane.astype("u1")).save(folder / f"z{z}.png")
    return folder, {"pattern": "z{z}.png"}


def hdf5(folder: Path) -> Any:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=PIXELS, chunks=(2, 16, 16), compression="gzip")
    return folder / "a.h5", {"path": "raw"}


def n5(folder: Path) -> Any:
    write_n5(folder / "a.n5" / "s0", PIXELS, (16, 16, 4))
    return folder / "a.n5", {"path": "s0"}


def nifti(folder: Path) -> Any:
    nibabel.save(nibabel.Nifti1Image(PIXELS.T, np.eye(4)), folder / "a.nii.gz")
    return folder / "a.nii.gz", {}


def npy(folder: Path) -> Any:
    np.save(folder / "a.npy", PIXELS)
    return folder / "a.npy", {}


def zarr_array(folder: Path) -> Any:
    zarr.save_array(str(folder / "a.zarr"), PIXELS)
    return folder / "a.zarr", {}


def imaris(folder: Path) -> Any:
    return write_imaris(folder / "a.ims", pyramid(imaris_pixels((1, 2, 6, 70, 90)), 2)), {}


@pytest.mark.parametrize(
    "made",
    [tiff, with_levels, planes, pictures, hdf5, n5, nifti, npy, zarr_array, imaris],
)
def test_workers_read_the_file(
    made: Callable[[Path], Any], workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    source, options = made(tmp_path / "in")
    own = made in (with_levels, imaris)
    options |= {} if own else {"levels": 2, "chunks": {"z": 2, "y": 16, "x": 32}}
    read: list[Any] = []
    taken = indexing.explicit_indexing_adapter

    def noted(key: Any, shape: Any, *args: Any) -> Any:
        read.append(key)
        return taken(key, shape, *args)

    monkeypatch.setattr(indexing, "explicit_indexing_adapter", noted)
    convert(source, tmp_path / "here.ome.zarr", **options)
    assert read or made in (zarr_array, imaris)  # which zarr reads
    read.clear()
    before = counted(workers)
    with workers.as_current():
        convert(source, tmp_path / "there.ome.zarr", **options)
    assert counted(workers) > before, "workers wrote it"
    assert not read, "and this process read nothing"
    same(tmp_path / "there.ome.zarr", tmp_path / "here.ome.zarr")


def test_pixels_in_memory_stay_here(workers: Any, tmp_path: Path) -> None:
    before = counted(workers)
    with workers.as_current():
        convert(PIXELS, tmp_path / "a.ome.zarr")
    assert counted(workers) == before


@pytest.mark.parametrize("first", ["here", "workers"])
@pytest.mark.parametrize("then", ["here", "workers"])
@pytest.mark.parametrize("own", [False, True])
def test_either_goes_on_with_what_the_other_began(
    first: str,
    then: str,
    own: bool,
    workers: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in").mkdir()
    source, _ = (with_levels if own else tiff)(tmp_path / "in")
    options = {} if own else {"levels": 2, "chunks": {"z": 2, "y": 16, "x": 32}}
    monkeypatch.setattr(journal, "NOTED", 0)
    monkeypatch.setattr(building, "NOTED", 2**12)
    convert(source, tmp_path / "one.ome.zarr", **options)
    with (
        monkeypatch.context() as patch,
        workers.as_current() if first == "workers" else nullcontext(),
        pytest.raises(ZeroDivisionError),
    ):
        patch.setattr(journal.Journal, "end", lambda *_: 1 // 0)
        convert(source, tmp_path / "two.ome.zarr", **options)
    with workers.as_current() if then == "workers" else nullcontext():
        told = convert(source, tmp_path / "two.ome.zarr", **options).resumed
    assert told.startswith("gone on") and "parts of it" in told
    same(tmp_path / "one.ome.zarr", tmp_path / "two.ome.zarr")
