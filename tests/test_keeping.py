"""Labels whose small ids are kept: what holds of every level, however it is made."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_building import Memory, blocks
from watched import Watched

import ngff_xarray
from ngff_xarray.errors import SelectionError
from ngff_xarray.pyramid import (
    PlannedLevel,
    below,
    build_by_levels,
    by_levels,
    derived,
    plan,
    reduction,
    variables,
)
from ngff_xarray.pyramid.keeping import KeptLevel

UNTIMED = settings(deadline=None)


@st.composite
def labels(draw: st.DrawFn, most: int = 40) -> tuple[np.ndarray, list[PlannedLevel]]:
    """Many small labels, and levels: blocks of ids, and pixels of others."""
    ndim = draw(st.integers(1, 3))
    side = {1: 60, 2: 20, 3: 9}[ndim]
    shape = draw(st.lists(st.integers(1, side), min_size=ndim, max_size=ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = draw(st.integers(1, most))
    dtype = draw(st.sampled_from(["u1", "i2", "u4", "i8", "u8"]))
    pixels = rng.integers(0, ids, shape, endpoint=True)
    if draw(st.booleans()):  # with more background, or larger labels
        pixels[rng.random(shape) < rng.random()] = rng.integers(0, 2)
    if draw(st.booleans()):
        for axis in range(ndim):
            pixels = pixels.repeat(2, axis)
    levels = list(plan(pixels.shape, [None] * ndim, pixels.shape, levels=1))
    for _ in range(draw(st.integers(1, 3))):
        step = draw(st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim))
        levels.append(below(levels[-1], step))
    return pixels.astype(dtype), levels


def modes(pixels: np.ndarray, level: PlannedLevel) -> np.ndarray:
    method = reduction("mode", pixels.dtype)
    return method.reduce(method.begin(pixels), level.step, 1).values


def kept(pixels: np.ndarray, levels: list[PlannedLevel], *frames: int) -> list[np.ndarray]:
    """Return all levels, computed."""
    source = xr.Variable([f"dim_{i}" for i in range(pixels.ndim)], pixels)
    return [pixels, *(each.values for each in variables(source, levels, "mode", frames))]


def ids(pixels: np.ndarray) -> set[int]:
    return set(pixels.flat) - {0}


# ---- what holds of every level -----------------------------------------------------------------


@UNTIMED
@given(labels())
def test_ids_are_kept_and_nothing_else_is_changed(made: Any) -> None:
    pixels, levels = made
    found = kept(pixels, levels)
    for level, before, after in zip(levels[1:], found, found[1:], strict=False):
        mode = modes(before, level)
        survived, counts = ids(mode), Counter(after.flat)
        lies_in: dict[int, list[Any]] = {}
        for place, block in blocks(before, level.step):
            assert after[place] in block, "no id is where it was not"
            for each in ids(block):
                lies_in.setdefault(each, []).append(place)
        assert ids(after) <= ids(before)
        assert survived <= ids(after), "no id that has a pixel loses its last"
        for each in ids(before) - ids(after):
            for place in lies_in[each]:
                assert after[place] != 0, "a free block would have been given"
                assert counts[after[place]] == 1, "a block of a larger id would have been given"
        changed = after != mode
        assert changed.sum() <= len(ids(after)), "all other pixels are the mode"
        if survived == ids(before):
            assert not changed.any()


@UNTIMED
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_every_id_is_kept_where_there_is_a_block_for_each(seed: int, share: int) -> None:
    """Each block has an id of its own, that others hide: all can be kept, and some must move."""
    rng = np.random.default_rng(seed)
    own = rng.permutation(np.arange(1, 37)).reshape(6, 6)
    pixels = rng.integers(1, 37, (12, 12))
    pixels[rng.random((12, 12)) < share / 6] = 0
    pixels[::2, ::2] = own
    levels = [PlannedLevel((12, 12), (1, 1), (1, 1)), PlannedLevel((6, 6), (2, 2), (2, 2))]
    after = kept(pixels, levels)[1]
    assert ids(after) == ids(pixels)


def test_an_id_moves_for_another() -> None:
    # 2 is the mode of the first block only, 1 is nowhere else; 2 lies in the last one, of 9, too
    pixels = np.array([[2, 1, 9, 2], [2, 2, 9, 9], [9, 9, 9, 9], [9, 9, 9, 9]])
    levels = [PlannedLevel((4, 4), (1, 1), (1, 1)), PlannedLevel((2, 2), (2, 2), (2, 2))]
    assert kept(pixels, levels)[1].tolist() == [[1, 2], [9, 9]]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([[0, 0, 0, 0], [0, 5, 0, 0]], [[5, 0]]),  # background gives way
        ([[5, 0, 0, 5], [0, 0, 5, 0]], [[0, 5]]),  # most of it lies in the last
        ([[7, 7, 7, 7], [7, 5, 7, 7]], [[5, 7]]),  # 7 has another pixel
        ([[7, 7, 0, 0], [7, 5, 0, 0]], [[7, 0]]),  # 7 has none
        ([[1, 2, 0, 0], [3, 4, 0, 0]], [[4, 0]]),  # more ids than pixels
        ([[0, 0, 0, 0], [0, 0, 0, 0]], [[0, 0]]),
    ],
)
def test_small_ids(pixels: Any, expected: Any) -> None:
    levels = [PlannedLevel((2, 4), (1, 1), (1, 1)), PlannedLevel((1, 2), (2, 2), (2, 2))]
    assert kept(np.array(pixels), levels)[1].tolist() == expected


def test_each_frame_is_an_image_of_its_own() -> None:
    pixels = np.zeros((2, 2, 4), "u2")
    pixels[0, :, :2] = 5
    pixels[1, 0, 0] = 5
    levels = [
        PlannedLevel((2, 2, 4), (1, 1, 1), (1, 1, 1)),
        PlannedLevel((2, 1, 2), (1, 2, 2), (1, 2, 2)),
    ]
    assert kept(pixels, levels)[1].tolist() == [[[5, 0]], [[0, 0]]]
    assert kept(pixels, levels, 0)[1].tolist() == [[[5, 0]], [[5, 0]]]


# ---- however it is made ------------------------------------------------------------------------


@UNTIMED
@given(labels(), st.data())
def test_parts_do_not_matter(made: Any, data: Any) -> None:
    pixels, levels = made
    level = levels[1]
    frames = [i for i, f in enumerate(level.step) if f == 1 and data.draw(st.booleans())]
    found = []
    for _ in range(2):
        unit = [data.draw(st.integers(1, n)) for n in level.shape]
        whole = KeptLevel(level, pixels.dtype, frames)
        after = np.empty(level.shape, pixels.dtype)
        corners = list(product(*(range(0, n, m) for n, m in zip(level.shape, unit, strict=True))))
        for corner in data.draw(st.permutations(corners)) if len(corners) < 30 else corners:
            box = tuple(
                slice(a, min(a + m, n)) for a, m, n in zip(corner, unit, level.shape, strict=True)
            )
            below = tuple(
                slice(b.start * f, b.stop * f) for b, f in zip(box, level.step, strict=True)
            )
            after[box] = whole.made(pixels[below], box)
        changes = whole.changes()
        for box in changes.boxes(unit):
            changes.apply(after[box], box)
        found.append(after)
    np.testing.assert_array_equal(*found)


class Stored(Memory):
    """A target that can be read and changed once it is whole."""

    @property
    def objects(self) -> tuple[int, ...]:
        return self.chunks

    def write_over(self, box: Any, change: Any) -> None:
        assert (self.count == 1).all(), "all of a level is known"
        change(self.pixels[box], box)

    def reader(self, threads: int) -> Any:
        return self.pixels.__getitem__


@UNTIMED
@given(labels(), st.integers(1, 3), st.data())
def test_what_is_written_is_what_is_computed(made: Any, threads: int, data: Any) -> None:
    pixels, levels = made
    chunks = [data.draw(st.integers(1, 9)) for _ in pixels.shape]
    frames = [i for i, f in enumerate(levels[-1].factors) if f == 1 and data.draw(st.booleans())]
    targets = [Stored(level.shape, pixels.dtype, chunks) for level in levels]
    source = xr.Variable([f"dim_{i}" for i in range(pixels.ndim)], pixels)
    lazy = [source, *variables(source, levels, "mode", frames)]
    assert derived(lazy) == (tuple(levels), "mode")
    step = by_levels(lazy)
    assert step is not None
    reads = np.zeros(pixels.shape, "u1")

    def read(box: Any) -> np.ndarray:
        reads[box] += 1
        return pixels[box]

    build_by_levels(lambda _: read, levels, step, targets, threads=threads)
    assert (reads == 1).all()
    for target, variable in zip(targets, lazy, strict=True):
        np.testing.assert_array_equal(target.pixels, variable.values)


def test_levels_of_several_pyramids_are_not_taken_for_one() -> None:
    levels = plan((8, 8), (1, 1), (1, 1))
    source = xr.Variable(("y", "x"), np.zeros((8, 8), "u1"))
    first, second = (variables(source, levels, "mode", ()) for _ in range(2))
    assert derived([source, *first]) is not None
    assert derived([source, first[0], *second[1:]]) is None


# ---- in a store --------------------------------------------------------------------------------


def dots(shape: tuple[int, ...] = (2, 40, 90, 70)) -> xr.DataArray:
    """Labels of one pixel each, far enough from each other for three levels, in each frame."""
    pixels = np.zeros(shape, "u4")
    grid = pixels[:, 1::9, 4::9, 7::9]
    grid[...] = np.arange(1, grid[0].size + 1).reshape(grid[0].shape)
    coords = {
        dim: (dim, 0.5 * np.arange(n), {"units": "micrometer"})
        for dim, n in zip("zyx", shape[1:], strict=True)
    }
    return xr.DataArray(pixels, coords=coords, dims=("t", "z", "y", "x"), name="labels")


@pytest.mark.parametrize("shards", [None, {"z": 16, "y": 32, "x": 32}])
def test_dots_are_seen_at_every_level(tmp_path: Path, shards: Any) -> None:
    array = dots()
    array.ngff.to_zarr(
        tmp_path / "a.ome.zarr",
        scale_factors=[2, 2, 2],
        keep_ids=True,
        chunks={"z": 8, "y": 16, "x": 16},
        shards=shards,
    )
    tree = xr.open_datatree(tmp_path / "a.ome.zarr")
    for level in tree.ngff.levels:
        for frame in level.values:
            assert ids(frame) == ids(array.values[0])
    said = tree.attrs["ome"]["metadata"]
    assert said["kwargs"]["keep_ids"] is True
    assert "an id that would have no pixel gets one" in said["description"]
    assert tree.attrs["ome"]["type"] == "mode"
    lost = array.ngff.pyramid(scale_factors=[2, 2, 2]).ngff.level(1).values
    assert not lost.any()


def test_lazy_levels_can_be_pickled_and_are_found_once() -> None:
    store = Watched()
    dots().ngff.to_zarr(store, levels=1, chunks={"z": 8, "y": 16, "x": 16})
    tree = xr.open_datatree(store, engine="ngff").ngff.pyramid(scale_factors=[2], keep_ids=True)
    store.read.clear()
    wanted = tree.ngff.level(1)[0, 0, 0].values
    first = len(store.read)
    assert first > 100, "all of the image is looked at"
    again = pickle.loads(pickle.dumps(tree.ngff.level(1)[0, 0, 0]))
    store.read.clear()
    np.testing.assert_array_equal(tree.ngff.level(1)[0, 0, 0].values, wanted)
    assert len(store.read) < first / 10
    np.testing.assert_array_equal(again.values, wanted)


def test_labels_that_are_added_keep_their_ids(tmp_path: Path) -> None:
    xr.DataArray(np.zeros((64, 64), "u1"), dims=("y", "x")).ngff.to_zarr(
        tmp_path / "a.ome.zarr", levels=3
    )
    points = np.zeros((64, 64), "u2")
    points[3::16, 5::16] = np.arange(1, 17).reshape(4, 4)
    tree = xr.open_datatree(tmp_path / "a.ome.zarr")
    tree = tree.ngff.add_labels("points", points, keep_ids=True)
    for level in tree.ngff.labels["points"].ngff.levels:
        assert ids(level.values) == set(range(1, 17))


@pytest.mark.parametrize(
    ("options", "dtype"), [({"method": "mean"}, "u1"), ({"method": "max"}, "u1"), ({}, "f4")]
)
def test_what_has_no_ids(options: Any, dtype: str) -> None:
    array = xr.DataArray(np.zeros((8, 8), dtype), dims=("y", "x"))
    with pytest.raises(SelectionError, match="keep_ids: only labels have ids"):
        array.ngff.pyramid(keep_ids=True, **options)


def test_real_cells_are_kept() -> None:
    labels = xr.open_datatree(ngff_xarray.sample("cell")).ngff.labels["cell"]
    for level in labels.ngff.pyramid(scale_factors=[2] * 8, keep_ids=True).ngff.levels:
        assert ids(level.values) == {1}
