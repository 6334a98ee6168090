"""Images that get a pyramid: where the pixels of its levels are, and what is written of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray as xr
import yaozarrs
import zarr
from stores import write_image
from test_support import check_elsewhere
from watched import Watched

import ngff_xarray
from ngff_xarray.errors import IncompleteError, SelectionError, UnsupportedError
from ngff_xarray.pyramid import METHODS

WRITTEN = ("0.4", "0.5", "0.6")
RNG = np.random.default_rng(0)


def axis(size: int, step: float, start: float = 0.0, unit: str = "micrometer") -> Any:
    return start + step * np.arange(size), {"units": unit}


def volume(shape: tuple[int, ...] = (12, 90, 101), dtype: Any = "u2", **names: str) -> xr.DataArray:
    """A volume whose planes are farther apart than its pixels."""
    z, y, x = (axis(n, s, o) for n, s, o in zip(shape, (2.0, 0.5, 0.5), (5, -3, 100), strict=True))
    coords = {dim: (dim, *values) for dim, values in zip("zyx", (z, y, x), strict=True)}
    pixels = RNG.integers(0, 200, shape).astype(dtype)
    return xr.DataArray(pixels, coords=coords, dims=("z", "y", "x"), name=names.get("name"))


# ---- which levels ------------------------------------------------------------------------------


def test_pixels_become_as_deep_as_they_are_wide_first() -> None:
    tree = volume().ngff.pyramid(levels=5)
    assert [level.shape for level in tree.ngff.levels] == [
        (12, 90, 101),
        (12, 45, 51),
        (12, 23, 26),
        (6, 12, 13),
        (3, 6, 7),
    ]
    assert tree.ngff.level(2).ngff.pixel_size["z"].magnitude == 2
    assert tree.ngff.level(3).ngff.pixel_size["z"].magnitude == 4
    assert tree.ngff.level(3).ngff.pixel_size["x"].magnitude == 4


@pytest.mark.parametrize("name", ["muscle", "image", "labels", None])
def test_the_name_of_an_array_is_that_of_the_image(name: str | None, tmp_path: Path) -> None:
    image = xr.DataArray(np.zeros((4, 4), "u1"), dims=("y", "x"), name=name)
    image.ngff.to_zarr(tmp_path / "a.ome.zarr")
    found = xr.open_datatree(tmp_path / "a.ome.zarr")
    said = name if name == "muscle" else None  # others are names of arrays in every store
    assert (image.ngff.name, image.ngff.pyramid().ngff.name, found.ngff.name) == (said,) * 3
    named = image.assign_attrs(ome={"name": "of the store"})
    assert named.ngff.name == "of the store"
    da = pytest.importorskip("dask.array")
    assert xr.DataArray(da.zeros((4, 4)), dims=("y", "x")).ngff.name is None  # but of dask's array


def test_units_of_axes_are_told_apart() -> None:
    array = volume((8, 64, 64))
    array = array.assign_coords(z=("z", 500.0 * np.arange(8), {"units": "nanometer"}))
    assert [level.shape for level in array.ngff.pyramid(levels=2).ngff.levels][1] == (4, 32, 32)


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, [(12, 90, 101)]),  # one chunk
        ({"levels": 1}, [(12, 90, 101)]),
        ({"smallest": 64}, [(12, 90, 101), (12, 45, 51)]),
        ({"smallest": {"x": 30}}, [(12, 90, 101), (12, 45, 51), (12, 23, 26)]),
        ({"smallest": {"z": 12}}, [(12, 90, 101)]),
        ({"sizes": []}, [(12, 90, 101)]),
        ({"sizes": [{"y": 45, "x": 51}, {"x": 17}]}, [(12, 90, 101), (12, 45, 51), (12, 45, 17)]),
        ({"sizes": [{"z": 1, "y": 90}]}, [(12, 90, 101), (1, 90, 101)]),
        ({"scale_factors": []}, [(12, 90, 101)]),
        ({"scale_factors": [2]}, [(12, 90, 101), (6, 45, 51)]),
        ({"scale_factors": [{"x": 3}, 4]}, [(12, 90, 101), (12, 90, 34), (3, 23, 9)]),
    ],
)
def test_levels_as_told(options: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    assert [level.shape for level in volume().ngff.pyramid(**options).ngff.levels] == shapes


def test_large_images_end_in_one_chunk() -> None:
    import dask.array as da

    array = xr.DataArray(da.zeros((3, 10_000, 20_000), dtype="u2"), dims=("c", "y", "x"))
    levels = array.ngff.pyramid().ngff.levels
    assert levels[-1].shape == (3, 313, 625)
    assert levels[-1].encoding["chunks"] == (1, 313, 625)
    assert levels[0].encoding["chunks"] == (1, 512, 1024)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels: expected a number of at least 1, found 0"),
        ({"levels": True}, "levels: expected a number"),
        ({"smallest": "64"}, "smallest: expected a number"),
        ({"levels": 2, "smallest": 64}, "give one of levels, smallest, scale_factors, sizes"),
        ({"smallest": {"q": 64}}, "smallest: there is no axis 'q'"),
        ({"smallest": {"x": 0}}, "smallest: x: expected a number of at least 1"),
        ({"sizes": {"x": 51}}, "sizes: expected a list with a dict by axis"),
        ({"sizes": [51]}, "sizes: expected a list with a dict by axis"),
        ({"sizes": [{"q": 51}]}, "sizes: there is no axis 'q'; the axes are z, y, x"),
        ({"sizes": [{"x": 0}]}, "sizes: x: expected a number of at least 1"),
        ({"sizes": [{"x": 2.5}]}, "sizes: x: expected a number"),
        ({"sizes": [{"x": 101}]}, "expected a level that is smaller than the one before"),
        ({"sizes": [{"x": 60}]}, "no 60 of 101 pixels along x; the nearest .*: 51 or 101"),
        ({"sizes": [{"y": 45}, {"y": 14}]}, "no 14 of 45 pixels along y; .*: 12 or 15"),
        ({"sizes": [{"x": 200}]}, "no 200 of 101 pixels along x; .*: 101"),
        ({"scale_factors": 2}, "scale_factors: expected a list"),
        ({"scale_factors": [{"q": 2}]}, "there is no axis 'q'; the axes are z, y, x"),
        ({"scale_factors": [1]}, "one of them at least 2"),
        ({"scale_factors": [{"x": 0}]}, "expected whole numbers"),
        ({"scale_factors": [2.5]}, "expected whole numbers"),
        ({"method": "average"}, "method='average': expected one of mean, mode"),
    ],
)
def test_levels_that_make_no_sense(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=message):
        volume().ngff.pyramid(**options)
    with pytest.raises(SelectionError, match=message):
        volume().ngff.to_zarr(tmp_path / "a.ome.zarr", **options)
    assert not list(tmp_path.iterdir())


# ---- where their pixels are --------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_ramp_stays_where_it_is(method: str) -> None:
    """The value of a pixel is its place, at every level, whichever method."""
    x, attrs = axis(64, 0.25, 10)
    array = xr.DataArray(x.copy(), dims="x", coords={"x": ("x", x, attrs)}).expand_dims(y=64)
    tree = array.transpose("y", "x").ngff.pyramid(scale_factors=[2, 2, {"x": 4}], method=method)
    for level in tree.ngff.levels:
        shift = {"max": 1, "min": -1, "mode": 1}.get(method, 0)  # of values, not of places
        size = level.ngff.pixel_size["x"].magnitude
        wanted = level.x.values + shift * (size - 0.25) / 2
        np.testing.assert_allclose(level.values[0], wanted, atol=1e-6 * size)


def test_all_that_the_image_says_is_kept(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", shape=(2, 64, 64), levels=2)
    tree = xr.open_datatree(path)
    again = tree.ngff.pyramid(scale_factors=[4])
    assert again.ngff.channels == tree.ngff.channels
    assert again.ngff.name == tree.ngff.name
    assert [level.shape for level in again.ngff.levels] == [(2, 64, 64), (2, 16, 16)]
    assert again.attrs["ome"]["type"] == "mean"
    again.ngff.to_zarr(tmp_path / "b.ome.zarr")
    written = xr.open_datatree(tmp_path / "b.ome.zarr")
    xr.testing.assert_equal(written["1/image"], again["1/image"])
    said = written.attrs["ome"]["metadata"]
    assert said["kwargs"] == {"method": "mean", "scale_factors": [{"y": 4, "x": 4}]}
    assert said["version"] == ngff_xarray.__version__


def test_labels_of_a_tree_are_kept() -> None:
    tree = xr.open_datatree(ngff_xarray.sample("cell"))
    again = tree.ngff.pyramid(scale_factors=[2])
    assert list(again.ngff.labels) == ["cell"]
    assert len(again.ngff.labels["cell"].ngff.levels) == 4


def test_label_images_keep_their_ids() -> None:
    labels = xr.open_datatree(ngff_xarray.sample("cell")).ngff.labels["cell"]
    levels = labels.ngff.pyramid(scale_factors=[2, 2, 2]).ngff.levels
    assert all(set(np.unique(level)) <= {0, 1} for level in levels)
    assert levels[0].name == "labels"
    array = volume(name="labels").ngff.pyramid(scale_factors=[2])
    assert array.ngff.kind == "labels"
    assert set(np.unique(array.ngff.level(1))) <= set(np.unique(array.ngff.level(0)))


def test_nothing_is_read_before_it_is_asked_for() -> None:
    import dask.array as da

    def refuse(block: Any) -> Any:
        raise AssertionError("computed")

    array = volume().chunk(z=4)
    lazy = array.copy(data=da.map_blocks(refuse, array.data, dtype=array.dtype))
    tree = lazy.ngff.pyramid(scale_factors=[2])
    assert tree.ngff.level(1).shape == (6, 45, 51)
    with pytest.raises(AssertionError, match="computed"):
        tree.ngff.level(1).load()


@pytest.mark.parametrize("cache", [True, False])
def test_of_a_stored_image_every_chunk_is_read_once(tmp_path: Path, cache: bool) -> None:
    """Copies of a variable of a store get a cache each, which hides that they are one."""
    store = Watched()
    volume((32, 64, 64)).ngff.to_zarr(store, chunks=(16, 16, 16))
    level = xr.open_datatree(store, engine="ngff", cache=cache).ngff.level(0)
    store.read.clear()
    level.ngff.to_zarr(tmp_path / "a.ome.zarr", levels=3)
    reads = Counter(key for key in store.read if "/c/" in key)
    assert len(reads) == 2 * 4 * 4
    assert set(reads.values()) == {1}


def test_a_pyramid_that_was_cut_or_computed_on_is_written_as_it_is(tmp_path: Path) -> None:
    tree = volume((4, 64, 64)).ngff.pyramid(scale_factors=[2])
    cut = tree.ngff.crop(x=slice("105 µm", "120 µm"))
    doubled = tree.ngff.map(lambda level: level * 2)
    for number, each in enumerate((cut, doubled)):
        each.ngff.to_zarr(tmp_path / f"{number}.ome.zarr")
        written = xr.open_datatree(tmp_path / f"{number}.ome.zarr")
        for level, wanted in zip(written.ngff.levels, each.ngff.levels, strict=True):
            np.testing.assert_array_equal(level.values, wanted.values)


# ---- what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", WRITTEN)
@pytest.mark.parametrize("method", ["mean", "mode", "max"])
def test_what_is_written_is_what_is_computed(tmp_path: Path, version: str, method: str) -> None:
    array = volume((20, 200, 333))
    array.encoding["chunks"] = (8, 64, 64)
    options: dict[str, Any] = {"scale_factors": [2, {"y": 2, "x": 3}, 2], "method": method}
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", version=version, **options)
    written = xr.open_datatree(tmp_path / "a.ome.zarr")
    wanted = array.ngff.pyramid(**options)
    assert len(written.ngff.levels) == 4
    for level, expected in zip(written.ngff.levels, wanted.ngff.levels, strict=True):
        np.testing.assert_array_equal(level.values, expected.values)
        for dim in "zyx":
            np.testing.assert_allclose(level[dim].values, expected[dim].values)
    assert ngff_xarray.validate(tmp_path / "a.ome.zarr").valid
    check_elsewhere(tmp_path / "a.ome.zarr", version, "Image")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_others_read_the_same(tmp_path: Path, version: str) -> None:
    array = volume((20, 200, 333))
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", version=version, scale_factors=[2, 2])
    yaozarrs.validate_zarr_store(str(tmp_path / "a.ome.zarr"))
    driver = "zarr3" if version == "0.5" else "zarr"
    for number, level in enumerate(xr.open_datatree(tmp_path / "a.ome.zarr").ngff.levels):
        place = f"file://{tmp_path}/a.ome.zarr/{number}/"
        theirs = tensorstore.open({"driver": driver, "kvstore": place}, read=True).result()
        np.testing.assert_array_equal(theirs.read().result(), level.values)
        plain = zarr.open_array(tmp_path / "a.ome.zarr" / str(number), mode="r")
        np.testing.assert_array_equal(plain[:], level.values)


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "f4", "f8", ">u2", "c8", "M8[ns]"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_type_of_pixels(tmp_path: Path, dtype: str, version: str) -> None:
    array = volume((4, 40, 40), dtype="u1").astype(dtype)
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", version=version, scale_factors=[2])
    written = xr.open_datatree(tmp_path / "a.ome.zarr").ngff.levels
    wanted = array.ngff.pyramid(scale_factors=[2]).ngff.levels
    for level, expected in zip(written, wanted, strict=True):
        np.testing.assert_array_equal(level.values, expected.values)


def test_chunks_that_hold_nothing_are_not_stored(tmp_path: Path) -> None:
    array = xr.DataArray(np.zeros((256, 256), "u2"), dims=("y", "x"))
    array[:64, :64] = 7
    array.encoding["chunks"] = (64, 64)
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", scale_factors=[2])
    found = [p for p in (tmp_path / "a.ome.zarr").rglob("*") if p.is_file() and "c" in p.parts]
    assert len(found) == 2
    np.testing.assert_array_equal(xr.open_dataset(tmp_path / "a.ome.zarr")["image"], array)


@pytest.mark.parametrize("how", ["shards", "gzip", "transposed", "filters", "zstd", "plain"])
def test_storage_of_every_kind(tmp_path: Path, how: str) -> None:
    import numcodecs
    from zarr.codecs import BytesCodec, GzipCodec, TransposeCodec, ZstdCodec

    array = volume((16, 70, 70))
    storage: dict[str, Any] = {
        "shards": {"shards": (8, 64, 64), "chunks": (4, 32, 32)},
        "gzip": {"compressors": (GzipCodec(),), "serializer": BytesCodec()},
        "zstd": {"compressors": (ZstdCodec(level=1),), "serializer": BytesCodec()},
        "plain": {"compressors": (), "serializer": BytesCodec()},
        "transposed": {
            "filters": (TransposeCodec(order=(2, 1, 0)),),
            "serializer": BytesCodec(),
        },
        "filters": {"filters": [numcodecs.Delta("<u2")], "compressors": (numcodecs.Zlib(),)},
    }[how]
    array.encoding = {"chunks": (8, 32, 32), "dtype": array.dtype, **storage}
    version = "0.4" if how == "filters" else "0.5"
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", version=version, scale_factors=[2, 2])
    written = xr.open_datatree(tmp_path / "a.ome.zarr").ngff.levels
    for level, wanted in zip(
        written, array.ngff.pyramid(scale_factors=[2, 2]).ngff.levels, strict=True
    ):
        np.testing.assert_array_equal(level.values, wanted.values)
    stored = zarr.open_array(tmp_path / "a.ome.zarr" / "0")
    for key in ("shards", "compressors", "filters"):
        if key in storage:
            assert tuple(getattr(stored, key)) == tuple(storage[key])


def test_dask_is_computed_block_by_block(tmp_path: Path) -> None:
    import dask.array as da

    array = volume((20, 200, 333))
    for chunks in ((20, 200, 333), (7, 90, 50), (1, 200, 333), (20, 1, 333)):
        path = tmp_path / f"{chunks}.ome.zarr"
        lazy = array.copy(data=da.from_array(array.values, chunks=chunks))
        lazy.ngff.to_zarr(path, scale_factors=[2, 2])
        written = xr.open_datatree(path).ngff.levels
        for level, wanted in zip(
            written, array.ngff.pyramid(scale_factors=[2, 2]).ngff.levels, strict=True
        ):
            np.testing.assert_array_equal(level.values, wanted.values)


def test_another_store_is_the_source(tmp_path: Path) -> None:
    array = volume((20, 200, 333))
    array.encoding["chunks"] = (3, 50, 70)
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", levels=1)
    source = xr.open_dataset(tmp_path / "a.ome.zarr")["image"]
    source.encoding = {"chunks": (8, 64, 64)}
    source.ngff.to_zarr(tmp_path / "b.ome.zarr", scale_factors=[2], version="0.4")
    written = xr.open_datatree(tmp_path / "b.ome.zarr").ngff.levels
    for level, wanted in zip(
        written, array.ngff.pyramid(scale_factors=[2]).ngff.levels, strict=True
    ):
        np.testing.assert_array_equal(level.values, wanted.values)


@pytest.mark.parametrize("version", WRITTEN)
@pytest.mark.parametrize("streamed", [True, False])
def test_contrast_is_found_on_the_way(tmp_path: Path, version: str, streamed: bool) -> None:
    pixels = RNG.normal(100, 10, (2, 300, 400)).round().astype("u2")
    pixels[1] *= 5
    pixels[1, 7, 8] = 40_000  # which is hot
    array = xr.DataArray(pixels, {"c": ["DAPI", "GFP"]}, dims=("c", "y", "x"))
    obj = array if streamed else array.ngff.pyramid(scale_factors=[2]).ngff.map(lambda a: a * 1)
    obj.ngff.to_zarr(tmp_path / "a.ome.zarr", version=version, chunks={"y": 64, "x": 64})
    tree = xr.open_datatree(tmp_path / "a.ome.zarr")
    assert [channel.name for channel in tree.ngff.channels] == ["DAPI", "GFP"]
    for channel, plane in zip(tree.ngff.channels, pixels, strict=True):
        low, high = np.percentile(plane, [1, 99.9])
        assert channel.window is not None
        assert channel.window.start == pytest.approx(low, abs=0.03 * (high - low))
        assert channel.window.end == pytest.approx(high, abs=0.2 * (high - low))
    stored = tree.attrs["ome"]["omero"]["channels"][1]["window"]
    assert (stored["min"], stored["max"]) == (pixels[1].min(), 40_000)


def test_contrast_of_one_channel_and_of_odd_pixels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 10_000, dtype="f4").reshape(100, 100)
    ramp[0, :3] = np.nan, np.inf, -np.inf
    for number, (pixels, window) in enumerate(
        [
            (ramp, (0.01, 0.999)),
            (np.full((9, 9), 7, "u1"), (7, 8)),
            (np.full((9, 9), np.nan), (0, 1)),
            (np.zeros((9, 9), bool), (0, 1)),
        ]
    ):
        path = tmp_path / f"{number}.ome.zarr"
        xr.DataArray(pixels, dims=("y", "x")).ngff.to_zarr(path)
        (channel,) = xr.open_datatree(path).ngff.channels
        assert channel.window is not None
        assert (channel.window.start, channel.window.end) == pytest.approx(window, abs=1e-3)
        yaozarrs.validate_zarr_store(str(path))


def test_labels_and_what_was_stored_get_no_contrast(tmp_path: Path) -> None:
    volume(name="labels").ngff.to_zarr(tmp_path / "a.ome.zarr")
    assert "omero" not in xr.open_datatree(tmp_path / "a.ome.zarr").attrs["ome"]
    write_image(tmp_path / "b.ome.zarr", axes="yx", shape=(9, 9))
    xr.open_datatree(tmp_path / "b.ome.zarr").ngff.to_zarr(tmp_path / "c.ome.zarr")
    assert "omero" not in xr.open_datatree(tmp_path / "c.ome.zarr").attrs["ome"]


# ---- what goes wrong ---------------------------------------------------------------------------


def test_errors_of_the_source_are_its_own(tmp_path: Path) -> None:
    import dask.array as da

    def fail(block: Any) -> Any:
        return 1 // 0 if block.size else block

    array = volume().chunk(z=4)
    broken = array.copy(data=da.map_blocks(fail, array.data, dtype=array.dtype))
    with pytest.raises(ZeroDivisionError):
        broken.ngff.to_zarr(tmp_path / "a.ome.zarr", scale_factors=[2])
    with pytest.raises(IncompleteError, match="has not ended: wait for that, write it again"):
        xr.open_datatree(tmp_path / "a.ome.zarr")
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", scale_factors=[2])  # which completes it
    assert ngff_xarray.validate(tmp_path / "a.ome.zarr").valid


def test_uneven_pixels_have_no_pyramid(tmp_path: Path) -> None:
    array = volume().isel(x=[0, 1, 5, 6])
    with pytest.raises(UnsupportedError, match="not evenly spaced"):
        array.ngff.pyramid()


_PEAK = """
    import sys, numpy as np, xarray as xr, dask.array as da, ngff_xarray

    def status(key):
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    def noise(block_info=None):
        where = block_info[None]
        rng = np.random.default_rng(where["chunk-location"])
        return rng.integers(0, 1000, where["chunk-shape"], "u2")

    depth = int(sys.argv[2])
    pixels = da.map_blocks(noise, chunks=((64,) * (depth // 64), (64,) * 8, (128,) * 4), dtype="u2")
    array = xr.DataArray(pixels, dims=("z", "y", "x"))
    array[:64, :64, :128].ngff.to_zarr(sys.argv[1] + "/0.ome.zarr", scale_factors=[2])
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    array.ngff.to_zarr(sys.argv[1] + "/1.ome.zarr")
    print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    peaks = []
    for depth in (256, 1024):  # 134 and 537 MB
        (tmp_path / str(depth)).mkdir()
        command = [
            sys.executable,
            "-c",
            textwrap.dedent(_PEAK),
            str(tmp_path / str(depth)),
            str(depth),
        ]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(found.stdout))
    assert max(peaks) < 180e6
    assert peaks[1] < peaks[0] + 60e6


# ---- chunks and shards -------------------------------------------------------------------------


def stored(path: Path, level: int = 0) -> zarr.Array[Any]:
    return zarr.open_array(path / str(level), mode="r")


def equal(path: Path, array: xr.DataArray, **options: Any) -> None:
    written = xr.open_datatree(path).ngff.levels
    for level, wanted in zip(written, array.ngff.pyramid(**options).ngff.levels, strict=True):
        np.testing.assert_array_equal(level.values, wanted.values)


@pytest.mark.parametrize("index", ["start", "end"])
@pytest.mark.parametrize("compressors", [(), (zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec())])
def test_shards_are_put_once_and_whole(
    tmp_path: Path, index: str, compressors: tuple[Any, ...]
) -> None:
    from zarr.codecs import BytesCodec, ShardingCodec

    from ngff_xarray.storage import ChunkWriter

    pixels = RNG.integers(0, 99, (17, 50, 61)).astype("u2")
    pixels[:8, :32, :32] = 0  # a shard of which nothing is stored
    pixels[8:, :16, :16] = 0  # a chunk
    for use in (True, False):
        codec = ShardingCodec(
            chunk_shape=(4, 16, 16), codecs=[BytesCodec(), *compressors], index_location=index
        )
        array = zarr.create_array(
            tmp_path / f"{use}",
            shape=pixels.shape,
            chunks=(8, 32, 32),
            dtype="u2",
            serializer=codec,
            compressors=None,
        )
        writer = ChunkWriter(array)
        assert writer.chunks == (4, 16, 16)
        if not use:
            array[:] = pixels
            continue
        places = [
            (z, y, x) for z in range(0, 17, 4) for y in range(0, 50, 16) for x in range(0, 61, 16)
        ]
        for z, y, x in RNG.permutation(places).tolist():
            writer.write((z, y, x), pixels[z : z + 4, y : y + 16, x : x + 16])
        assert not writer._shards._begun
    ours, theirs = (
        {
            p.relative_to(tmp_path / name): p.read_bytes()
            for p in (tmp_path / name).rglob("*")
            if p.is_file()
        }
        for name in ("True", "False")
    )
    assert ours.keys() == theirs.keys(), "the shard that is empty is not stored"
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "True")[:], pixels)
    place = {"driver": "zarr3", "kvstore": f"file://{tmp_path}/True/"}
    np.testing.assert_array_equal(tensorstore.open(place).result().read().result(), pixels)


