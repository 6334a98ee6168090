"""Pyramids that are written while the image is read: every level, against its definition."""

from __future__ import annotations

import errno
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.errors import SelectionError
from ngff_xarray.pyramid import (
    METHODS,
    PlannedLevel,
    below,
    block_size,
    build,
    chunk_sizes,
    derived,
    is_better_apart,
    plan,
    reader,
    reduction,
    sides,
    variables,
)
from ngff_xarray.pyramid.building import Tree
from ngff_xarray.pyramid.stock import Stock

UNTIMED = settings(deadline=None)
BLOCKWISE = [method for method in METHODS if method != "gaussian"]
DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"]


class Memory:
    """A target that holds a level, and counts how often each pixel was written."""

    def __init__(self, shape: Sequence[int], dtype: Any, chunks: Sequence[int]) -> None:
        self.chunks = tuple(chunks)
        self.pixels = np.zeros(shape, dtype)
        self.count = np.zeros(shape, "u1")
        self._lock = threading.Lock()

    def write(self, start: Sequence[int], pixels: np.ndarray) -> None:
        assert pixels.dtype == self.pixels.dtype
        stop = [a + n for a, n in zip(start, pixels.shape, strict=True)]
        for a, b, n, size in zip(start, stop, self.chunks, self.pixels.shape, strict=True):
            assert a % n == 0
            assert b % n == 0 or b == size
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        with self._lock:
            self.pixels[box] = pixels
            self.count[box] += 1


@st.composite
def pyramids(draw: st.DrawFn) -> tuple[np.ndarray, list[PlannedLevel], list[tuple[int, ...]]]:
    """An image, its levels, and their chunks."""
    ndim = draw(st.integers(1, 3))
    most = {1: 60, 2: 20, 3: 11}[ndim]
    shape = draw(st.lists(st.integers(1, most), min_size=ndim, max_size=ndim))
    sizes = st.lists(st.integers(1, 6), min_size=ndim, max_size=ndim)
    chunks = tuple(draw(sizes))
    levels = list(plan(shape, [None] * ndim, chunks, levels=1))
    for _ in range(draw(st.integers(0, 3))):
        levels.append(
            below(levels[-1], draw(st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim)))
        )
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    seed = draw(st.integers(0, 2**32 - 1))
    return _noise(shape, dtype, seed), levels, [chunks] * len(levels)


