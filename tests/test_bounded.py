"""Chunks that unpack to more than a chunk holds are refused, and all others are read."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from stores import write_image

from ngff_xarray.errors import StoreError

NOISE = np.random.default_rng(0).integers(0, 2**16, (64, 64)).astype("u2")
BOMB = np.zeros(2**25, "u1")  # 32 MB

V3 = {
    "gzip": (zarr.codecs.GzipCodec(), numcodecs.GZip()),
    "zstd": (zarr.codecs.ZstdCodec(), numcodecs.Zstd()),
    "blosc": (zarr.codecs.BloscCodec(), numcodecs.Blosc()),
}
V2 = {
    each.codec_id: each
    for each in (
        numcodecs.GZip(),
        numcodecs.Zlib(),
        numcodecs.BZ2(),
        numcodecs.LZMA(),
        numcodecs.LZ4(),
        numcodecs.Zstd(),
        numcodecs.Blosc(),
    )
}


def store(path: Path, version: str, **array: Any) -> Path:
    """An image of one level whose array is written anew."""
    write_image(path, version=version, axes="yx", data=NOISE, levels=1)
    made = zarr.create_array(
        path / "0",
        shape=NOISE.shape,
        dtype="u2",
        chunks=(32, 32),
        zarr_format=2 if version == "0.4" else 3,
        overwrite=True,
        **array,
    )
    made[:] = NOISE
    return path


def check(path: Path, chunk: str, packed: bytes) -> None:
    tree = xr.open_datatree(path)
    np.testing.assert_array_equal(tree["0/image"].values, NOISE)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tree))["0/image"].values, NOISE)
    (path / chunk).write_bytes(packed)
    tree = xr.open_datatree(path)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=r"a chunk of \d+ bytes unpacks to \d+ bytes or more"):
            tree["0/image"].load()
        assert tracemalloc.get_traced_memory()[1] < BOMB.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", V3)
def test_bombs_of_zarr_v3(tmp_path: Path, name: str) -> None:
    ours, packer = V3[name]
    path = store(tmp_path / "a.ome.zarr", "0.5", compressors=ours)
    check(path, "0/c/0/0", bytes(packer.encode(BOMB)))


@pytest.mark.parametrize("name", V2)
def test_bombs_of_zarr_v2(tmp_path: Path, name: str) -> None:
    path = store(tmp_path / "a.ome.zarr", "0.4", compressors=V2[name])
    check(path, "0/0.0", bytes(V2[name].encode(BOMB)))


def frame(parts: list[tuple[int, int, bytes]]) -> bytes:
    """A frame of Zstandard that does not say how much it holds: kind, size, content of blocks."""
    blocks = [
        (int(i == len(parts) - 1) | kind << 1 | size << 3).to_bytes(3, "little") + content
        for i, (kind, size, content) in enumerate(parts)
    ]
    return b"\x28\xb5\x2f\xfd\0\x38" + b"".join(blocks)


def raw(content: bytes, step: int = 1000) -> bytes:
    parts = [content[i : i + step] for i in range(0, len(content), step)]
    return frame([(0, len(part), part) for part in parts])


def streamed(content: bytes) -> bytes:
    """What a writer packs that does not know the end: the header says no size."""
    packed = bytes(numcodecs.Zstd(9).encode(content))
    flags = packed[4]
    assert flags & 0x20  # a single segment, which states its size
    size = (1, 2, 4, 8)[flags >> 6]
    return packed[:4] + bytes([flags & 0x1C, 0x38]) + packed[5 + size :]


ZSTD = [("0.5", {"compressors": zarr.codecs.ZstdCodec()}, "0/c/0/0")]
ZSTD += [("0.4", {"compressors": numcodecs.Zstd()}, "0/0.0")]


@pytest.mark.parametrize(("version", "array", "chunk"), ZSTD, ids=["v3", "v2"])
def test_frames_of_zstandard_that_do_not_say_their_size(
    tmp_path: Path, version: str, array: Any, chunk: str
) -> None:
    path = store(tmp_path / "a.ome.zarr", version, **array)
    content = NOISE[:32, :32].tobytes()
    even = np.full((32, 32), 7, "u2")
    for packed in (raw(content), raw(content, 3), frame([(0, 0, b"")] * 99) + raw(content)):
        (path / chunk).write_bytes(packed)
        np.testing.assert_array_equal(xr.open_datatree(path)["0/image"].values, NOISE)
    (path / chunk).write_bytes(streamed(even.tobytes()))
    np.testing.assert_array_equal(xr.open_datatree(path)["0/image"][:32, :32].values, even)
    (path / chunk).write_bytes(raw(content)[:-100])
    with pytest.raises(StoreError, match="Zstd decompression error"):
        xr.open_datatree(path)["0/image"].load()
    (path / chunk).write_bytes(raw(content))
    check(path, chunk, frame([(1, 2**17, b"\0")] * 256))
    (path / chunk).write_bytes(raw(content))
    check(path, chunk, raw(content) + frame([(1, 2**17, b"\0")] * 256))


def test_filters_that_add_to_frames_without_a_size(tmp_path: Path) -> None:
    filters = [numcodecs.AsType("<f8", "<u2")]  # four times as long as the chunk
    path = store(tmp_path / "a.ome.zarr", "0.4", filters=filters, compressors=numcodecs.Zstd())
    content = NOISE[:32, :32].astype("<f8").tobytes()
    (path / "0/0.0").write_bytes(raw(content))
    np.testing.assert_array_equal(xr.open_datatree(path)["0/image"].values, NOISE)


@pytest.mark.parametrize("compressor", [numcodecs.Zstd(), numcodecs.Zlib()], ids=str)
def test_filters_that_store_more_than_they_hold(tmp_path: Path, compressor: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version="0.4", axes="yx", data=NOISE, levels=1)
    data = np.ones((1024, 1024), "u1")  # a megabyte, which is eight on the way
    made = zarr.create_array(
        path / "0",
        shape=data.shape,
        dtype="u1",
        chunks=data.shape,
        zarr_format=2,
        overwrite=True,
        filters=[numcodecs.AsType("<f8", "|u1")],
        compressors=compressor,
    )
    made[:] = data
    np.testing.assert_array_equal(xr.open_datatree(path)["0/image"].values, data)


def test_bombs_in_shards(tmp_path: Path) -> None:
    codec = zarr.codecs.GzipCodec()
    path = store(tmp_path / "a.ome.zarr", "0.5", compressors=codec, shards=(64, 64))
    packed = bytes(numcodecs.GZip().encode(BOMB))
    index = np.full((2, 2, 2), 2**64 - 1, "<u8")
    index[0, 0] = 0, len(packed)
    content = index.tobytes()
    content += int(numcodecs.CRC32C().encode(content)[-4:].view("<u4")[0]).to_bytes(4, "little")
    check(path, "0/c/0/0", packed + content)


def test_filters_and_padding_are_read(tmp_path: Path) -> None:
    filters = [numcodecs.Shuffle(2)]
    path = store(tmp_path / "a.ome.zarr", "0.4", filters=filters, compressors=numcodecs.Zlib())
    np.testing.assert_array_equal(xr.open_datatree(path)["0/image"].values, NOISE)
    chunk = path / "0/0.0"
    chunk.write_bytes(chunk.read_bytes() + bytes(9))
    np.testing.assert_array_equal(xr.open_datatree(path)["0/image"].values, NOISE)
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(StoreError, match="end early"):
        xr.open_datatree(path)["0/image"].load()


def test_blosc_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "a.ome.zarr", "0.5", compressors=zarr.codecs.BloscCodec())
    chunk = path / "0/c/0/0"
    for length in (1000, 10, 0):  # by itself, it returns what memory there is
        chunk.write_bytes(chunk.read_bytes()[:length])
        with pytest.raises(StoreError, match="end early"):
            xr.open_datatree(path)["0/image"].load()


def test_what_was_stored_is_repeated(tmp_path: Path) -> None:
    codec = zarr.codecs.GzipCodec(level=3)
    path = store(tmp_path / "a.ome.zarr", "0.5", compressors=codec)
    tree = xr.open_datatree(path)
    assert tree["0/image"].encoding["compressors"] == (codec,)
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
    assert zarr.open_array(tmp_path / "b.ome.zarr" / "0").compressors == (codec,)
