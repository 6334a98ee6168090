"""Arrays in HDF5, N5, NIfTI, MRC, numpy and zarr, and objects at hand: found, placed, converted."""

from __future__ import annotations

import gzip
import itertools
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import dask.array
import h5py
import mrcfile
import nibabel
import numpy as np
import pytest
import xarray as xr
import zarr
from stores.imaris import pixels as imaris_pixels
from stores.imaris import pyramid, write_imaris

from ngff_xarray import convert, open_image
from ngff_xarray.errors import NgffError, NotOmeError, SelectionError, StoreError

RNG = np.random.default_rng(0)


def check(tree: xr.DataTree, expected: np.ndarray) -> None:
    """Check all pixels, odd parts of them, and that workers can read them."""
    found = tree.ngff.level(0)
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(found[..., ::-3, 5:1:-1].values, expected[..., ::-3, 5:1:-1])
    np.testing.assert_array_equal(found[..., [2, 0], 3].values, expected[..., [2, 0], 3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).values, expected)


def converted(source: Any, folder: Path, **options: Any) -> xr.DataTree:
    convert(source, folder / "target.ome.zarr", mode="w", **options)
    return xr.open_datatree(folder / "target.ome.zarr")


# ---- HDF5 --------------------------------------------------------------------------------------


def test_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    written = RNG.integers(0, 999, (6, 30, 40), dtype="uint16")
    with h5py.File(path, "w") as file:
        file["deep/raw"] = written
        file["deep/raw"].attrs["element_size_um"] = [2.0, 0.5, 0.25]
        packed = file.create_dataset("packed", data=written, chunks=(2, 16, 16), compression="gzip")
        packed.dims[0].label, packed.dims[1].label, packed.dims[2].label = "tyx"
        file["table"] = np.zeros(3)
    with pytest.raises(SelectionError, match="give the path= of one of its datasets: deep/raw"):
        open_image(path)
    with pytest.raises(SelectionError, match="no dataset 'raw'; give the path="):
        open_image(path, path="raw")
    tree = open_image(path, path="deep/raw")
    check(tree, written)
    assert {axis: str(size) for axis, size in tree.ngff.pixel_size.items()} == {
        "z": "2.0 micrometer",
        "y": "0.5 micrometer",
        "x": "0.25 micrometer",
    }
    assert [issue.path for issue in tree.ngff.issues] == ["axes"]
    assert json.loads(tree.attrs["original_metadata"]["text"]) == {
        "element_size_um": [2.0, 0.5, 0.25]
    }
    tree = open_image(path, path="packed", pixel_size={"t": "1 s", "y": "1 µm", "x": "1 µm"})
    check(tree, written)
    assert tree.ngff.level(0).dims == ("t", "y", "x") and tree.ngff.issues == ()
    check(converted(path, tmp_path, path="packed"), written)