def _noise(shape: Sequence[int], dtype: np.dtype[Any], seed: int) -> np.ndarray:
    """All values of a type; few, so that some are common; floats with some that are NaN."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        found = rng.integers(-9, 9, shape).astype(dtype) / 4
        found[rng.random(shape) < 0.2 * (seed % 2)] = np.nan
        return found
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    few = rng.integers(info.min, info.max, 3, dtype=dtype, endpoint=True)
    return (
        few[rng.integers(0, 3, shape)]
        if seed % 3
        else rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    )


def blocks(array: np.ndarray, factors: Sequence[int]) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield the place of each block, and its pixels."""
    shape = [-(-n // f) for n, f in zip(array.shape, factors, strict=True)]
    for place in product(*map(range, shape)):
        yield (
            place,
            array[tuple(slice(i * f, i * f + f) for i, f in zip(place, factors, strict=True))],
        )


def _mean(block: np.ndarray) -> Any:
    if block.dtype.kind != "f":
        return round(sum(map(_fraction, block.ravel().tolist())) / block.size)
    kept = block[~np.isnan(block)].astype("f8")
    return kept.mean() if kept.size else np.nan


def _fraction(value: int) -> Any:
    from fractions import Fraction

    return Fraction(int(value))


def _mode(block: np.ndarray) -> Any:
    counts = Counter(block.ravel().tolist())
    return max(counts, key=lambda value: (counts[value], value))


def _median(block: np.ndarray) -> Any:
    kept = sorted(
        block.ravel().tolist() if block.dtype.kind != "f" else block[~np.isnan(block)].tolist()
    )
    if not kept:
        return np.nan
    low, high = kept[(len(kept) - 1) // 2], kept[len(kept) // 2]
    if block.dtype.kind == "b":
        return low and high
    return (low + high) / 2 if block.dtype.kind == "f" else round((_fraction(low) + high) / 2)


def _extreme(name: str) -> Any:
    def of(block: np.ndarray) -> Any:
        if block.dtype.kind == "f" and np.isnan(block).all():
            return np.nan
        return getattr(np, f"nan{name}" if block.dtype.kind == "f" else name)(block)

    return of


DEFINITIONS = {
    "mean": _mean,
    "mode": _mode,
    "nearest": lambda block: block.flat[0],
    "max": _extreme("max"),
    "min": _extreme("min"),
    "median": _median,
}


def wanted(pixels: np.ndarray, levels: Sequence[PlannedLevel], method: str) -> list[np.ndarray]:
    """Every level by its definition: the mean of the finest, others of the level before."""
    found = [pixels]
    for level in levels[1:]:
        source, factors = (pixels, level.factors) if method == "mean" else (found[-1], level.step)
        made = np.empty(level.shape, pixels.dtype)
        for place, block in blocks(source, factors):
            made[place] = DEFINITIONS[method](block)
        found.append(made)
    return found


def check(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


def comparable(pixels: np.ndarray, method: str) -> bool:
    return method != "mode" or pixels.dtype.kind != "f" or not np.isnan(pixels).any()


@UNTIMED
@given(pyramids(), st.sampled_from(BLOCKWISE), st.integers(1, 3))
def test_levels_are_what_they_should_be(made: Any, method: str, threads: int) -> None:
    pixels, levels, chunks = made
    if not comparable(pixels, method):
        pixels = np.nan_to_num(pixels)
    targets = [Memory(lv.shape, pixels.dtype, c) for lv, c in zip(levels, chunks, strict=True)]
    reads = np.zeros(pixels.shape, "u1")
    done: list[int] = []

    def read(box: tuple[slice, ...]) -> np.ndarray:
        reads[box] += 1
        return pixels[box]

    build(read, levels, reduction(method, pixels.dtype), targets, threads=threads, done=done.append)
    assert (reads == 1).all(), "every pixel is read once"
    assert sum(done) == pixels.nbytes
    for target, expected in zip(targets, wanted(pixels, levels, method), strict=True):
        assert (target.count == 1).all(), "every chunk is written once"
        check(target.pixels, expected)


@UNTIMED
@given(pyramids(), st.sampled_from(BLOCKWISE), st.data())
def test_lazy_levels_are_the_same(made: Any, method: str, data: Any) -> None:
    pixels, levels, _ = made
    if not comparable(pixels, method):
        pixels = np.nan_to_num(pixels)
    dims = [f"dim_{i}" for i in range(pixels.ndim)]
    source = xr.Variable(dims, pixels)
    found = variables(source, levels, method)
    expected = wanted(pixels, levels, method)
    for variable, level in zip(found, expected[1:], strict=True):
        check(variable[...].values, level)
        key = tuple(data.draw(st.one_of(_slices(n), _places(n))) for n in level.shape)
        check(
            np.asarray(variable[key].values),
            np.asarray(level[np.ix_(*map(_listed, key, level.shape))]).reshape(variable[key].shape),
        )
    assert derived([source, *found]) == ((tuple(levels), method) if found else None)


def _slices(n: int) -> st.SearchStrategy[slice]:
    return st.builds(slice, st.integers(0, n), st.integers(0, n), st.integers(1, 3))


def _places(n: int) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(0, n - 1),
        st.lists(st.integers(0, n - 1), min_size=1, max_size=4).map(np.array),
    )


def _listed(key: Any, size: int) -> np.ndarray:
    return np.atleast_1d(np.arange(size)[key])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("value", ["min", "max"])
def test_sums_do_not_overflow(dtype: str, value: str) -> None:
    pixels = np.full((512, 512), getattr(np.iinfo(dtype), value), dtype)
    levels = plan(pixels.shape, (1, 1), (1, 1))
    assert levels[-1].shape == (1, 1)
    targets = [Memory(level.shape, dtype, (64, 64)) for level in levels]
    build(pixels.__getitem__, levels, reduction("mean", pixels.dtype), targets, threads=2)
    slack = 2**11 if dtype.endswith("8") else 0  # what floats have there
    for target in targets:
        assert np.unique(target.pixels).size == 1
        assert abs(int(target.pixels[0, 0]) - int(pixels[0, 0])) <= slack


def test_means_do_not_drift() -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (256, 256)).astype("u2")
    levels = plan(pixels.shape, (1, 1), (1, 1))
    targets = [Memory(level.shape, "u2", (32, 32)) for level in levels]
    build(pixels.__getitem__, levels, reduction("mean", pixels.dtype), targets, threads=2)
    for level, target in zip(levels, targets, strict=True):
        exact = pixels.reshape(level.shape[0], level.factors[0], level.shape[1], -1).mean((1, 3))
        assert np.abs(target.pixels - exact).max() <= 0.5


def test_memory_is_that_of_a_few_chunks() -> None:
    """What lives at a time: counted as the pixels handed out and not yet let go."""
    import tracemalloc

    shape, chunk = (256, 256, 256), (32, 32, 32)
    levels = plan(shape, (1, 1, 1), chunk)

    class Nowhere:
        chunks = chunk

        def write(self, start: Sequence[int], pixels: np.ndarray) -> None:
            pass

    def read(box: tuple[slice, ...]) -> np.ndarray:
        return np.ones([b.stop - b.start for b in box], "u2")

    tracemalloc.start()
    try:
        build(read, levels, reduction("mean", np.dtype("u2")), [Nowhere()] * len(levels), threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(levels) * math.prod(chunk) * 4 * 3, "of 33 MB, some 2 MB"


# ---- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("when", [0, 5, 60])
def test_errors_stop_all_threads(threads: int, when: int) -> None:
    levels = plan((64, 64), (1, 1), (8, 8))
    reads: list[Any] = []

    def read(box: tuple[slice, ...]) -> np.ndarray:
        reads.append(box)
        if len(reads) > when:
            raise KeyboardInterrupt if when == 5 else ZeroDivisionError("of the reader")
        return np.zeros([b.stop - b.start for b in box], "u2")

    targets = [Memory(level.shape, "u2", (8, 8)) for level in levels]
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt if when == 5 else ZeroDivisionError):
        build(read, levels, reduction("mean", np.dtype("u2")), targets, threads=threads)
    assert threading.active_count() == before
    assert len(reads) <= when + threads + 1


def test_methods_that_there_are_not() -> None:
    with pytest.raises(SelectionError, match="expected one of mean, mode"):
        reduction("average", np.dtype("u1"))
    with pytest.raises(SelectionError, match="only method='nearest' takes any pixels"):
        reduction("mean", np.dtype("c8"))


# ---- which levels ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "sizes", "chunks", "shapes"),
    [
        ((512, 512), (1, 1), (256, 256), [(512, 512), (256, 256)]),
        ((100, 100), (1, 1), (256, 256), [(100, 100)]),
        ((3, 512, 512), (None, 1, 1), (1, 256, 256), [(3, 512, 512), (3, 256, 256)]),
        (
            (20, 800, 800),
            (5, 1, 1),
            (20, 100, 100),
            [(20, 800, 800), (20, 400, 400), (20, 200, 200), (10, 100, 100)],
        ),
        ((1, 500, 501), (9, 1, 1), (1, 250, 250), [(1, 500, 501), (1, 250, 251), (1, 125, 126)]),
        ((4, 0), (1, 1), (1, 1), [(4, 0), (2, 0), (1, 0)]),
        ((7,), (None,), (2,), [(7,)]),
    ],
)
def test_plans(shape: Any, sizes: Any, chunks: Any, shapes: Any) -> None:
    assert [level.shape for level in plan(shape, sizes, chunks)] == shapes


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=5), st.data())
def test_chunks_are_about_a_megabyte(shape: list[int], data: Any) -> None:
    is_space = [data.draw(st.booleans()) for _ in shape]
    itemsize = data.draw(st.sampled_from([1, 2, 4, 8]))
    chunks = chunk_sizes(shape, is_space, itemsize)
    assert all(1 <= n <= size for n, size in zip(chunks, shape, strict=True))
    assert math.prod(chunks) * itemsize <= 2**20
    assert all(n == 1 for n, space in zip(chunks, is_space, strict=True) if not space)
    whole = all(n == size for n, size, s in zip(chunks, shape, is_space, strict=True) if s)
    assert whole or 2 * math.prod(chunks) * itemsize > 2**19


