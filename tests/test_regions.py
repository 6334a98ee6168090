"""Pixels written into a part of an image that is there."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import write_image, write_plate
from watched import Watched

import ngff_xarray
from ngff_xarray import unfinished
from ngff_xarray.errors import (
    IncompleteError,
    NotOmeError,
    SelectionError,
    StoreError,
    StoreNotFoundError,
    UnsupportedError,
)

RNG = np.random.default_rng(0)


def axis(size: int, step: float, start: float = 0.0) -> Any:
    return start + step * np.arange(size), {"units": "micrometer"}


def image(shape: tuple[int, ...] = (2, 8, 60, 71), seed: int = 0) -> xr.DataArray:
    steps = {"z": (2.0, 5.0), "y": (0.5, -3.0), "x": (0.5, 100.0)}
    coords: dict[str, Any] = {
        dim: (dim, *axis(size, *steps[dim])) for dim, size in zip("zyx", shape[1:], strict=True)
    }
    coords["c"] = ["DAPI", "GFP"][: shape[0]]
    pixels = np.random.default_rng(seed).integers(1, 4000, shape).astype("u2")
    return xr.DataArray(pixels, coords, ("c", "z", "y", "x"))


LEVELS: dict[str, Any] = {"scale_factors": [{"y": 2, "x": 2}, 2, 2]}
CHUNKS = {"z": 4, "y": 16, "x": 16}


def written(target: Any, array: xr.DataArray, **options: Any) -> None:
    array.ngff.to_zarr(target, chunks=CHUNKS, **{**LEVELS, **options})


def check(target: Any, array: xr.DataArray, **options: Any) -> None:
    """Check that all levels are those that the whole image would have been written with."""
    found = xr.open_datatree(target, engine="ngff").ngff.levels
    wanted = array.ngff.pyramid(**{**LEVELS, **options}).ngff.levels
    assert len(found) == len(wanted)
    for level, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(level.values, expected.values)


PARTS: dict[str, dict[str, slice]] = {
    "one pixel": {"c": slice(1, 2), "z": slice(3, 4), "y": slice(17, 18), "x": slice(70, 71)},
    "a chunk": {"z": slice(4, 8), "y": slice(16, 32), "x": slice(32, 48)},
    "odd ends": {"z": slice(1, 7), "y": slice(5, 41), "x": slice(33, 71)},
    "a plane": {"z": slice(2, 3)},
    "all": {},
}


@pytest.mark.parametrize(
    ("version", "name", "method"),
    [
        *(("0.5", name, "mean") for name in PARTS),
        *(("0.5", "odd ends", method) for method in ("mode", "max", "nearest", "median")),
        ("0.4", "odd ends", "mean"),
        ("0.6", "odd ends", "mean"),
    ],
)
def test_all_levels_follow(version: str, name: str, method: str) -> None:
    store, array = Watched(), image()
    written(store, array, version=version, method=method)
    new = image(seed=1)
    new[PARTS[name]].ngff.write_region(store)  # its coordinates say where
    array[PARTS[name]] = new[PARTS[name]]
    check(store, array, method=method)
    again = image(seed=2)
    plain = xr.DataArray(again[PARTS[name]].values, dims=array.dims)
    plain.ngff.write_region(store, region=PARTS[name])
    array[PARTS[name]] = again[PARTS[name]]
    check(store, array, method=method)
    assert ngff_xarray.validate(store).valid


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_part_and_any_shards(data: st.DataObject) -> None:
    shape = (1, *(data.draw(st.integers(1, 20)) for _ in range(3)))
    array, store = image(shape), Watched()
    chunks = {dim: data.draw(st.integers(1, 9)) for dim in "zyx"}
    shards = {dim: n * data.draw(st.integers(1, 3)) for dim, n in chunks.items()}
    factors = [{dim: data.draw(st.integers(1, 3)) for dim in "zyx"} for _ in range(2)]
    factors = [step if max(step.values()) > 1 else {"x": 2} for step in factors]
    options: dict[str, Any] = {"scale_factors": factors}
    array.ngff.to_zarr(store, chunks=chunks, shards=shards, **options)
    part = {}
    for dim, size in array.sizes.items():
        a, b = sorted((data.draw(st.integers(0, size)), data.draw(st.integers(0, size))))
        part[str(dim)] = slice(a, b)
    new = image(shape, seed=1)
    new[part].ngff.write_region(store, region=part)
    array[part] = new[part]
    check(store, array, **options)


def test_only_what_is_touched_is_written() -> None:
    store, array = Watched(), image()
    written(store, array)
    store.changed.clear()
    array[1:, 4:8, 16:32, 32:48].ngff.write_region(store)
    found = sorted(key for key in store.changed if "/c/" in key)
    assert found == ["0/c/1/1/1/2", "1/c/1/1/0/1", "2/c/1/0/0/0", "3/c/1/0/0/0"]
    assert store.changed[0] == store.changed[-1] == "zarr.json"
    assert len(store.changed) == 6


def test_shards_are_written_once() -> None:
    store, array = Watched(), image()
    written(store, array, shards={"z": 8, "y": 32, "x": 32})
    store.changed.clear()
    array[:1, :, 20:40, 20:40].ngff.write_region(store)
    found = [key for key in store.changed if key.startswith("0/c")]
    assert sorted(found) == [f"0/c/0/0/{y}/{x}" for y in (0, 1) for x in (0, 1)]


def test_physical_units_and_positions() -> None:
    store, array = Watched(), image()
    written(store, array)
    new = image(seed=1)
    new.ngff.write_region(store, x=slice("104.9 µm", "110.1 µm"), z=slice("9 µm", "10 µm"))
    part = new.ngff.crop(x=slice("104.9 µm", "110.1 µm"), z=slice("9 µm", "10 µm"))
    assert 0 < part.sizes["x"] < 20
    array.loc[{dim: part[dim].values for dim in part.dims}] = part
    check(store, array)
    frame = image(seed=2).isel(c=1, z=3)  # whose position is a scalar coordinate
    frame.ngff.write_region(store)
    array[1, 3] = frame
    check(store, array)
    far = frame.assign_coords(x=("x", frame.x.values * 1000, {"units": "nanometer"}))
    (far * 0 + 7).astype("u2").transpose("x", "y").ngff.write_region(store)
    array[1, 3] = 7
    check(store, array)


def test_a_label_image(tmp_path: Path) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr", axes="yx", shape=(64, 64), levels=2, labels={"cells": {}}
    )
    before = xr.open_datatree(path)
    labels = before.ngff.labels["cells"].ngff.level(0).copy()
    labels[8:24, 8:24] = 77
    labels[8:24, 8:24].astype("int64").ngff.write_region(path / "labels" / "cells")
    after = xr.open_datatree(path)
    np.testing.assert_array_equal(after.ngff.labels["cells"].ngff.level(0), labels)
    wanted = labels.ngff.pyramid(scale_factors=[2]).ngff.level(1)
    found = after.ngff.labels["cells"].ngff.levels[1]
    np.testing.assert_array_equal(found[4:12, 4:12], wanted[4:12, 4:12])
    np.testing.assert_array_equal(after.ngff.level(0), before.ngff.level(0))


def test_planes_of_dask_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngff_xarray.regions.pieces._BYTES", 0)
    monkeypatch.setattr("ngff_xarray.pyramid.sources._KEPT", 0)
    pixels = image((1, 24, 32, 32))
    pixels.ngff.to_zarr(tmp_path / "a.ome.zarr", chunks={"z": 12, "y": 8, "x": 8}, levels=2)
    computed: Counter[int] = Counter()

    def changed(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        computed[block_info[0]["chunk-location"][1]] += 1
        return block + 1

    lazy = pixels.chunk(z=1)
    lazy.data = lazy.data.map_blocks(changed, dtype=lazy.dtype)
    lazy.ngff.write_region(tmp_path / "a.ome.zarr")
    assert computed == dict.fromkeys(range(24), 1)
    tree = xr.open_datatree(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(tree.ngff.level(0), pixels + 1)
    assert tree.ngff.verify().ok


def test_dask_is_written_a_part_at_a_time(tmp_path: Path) -> None:
    array = image((1, 8, 300, 300))
    written(tmp_path / "a.ome.zarr", array)
    new = image((1, 8, 300, 300), seed=1)
    new.chunk(y=50, x=70)[:, 1:7, 20:220, 30:290].ngff.write_region(tmp_path / "a.ome.zarr")
    array[:, 1:7, 20:220, 30:290] = new[:, 1:7, 20:220, 30:290]
    check(tmp_path / "a.ome.zarr", array)


def test_levels_that_were_cut_short(tmp_path: Path) -> None:
    """Others leave out half a block at the end."""
    array = image((1, 8, 61, 71))
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", scale_factors=[{"y": 2, "x": 2}])
    level = zarr.open_array(tmp_path / "a.ome.zarr" / "1")
    level.resize((1, 8, 30, 35))
    new = image((1, 8, 61, 71), seed=1)
    new[:, :, 50:, 60:].ngff.write_region(tmp_path / "a.ome.zarr")
    array[:, :, 50:, 60:] = new[:, :, 50:, 60:]
    wanted = array.ngff.pyramid(scale_factors=[{"y": 2, "x": 2}]).ngff.level(1)
    found = xr.open_datatree(tmp_path / "a.ome.zarr").ngff.level(1)
    np.testing.assert_array_equal(found, wanted[:, :, :30, :35])


def test_consolidated_metadata_stay(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", shape=(64, 64), consolidated=True)
    before = (path / "zarr.json").read_text()
    xr.DataArray(np.ones((4, 4), "u2"), dims=("y", "x")).ngff.write_region(
        path, region={"y": slice(0, 4), "x": slice(0, 4)}
    )
    import json

    assert json.loads((path / "zarr.json").read_text()) == json.loads(before)


# ---- whoever is killed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "step"), [("0.4", 3), pytest.param("0.5", 1, marks=pytest.mark.slow)]
)
def test_a_killed_writer_leaves_the_old_or_a_mark(version: str, step: int) -> None:
    array, whole = image(), Watched()
    written(whole, array, version=version)
    new = image(seed=1)
    part = new[:, 1:6, 10:40, 20:60]
    result = array.copy()
    result[:, 1:6, 10:40, 20:60] = part
    other = new[:1, :2, :5, :5]
    both = result.copy()
    both[:1, :2, :5, :5] = other
    tried = 0
    for tried in range(0, 10**4, step):
        keys = dict(whole._store_dict)
        try:
            part.ngff.write_region(Watched(keys, tried))
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            break
        if tried:
            with pytest.raises(IncompleteError, match="write it again, or end it"):
                xr.open_datatree(Watched(keys), engine="ngff")
            with pytest.raises(StoreError, match="there is something already"):
                written(Watched(keys), array)
        else:
            check(Watched(keys), array)
        if tried % 2:
            part.ngff.write_region(Watched(keys))
            check(Watched(keys), result)
        else:  # another region: the levels above the first one follow as well
            other.ngff.write_region(Watched(keys))
            found = xr.open_datatree(Watched(keys), engine="ngff")
            for level, wanted in zip(
                found.ngff.levels,
                found.ngff.level(0).load().ngff.pyramid(**LEVELS).ngff.levels,
                strict=True,
            ):
                np.testing.assert_array_equal(level.values, wanted.values)
            part.ngff.write_region(Watched(keys))
            other.ngff.write_region(Watched(keys))
            check(Watched(keys), both)
        assert keys.keys() == whole._store_dict.keys(), "no debris"
    assert tried > 20


def test_labels_that_are_being_written_are_told_of(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", shape=(64, 64), labels={"cells": {}})
    group = zarr.open_group(path / "labels" / "cells")
    group.attrs.put(unfinished.region_begun(group.attrs.asdict(), [[[0, 4], [0, 4]]]))
    tree = xr.open_datatree(path)
    assert list(tree.ngff.labels) == []
    assert any("incomplete" in issue.message for issue in tree.ngff.issues)
    with pytest.raises(IncompleteError):
        xr.open_datatree(path, group="labels/cells")


def test_marks_that_make_no_sense(tmp_path: Path) -> None:
    array = image()
    written(tmp_path / "a.ome.zarr", array)
    group = zarr.open_group(tmp_path / "a.ome.zarr")
    said = group.attrs.asdict()
    for regions in ([], [1], [[]], [[["a", 2]] * 4], [[[-5, 10**30]] * 4], [[[3, 1]] * 4], {}):
        group.attrs.put(unfinished.region_begun(said, list(regions)))
        array[:1].ngff.write_region(tmp_path / "a.ome.zarr")
        check(tmp_path / "a.ome.zarr", array)


# ---- what is refused ---------------------------------------------------------------------------


def unchanged(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (image().assign_coords(x=image().x + 0.2), {}, "x: the pixels lie between"),
        (image().assign_coords(x=image().x + 0.5), {}, "x: the pixels belong to 1 to 71, outside"),
        (image()[..., ::2], {}, "x: the pixels are not one beside the other"),
        (image()[..., ::-1], {}, "x: the pixels are not one beside the other"),
        (image().assign_coords(c=["DAPI", "Cy5"]), {}, "c: there is no 'Cy5' in the image"),
        (image().isel(c=[1, 0]), {}, "c: the pixels are not one beside the other"),
        (image().drop_vars("x")[..., :9], {}, "x: the pixels have no coordinates"),
        (image().expand_dims("t"), {}, "the pixels have the axis 't'"),
        (image().astype("f4"), {}, "the pixels are float32, those of the image uint16"),
        (image().astype("i8") - 9999, {}, "which uint16, the type of the image, does not hold"),
        (image()[:, :2], {"region": {"z": slice(0, 3)}}, "the pixels are 2 x 2 x 60 x 71"),
        (image(), {"region": {"q": slice(0, 3)}}, "region: there is no axis 'q'"),
        (image(), {"region": {"z": slice(0, 9)}}, "expected a slice of pixels within 0 and 8"),
        (image(), {"region": {"z": slice(-2, 8)}}, "expected a slice of pixels"),
        (image(), {"region": {"z": slice(0, 8, 2)}}, "expected a slice of pixels"),
        (image(), {"region": {"z": 3}}, "expected a slice of pixels"),
        (image(), {"x": slice("900 µm", "910 µm")}, "x"),
    ],
)
def test_pixels_that_do_not_fit(
    tmp_path: Path, pixels: xr.DataArray, options: dict[str, Any], message: str
) -> None:
    written(tmp_path / "a.ome.zarr", image())
    before = unchanged(tmp_path)
    with pytest.raises(SelectionError, match=message):
        pixels.ngff.write_region(tmp_path / "a.ome.zarr", **options)
    assert unchanged(tmp_path) == before


def test_places_where_there_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        image().ngff.write_region(tmp_path / "none.ome.zarr")
    assert list(tmp_path.iterdir()) == []
    zarr.open_group(tmp_path / "group", mode="w")
    with pytest.raises(NotOmeError):
        image().ngff.write_region(tmp_path / "group")
    plate = write_plate(tmp_path / "p.ome.zarr", image={"axes": "yx", "shape": (8, 8)})
    with pytest.raises(SelectionError, match="regions are written into an image"):
        image().ngff.write_region(plate)
    written(tmp_path / "a.ome.zarr", image())
    read_only = zarr.storage.LocalStore(tmp_path / "a.ome.zarr", read_only=True)
    with pytest.raises(StoreError, match="read-only"):
        image().ngff.write_region(read_only)


def test_levels_of_another_kind(tmp_path: Path) -> None:
    image().ngff.to_zarr(tmp_path / "a.ome.zarr", scale_factors=[{"x": 2}, {"x": 2}])
    odd = tmp_path / "odd.ome.zarr"
    shutil.copytree(tmp_path / "a.ome.zarr", odd)
    zarr.open_array(odd / "1").resize((2, 8, 60, 30))
    before = unchanged(odd)
    with pytest.raises(UnsupportedError, match="write the image anew"):
        image().ngff.write_region(odd)
    assert unchanged(odd) == before


# ---- appending ---------------------------------------------------------------------------------


def film(count: int, start: int = 0, **sizes: int) -> xr.DataArray:
    """Frames, each of other pixels, from a time on."""
    shape = {"z": 5, "y": 40, "x": 35, **sizes}
    frames = np.stack(
        [
            np.random.default_rng(start + i).integers(1, 4000, tuple(shape.values())).astype("u2")
            for i in range(count)
        ]
    )
    t = start * 0.5 + 0.5 * np.arange(count)
    coords = {"t": ("t", t, {"units": "second", "pixel_size": 0.5})}
    return xr.DataArray(frames, coords, ("t", *shape))


FILM: dict[str, Any] = {"scale_factors": [{"y": 2, "x": 2}, 2]}


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_frames_are_appended(version: str, chunk: int) -> None:
    store = Watched()
    film(2).ngff.to_zarr(store, version=version, chunks={"t": chunk, "y": 16, "x": 16}, **FILM)
    film(2, 2).ngff.append(store)
    check(store, film(4), **FILM)
    film(1, 4).drop_vars("t").ngff.append(store)  # without saying when
    film(1, 5).isel(t=0).ngff.append(store)  # one frame, whose time is a scalar
    check(store, film(6), **FILM)
    found = xr.open_datatree(store, engine="ngff").ngff.level(0)
    np.testing.assert_allclose(found.t, 0.5 * np.arange(6))
    assert ngff_xarray.validate(store).valid


@pytest.mark.parametrize("depth", [4, 5, 6, 7])
@pytest.mark.parametrize("shards", [None, {"z": 4, "y": 32, "x": 32}])
def test_planes_are_appended(depth: int, shards: Any) -> None:
    whole, store = film(1, z=11), Watched()
    options: dict[str, Any] = {"scale_factors": [2, {"z": 2, "x": 3}]}
    whole[:, :depth].ngff.to_zarr(
        store, chunks={"z": 2, "y": 16, "x": 16}, shards=shards, **options
    )
    whole[:, depth:9].ngff.append(store, dim="z")
    whole[:, 9:].ngff.append(store, dim="z")
    check(store, whole, **options)


def test_an_axis_of_one_pixel_grows() -> None:
    """Its levels are as long, and made of two pixels each all the same."""
    store, whole = Watched(), film(1, z=4)
    options: dict[str, Any] = {"scale_factors": [2, 2]}
    whole[:, :1].ngff.to_zarr(store, chunks={"z": 1, "y": 16, "x": 16}, **options)
    whole[:, 1:].ngff.append(store, dim="z")
    check(store, whole, **options)


def test_only_new_chunks_are_written() -> None:
    store = Watched()
    film(2).ngff.to_zarr(store, chunks={"t": 1, "y": 64, "x": 64}, **FILM)
    store.changed.clear()
    film(1, 2).ngff.append(store)
    assert store.changed[:4] == ["zarr.json", "0/c/2/0/0/0", "1/c/2/0/0/0", "2/c/2/0/0/0"]
    assert {key.rpartition("/")[2] for key in store.changed[4:]} == {"zarr.json"}


def test_consolidated_metadata_grow(tmp_path: Path) -> None:
    for version in ("0.4", "0.5"):
        path = write_image(
            tmp_path / version,
            version=version,  # type: ignore[arg-type]
            axes="tyx",
            shape=(2, 32, 32),
            levels=2,
            consolidated=True,
        )
        xr.DataArray(np.ones((3, 32, 32), "u2"), dims=("t", "y", "x")).ngff.append(path)
        assert [level.shape[0] for level in xr.open_datatree(path).ngff.levels] == [5, 5]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dim", ["t", "z"])
def test_a_killed_append_leaves_the_old_length_or_a_mark(version: str, dim: str) -> None:
    first, whole = Watched(), film(3, z=7)
    old = {"t": slice(0, 2), "z": slice(0, 5)}[dim]
    new = {"t": slice(2, 3), "z": slice(5, 7)}[dim]
    chunks = {"t": 1, "z": 2, "y": 32, "x": 32}
    whole[{dim: old}].ngff.to_zarr(first, version=version, chunks=chunks, **FILM)
    seen = set()
    for tried in range(10**4):
        keys = dict(first._store_dict)
        try:
            whole[{dim: new}].ngff.append(Watched(keys, tried), dim=dim)
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            break
        try:
            check(Watched(keys), whole[{dim: old}], **FILM)
            seen.add("old")
        except IncompleteError:
            seen.add("incomplete")
        whole[{dim: new}].ngff.append(Watched(keys), dim=dim)
        check(Watched(keys), whole, **FILM)
    assert seen == {"old", "incomplete"}
    assert tried > 8


@pytest.mark.parametrize("dim", ["t", "z"])
def test_what_was_begun_before_is_ended_by_an_append(dim: str) -> None:
    whole = film(3, z=8)
    old = {"t": slice(0, 2), "z": slice(0, 5)}[dim]
    new = {"t": slice(2, 3), "z": slice(5, 8)}[dim]
    keys: dict[str, Any] = {}
    whole[{dim: old}].ngff.to_zarr(Watched(keys), chunks={"z": 2, "y": 16, "x": 16}, **FILM)
    changed = whole.copy()
    where = {"t": slice(0, 2), "z": slice(1, 3), "y": slice(3, 20), "x": slice(3, 20)}
    changed[where] = 7
    part = changed[where]
    with pytest.raises(StoreError, match="No space left"):
        # some chunks of the finest level are there
        part.ngff.write_region(Watched(keys, 12), region=where)
    changed[{dim: new}].ngff.append(Watched(keys), dim=dim)
    found = xr.open_datatree(Watched(keys), engine="ngff").ngff.levels
    wanted = found[0].load().ngff.pyramid(**FILM).ngff.levels
    for level, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(level.values, expected.values)
    part.ngff.write_region(Watched(keys), region=where)
    check(Watched(keys), changed, **FILM)


def test_marks_of_appending_that_lead_elsewhere(tmp_path: Path) -> None:
    film(2).ngff.to_zarr(tmp_path / "a.ome.zarr", **FILM)
    film(2).ngff.to_zarr(tmp_path / "b.ome.zarr", **FILM)
    group = zarr.open_group(tmp_path / "a.ome.zarr")
    said = group.attrs.asdict()
    before = unchanged(tmp_path / "b.ome.zarr")
    for shapes in (
        {"../b.ome.zarr/0": [9, 5, 40, 35]},
        {"/0": [9, 5, 40, 35]},
        {"0": [1, 5, 40, 35]},
        {"0": [9, 9]},
        {"0": "many"},
        {"7": [9, 5, 40, 35]},
    ):
        group.attrs.put(unfinished.region_grows(said, shapes, ("t", 2, 9)))  # type: ignore[arg-type]
        film(1).ngff.write_region(tmp_path / "a.ome.zarr", region={"t": slice(0, 1)})
        check(tmp_path / "a.ome.zarr", film(2), **FILM)
    assert unchanged(tmp_path / "b.ome.zarr") == before


@pytest.mark.parametrize(
    ("pixels", "options", "error", "message"),
    [
        (film(1, 7), {}, SelectionError, "are number 7, but the image goes on with number 2"),
        (film(1, 2), {"dim": "q"}, SelectionError, "there is no axis 'q'"),
        (
            film(1, 2)[:, :3],
            {},
            SelectionError,
            "z: the pixels have no coordinates, and are 3 of 5",
        ),
        (film(1, 2).astype("f4"), {}, SelectionError, "the pixels are float32"),
        (film(1, 2).expand_dims("c"), {}, SelectionError, "the pixels have the axis 'c'"),
    ],
)
def test_pixels_that_cannot_be_appended(
    tmp_path: Path, pixels: Any, options: Any, error: Any, message: str
) -> None:
    film(2).ngff.to_zarr(tmp_path / "a.ome.zarr", **FILM)
    before = unchanged(tmp_path)
    with pytest.raises(error, match=message):
        pixels.ngff.append(tmp_path / "a.ome.zarr", **options)
    assert unchanged(tmp_path) == before


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_channels_are_appended(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.ome.zarr"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 1000, (3, 40, 30)).astype("u2")
    names = ["DAPI", "GFP", "späť"]
    whole = xr.DataArray(pixels, {"c": names}, dims=("c", "y", "x"))
    whole[:1].ngff.to_zarr(path, version=version, scale_factors=[2])
    opened = xr.open_datatree(path).ngff
    first = opened.channels[0]
    whole[1:2].ngff.append(path, dim="c")
    whole[2].ngff.append(path, dim="c")  # a plane with the name of its channel
    tree = xr.open_datatree(path)
    np.testing.assert_array_equal(tree.ngff.level(0), pixels)
    check_above(tree.ngff.levels)
    assert [channel.name for channel in tree.ngff.channels] == names
    assert tree.ngff.channels[0] == first
    for channel in tree.ngff.channels:
        assert channel.color is not None and channel.window is not None
        assert 0 <= channel.window.start < channel.window.end <= 999
    assert len({channel.color for channel in tree.ngff.channels}) == 3
    assert ngff_xarray.validate(path).valid
    with pytest.raises(SelectionError, match="there is a channel 'GFP' already"):
        whole[1:2].ngff.append(path, dim="c")
    whole[1:2].drop_vars("c").ngff.append(path, dim="c")
    assert xr.open_datatree(path).ngff.channels[3].name == "3"


def check_above(levels: Any) -> None:
    made = levels[0].load().ngff.pyramid(scale_factors=[2]).ngff.levels
    for level, wanted in zip(levels, made, strict=True):
        np.testing.assert_array_equal(level.values, wanted.values)


def test_channels_bring_along_what_is_said_of_them(tmp_path: Path) -> None:
    window = {"min": 0, "max": 9, "start": 1, "end": 5}
    described = [{"label": "Cy3", "color": "FFAA00", "window": window}, {"label": "Cy5"}]
    shape = {"axes": "cyx", "shape": (2, 32, 32)}
    other = write_image(tmp_path / "b.ome.zarr", omero={"channels": described}, **shape)
    path = write_image(tmp_path / "a.ome.zarr", consolidated=True, **shape)
    xr.open_datatree(other).ngff.level(0).ngff.append(path, dim="c")
    channels = xr.open_datatree(path).ngff.channels
    assert [channel.name for channel in channels][2:] == ["Cy3", "Cy5"]
    assert channels[2].color == (255, 170, 0)
    assert channels[2].window is not None and channels[2].window.end == 5


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_killed_append_of_a_channel(version: str) -> None:
    whole = image()
    first = Watched()
    whole[:1].ngff.to_zarr(first, version=version, scale_factors=[2])
    old, seen = xr.open_datatree(first, engine="ngff").ngff.channels, set()
    for tried in range(10**4):
        keys = dict(first._store_dict)
        try:
            whole[1:].ngff.append(Watched(keys, tried), dim="c")
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            break
        try:
            assert xr.open_datatree(Watched(keys), engine="ngff").ngff.channels == old
            seen.add("old")
        except IncompleteError:
            seen.add("incomplete")
        if tried % 2:
            ngff_xarray.repair(Watched(keys)).apply()
            found = xr.open_datatree(Watched(keys), engine="ngff")
            if found.ngff.level(0).sizes["c"] == 1:
                continue
        else:
            whole[1:].ngff.append(Watched(keys), dim="c")
        found = xr.open_datatree(Watched(keys), engine="ngff")
        np.testing.assert_array_equal(found.ngff.level(0), whole)
        assert [c.name for c in found.ngff.channels] == whole.c.values.tolist()
    assert seen == {"old", "incomplete"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_consolidated_metadata_above_grow(tmp_path: Path, version: Any) -> None:
    path = write_plate(
        tmp_path / "a.ome.zarr",
        version=version,
        rows="A",
        columns="1",
        fields=1,
        image={"axes": "tyx", "shape": (2, 32, 32), "levels": 2},
        consolidated=True,
    )
    frame = xr.DataArray(np.ones((1, 32, 32), "u2"), dims=("t", "y", "x"))
    frame.ngff.append(f"{path}/A/1/0")
    field = xr.open_datatree(path).ngff.well("A/1").ngff.fields["0"]
    assert [level.sizes["t"] for level in field.ngff.levels] == [3, 3]
    assert (field.ngff.level(1)[2] == 1).all()
