"""Every chunk is read once: what is missing, and what is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer, depth
from stores import write_image, write_plate
from test_zips import zipped

from ngff_xarray.errors import StoreError
from ngff_xarray.verifying import verify

NOISE = np.random.default_rng(0).integers(1, 2**16, (64, 64)).astype("u2")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(
        tmp_path / "a.ome.zarr", axes="yx", data=NOISE, levels=2, chunks=(32, 32), labels={"n": {}}
    )


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[:8] = bytes(8)  # what a compressor writes first
    path.write_bytes(content)


def test_a_whole_image(image: Path) -> None:
    found = xr.open_datatree(image).ngff.verify()
    # 4 and 1 of the pixels, as many of the labels
    assert (found.ok, found.chunks, found.corrupt) == (True, 10, {})
    assert str(found).startswith("whole: ")
    assert str(image) in found._repr_html_()


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("shards", [None, (64, 64)], ids=["chunks", "shards"])
def test_missing_and_damaged_chunks_are_named(tmp_path: Path, chunks: Any, shards: Any) -> None:
    path = write_image(
        tmp_path / "b.ome.zarr", axes="yx", data=NOISE, levels=2, chunks=(32, 32), shards=shards
    )
    (path / "1/c/0/0").unlink()
    damage(path / "0/c/0/0")
    found = verify(xr.open_datatree(path, chunks=chunks))
    assert not found.ok
    assert found.missing == ("1/c/0/0",)
    assert list(found.corrupt) == ["0/c/0/0"]
    assert "damaged: " in str(found)
    assert "corrupt  0/c/0/0: " in str(found)
    assert "missing  1/c/0/0" in str(found)


def test_a_file_cut_short(image: Path) -> None:
    chunk = image / "0/c/1/1"
    chunk.write_bytes(chunk.read_bytes()[:10])
    (image / "0/c/1/0").write_bytes(b"")
    assert sorted(verify(xr.open_datatree(image)).corrupt) == ["0/c/1/0", "0/c/1/1"]


def test_over_http_each_chunk_is_asked_for_once(image: Path, server: CountingServer) -> None:
    tree = xr.open_datatree(f"{server.url}/{image.name}")
    (image / "0/c/0/1").unlink()
    server.failures[f"/{image.name}/0/c/1/1"] = 403
    server.clear()
    found = tree.ngff.verify()
    asked = [request.path for request in server.requests if "/c/" in request.path]
    assert len(asked) == len(set(asked)) == found.chunks == 10
    assert "0/c/0/1" in found.missing
    assert list(found.corrupt) == ["0/c/1/1"]
    assert "403" in found.corrupt["0/c/1/1"]


def test_chunks_of_all_arrays_are_under_way_together(
    tmp_path: Path, server: CountingServer
) -> None:
    write_plate(tmp_path / "p.ome.zarr")
    plate = xr.open_datatree(f"{server.url}/p.ome.zarr", engine="ngff", wells="all")
    server.latency = 0.1
    server.clear()
    found = plate.ngff.verify()
    chunks = [request for request in server.requests if "/c/" in request.path]
    assert len(chunks) == found.chunks > 8
    assert depth(chunks) <= -(-len(chunks) // 64) + 1


def test_plates_and_zip_files(tmp_path: Path, image: Path) -> None:
    plate = write_plate(tmp_path / "p.ome.zarr")
    chunk = next(path for path in sorted(plate.rglob("c/*")) if path.is_dir())
    lost = next(path for path in chunk.rglob("*") if path.is_file())
    damage(lost)
    found = xr.open_datatree(plate).ngff.verify()
    assert list(found.corrupt) == [lost.relative_to(plate).as_posix()]
    assert xr.open_datatree(zipped(image, tmp_path / "a.ozx")).ngff.verify().ok


def test_many_faults_are_no_flood(tmp_path: Path) -> None:
    data = np.ones((100, 100), "u1")
    path = write_image(tmp_path / "m.ome.zarr", axes="yx", data=data, levels=1, chunks=(5, 5))
    for chunk in (path / "0/c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    found = verify(xr.open_datatree(path))
    assert len(found.missing) == 400
    assert len(str(found).splitlines()) == 12
    assert "… and 390 more: see .missing" in str(found)


def test_what_came_from_no_store() -> None:
    tree = xr.DataTree.from_dict({"/0": xr.Dataset({"image": (("y", "x"), NOISE)})})
    with pytest.raises(StoreError, match="where this object came from"):
        verify(tree)


def test_short_work_shows_no_bar(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = xr.open_datatree(image)
    verify(tree)
    verify(tree, progress=False)
    assert capsys.readouterr().err == ""
