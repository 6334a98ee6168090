"""Much of an array at once: the same pixels as zarr's, soon, and in little memory."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import write_image
from zarr.core.codec_pipeline import BatchedCodecPipeline

from ngff_xarray.errors import StoreError
from ngff_xarray.storage import BulkReader
from ngff_xarray.storage.bounded import bound, said_size

pytest.importorskip("zarrs", reason="needs the extra fast")

SHAPE = (5, 37, 70)  # chunks of (2, 16, 16) are cut at all ends
FULL = (slice(None),) * 3
RNG = np.random.default_rng(0)

Z = zarr.codecs
V3: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "zstd": {"compressors": Z.ZstdCodec(level=3)},
    "zstd with a checksum": {"compressors": Z.ZstdCodec(checksum=True)},
    "zstd, crc32c": {"compressors": [Z.ZstdCodec(), Z.Crc32cCodec()]},
    "crc32c": {"compressors": [Z.Crc32cCodec()]},
    "blosc": {"compressors": Z.BloscCodec(cname="lz4", shuffle="bitshuffle")},
    "big endian": {"compressors": None, "serializer": Z.BytesCodec(endian="big")},
    "transposed": {"filters": Z.TransposeCodec(order=(2, 0, 1))},
    "flat keys": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "shards": {"shards": (4, 32, 32)},
    "shards, plain": {"shards": (4, 32, 32), "compressors": None},
    "shards, crc32c": {"shards": (4, 32, 32), "compressors": [Z.Crc32cCodec()]},
    "blosc, crc32c": {"compressors": [Z.BloscCodec(), Z.Crc32cCodec()]},
    "shards, blosc, crc32c": {
        "shards": (4, 32, 32),
        "compressors": [Z.BloscCodec(), Z.Crc32cCodec()],
    },
    "shards, transposed": {"shards": (4, 32, 32), "filters": Z.TransposeCodec(order=(2, 0, 1))},
    "index first": {
        "serializer": Z.ShardingCodec(chunk_shape=(2, 16, 16), index_location="start"),
        "chunks": (4, 32, 32),
        "compressors": None,
    },
}
V2: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "blosc": {"compressors": numcodecs.Blosc()},
    "zstd": {"compressors": numcodecs.Zstd()},
    "order F": {"compressors": numcodecs.Blosc(), "order": "F"},
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "gzip": {"compressors": Z.GzipCodec()},
    "gzip in shards": {"shards": (4, 32, 32), "compressors": Z.GzipCodec()},
    "zlib": {"compressors": numcodecs.Zlib(), "zarr_format": 2},
    "two": {"compressors": [Z.ZstdCodec(), Z.GzipCodec()]},
    "filters": {"filters": [numcodecs.Delta("<u2")], "zarr_format": 2},
    "no fill value": {"fill_value": None, "zarr_format": 2},
    "shards of shards": {
        "serializer": Z.ShardingCodec(
            chunk_shape=(2, 16, 16), codecs=[Z.ShardingCodec(chunk_shape=(1, 16, 16))]
        ),
        "chunks": (4, 32, 32),
        "compressors": None,
    },
}


def made(path: Path, dtype: str = "u2", zarr_format: Any = 3, **array: Any) -> zarr.Array[Any]:
    """An array of noise, some of whose chunks are left out."""
    given = {"chunks": (2, 16, 16), "fill_value": 1, "zarr_format": zarr_format, **array}
    found = zarr.create_array(path, shape=SHAPE, dtype=dtype, **given)
    noise = RNG.integers(0, 256, (*SHAPE, found.dtype.itemsize), dtype="u1")
    values = noise % 2 if dtype == "?" else np.nan_to_num(noise.view(found.dtype)[..., :1])
    found[:] = values[..., 0].astype(found.dtype)
    if given["fill_value"] is not None:
        found[2:4, 16:32] = found.fill_value  # which is not stored
    found = zarr.open_array(path, mode="r")
    bound(found.async_array)
    return found


def check(array: zarr.Array[Any], *, fast: bool) -> BulkReader:
    reader = BulkReader(array)
    assert (reader._fast is not None) == fast
    for key in (FULL, (slice(1, 5), slice(3, 37), slice(16, 69)), (3, slice(None), slice(None))):
        found = reader.read(key)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array[key])
    return reader


def run(code: str, *arguments: Any) -> str:
    """Return what a program prints that has a process to itself."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def only_zarrs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let zarr read nothing by itself."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("zarr reads")

    monkeypatch.setattr(BatchedCodecPipeline, "read", refuse)