# ---- sources -----------------------------------------------------------------------------------


def test_blocks_of_dask_are_computed_once() -> None:
    import dask.array as da

    computed: Counter[Any] = Counter()
    lock = threading.Lock()

    def block(block_info: Any = None) -> np.ndarray:
        where = block_info[None]
        with lock:
            computed[tuple(where["chunk-location"])] += 1
        return np.full(where["chunk-shape"], where["chunk-location"][0], "u2")

    array = da.map_blocks(block, chunks=((30,) * 4, (50, 50, 20)), dtype="u2")
    pixels = array.compute(scheduler="synchronous")
    computed.clear()
    source = xr.Variable(("y", "x"), array)
    levels = plan(source.shape, (1, 1), (16, 16))
    targets = [Memory(level.shape, "u2", (16, 16)) for level in levels]
    build(reader(source, 2), levels, reduction("mean", source.dtype), targets, threads=2)
    np.testing.assert_array_equal(targets[0].pixels, pixels)
    assert set(computed.values()) == {1}
    assert len(computed) == 12


def test_an_error_of_dask_is_told_and_tried_again() -> None:
    import dask.array as da

    array = da.from_array(np.zeros((4, 4)), chunks=2).map_blocks(lambda x: x / 0 if x.size else x)
    broken = da.map_blocks(lambda: 1 // 0, chunks=((2, 2), (2, 2)), dtype="f8", meta=array._meta)
    read = reader(xr.Variable(("y", "x"), broken), 2)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            read((slice(0, 3), slice(0, 3)))


def planes(count: int, side: int, loaded: Counter[Any], lock: Any) -> xr.Variable:
    """Pixels of dask, a plane a block, whose values are their numbers."""
    import dask.array as da

    def plane(block_info: Any = None) -> np.ndarray:
        number = block_info[None]["chunk-location"][0]
        with lock:
            loaded[number] += 1
        return np.full((1, side, side), number, "u2")

    chunks = ((1,) * count, (side,), (side,))
    return xr.Variable(("z", "y", "x"), da.map_blocks(plane, chunks=chunks, dtype="u2"))


@pytest.mark.parametrize("keep", [2**26, 0])
@pytest.mark.parametrize("count", [1, 5])
def test_planes_are_computed_once_though_chunks_lie_across_them(count: int, keep: int) -> None:
    loaded: Counter[Any] = Counter()
    source = planes(24, 64, loaded, threading.Lock())
    levels = plan(source.shape, (1, 1, 1), (8, 8, 8))[:count]
    targets = [Memory(level.shape, "u2", (8, 8, 8)) for level in levels]
    read = reader(source, 2, keep=keep, sides=sides(levels, targets))
    near = block_size(source)
    build(read, levels, reduction("mean", source.dtype), targets, threads=2, near=near)
    assert loaded == dict.fromkeys(range(24), 1)
    for number in range(24):
        assert (targets[0].pixels[number] == number).all()


def test_blocks_that_are_read_whole_are_not_kept() -> None:
    source = planes(6, 8, Counter(), threading.Lock())
    read = reader(
        source, 1, keep=0, sides=[[slice(0, 4), slice(2, 6)], [slice(0, 8)], [slice(0, 8)]]
    )
    stock = read.__self__._stock  # type: ignore[attr-defined]
    read((slice(0, 4), slice(0, 8), slice(0, 8)))
    assert {place[0] for place in [*stock._kept, *stock._moved]} == {2, 3}
    read((slice(2, 6), slice(0, 8), slice(0, 8)))
    assert not stock._kept and not stock._moved and not stock._left


@pytest.mark.parametrize("full", ["as is told", "as is seen"])
def test_blocks_that_no_disk_takes_are_computed_again(
    monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", fails)
    if full == "as is told":
        monkeypatch.setattr("ngff_xarray.pyramid.stock._free", lambda: 0)
    loaded: Counter[Any] = Counter()
    source = planes(24, 64, loaded, threading.Lock())
    levels = plan(source.shape, (1, 1, 1), (8, 8, 8))[:1]
    target = Memory(source.shape, "u2", (24, 8, 64))
    read = reader(source, 1, keep=0, sides=sides(levels, [target]))
    build(read, levels, reduction("mean", source.dtype), [target], threads=1)
    assert max(loaded.values()) == 8  # one for each row of chunks; a few stay in memory
    assert (target.pixels[:, 0, 0] == np.arange(24)).all()


def test_parts_of_a_large_block_are_made_after_one_another() -> None:
    tree = Tree.of([PlannedLevel((16, 16), (1, 1), (1, 1))], [(4, 4)])
    order = [(y.start // 4, x.start // 4) for y, x in tree.boxes(0, near=(8, 8))]
    assert order[:5] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]
    assert sorted(order) == [(y, x) for y in range(4) for x in range(4)]
    assert list(tree.boxes(0, near=(1, 16)))[:5] == list(tree.boxes(0))[:5]


def test_a_level_alone_is_made_in_the_blocks_that_its_pixels_come_in() -> None:
    level, target = PlannedLevel((64, 64), (1, 1), (1, 1)), Memory((64, 64), "u2", (4, 4))
    read: list[Any] = []

    def pixels(box: Any) -> np.ndarray:
        read.append(box)
        return np.full([side.stop - side.start for side in box], box[0].start, "u2")

    build(pixels, [level], reduction("mean", np.dtype("u2")), [target], threads=2, near=(8, 8))
    assert {tuple(side.stop - side.start for side in box) for box in read} == {(8, 8)}
    assert (target.pixels == np.arange(64)[:, None] // 8 * 8).all()
    expected = sides([level], [target], (8, 8))[0]
    assert sorted({box[0].start for box in read}) == [side.start for side in expected]
    for near in [None, (6, 8), (16, 16), (2**12, 2**12)]:  # no whole chunks, few, large
        assert Tree.of([level], [(4, 4)], near).units == ((4, 4),)


class Rows(BackendArray):
    """Chunks of 2 x 2 pixels, that say how they were read; one of them cannot be."""

    shape, dtype = (2, 8), np.dtype("u2")

    def __init__(self) -> None:
        self.read: list[tuple[int, int]] = []
        self.begun = threading.Event()
        self.go = threading.Event()

    def reader(self) -> Any:
        variable = xr.Variable(("y", "x"), indexing.LazilyIndexedArray(self))
        variable.encoding["chunks"] = (2, 2)
        return reader(variable, 2)

    def __getitem__(self, key: Any) -> np.ndarray:
        side = key.tuple[1]
        self.read.append((side.start, side.stop))
        self.begun.set()
        assert self.go.wait(10)
        if side.start <= 2 < side.stop:
            raise ValueError("the second chunk is damaged")
        return np.tile(np.arange(side.start, side.stop, dtype="u2"), (2, 1))


def test_chunks_side_by_side_are_read_together() -> None:
    rows = Rows()
    rows.go.set()
    read = rows.reader()
    assert (read((slice(0, 1), slice(5, 8))) == [5, 6, 7]).all()
    assert (read((slice(1, 2), slice(4, 7))) == [4, 5, 6]).all()
    assert rows.read == [(4, 8)]


def test_who_waits_for_a_chunk_gets_it_though_another_beside_it_is_damaged() -> None:
    rows = Rows()
    read = rows.reader()
    whole = (slice(0, 2), slice(0, 8))
    with ThreadPoolExecutor(2) as pool:
        fails = pool.submit(read, whole)
        assert rows.begun.wait(10)
        waits = pool.submit(read, (slice(0, 2), slice(4, 6)))
        rows.go.set()
        assert (waits.result() == [4, 5]).all()
        with pytest.raises(ValueError, match="damaged"):
            fails.result()
    with pytest.raises(ValueError, match="damaged"):
        read(whole)
    assert (read((slice(0, 2), slice(0, 2))) == [0, 1]).all()


def test_who_is_interrupted_leaves_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    rows.go.set()
    read = rows.reader()
    whole = (slice(0, 2), slice(4, 8))
    for where in (Stock, "_make_room"), (Rows, "__getitem__"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(*where, interrupted)
            read(whole)
    with ThreadPoolExecutor(1) as pool:
        assert (pool.submit(read, whole).result(timeout=10) == [4, 5, 6, 7]).all()


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_a_block_that_others_may_read_too_is_not_to_be_changed() -> None:
    rows = Rows()
    rows.go.set()
    found = rows.reader()((slice(0, 2), slice(4, 6)))
    with pytest.raises(ValueError, match="read-only"):
        found += 1


def test_a_pyramid_of_planes_is_written_apart() -> None:
    levels = plan((1024, 1024, 1024), (1, 1, 1), (64, 64, 64))
    targets = [Memory((1, 1, 1), "u2", (64, 64, 64)) for _ in levels]
    assert is_better_apart(levels, targets, (1, 1024, 1024), 2)
    for near in (None, (64, 64, 64), (128, 128, 128), (1, 64, 64)):
        assert not is_better_apart(levels, targets, near, 2)