@pytest.mark.parametrize("given", [(4, 32, 32), {"z": 4, "y": 32, "x": 32}, [4, 32, 32]])
def test_chunks_as_told(tmp_path: Path, given: Any) -> None:
    array = volume((20, 200, 333))
    options: dict[str, Any] = {"scale_factors": [2, 2, 2]}
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", chunks=given, shards={"z": 8, "x": 64}, **options)
    assert stored(tmp_path / "a.ome.zarr").chunks == (4, 32, 32)
    assert stored(tmp_path / "a.ome.zarr").shards == (8, 32, 64)
    assert stored(tmp_path / "a.ome.zarr", 3).chunks == (3, 25, 32)
    equal(tmp_path / "a.ome.zarr", array, **options)
    assert ngff_xarray.validate(tmp_path / "a.ome.zarr").valid


def test_chunks_and_shards_by_themselves(tmp_path: Path) -> None:
    import dask.array as da

    array = volume((20, 100, 100))
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", chunks="auto", shards="auto")
    assert stored(tmp_path / "a.ome.zarr").shards is None
    flat = xr.DataArray(da.zeros((2, 101, 100), dtype="u1", chunks=-1), dims=("c", "y", "x"))
    flat.ngff.to_zarr(tmp_path / "b.ome.zarr", chunks={"y": 1, "x": 1}, shards="auto", levels=1)
    assert stored(tmp_path / "b.ome.zarr").shards == (1, 101, 100)