@pytest.fixture
def without_zarrs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BulkReader, "_fast", None)


# ---- the same pixels ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", V3)
def test_zarr_v3(tmp_path: Path, name: str) -> None:
    check(made(tmp_path / "a", **V3[name]), fast=True)


@pytest.mark.parametrize("name", V2)
def test_zarr_v2(tmp_path: Path, name: str) -> None:
    check(made(tmp_path / "a", zarr_format=2, **V2[name]), fast=True)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u4", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_types(tmp_path: Path, dtype: str, zarr_format: int) -> None:
    check(made(tmp_path / "a", dtype=dtype, zarr_format=zarr_format), fast=True)


@pytest.mark.parametrize("name", UNKNOWN)
def test_others_are_left_to_zarr(tmp_path: Path, name: str) -> None:
    check(made(tmp_path / "a", **UNKNOWN[name]), fast=False)


@pytest.mark.parametrize("name", ["shards", "gzip in shards"])
def test_shards_without_zarrs(tmp_path: Path, without_zarrs: None, name: str) -> None:
    check(made(tmp_path / "a", **(V3 | UNKNOWN)[name]), fast=False)


def test_big_endian_of_zarr_v2(tmp_path: Path) -> None:
    array = made(tmp_path / "a", dtype=">u2", zarr_format=2)
    np.testing.assert_array_equal(BulkReader(array).read(FULL), array[:])


def test_metadata_that_zarrs_refuses(tmp_path: Path) -> None:
    array = made(tmp_path / "a", **V3["zstd"])
    text = (tmp_path / "a" / "zarr.json").read_text()
    assert '"checksum": false' in text
    (tmp_path / "a" / "zarr.json").write_text(
        text.replace('"checksum": false', "").replace('"level": 3,', '"level": 3')
    )
    odd = zarr.open_array(tmp_path / "a", mode="r")
    np.testing.assert_array_equal(BulkReader(odd).read(FULL), array[:])


def test_places_with_odd_names(tmp_path: Path) -> None:
    array = made(tmp_path / "ä b" / "50 %41#1?x=[0]" / "a")
    check(array, fast=True)


# ---- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_are_read_by_zarrs(tmp_path: Path, only_zarrs: None, version: str) -> None:
    noise = RNG.integers(0, 2**16, (64, 64)).astype("u2")
    path = tmp_path / "a.ome.zarr"
    write_image(path, version=version, axes="yx", data=noise, levels=1, chunks=(16, 16))
    tree = xr.open_datatree(path)
    np.testing.assert_array_equal(tree["0/image"].values, noise)
    again = pickle.loads(pickle.dumps(xr.open_datatree(path)))
    np.testing.assert_array_equal(again["0/image"][3:].values, noise[3:])
    with pytest.raises(StoreError, match="zarr reads"):
        xr.open_datatree(path)["0/image"][:20, :20].load()


