"""`apply`: what a function is given, what it may return, where that goes, and what may go wrong."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray
from scipy import ndimage

import ngff_xarray
from ngff_xarray.analyse.applying import apply
from ngff_xarray.analyse.work import token
from ngff_xarray.errors import (
    BlockError,
    BusyError,
    MissingDependencyError,
    NgffError,
    SelectionError,
    StoreError,
    UnsupportedError,
)
from ngff_xarray.pyramid import sources

CHUNKS = {"y": 16, "x": 16}


def pixels(shape: tuple[int, ...] = (2, 60, 70), seed: int = 0) -> NDArray[np.uint16]:
    values = np.random.default_rng(seed).random(shape)
    smooth = ndimage.gaussian_filter(values, [0] * (len(shape) - 2) + [2, 2])
    return (1000 * (smooth > np.median(smooth)) + np.arange(smooth.size).reshape(shape) % 7).astype(
        "u2"
    )


def image(values: NDArray[Any] | None = None) -> xr.DataArray:
    values = pixels() if values is None else values
    space = {"units": "micrometer", "axis_type": "space"}
    coords: dict[str, Any] = {
        "y": xr.Variable("y", 0.5 * np.arange(values.shape[-2]) + 3, space),
        "x": xr.Variable("x", 0.5 * np.arange(values.shape[-1]) - 5, space),
    }
    if values.ndim == 3:
        coords["c"] = xr.Variable("c", ["DAPI", "GFP"], {"axis_type": "channel"})
    return xr.DataArray(values, dims=("c", "y", "x")[3 - values.ndim :], coords=coords)


@pytest.fixture
def tree(tmp_path: Path) -> xr.DataTree:
    image().ngff.to_zarr(tmp_path / "image.ome.zarr", chunks=CHUNKS, levels=3)
    return xr.open_datatree(tmp_path / "image.ome.zarr")


def label(block: xr.DataArray) -> NDArray[Any]:
    found: NDArray[Any] = ndimage.label(block.sel(c="DAPI").values > 500)[0]
    return found


def nuclei(tree: xr.DataTree) -> NDArray[Any]:
    found: NDArray[Any] = tree.ngff.labels["nuclei"].ngff.level(0).values
    return found


WHOLE = ndimage.label(pixels()[0] > 500)[0]


def are_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == np.unique(one).size == np.unique(other).size


# ---- how often it is called ---------------------------------------------------------------------


@pytest.mark.parametrize("to", ["image", "labels", "stitched", "table"])
@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_it_is_called_once_for_each_block_and_chunks_are_read_once(
    tree: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, scheduler: str
) -> None:
    monkeypatch.setattr("ngff_xarray.pyramid.sources._KEPT", 0)
    loaded: Counter[Any] = Counter()
    load = sources._Blocks.__init__

    def counted(self: Any, chunks: Any, dtype: Any, each: Any, *rest: Any) -> None:
        def count(place: Any, box: Any) -> Any:
            if dtype == "u2" and to != "image":  # and not pixels of the result
                sizes = [each[0] for each in chunks]
                sides = [range(b.start, b.stop, n) for b, n in zip(box, sizes, strict=True)]
                loaded.update(itertools.product(*sides))
            return each(place, box)

        load(self, chunks, dtype, count, *rest)

    monkeypatch.setattr(sources._Blocks, "__init__", counted)
    called: Counter[Any] = Counter()

    def act(block: xr.DataArray) -> Any:
        called[tuple(float(block[dim][0]) for dim in "yx")] += 1
        if to == "image":
            return block + 1
        return pd.DataFrame({"n": [block.size]}) if to == "table" else label(block)

    where = {"image": tmp_path / "new.ome.zarr", "table": tmp_path / "a.csv"}.get(to, "labels/a")
    options = {"block": "16 µm", "halo": "2 µm", "scheduler": scheduler, "progress": False}
    apply(tree, act, to=where, stitch=to == "stitched", **options)
    assert len(called) == 6 and set(called.values()) == {1}  # blocks of four chunks
    assert to == "image" or set(loaded.values()) <= {1, 2}  # those of the first block
    assert to == "image" or len(loaded) == 40
    if to == "image":
        assert (xr.open_datatree(tmp_path / "new.ome.zarr").ngff.level(0) == pixels() + 1).all()


# ---- what a function is given ------------------------------------------------------------------


def test_a_block_knows_where_it_is() -> None:
    seen = []

    def look(block: xr.DataArray) -> xr.DataArray:
        seen.append(block)
        assert isinstance(block.variable._data, np.ndarray)
        assert block.ngff.pixel_size["x"].magnitude == 0.5
        assert [channel.name for channel in block.ngff.channels] == ["DAPI", "GFP"]
        block += 1  # it is its own
        return block

    array = image()
    found = apply(array, look, block="8 µm", halo={"x": "1.2 µm"}, chunks=CHUNKS)
    assert np.array_equal(found.compute(scheduler="synchronous"), pixels() + 1)
    assert np.array_equal(array, pixels())
    assert {block.shape for block in seen} >= {(2, 16, 19), (2, 16, 22), (2, 12, 9)}
    for block in seen:
        assert block.equals(array.sel(y=block.y, x=block.x) + 1)


def test_blocks_are_as_large_as_told_where_nothing_is_stored(tree: xr.DataTree) -> None:
    array = image()
    assert apply(array, lambda b: b, block="8 µm").chunks == (
        (2,),
        (16, 16, 16, 12),
        (16,) * 4 + (6,),
    )
    shapes = set()

    def seen(block: xr.DataArray) -> NDArray[Any]:
        shapes.add(block.shape)
        return label(block)

    stitched = apply(array, seen, block="5 px", stitch=True)
    assert max(shapes) == (2, 5 + 2, 5 + 2)
    assert are_same(stitched.values, WHOLE)
    means = apply(array, lambda b: pd.DataFrame({"mean": [float(b.mean())]}), block="8 µm")
    assert len(means) == 4 * 5
    # what is stored has chunks as its image, and blocks are made of those
    made = tree.ngff.apply(label, to="labels/nuclei", block="5 px", stitch=True)
    assert made["labels/nuclei/0/labels"].encoding["chunks"] == (16, 16)
    assert made.ngff.labels["nuclei"].ngff.provenance["settings"]["block"]["y"] == 16


def test_a_halo_at_the_ends_is_clipped_or_reflected() -> None:
    given: list[xr.DataArray] = []
    array = image(pixels((20, 20)))
    for boundary in ("clip", "reflect"):
        apply(array, lambda b: given.append(b) or b, halo="3 px", boundary=boundary)
    clipped, reflected = given
    assert clipped.equals(array)
    assert np.array_equal(reflected, np.pad(array.values, 3, mode="symmetric"))
    np.testing.assert_allclose(reflected.x, 0.5 * np.arange(-3, 23) - 5)


def test_a_window_of_frames() -> None:
    values = np.arange(5 * 4 * 4, dtype="f8").reshape(5, 4, 4)
    array = xr.DataArray(values, dims=("t", "y", "x"))

    def smooth(block: xr.DataArray) -> xr.DataArray:
        return block.rolling(t=3, center=True, min_periods=1).mean()

    found = apply(array, smooth, halo={"t": 1})
    xr.testing.assert_allclose(found.compute(), smooth(array))
    assert found.chunks[0] == (1,) * 5


def test_channels_are_chosen_by_name() -> None:
    array = image()
    one = apply(array, lambda block: block * 2, channels="GFP")
    assert one.dims == ("y", "x")
    assert np.array_equal(one, pixels()[1] * 2)
    both = apply(array, lambda block: block * 2, channels=["GFP", "DAPI"])
    assert both.c.values.tolist() == ["GFP", "DAPI"]
    with pytest.raises(SelectionError, match="RFP"):
        apply(array, label, channels="RFP")


def test_a_channel_of_a_store_goes_through_blocks(tree: xr.DataTree) -> None:
    def spots(block: xr.DataArray) -> NDArray[Any]:
        assert block.dims == ("y", "x")
        found: NDArray[Any] = ndimage.label(block.values > 500)[0]
        return found

    one = tree.ngff.apply(lambda block: block + 1, channels="GFP", block="8 µm", halo="1 µm")
    assert np.array_equal(one, pixels()[1] + 1)
    options = {"channels": "DAPI", "block": "8 µm", "stitch": True}
    made = tree.ngff.apply(spots, to="labels/nuclei", **options)
    assert are_same(nuclei(made), WHOLE)
    viewer = tree.ngff.apply(spots, channels="DAPI", preview={"x": slice("0 µm", "9 µm")})
    viewer.close()
    with pytest.raises(SelectionError, match="one number, which is no picture"):
        tree.ngff.apply(lambda b: b.mean(), channels="DAPI", preview={"x": slice("0 µm", "9 µm")})


def test_levels_are_chosen_by_number_or_pixel_size(tree: xr.DataTree) -> None:
    found = tree.ngff.apply(lambda block: block + 0.5, level="1 µm")
    xr.testing.assert_equal(found.compute(), tree.ngff.level(1) + 0.5)
    with pytest.raises(SelectionError, match="3"):
        tree.ngff.apply(label, level=3)


# ---- what a function may return ----------------------------------------------------------------


def test_new_channels_and_dropped_ones() -> None:
    def ratio(block: xr.DataArray) -> xr.DataArray:
        return (block.sel(c="DAPI") / (1 + block.sel(c="GFP"))).drop_vars("c", errors="ignore")

    def three(block: xr.DataArray) -> xr.DataArray:
        return xr.concat([ratio(block)] * 3, "c").assign_coords(c=["a", "b", "c"])

    array = image()
    assert apply(array, ratio, block="8 µm").dims == ("y", "x")
    found = apply(array, three, block="8 µm", chunks=CHUNKS)
    assert found.dims == ("c", "y", "x")
    assert found.c.values.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(found[2], ratio(array))
    plain = apply(array, lambda block: three(block).values, block="8 µm", chunks=CHUNKS)
    assert plain.c.values.tolist() == ["0", "1", "2"]


def test_an_axis_that_a_block_has_all_of_may_be_left_out() -> None:
    volume = xr.DataArray(np.random.default_rng(0).random((6, 20, 20)), dims=("z", "y", "x"))
    chunks = {"z": 6, "y": 8, "x": 8}
    found = apply(volume, lambda block: block.max("z"), block="8 px", chunks=chunks)
    xr.testing.assert_equal(found.compute(), volume.max("z"))
    chunks["z"] = 2
    with pytest.raises(BlockError, match="no axis z"):
        apply(volume, lambda b: b.max("z"), block={"z": "2 px"}, chunks=chunks)


WRONG: list[tuple[Callable[..., Any], str]] = [
    (lambda block: None, r"returned nothing \(None\)"),
    (lambda block: "text", "a str"),
    (lambda block: block.values[:, 1:], r"the shape \(2, 15, 16\): expected .* c: 2, y: 16, x: 16"),
    (lambda block: block[:, 1:], "15 pixels along y"),
    (lambda block: block.rename(y="v"), "the axis 'v'"),
    (lambda block: block.to_dataset(name="a"), "a Dataset"),
    (lambda block: np.array([["a"]]), "of <U1"),
    (lambda block: 1 / 0, "ZeroDivisionError: division by zero"),
    (lambda block: block.astype("f4" if float(block.x[0]) < 0 else "f8"), "dtype float64; of .*32"),
    (lambda block: block if float(block.x[0]) < 0 else pd.DataFrame(), "a table; of .* pixels"),
]


@pytest.mark.parametrize(("func", "message"), WRONG)
def test_what_does_not_fit_is_refused_with_its_region(
    tmp_path: Path, func: Callable[..., Any], message: str
) -> None:
    target = tmp_path / "result.ome.zarr"
    with pytest.raises(BlockError, match=f"block y .* to .* µm, x .*{message}") as raised:
        apply(image(), func, block="8 µm", chunks=CHUNKS, to=target, progress=False)
    part = image().ngff.sel(**raised.value.region)
    assert part.sizes["x"] in (16, 6)
    with pytest.raises(NgffError):
        xr.open_datatree(target)


def test_float_labels_are_refused_before_anything_is_written(tree: xr.DataTree) -> None:
    root = Path(tree.encoding["source"])
    before = sorted(root.rglob("*"))
    for stitch in (False, True):
        with pytest.raises(NgffError, match="float64, expected labels"):
            tree.ngff.apply(lambda b: b.sel(c="DAPI") * 1.5, to="labels/nuclei", stitch=stitch)
    assert [path for path in sorted(root.rglob("*")) if ".ngff_" not in str(path)] == before


def test_a_table_counts_rows_once() -> None:
    def bright(block: xr.DataArray) -> pd.DataFrame:
        y, x = np.nonzero(block.sel(c="DAPI").values > 500)
        return pd.DataFrame({"y": block.y.values[y], "x": block.x.values[x], "kind": "bright"})

    array = image()
    whole = bright(array)
    for coords in (array, array[:, ::-1], array[..., ::-1]):
        found = apply(coords, bright, block="8 µm", halo="2 µm", chunks=CHUNKS)
        pd.testing.assert_frame_equal(
            found.sort_values(["y", "x"], ignore_index=True),
            whole.sort_values(["y", "x"], ignore_index=True),
        )


def test_a_table_goes_to_a_file(tmp_path: Path) -> None:
    def mean(block: xr.DataArray) -> pd.DataFrame:
        return pd.DataFrame({"mean": [float(block.mean())], "name": ["a"]})

    for name, read in (("a.csv", pd.read_csv), ("a.parquet", pd.read_parquet)):
        target = tmp_path / name
        found = apply(image(), mean, block="8 µm", chunks=CHUNKS, to=target)
        pd.testing.assert_frame_equal(read(target), found, check_dtype=False)
        assert len(found) == 4 * 5
        with pytest.raises(SelectionError, match="there is a file"):
            apply(image(), mean, to=str(target))
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.parquet"}
    with pytest.raises(SelectionError, match=r"expected a table"):
        apply(image(), lambda block: block, to=str(tmp_path / "b.csv"))
    with pytest.raises(SelectionError, match="a file of its own"):
        apply(image(), mean, to=tmp_path / "b.ome.zarr")


def test_parquet_is_asked_for_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    called: list[Any] = []
    with pytest.raises(MissingDependencyError, match=r"ngff-xarray\[parquet\]"):
        apply(image(), called.append, to=str(tmp_path / "a.parquet"))
    assert not called
    assert not list(tmp_path.iterdir())


# ---- where it goes -----------------------------------------------------------------------------


def test_labels_lie_on_their_image(tree: xr.DataTree) -> None:
    for level, factor in ((0, 1), (1, 2)):
        found = tree.ngff.apply(
            label,
            level=level,
            to="labels/nuclei",
            stitch=True,
            block="8 µm",
            chunks=CHUNKS,
            replace=level > 0,
        )
        labels = found.ngff.labels["nuclei"]
        assert len(labels.ngff.levels) == 3
        coarse = tree.ngff.level(level)
        xr.testing.assert_equal(labels.ngff.level(0).x, coarse.x)
        assert are_same(labels.ngff.level(0).values, label(coarse))
        assert labels.ngff.pixel_size["x"].magnitude == 0.5 * factor
    root = Path(tree.encoding["source"])
    assert sorted(path.name for path in root.iterdir()) == ["0", "1", "2", "labels", "zarr.json"]
    assert found.ngff.validate().valid


def test_labels_that_are_not_stitched_keep_their_values(tree: xr.DataTree) -> None:
    def classes(block: xr.DataArray) -> xr.DataArray:
        return (block > 500).sum("c")

    found = tree.ngff.apply(classes, to="labels/classes", block="8 µm")
    assert np.array_equal(found.ngff.labels["classes"].ngff.level(0), (pixels() > 500).sum(0))


def test_a_region_gets_labels_in_place(tree: xr.DataTree) -> None:
    part = tree.ngff.sel(y=slice("10 µm", "25 µm"), x=slice("2 µm", "20 µm"))
    found = part.ngff.apply(label, to="labels/nuclei", stitch=True)
    labels = found.ngff.labels["nuclei"].ngff.level(0)
    own = part.ngff.level(0)
    np.testing.assert_allclose(labels.y, own.y)
    assert are_same(labels.values, label(own))


def test_a_new_image_has_a_pyramid_colours_and_no_old_windows(
    tree: xr.DataTree, tmp_path: Path
) -> None:
    func = partial(ndimage.gaussian_filter, sigma=[0, 1, 1])
    target = tmp_path / "smooth.ome.zarr"
    made = tree.ngff.apply(
        lambda b: func(b.values.astype("f4")),
        halo="8 px",
        block="8 µm",
        to=target,
        boundary="reflect",
        levels=2,
    )
    found = xr.open_datatree(target)
    xr.testing.assert_equal(made, found)
    expected = func(pixels().astype("f4"))
    np.testing.assert_allclose(found.ngff.level(0), expected, rtol=1e-5)
    assert [level.shape for level in found.ngff.levels] == [(2, 60, 70), (2, 30, 35)]
    assert [c.name for c in found.ngff.channels] == ["DAPI", "GFP"]
    assert found.ngff.channels[0].window.end <= 1100
    with pytest.raises(StoreError, match="something already"):
        tree.ngff.apply(label, to=target)
    tree.ngff.apply(lambda b: b, to=target, replace=True)
    assert np.array_equal(xr.open_datatree(target).ngff.level(0), pixels())


def test_what_is_there_is_not_touched(tree: xr.DataTree) -> None:
    tree = tree.ngff.apply(label, to="labels/nuclei", stitch=True)
    called = []
    for to, error in (("labels/nuclei", StoreError), ("labels/.a", SelectionError)):
        with pytest.raises(error):
            tree.ngff.apply(called.append, to=to, stitch=True)
    with pytest.raises(SelectionError, match="does not know its store"):
        tree.ngff.level(0).ngff.apply(called.append, to="labels/other")
    assert not called


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"halo": "20 µm", "block": "4 µm", "chunks": CHUNKS}, SelectionError, "halo: 40 pixels along"),
    ({"halo": {"v": 1}}, SelectionError, "no axis 'v'"),
    ({"halo": "3 kg"}, NgffError, "kg"),
    ({"halo": -1}, SelectionError, "expected a length"),
    ({"halo": "-5 px"}, SelectionError, "whole number of pixels, found '-5 px'"),
    ({"block": "2.5 px"}, SelectionError, "whole number of pixels"),
    ({"boundary": "wrap"}, SelectionError, "'clip' or 'reflect'"),
    ({"errors": "ignore"}, SelectionError, "'raise' or 'collect'"),
    ({"scheduler": "gpu"}, SelectionError, "threads, processes, synchronous"),
    ({"workers": 0}, SelectionError, "at least 1"),
    ({"to": "table.csv", "stitch": True}, SelectionError, "not stitched"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        apply(image(), label, **options)


def test_no_function_no_pixels() -> None:
    with pytest.raises(TypeError, match="expected a function"):
        apply(image(), "label")
    with pytest.raises(SelectionError, match="no pixels"):
        apply(image()[:, :0], label)


# ---- errors of blocks --------------------------------------------------------------------------


def fails(block: xr.DataArray) -> NDArray[Any]:
    if 14 < float(block.x.mean()) < 16:
        raise ValueError("too bright")
    return label(block)


def test_errors_are_collected_and_the_rest_goes_on(tree: xr.DataTree, tmp_path: Path) -> None:
    options: dict[str, Any] = {"block": "8 µm", "chunks": CHUNKS, "errors": "collect"}
    with pytest.warns(UserWarning, match="4 of 20 blocks failed; the first: block .*too bright"):
        found = tree.ngff.apply(fails, to="labels/nuclei", stitch=True, halo="1 px", **options)
    labels = nuclei(found)
    column = slice(32, 48)
    assert not labels[:, column].any()
    rest = pixels()[0] > 500
    rest[:, column] = False
    assert np.array_equal(labels > 0, rest)
    said = found.ngff.labels["nuclei"].ngff.provenance["failed"]
    assert len(said) == 4
    assert said[0]["region"]["x"] == [10.75, 18.75]
    with pytest.warns(UserWarning, match="4 of 20 blocks"):
        tree.ngff.apply(fails, to=tmp_path / "b.ome.zarr", **options)
    image = xr.open_datatree(tmp_path / "b.ome.zarr")
    assert np.array_equal(image.ngff.level(0) > 0, rest)
    assert image.ngff.provenance["failed"] == said
    with pytest.raises(BlockError, match="too bright"):
        tree.ngff.apply(fails, to="labels/other", stitch=True, **{**options, "errors": "raise"})
    assert list(xr.open_datatree(tree.encoding["source"]).ngff.labels) == ["nuclei"]


# ---- what made it ------------------------------------------------------------------------------


def test_results_say_what_made_them(tree: xr.DataTree) -> None:
    def above(block: xr.DataArray, threshold: float, image: Any) -> NDArray[Any]:
        return label(block > threshold)

    func = partial(above, threshold=500)
    for name in ("one", "two"):
        tree = tree.ngff.apply(func, kwargs={"image": object()}, to=f"labels/{name}", stitch=True)
    said = tree.ngff.labels["one"].ngff.provenance
    assert said["function"].endswith("test_results_say_what_made_them.<locals>.above")
    assert said["parameters"]["threshold"] == 500
    assert said["parameters"]["image"].startswith("<object object")
    assert said["settings"]["threshold"] == 0.5
    assert {"numpy", "xarray", "scipy", "ngff-xarray", "python"} <= set(said["versions"])
    table = tree.ngff.labels.table()
    assert table.index.tolist() == ["one", "two"]
    assert "above" in repr(tree.ngff.labels)
    tree = tree.ngff.add_labels("one", tree.ngff.labels["two"], replace=True)
    assert tree.ngff.labels["one"].ngff.provenance == {}


# ---- going on ----------------------------------------------------------------------------------


def test_whoever_was_stopped_goes_on(tree: xr.DataTree) -> None:
    root = Path(tree.encoding["source"])
    options: dict[str, Any] = {"to": "labels/nuclei", "stitch": True, "block": "8 µm"}
    options |= {"chunks": CHUNKS, "scheduler": "synchronous"}
    with pytest.raises(BlockError):
        tree.ngff.apply(label_or_stop, kwargs={"path": str(root)}, **options)
    assert len(list(root.glob(".ngff_*/records/*"))) == 8
    (root / ".calm").touch()
    found = tree.ngff.apply(label_or_stop, kwargs={"path": str(root)}, **options)
    assert are_same(nuclei(found), WHOLE)
    assert int((root / ".calls").read_text()) == 9 + 12


def label_or_stop(block: xr.DataArray, path: str) -> NDArray[Any]:
    """Fail at the ninth call, until somebody says not to."""
    calls = Path(path) / ".calls"
    count = int(calls.read_text()) + 1 if calls.exists() else 1
    calls.write_text(str(count))
    if count == 9 and not (Path(path) / ".calm").exists():
        raise RuntimeError("stopped")
    return label(block)


def test_repair_deletes_what_nobody_goes_on_with(tree: xr.DataTree) -> None:
    root = Path(tree.encoding["source"])
    options: dict[str, Any] = {"stitch": True, "block": "8 µm", "chunks": CHUNKS}
    with pytest.raises(BlockError):
        tree.ngff.apply(label_or_stop, kwargs={"path": str(root)}, to="labels/nuclei", **options)
    repair = ngff_xarray.repair(root)
    assert "nuclei: was being made by .ngff.apply()" in str(repair)
    repair.apply()
    assert not list(root.glob(".ngff_*"))
    assert np.array_equal(xr.open_datatree(root).ngff.level(0), pixels())


def test_two_do_not_do_the_same_at_a_time(tree: xr.DataTree) -> None:
    options: dict[str, Any] = {"to": "labels/nuclei", "stitch": True, "wait": 0}
    errors: list[type[Exception]] = []

    def inner(block: xr.DataArray) -> NDArray[Any]:
        try:
            tree.ngff.apply(label, **options)
        except NgffError as error:
            errors.append(type(error))
        return label(block)

    tree.ngff.apply(inner, **options)
    assert set(errors) == {BusyError}


def test_another_function_starts_over(tree: xr.DataTree) -> None:
    root = Path(tree.encoding["source"])
    options: dict[str, Any] = {"to": "labels/nuclei", "stitch": True, "block": "8 µm"}
    options |= {"chunks": CHUNKS, "scheduler": "synchronous"}
    with pytest.raises(BlockError):
        tree.ngff.apply(label_or_stop, kwargs={"path": str(root)}, **options)
    found = tree.ngff.apply(label, **options)
    assert are_same(nuclei(found), WHOLE)
    assert not list(root.glob(".ngff_*"))


KILLED = """
import sys, time
import xarray as xr
sys.path.insert(0, {tests!r})
from test_apply import slow
tree = xr.open_datatree({source!r})
tree.ngff.apply(slow, to="labels/nuclei", stitch=True, block="8 µm", chunks={chunks}, workers=1)
"""


def slow(block: xr.DataArray) -> NDArray[Any]:
    time.sleep(0.1)
    return label(block)


@pytest.mark.slow
def test_whoever_was_killed_goes_on(tree: xr.DataTree) -> None:
    root = Path(tree.encoding["source"])
    script = KILLED.format(tests=str(Path(__file__).parent), source=str(root), chunks=CHUNKS)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        end = time.monotonic() + 60
        while len(list(root.glob(".ngff_*/records/*"))) < 5 and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 5 <= len(list(root.glob(".ngff_*/records/*"))) < 20
    assert not xr.open_datatree(root).ngff.labels
    found = xr.open_datatree(root).ngff.apply(
        slow, to="labels/nuclei", stitch=True, block="8 µm", chunks=CHUNKS, workers=1
    )
    assert are_same(nuclei(found), WHOLE)
    assert not list(root.glob(".ngff_*"))


# ---- who does it -------------------------------------------------------------------------------


def process_number(block: xr.DataArray) -> NDArray[Any]:
    return np.full(block.shape[1:], os.getpid(), "i4")


@pytest.mark.slow
def test_processes_do_it(tree: xr.DataTree, tmp_path: Path) -> None:
    options: dict[str, Any] = {"block": "8 µm", "chunks": CHUNKS, "scheduler": "processes"}
    found = tree.ngff.apply(label, to="labels/nuclei", stitch=True, workers=2, **options)
    assert are_same(nuclei(found), WHOLE)
    tree.ngff.apply(process_number, to=tmp_path / "b.ome.zarr", workers=1, **options)
    seen = np.unique(xr.open_datatree(tmp_path / "b.ome.zarr").ngff.level(0))
    assert seen.size == 1
    assert seen[0] != os.getpid()


def dies(block: xr.DataArray) -> NDArray[Any]:
    if float(block.x[0]) > 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return label(block)


def test_a_process_that_is_killed_is_told(tree: xr.DataTree) -> None:
    with pytest.raises(StoreError, match="a process was killed"):
        tree.ngff.apply(
            dies, to="labels/n", stitch=True, block="8 µm", chunks=CHUNKS, scheduler="processes"
        )


def test_pixels_in_memory_stay_with_threads() -> None:
    array = image(np.zeros((800, 800), "u2"))
    with pytest.raises(UnsupportedError, match=r"pixels in memory.*scheduler='threads'"):
        apply(array, lambda b: b, scheduler="processes", to=zarr.storage.MemoryStore())


def test_fewer_workers_call_fewer_at_a_time(tree: xr.DataTree, tmp_path: Path) -> None:
    running, most = [], []

    def watched(block: xr.DataArray) -> xr.DataArray:
        running.append(1)
        most.append(len(running))
        time.sleep(0.002)
        running.pop()
        return block

    tree.ngff.apply(watched, block="8 µm", chunks=CHUNKS, workers=1, to=tmp_path / "b.ome.zarr")
    assert max(most) == 1


# ---- plates, wells and collections -------------------------------------------------------------


@pytest.fixture(scope="module")
def plate_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plate") / "plate.ome.zarr"
    wells = {
        f"{row}/{column}": {str(n): image(pixels(seed=10 * column + n)) for n in range(2)}
        for row in "AB"
        for column in (1, 2)
    }
    ngff_xarray.write.write_plate(wells, path, chunks=CHUNKS, levels=2)
    return path


@pytest.fixture
def plate(plate_path: Path, tmp_path: Path) -> xr.DataTree:
    shutil.copytree(plate_path, tmp_path / "plate.ome.zarr")
    return xr.open_datatree(tmp_path / "plate.ome.zarr")


def count(block: xr.DataArray) -> pd.DataFrame:
    return pd.DataFrame({"bright": [int((block.sel(c="DAPI") > 500).sum())]})


def mean_by_field(block: xr.DataArray) -> dict[str, Any]:
    assert block.dims == ("field", "c", "y", "x")
    return {"fields": block.sizes["field"], "mean": float(block.mean())}


def test_every_field_of_a_plate_gets_labels(plate: xr.DataTree) -> None:
    assert plate.ngff.apply(label, to="labels/nuclei", stitch=True, block="8 µm") is None
    for path in plate.ngff.wells["path"]:
        for field, tree in plate.ngff.well(path).ngff.fields.items():
            seed = 10 * int(path[-1]) + int(field)
            whole = ndimage.label(pixels(seed=seed)[0] > 500)[0]
            assert are_same(nuclei(tree), whole)
    table = plate.ngff.measure("nuclei", "all")
    assert table.index.names == ["well", "field", "label-value"]


def test_a_plate_becomes_one_table(plate: xr.DataTree, tmp_path: Path) -> None:
    target = tmp_path / "bright.csv"
    table = plate.ngff.apply(count, to=str(target), wells=["A1", "B2"], workers=2)
    assert table.index.get_level_values("well").unique().tolist() == ["A/1", "B/2"]
    expected = [int((pixels(seed=s)[0] > 500).sum()) for s in (10, 11, 20, 21)]
    assert table["bright"].tolist() == expected
    assert pd.read_csv(target)["bright"].tolist() == table["bright"].tolist()
    wells = plate.ngff.apply(mean_by_field, per="well", scheduler="processes", workers=1)
    assert wells["fields"].tolist() == [2] * 4
    assert wells.loc["A/2", "mean"].item() == pytest.approx(
        np.mean([pixels(seed=s).mean() for s in (20, 21)])
    )
    well = plate.ngff.well("A/1").ngff.apply(count)
    assert well.index.names == ["field", None]


def test_fields_that_are_done_stay(plate: xr.DataTree) -> None:
    options: dict[str, Any] = {"to": "labels/nuclei", "stitch": True}
    plate.ngff.apply(label, wells=["A/1"], **options)
    root = Path(plate.encoding["source"])
    before = (root / "A/1/0/labels/nuclei/zarr.json").stat().st_mtime_ns
    plate.ngff.apply(label, **options)
    assert (root / "A/1/0/labels/nuclei/zarr.json").stat().st_mtime_ns == before
    assert (root / "B/2/1/labels/nuclei/zarr.json").exists()
    with pytest.raises(StoreError, match="there is a label image") as raised:
        plate.ngff.apply(fails, **options)
    assert raised.value.__notes__[0].startswith("in A/1/")
    with pytest.raises(SelectionError, match="give to='labels/NAME'"):
        plate.ngff.apply(label)
    with pytest.raises(SelectionError, match="'field' or 'well'"):
        plate.ngff.apply(label, per="row")


def test_fields_that_fail_are_told(plate: xr.DataTree) -> None:
    with pytest.raises(BlockError, match="too bright"):
        plate.ngff.apply(fails, block="8 µm", chunks=CHUNKS, to="labels/n", stitch=True)
    with pytest.warns(UserWarning, match="32 blocks of 8 images failed"):
        plate.ngff.apply(
            fails, block="8 µm", chunks=CHUNKS, to="labels/n", stitch=True, errors="collect"
        )


def test_many_at_once_leave_the_settings_of_dask_alone() -> None:
    seen = set()

    def ask(number: int) -> str | None:
        found = token(number, lambda: number)
        seen.add(dask.config.get("tokenize.ensure-deterministic"))
        return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(400)))
    assert seen == {dask.config.get("tokenize.ensure-deterministic")} == {False}
    assert len(found) == 400