@pytest.mark.parametrize("compressor", ["zstd", "blosc"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_compressors_as_told(tmp_path: Path, compressor: Any, version: str) -> None:
    array = volume()
    options: dict[str, Any] = {"scale_factors": [2], "version": version}
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", compressor=compressor, **options)
    names = [type(codec).__name__.lower() for codec in stored(tmp_path / "a.ome.zarr").compressors]
    wanted = f"{compressor}codec" if version == "0.5" else compressor
    assert names == ([wanted, "crc32ccodec"] if version == "0.5" else [wanted])
    equal(tmp_path / "a.ome.zarr", array, scale_factors=[2])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"chunks": "large"}, SelectionError, "chunks: expected 'auto' or sizes"),
        ({"chunks": (4, 4)}, SelectionError, "chunks: expected sizes for z, y, x"),
        ({"chunks": {"q": 4}}, SelectionError, "there is no axis 'q'"),
        ({"chunks": {"x": 0}}, SelectionError, "chunks: x: expected at least 1"),
        ({"chunks": 64}, SelectionError, "chunks: expected sizes"),
        (
            {"chunks": {"x": 10}, "shards": {"x": 25}},
            SelectionError,
            "shards: 25 pixels along x are no whole chunks of 10",
        ),
        ({"shards": {"x": 64}, "version": "0.4"}, UnsupportedError, "write version='0.5'"),
        ({"compressor": "gzip"}, SelectionError, "expected 'blosc' or 'zstd'"),
    ],
)
def test_layouts_that_make_no_sense(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        volume().ngff.to_zarr(tmp_path / "a.ome.zarr", **options)
    assert not list(tmp_path.iterdir())