_FORK = """
    import multiprocessing, sys, warnings, zarr
    from ngff_xarray.storage import BulkReader

    warnings.simplefilter("ignore")  # Python warns of threads
    reader = BulkReader(zarr.open_array(sys.argv[1], mode="r"))

    def total(_):
        return int(reader.read((slice(None),) * 3).sum())

    before = total(0)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map_async(total, [0]).get(timeout=60) == [before]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, processes are not forked")
def test_forked_processes_read_without_threads_of_zarrs(tmp_path: Path) -> None:
    made(tmp_path / "a")
    run(_FORK, tmp_path / "a")


# ---- what is wrong with chunks -----------------------------------------------------------------


def _short(packed: bytes) -> bytes:
    return packed[: len(packed) // 2]


def _page(_: bytes) -> bytes:
    return b"<!doctype html><title>no such chunk</title>"


@pytest.mark.parametrize("spoil", [_short, _page, lambda _: b""])
@pytest.mark.parametrize(
    "name", ["plain", "zstd", "blosc", "zstd, crc32c", "shards", "index first"]
)
def test_errors_are_zarrs_own(tmp_path: Path, name: str, spoil: Callable[[bytes], bytes]) -> None:
    array = made(tmp_path / "a", **V3[name])
    chunk = tmp_path / "a" / "c" / "0" / "0" / "0"
    chunk.write_bytes(spoil(chunk.read_bytes()))
    reader = BulkReader(array)
    try:
        wanted = array[:]
    except Exception as error:
        with pytest.raises(type(error)):
            reader.read(FULL)
    else:
        np.testing.assert_array_equal(reader.read(FULL), wanted)


@pytest.mark.parametrize("name", [name for name in V3 if "crc32c" in name])
def test_every_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    array = made(tmp_path / "a", **V3[name])
    for chunk in (tmp_path / "a" / "c").rglob("*"):
        if chunk.is_dir():
            continue
        content = chunk.read_bytes()
        for at in range(0, len(content), 700):  # in every chunk of a shard
            chunk.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(ValueError, match="checksum"):
                BulkReader(array).read(FULL)
        chunk.write_bytes(content)
    check(array, fast=True)


@pytest.mark.parametrize("name", ["zstd", "blosc", "plain"])
@pytest.mark.parametrize("shards", [None, (4, 32, 32)])
def test_bombs_are_not_given_to_zarrs(
    tmp_path: Path, name: str, shards: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = made(tmp_path / "a", **V3[name], shards=shards)
    big = np.zeros(2**23, "u1")
    packed = {"zstd": numcodecs.Zstd(), "blosc": numcodecs.Blosc()}.get(name)
    bomb = bytes(packed.encode(big)) if packed else big.tobytes()
    if shards:
        index = np.full((2, 2, 2, 2), 2**64 - 1, "<u8")
        index[0, 0, 0] = 0, len(bomb)
        content = index.tobytes()
        bomb += content + numcodecs.CRC32C().encode(content)[-4:].tobytes()
    (tmp_path / "a" / "c" / "0" / "0" / "0").write_bytes(bomb)
    reader = BulkReader(array)
    monkeypatch.setattr(type(reader._fast.array), "__getitem__", _asked, raising=True)  # type: ignore[union-attr]
    with pytest.raises(LookupError, match="as zarr reads it"):
        reader.read(FULL)


def _asked(array: zarr.Array[Any], _: Any) -> None:
    kind = type(array.async_array.codec_pipeline).__name__
    raise LookupError("as zarr reads it" if kind != "ZarrsCodecPipeline" else "as zarrs does")


def test_what_frames_of_zstandard_say() -> None:
    def most(packed: bytes) -> int:
        return said_size("zstd", lambda at, count: packed[at : at + count], len(packed))

    noise = RNG.integers(0, 256, 300_000, dtype="u1")
    for values in (noise, np.zeros(300_000, "u1"), np.zeros(5, "u1"), noise[:1], noise // 9):
        packed = bytes(numcodecs.Zstd(level=3).encode(values))
        assert values.nbytes <= most(packed) <= values.nbytes + 2**17
        skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
        assert most(skipped + packed + skipped + packed) == 2 * most(packed)
    for broken in (packed[:-3], packed[:4], b"PK" + packed):
        with pytest.raises(ValueError, match="compressed data"):
            most(broken)


# ---- memory and requests -----------------------------------------------------------------------

_PEAK = """
    import sys, numpy as np, zarr
    from ngff_xarray.storage import BulkReader

    def status(key):
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    if sys.argv[2] == "without":
        BulkReader._fast = None
    array = zarr.open_array(sys.argv[1], mode="r")
    reader = BulkReader(array)
    reader.read((slice(0, 4), *[slice(0, 512)] * 2))  # threads and buffers of the first read
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    found = reader.read((slice(None),) * 3)
    print(status("VmHWM") - before, found.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("zarrs", ["with", "without"])
@pytest.mark.parametrize("shards", [None, (16, 512, 1024)])
def test_memory_is_the_array_and_64_chunks(
    tmp_path: Path, zarrs: str, shards: tuple[int, ...] | None
) -> None:
    chunks = (4, 256, 256)  # half a megabyte
    array = zarr.create_array(
        tmp_path / "a", shape=(64, 1024, 1024), chunks=chunks, shards=shards, dtype="u2"
    )
    for start in range(0, 64, 16):
        array[start : start + 16] = RNG.integers(0, 4000, (16, 1024, 1024), dtype="u2")
    del array
    gc.collect()
    peak, nbytes = map(int, run(_PEAK, tmp_path / "a", zarrs).split())
    assert nbytes == 2**27
    assert peak < nbytes + 64 * 2**19 + 2**24, "and what the allocator keeps"


def test_a_remote_shard_is_one_request(tmp_path: Path) -> None:
    noise = RNG.integers(0, 2**16, (128, 128)).astype("u2")
    write_image(
        tmp_path / "a.ome.zarr",
        version="0.5",
        axes="yx",
        data=noise,
        levels=1,
        chunks=(16, 16),
        shards=(64, 64),
    )
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/a.ome.zarr")
        server.clear()
        np.testing.assert_array_equal(tree["0/image"].values, noise)
        assert len(server.requests) == 4