def test_hdf5_of_ilastik(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    written = RNG.integers(0, 99, (30, 40, 2), dtype="uint8")
    tags = [{"key": key, "resolution": size} for key, size in zip("yxc", (0, 0, 0), strict=True)]
    with h5py.File(path, "w") as file:
        file["exported_data"] = written
        file["exported_data"].attrs["axistags"] = json.dumps({"axes": tags})
    tree = open_image(path)
    check(tree, np.moveaxis(written, -1, 0))
    assert tree.ngff.level(0).dims == ("c", "y", "x")


def test_hdf5_that_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros((30, 40))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(StoreError, match=r"a.h5: cannot be read: .*truncated"):
        convert(path, tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr").exists()


# ---- N5 ----------------------------------------------------------------------------------------


def write_n5(folder: Path, array: np.ndarray, block: tuple[int, ...], **attributes: Any) -> None:
    """Write an array as N5 has it: x first, each block with a header, gzip."""
    folder.mkdir(parents=True)
    shape = array.shape[::-1]
    said = {
        "dimensions": list(shape),
        "blockSize": list(block),
        "dataType": array.dtype.name,
        "compression": {"type": "gzip", "level": -1},
    }
    (folder / "attributes.json").write_text(json.dumps(said | attributes))
    counts = [-(-n // b) for n, b in zip(shape, block, strict=True)]
    for at in itertools.product(*map(range, counts)):
        part = array[tuple(slice(i * b, (i + 1) * b) for i, b in zip(at, block, strict=True))[::-1]]
        head = struct.pack(f">HH{part.ndim}I", 0, part.ndim, *part.shape[::-1])
        path = folder.joinpath(*map(str, at))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(head + gzip.compress(part.astype(part.dtype.newbyteorder(">")).tobytes()))


def test_n5(tmp_path: Path) -> None:
    written = RNG.integers(0, 999, (6, 30, 41), dtype="uint16")
    resolution = {"pixelResolution": {"dimensions": [0.5, 0.5, 2.0], "unit": "um"}}
    write_n5(tmp_path / "a.n5" / "setup0" / "s0", written, (16, 8, 4), **resolution)
    with pytest.raises(SelectionError, match="of one of its arrays: setup0/s0"):
        open_image(tmp_path / "a.n5")
    tree = open_image(tmp_path / "a.n5", path="setup0/s0")
    check(tree, written)
    assert str(tree.ngff.pixel_size["z"]) == "2.0 micrometer"
    check(converted(tmp_path / "a.n5", tmp_path, path="setup0/s0"), written)


# ---- NIfTI -------------------------------------------------------------------------------------


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray, **header: Any) -> None:
    volume = nibabel.Nifti1Image(array, affine)
    volume.header.set_xyzt_units(header.pop("space", "mm"), header.pop("time", "sec"))
    if "slope" in header:
        volume.header.set_slope_inter(header["slope"], header["inter"])
    if array.ndim > 3:
        volume.header.set_zooms((*volume.header.get_zooms()[:3], header.get("step", 2.5)))
    nibabel.save(volume, path)


def turned(angle: float = 0.5) -> np.ndarray:
    affine = np.eye(4)
    cosine, sine = np.cos(angle), np.sin(angle)
    affine[:2, :2] = [[cosine, -sine], [sine, cosine]]
    affine[:3, :3] = affine[:3, :3] @ np.diag([2.0, 2.0, 3.0])
    affine[:3, 3] = [-9, 4, 5]
    return affine


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"brain{ending}"
    written = RNG.integers(0, 999, (40, 30, 8, 5)).astype("int16")
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-9, 4, 5]
    write_nifti(path, written, affine)
    tree = open_image(path)
    check(tree, written.T)
    # the pixels behind the header, as they are in the file
    raw = gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes()
    np.testing.assert_array_equal(
        tree.ngff.level(0).values.ravel(), np.frombuffer(raw, "<i2", offset=352)
    )
    finest = tree.ngff.level(0)
    assert finest.dims == ("t", "z", "y", "x")
    assert (finest.x.values[1], finest.y.values[0], finest.z.values[2]) == (-7.0, 4.0, 11.0)
    sizes = {axis: str(size) for axis, size in tree.ngff.pixel_size.items()}
    assert sizes["t"] == "2.5 second" and sizes["z"] == "3.0 millimeter"
    assert "vox_offset" in tree.attrs["original_metadata"]["text"]
    again = converted(path, tmp_path, version="0.4")
    check(again, written.T)
    np.testing.assert_allclose(again.ngff.level(0).x.values, finest.x.values)


def test_nifti_with_an_affine_that_turns(tmp_path: Path) -> None:
    path = tmp_path / "brain.nii"
    written = RNG.integers(0, 999, (40, 30, 8, 2)).astype("int16")
    affine = turned()
    write_nifti(path, written, affine)
    again = converted(path, tmp_path, version="0.6")
    check(again, written.T)
    index = np.array([39, 29, 7])
    finest = again.ngff.level(0)
    here = [0.0, *(finest[axis].values[i] for axis, i in zip("zyx", index[::-1], strict=True))]
    there = again.ngff.transform(np.array([here]), from_="pixels", to="scanner")
    expected = nibabel.affines.apply_affine(affine, index)
    np.testing.assert_allclose(there[0, 1:], expected[::-1], rtol=1e-6)
    said = convert(path, tmp_path / "b.ome.zarr")
    assert said.dropped == ("the transformation to the scanner (it needs version='0.6')",)
    assert "coordinateSystems" not in xr.open_datatree(tmp_path / "b.ome.zarr").attrs["ome"]


def test_nifti_that_scales_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    written = RNG.integers(0, 99, (20, 30, 4)).astype("int16")
    write_nifti(path, written, np.eye(4), slope=0.5, inter=-10)
    tree = open_image(path)
    check(tree, nibabel.load(path).get_fdata().T)
    assert tree.ngff.level(0).dtype.kind == "f"


def test_nifti_without_units_and_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    write_nifti(path, np.zeros((20, 30, 4), "int16"), np.eye(4), space="unknown")
    tree = open_image(path)
    assert str(tree.ngff.pixel_size["x"]) == "1.0 dimensionless"
    assert [issue.path for issue in tree.ngff.issues] == ["NIfTI: xyzt_units", "pixel size"]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StoreError, match=r"a\.nii"):
        convert(path, tmp_path / "a.ome.zarr")
    with pytest.raises(NgffError):
        xr.open_datatree(tmp_path / "a.ome.zarr", engine="ngff")
    path.write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"a\.nii: cannot be read"):
        open_image(path)


