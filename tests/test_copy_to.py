"""Copies of a store, or of a part of one: what is in them, and how they go on after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import OMERO
from servers import CountingServer
from stores import write_image, write_plate
from test_copying import contents
from watched import Watched

from ngff_xarray import commands
from ngff_xarray.errors import IncompleteError, SelectionError, StoreError, UnsupportedError

NOISE = np.random.default_rng(0).integers(1, 2**16, (2, 96, 64)).astype("u2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_image(
        tmp_path / "a.ome.zarr",
        axes="cyx",
        data=NOISE,
        levels=3,
        chunks=(1, 32, 32),
        labels={"cells": {}},
        omero=OMERO,
    )


def pixels(tree: xr.DataTree) -> dict[str, Any]:
    return {node.path: array.values for node in tree.subtree for array in node.data_vars.values()}


def test_all_of_a_store_as_it_is_stored(path: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(path)
    tree.ngff.copy_to(tmp_path / "b.ome.zarr", check=True)
    assert contents(tmp_path / "b.ome.zarr") == contents(path)
    xr.testing.assert_equal(xr.open_datatree(tmp_path / "b.ome.zarr"), tree)


def test_some_levels_with_those_of_the_labels_that_suit_them(path: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(path)
    tree.ngff.copy_to(tmp_path / "b.ome.zarr", levels=[1, -1], check=True)
    found = xr.open_datatree(tmp_path / "b.ome.zarr")
    paths = ("/1", "/2", "/labels/cells/1", "/labels/cells/2")
    assert tuple(pixels(found)) == paths
    for each in paths:
        xr.testing.assert_identical(found[each].to_dataset(), tree[each].to_dataset())
    stored = contents(path)
    assert contents(tmp_path / "b.ome.zarr") == {
        key: value for key, value in stored.items() if f"/{key}".startswith(paths)
    }
    assert found.ngff.validate().valid


def test_a_region_of_a_channel_in_another_layout(path: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(path)
    x = tree.ngff.level(0)["x"]
    region = {"x": slice(float(x[8]), float(x[40]))}
    tree.ngff.copy_to(
        tmp_path / "b.ome.zarr",
        region=region,
        channels="GFP",
        chunks=(1, 16, 16),
        shards=(1, 32, 32),
        check=True,
    )
    found = xr.open_datatree(tmp_path / "b.ome.zarr")
    finest = found.ngff.level(0)
    wanted = tree.ngff.crop(region).ngff.level(0).sel(c=["GFP"])
    np.testing.assert_array_equal(finest.values, wanted.values)
    np.testing.assert_array_equal(finest["x"].values, wanted["x"].values)
    assert finest.encoding["shards"] == (1, 32, 32)
    assert [channel.name for channel in found.ngff.channels] == ["GFP"]
    assert found.ngff.labels["cells"].ngff.level(0).sizes["x"] == wanted.sizes["x"]


def test_what_is_not_there_cannot_be_copied(path: Path, tmp_path: Path) -> None:
    tree, target = xr.open_datatree(path), tmp_path / "b.ome.zarr"
    for levels in ([3], [-4], []):
        with pytest.raises(SelectionError, match="there are 3: expected numbers from 0 to 2"):
            tree.ngff.copy_to(target, levels=levels)
    with pytest.raises(SelectionError, match="CY3"):
        tree.ngff.copy_to(target, channels=["CY3"])
    flat = write_image(tmp_path / "flat.ome.zarr", axes="yx")
    with pytest.raises(SelectionError, match="no channel axis"):
        xr.open_datatree(flat).ngff.copy_to(target, channels=["DAPI"])
    plate = xr.open_datatree(write_plate(tmp_path / "p.ome.zarr"))
    with pytest.raises(UnsupportedError, match=r"this is a plate: .*copy one of its images"):
        plate.ngff.copy_to(target, levels=[0])
    assert not target.exists()
    plate.ngff.copy_to(target, check=True)
    assert contents(target) == contents(tmp_path / "p.ome.zarr")


def test_a_check_finds_what_differs(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from ngff_xarray.export import copying

    def spoilt(part: xr.DataTree, target: Path, **options: Any) -> None:
        whole(part, target, **options)
        edit_pixels(target / "labels/cells/0")

    def edit_pixels(place: Path) -> None:
        import zarr

        array = zarr.open_array(place, mode="r+")
        array[1, 1] = array[1, 1] + 1

    whole = copying.write_image
    monkeypatch.setattr(copying, "write_image", spoilt)
    with pytest.raises(StoreError, match=r"not the same .* at labels/cells/0 \(from pixel 0, 0 on"):
        xr.open_datatree(path).ngff.copy_to(tmp_path / "b.ome.zarr", check=True)


# ---- after a kill ------------------------------------------------------------------------------


def killed(tree: xr.DataTree, whole: dict[str, Any], operations: int, **options: Any) -> None:
    with pytest.raises(StoreError, match="No space left"):
        tree.ngff.copy_to(Watched(whole, operations), **options)


def asked(server: CountingServer) -> list[str]:
    return [each.path for each in server.requests if "/c/" in each.path and each.status == 200]


def test_a_copy_that_was_killed_goes_on(path: Path, server: CountingServer) -> None:
    tree = xr.open_datatree(f"{server.url}/{path.name}", engine="ngff")
    copy: dict[str, Any] = {}
    total = len(contents(path))
    for operations in (10, 8, 8):
        killed(tree, copy, operations)
        with pytest.raises(IncompleteError):
            xr.open_datatree(Watched(copy), engine="ngff")
    there = sum("/c/" in key for key in copy)
    assert 0 < there < total
    server.clear()
    tree.ngff.copy_to(Watched(copy), check=False)
    assert len(asked(server)) == total - there
    xr.testing.assert_equal(xr.open_datatree(Watched(copy), engine="ngff"), tree)


@pytest.mark.slow
def test_whatever_moment_it_was_killed_at(path: Path) -> None:
    tree = xr.open_datatree(path)
    whole: dict[str, Any] = {}
    tree.ngff.copy_to(Watched(whole))
    wanted = {key: value.to_bytes() for key, value in whole.items()}
    for operations in range(1, 10**4):
        copy: dict[str, Any] = {}
        try:
            tree.ngff.copy_to(Watched(copy, operations))
        except StoreError:
            tree.ngff.copy_to(Watched(copy))
            assert {key: value.to_bytes() for key, value in copy.items()} == wanted
            continue
        break
    assert operations > 30


def test_on_disks_nothing_is_left_of_a_kill(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, target = xr.open_datatree(path), tmp_path / "b.ome.zarr"
    copied: list[Path] = []

    def few(source: Path, part: Path) -> None:
        if len(copied) >= 5:
            raise KeyboardInterrupt
        copied.append(source)
        copyfile(source, part)

    copyfile = shutil.copyfile
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", few)
        tree.ngff.copy_to(target)
    times = {each: each.stat().st_mtime_ns for each in copied_chunks(target)}
    next(iter(times)).with_suffix(".0123.partial").write_bytes(b"half")
    assert len(times) == 5
    tree.ngff.copy_to(target, check=True)
    assert contents(target) == contents(path)
    assert {each: each.stat().st_mtime_ns for each in times} == times
    assert not list(target.rglob("*.partial"))


def copied_chunks(target: Path) -> list[Path]:
    return [each for each in target.rglob("*") if each.is_file() and each.name.isdigit()]


def test_another_copy_begins_anew(path: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(path)
    other = write_image(
        tmp_path / "b.ome.zarr", axes="cyx", data=NOISE + 1, levels=3, chunks=(1, 32, 32)
    )
    for again, options in ((tree, {"levels": [0]}), (xr.open_datatree(other), {})):
        copy: dict[str, Any] = {}
        killed(tree, copy, 25)
        again.ngff.copy_to(Watched(copy), check=True, **options)
        copy = {}
        killed(tree, copy, 25)
        again.ngff.to_zarr(Watched(copy))
        xr.testing.assert_equal(xr.open_datatree(Watched(copy), engine="ngff"), again)


def test_the_command(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "b.ome.zarr")
    words = ["copy", str(path), target, "--levels", "1,2", "--channels", "DAPI", "--check"]
    with pytest.raises(SystemExit) as ended:
        commands.main([*words, "--region", "y=:20", "--compressor", "zstd"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"copied to {target}\n")
    found = xr.open_datatree(target)
    wanted = xr.open_datatree(path).ngff.crop(y=slice(None, 20)).ngff.level(1).sel(c=["DAPI"])
    np.testing.assert_array_equal(found.ngff.level(0).values, wanted.values)
    with pytest.raises(SystemExit) as ended:
        commands.main(words)
    assert ended.value.code == 2
    assert "something already" in capsys.readouterr().err
