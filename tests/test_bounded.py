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
