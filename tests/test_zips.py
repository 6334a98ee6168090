"""Images in zip files: local and remote, by ranges, and files that are not what they say."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import write_image

from ngff_xarray.errors import NgffError, StoreError, StoreNotFoundError

PIXELS = np.arange(64 * 64, dtype="u2").reshape(64, 64) + 1


def zipped(
    folder: Path,
    target: Path,
    *,
    method: int = zipfile.ZIP_STORED,
    before: bytes = b"",
    comment: bytes = b"",
    many: int = 0,
) -> Path:
    """Pack a folder as RFC-9 has it: zarr.json first, the store's root at the root."""
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: len(p.parts)
    )
    with target.open("wb") as stream:
        stream.write(before)
        with zipfile.ZipFile(stream, "w", method) as archive:
            for path in files:
                archive.write(path, path.relative_to(folder).as_posix())
            for i in range(many):
                archive.writestr(f"more/{i}", b"")
            archive.comment = comment
    return target


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(
        tmp_path / "a.ome.zarr",
        axes="yx",
        data=PIXELS,
        levels=2,
        chunks=(32, 32),
        labels={"cells": {}},
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["", "deflated"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("name", ["a.ozx", "a.ome.zarr.zip"])
def test_an_image_in_a_zip_file(tmp_path: Path, method: int, version: str, name: str) -> None:
    folder = write_image(
        tmp_path / "a.ome.zarr", version=version, axes="yx", data=PIXELS, labels={"cells": {}}
    )
    plain = xr.open_datatree(folder)
    tree = xr.open_datatree(zipped(folder, tmp_path / name, method=method))
    assert tree.ngff.version == version
    for node in plain.subtree:
        if node.data_vars:
            xr.testing.assert_identical(
                tree[node.path].to_dataset().drop_attrs(), node.to_dataset().drop_attrs()
            )
    np.testing.assert_array_equal(tree["0/image"].values, PIXELS)


@pytest.mark.parametrize(
    "options",
    [
        {"before": b"#!/bin/sh\n" * 30},
        {"comment": b'{"ome": {"version": "0.5", "zipFile": {"centralDirectory": {}}}}'},
        {"comment": b"PK\x05\x06" * 9},
        {"many": 5_000},
        {"many": 70_000},
    ],
    ids=["after a script", "comment", "a comment like an end", "long directory", "ZIP64"],
)
def test_zip_files_of_every_kind(image: Path, tmp_path: Path, options: dict[str, object]) -> None:
    tree = xr.open_datatree(zipped(image, tmp_path / "a.ozx", **options))  # type: ignore[arg-type]
    np.testing.assert_array_equal(tree["0/image"].values, PIXELS)


def test_over_http_little_is_asked(image: Path, tmp_path: Path, server: CountingServer) -> None:
    zipped(image, tmp_path / "a.ozx")
    tree = xr.open_datatree(f"{server.url}/a.ozx")
    assert server.misses == 0
    opening = server.count
    # the directory, and each document: the root, 2 levels, labels, a label image and its 2 levels
    assert opening == 1 + 1 + 2 + 1 + 1 + 2
    np.testing.assert_array_equal(tree["0/image"].values, PIXELS)
    assert server.count - opening == 4
    assert {request.status for request in server.requests} == {206}


def test_parts_of_shards_in_a_zip_file(tmp_path: Path, server: CountingServer) -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (256, 256)).astype("u2")
    folder = write_image(
        tmp_path / "s.ome.zarr", axes="yx", data=noise, levels=1, chunks=(32, 32), shards=(256, 256)
    )
    zipped(folder, tmp_path / "s.ozx")
    tree = xr.open_datatree(f"{server.url}/s.ozx")
    server.clear()
    np.testing.assert_array_equal(tree["0/image"][:32, :32].values, noise[:32, :32])
    assert sum(request.nbytes for request in server.requests) < 8_000
    assert server.count == 3  # where the entry begins, the shard's index, a chunk


def test_a_zip_file_is_pickled(image: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(zipped(image, tmp_path / "a.ozx"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tree))["0/image"].values, PIXELS)


def test_missing_chunks_raise_in_zip_files_too(image: Path, tmp_path: Path) -> None:
    (image / "0/c/1/1").unlink()
    path = zipped(image, tmp_path / "a.ozx")
    assert xr.open_datatree(path)["0/image"].values[-1, -1] == 0
    with pytest.raises(StoreError, match="0/c/1/1: this chunk is not in the store"):
        xr.open_datatree(path, missing="raise")["0/image"].load()


def test_nothing_is_written_to_a_zip_file(image: Path, tmp_path: Path) -> None:
    path = zipped(image, tmp_path / "a.ozx")
    before = path.read_bytes()
    with pytest.raises(NgffError):
        xr.open_datatree(image).ngff.to_zarr(path)
    assert path.read_bytes() == before


# ---- bad files ---------------------------------------------------------------------------------


def test_no_zip_file(tmp_path: Path, server: CountingServer) -> None:
    for name, content in (("a.ozx", b""), ("b.ozx", b"PK" + bytes(9)), ("c.ozx", bytes(99_999))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match="no zip file"):
            xr.open_datatree(tmp_path / name)
    with pytest.raises(StoreNotFoundError):
        xr.open_datatree(tmp_path / "d.ozx")
    with pytest.raises(StoreError, match=r"d\.ozx"):
        xr.open_datatree(f"{server.url}/d.ozx", engine="ngff")


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "x/../../a", "..\\a"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.ozx", "w") as archive:
        archive.writestr("zarr.json", "{}")
        archive.writestr(name, "x")
    with pytest.raises(StoreError, match="leads out of the file"):
        xr.open_datatree(tmp_path / "a.ozx")


def test_a_bomb_is_refused_before_it_unpacks(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ozx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zarr.json", b" " * 100_000_000)
    with pytest.raises(NgffError, match="100000000 bytes"):
        xr.open_datatree(path)
    # an entry that unpacks to more than it says
    content = bytearray(path.read_bytes())
    size = (100_000_000).to_bytes(4, "little")
    while (at := content.find(size)) >= 0:
        content[at : at + 4] = (50).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        xr.open_datatree(path)


def test_a_flipped_bit_is_found(image: Path, tmp_path: Path) -> None:
    path = zipped(image, tmp_path / "a.ozx")
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("0/c/0/0").header_offset + 30 + len("0/c/0/0") + 20
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"0/c/0/0 is damaged"):
        xr.open_datatree(path)["0/image"].load()


def test_a_cut_file_is_found(image: Path, tmp_path: Path) -> None:
    whole = zipped(image, tmp_path / "a.ozx").read_bytes()
    for kept in (len(whole) - 1, len(whole) - 100, len(whole) // 2, 100):
        (tmp_path / "b.ozx").write_bytes(whole[:kept])
        with pytest.raises(StoreError):
            xr.open_datatree(tmp_path / "b.ozx")
    (tmp_path / "b.ozx").write_bytes(whole[200:])  # its beginning is missing
    with pytest.raises(NgffError):
        xr.open_datatree(tmp_path / "b.ozx")