# ---- MRC ---------------------------------------------------------------------------------------

# mrcfile does what numpy 2.5 warns of
OTHERS = pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")


@OTHERS
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32"])
def test_mrc(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "tomogram.mrc"
    written = RNG.integers(0, 99, (5, 30, 40)).astype(dtype)
    with mrcfile.new(path) as file:
        file.set_data(written)
        file.set_volume()
        file.voxel_size = (1.5, 1.5, 3.0)
        file.header.origin.x = 100.0
        file.add_label("tilted by hand")
    tree = open_image(path)
    check(tree, written)
    np.testing.assert_array_equal(  # the pixels behind the header, as they are in the file
        tree.ngff.level(0).values.ravel(), np.fromfile(path, dtype, offset=1024)
    )
    assert {axis: str(size) for axis, size in tree.ngff.pixel_size.items()} == {
        "z": "3.0 angstrom",
        "y": "1.5 angstrom",
        "x": "1.5 angstrom",
    }
    assert tree.ngff.level(0).x.values[:2].tolist() == [100.0, 101.5]
    assert "tilted by hand" in tree.attrs["original_metadata"]["text"]
    assert tree.ngff.issues == ()
    check(converted(path, tmp_path), written)


@OTHERS
def test_mrc_stacks_and_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "tilts.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((5, 30, 40), "int16"))
        file.set_image_stack()
    assert open_image(path).ngff.issues[0].path == "MRC: ispg"
    assert open_image(path, axes="tyx").ngff.level(0).dims == ("t", "y", "x")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(StoreError, match="the file is truncated"):
        convert(path, tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr").exists()


# ---- numpy and zarr ----------------------------------------------------------------------------


def test_numpy_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    written = RNG.integers(0, 99, (3, 30, 40)).astype(">i2")
    np.save(path, written)
    tree = open_image(path, axes="cyx", channel_names="abc")
    check(tree, written)
    assert tree.ngff.level(0).c.values.tolist() == ["a", "b", "c"]
    check(converted(path, tmp_path, axes="tyx"), written)
    np.save(path, np.asfortranarray(np.moveaxis(written, 0, -1)))
    check(open_image(path, axes="yxc"), written)
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(NgffError):  # and nothing is unpickled
        open_image(path)
    np.save(path, np.zeros((2, 3, 4, 5, 6, 7)))
    with pytest.raises(NgffError, match="give the names of its axes"):
        open_image(path)
    with pytest.raises(SelectionError, match="expected 6 different names"):
        open_image(path, axes="zyx")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays(zarr_format: Any, tmp_path: Path) -> None:
    written = RNG.integers(0, 99, (3, 30, 40), dtype="uint16")
    group = zarr.create_group(tmp_path / "plain.zarr", zarr_format=zarr_format)
    first = group.create_array("first", data=written, chunks=(1, 16, 16), attributes={"who": "me"})
    check(open_image(tmp_path / "plain.zarr", axes="cyx"), written)
    group.create_array("second", data=written[0])
    with pytest.raises(SelectionError, match=r"one of its arrays: (first, second|second, first)"):
        open_image(tmp_path / "plain.zarr")
    tree = open_image(tmp_path / "plain.zarr", path="first", axes="cyx")
    check(tree, written)
    assert json.loads(tree.attrs["original_metadata"]["text"]) == {"who": "me"}
    check(open_image(first, axes="cyx"), written)
    again = converted(tmp_path / "plain.zarr", tmp_path, path="first", axes="cyx")
    check(again, written)
    assert again.ngff.level(0).encoding["chunks"] == (1, 16, 16)


def test_what_is_ome_zarr_is_written_as_it_is(scan: Path, tmp_path: Path) -> None:
    tree = converted(scan, tmp_path)
    source = xr.open_datatree(scan)
    check(tree, source.ngff.level(0).values)
    assert len(tree.ngff.levels) == 3 and list(tree.ngff.labels) == ["cells"]
    said = convert(scan, tmp_path / "b.ome.zarr", version="0.5")
    assert said.format == "OME-Zarr" and said.reader == "stores"
    assert xr.open_datatree(tmp_path / "b.ome.zarr").ngff.version == "0.5"


def test_imaris(tmp_path: Path) -> None:
    path = write_imaris(tmp_path / "a.ims", pyramid(imaris_pixels((2, 3, 6, 70, 90)), 3))
    said = convert(path, tmp_path / "a.ome.zarr")
    tree, source = xr.open_datatree(tmp_path / "a.ome.zarr"), open_image(path)
    assert (said.format, tree.ngff.version) == ("Imaris", "0.5")
    for number in range(3):
        with h5py.File(path) as file:
            data = file[f"DataSet/ResolutionLevel {number}/TimePoint 1/Channel 2/Data"]
            shape = tree.ngff.level(number).shape[2:]
            expected = data[tuple(map(slice, shape))]
        np.testing.assert_array_equal(tree.ngff.level(number)[1, 2].values, expected)
    assert tree.ngff.channels == source.ngff.channels
    assert tree.ngff.pixel_size == source.ngff.pixel_size
    assert "Channel 0" in tree.attrs["original_metadata"]["text"]


# ---- objects -----------------------------------------------------------------------------------


def test_objects_at_hand(tmp_path: Path) -> None:
    written = RNG.integers(0, 99, (3, 30, 40), dtype="uint16")
    x = xr.DataArray(0.5 * np.arange(40), dims="x", attrs={"units": "micrometer"})
    array = xr.DataArray(written, dims=("z", "y", "x"), coords={"x": x}, name="scan")
    for source in (array, array.to_dataset(), array.chunk(x=10)):
        tree = open_image(source)
        np.testing.assert_array_equal(tree.ngff.level(0).values, written)
        assert str(tree.ngff.pixel_size["x"]) == "0.5 micrometer"
        assert "along z, y" in tree.ngff.issues[0].message
    said = convert(array, tmp_path / "a.ome.zarr")
    assert (said.source, said.reader, said.format) == ("DataArray", "objects", "xarray")
    check(converted(array.ngff.pyramid(levels=3), tmp_path), written)
    check(converted(written, tmp_path, axes="cyx"), written)
    check(converted(dask.array.from_array(written), tmp_path, pixel_size={"x": 2}), written)
    with pytest.raises(NotOmeError, match="no reader can read this"):
        open_image(3)


def test_an_option_that_no_reader_uses_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    with pytest.raises(NotOmeError, match="numpy_files: does not use pattern="):
        open_image(tmp_path / "a.npy", pattern="{z}.npy")
