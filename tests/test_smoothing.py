"""Levels that are smoothed by a Gaussian: against the definition, everywhere and in parts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_building import Memory, pyramids

from ngff_xarray.pyramid import PlannedLevel, build_by_levels, derived, variables
from ngff_xarray.pyramid.cascade import SmoothStep
from ngff_xarray.pyramid.smoothing import _weights, needed, smoothed

UNTIMED = settings(deadline=None)


def kernel(i: int, factor: int, size: int) -> dict[int, float]:
    """Return the weights of the pixels that one of the next level is made of, along one axis."""
    block = range(i * factor, min((i + 1) * factor, size))
    middle = (block[0] + block[-1]) / 2
    reach = min(middle - max(block[0] - factor, 0), min(block[-1] + factor, size - 1) - middle)
    sigma = math.sqrt((factor**2 - 1) / (8 * math.log(2)))
    found = {
        j: math.exp(-(((j - middle) / sigma) ** 2) / 2)
        for j in range(size)
        if abs(j - middle) <= reach
    }
    total = sum(found.values())
    return {j: weight / total for j, weight in found.items()}


def whole(shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


def reduced(pixels: np.ndarray, step: Sequence[int]) -> np.ndarray:
    """Return the next level of a whole image."""
    shape = [-(-n // f) for n, f in zip(pixels.shape, step, strict=True)]
    return smoothed(pixels, whole(pixels.shape), whole(shape), step, pixels.shape)


# ---- the definition ----------------------------------------------------------------------------


@UNTIMED
@given(st.integers(1, 40), st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_one_axis(size: int, factor: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random(size)
    found = reduced(pixels, (factor,))
    for i, value in enumerate(found):
        expected = sum(w * pixels[j] for j, w in kernel(i, factor, size).items())
        assert value == pytest.approx(expected, abs=3 * 2**-11)


def test_axes_one_after_another() -> None:
    pixels = np.random.default_rng(0).random((9, 14, 5))
    found = reduced(pixels, (3, 2, 1))
    for i, j in product(range(3), range(7)):
        rows, columns = kernel(i, 3, 9), kernel(j, 2, 14)
        expected = sum(
            a * b * pixels[y, x] for (y, a), (x, b) in product(rows.items(), columns.items())
        )
        np.testing.assert_allclose(found[i, j], expected, atol=2e-3)


@given(st.integers(2, 300), st.data())
def test_weights(factor: int, data: Any) -> None:
    count = data.draw(st.integers(1, 3 * factor))
    weights = _weights(factor, count)
    assert weights.sum() == 1
    assert (weights > 0).all()
    assert (weights == weights[::-1]).all()
    scaled = weights * 2**20
    assert (scaled == np.rint(scaled)).all()
    assert weights.min() > 0.5 * weights.max() * math.exp(-(3.6**2) / 2)


@UNTIMED
@given(st.sampled_from(["u1", "i1", "u2", "i2"]), st.integers(0, 2**32 - 1))
def test_integers_are_rounded_once_half_to_even(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    pixels = rng.integers(info.min, info.max, (7, 8, 6), dtype=dtype, endpoint=True)
    exact = pixels.astype(object)
    for axis, size in enumerate(pixels.shape):
        rows = []
        for i in range(-(-size // 2)):
            start, stop = 2 * i, min(2 * i + 2, size)
            first = max(start - 2, 0, start + stop - size)
            weights = map(Fraction, _weights(2, start + stop - 2 * first))
            rows.append(sum(w * exact.take(first + n, axis) for n, w in enumerate(weights)))
        exact = np.stack(rows, axis)
    np.testing.assert_array_equal(reduced(pixels, (2, 2, 2)), np.vectorize(round)(exact))


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "i8", "u8", "f4", "f8"])
def test_what_is_even_stays_so(dtype: str) -> None:
    for value in (0, 1) if dtype == "?" else (0, 1, 77):
        pixels = np.full((11, 13), value, dtype)
        found = reduced(pixels, (2, 3))
        assert found.dtype == pixels.dtype
        assert (found == value).all()


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_the_ends_of_a_type_do_not_overflow(dtype: str) -> None:
    info = np.iinfo(dtype)
    for value in (info.min, info.max):
        found = reduced(np.full((9, 8), value, dtype), (2, 2))
        assert np.abs(found.astype("f8") - float(value)).max() <= 2.0**11


def test_what_a_level_cannot_show_is_damped() -> None:
    """Stripes of 2.5 pixels, of which every second pixel makes stripes of 5 that are not there."""
    stripes = np.cos(2 * np.pi * np.arange(400) / 2.5)
    left = reduced(stripes, (2,))[5:-5]
    mean = stripes.reshape(-1, 2).mean(1)[5:-5]
    assert np.ptp(stripes[::2]) > 1.8
    assert np.ptp(left) < 0.65 * np.ptp(mean)


# ---- where pixels are --------------------------------------------------------------------------


@UNTIMED
@given(st.integers(2, 6), st.integers(1, 60))
def test_a_ramp_stays_wherever_blocks_are_whole(factor: int, size: int) -> None:
    found = reduced(np.arange(float(size)), (factor,))
    full = size // factor
    np.testing.assert_allclose(
        found[:full], np.arange(full) * factor + (factor - 1) / 2, atol=1e-9 * factor
    )
    if size % factor:
        assert found[full] == pytest.approx((full * factor + size - 1) / 2)


# ---- not a number ------------------------------------------------------------------------------


@UNTIMED
@given(st.integers(0, 2**32 - 1), st.sampled_from(["f4", "f8"]))
def test_not_a_number_does_not_count(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    holes = rng.random((9, 14)) < rng.choice([0.1, 0.5, 0.9, 1.0])
    pixels = np.where(holes, np.nan, 3.0).astype(dtype)
    found = reduced(pixels, (2, 3))
    padded = np.pad(holes, ((0, 1), (0, 1)), constant_values=True)
    empty = padded.reshape(5, 2, 5, 3).all(axis=(1, 3))
    np.testing.assert_array_equal(np.isnan(found), empty)
    np.testing.assert_allclose(found[~empty], 3, rtol=1e-6)


def test_infinities_spread_no_further_than_the_kernel() -> None:
    pixels = np.zeros(12)
    pixels[0], pixels[11] = np.inf, -np.inf
    assert reduced(pixels, (2,)).tolist() == [np.inf, np.inf, 0, 0, -np.inf, -np.inf]
    assert np.isnan(reduced(np.array([np.inf, -np.inf]), (2,))).all()


# ---- in parts ----------------------------------------------------------------------------------


@UNTIMED
@given(pyramids(), st.data())
def test_parts_are_those_of_the_whole(made: Any, data: Any) -> None:
    pixels, levels, _ = made
    if len(levels) < 2:
        return
    step, shape = levels[1].step, levels[1].shape
    sides = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
    box = tuple(slice(*side) for side in sides)
    if any(side.start == side.stop for side in box):
        return
    inside = needed(box, step, pixels.shape)
    found = smoothed(pixels[inside], inside, box, step, pixels.shape)
    np.testing.assert_array_equal(found, reduced(pixels, step)[box])


class Stored(Memory):
    """A target that can be read once it is whole."""

    def reader(self, threads: int) -> Any:
        assert (self.count == 1).all(), "a level is made of a whole one"
        return self.pixels.__getitem__


def steps(levels: Sequence[PlannedLevel]) -> Any:
    return lambda number: SmoothStep(levels, number)


@UNTIMED
@given(pyramids(), st.integers(1, 3))
def test_levels_are_written_as_they_are_computed(made: Any, threads: int) -> None:
    pixels, levels, chunks = made
    if len(levels) < 2:
        return
    targets = [Stored(lv.shape, pixels.dtype, c) for lv, c in zip(levels, chunks, strict=True)]
    done: list[int] = []
    build_by_levels(
        lambda _: pixels.__getitem__,
        levels,
        steps(levels),
        targets,
        threads=threads,
        done=done.append,
    )
    assert sum(done) == pixels.nbytes
    expected = [pixels]
    for level in levels[1:]:
        expected.append(reduced(expected[-1], level.step))
    source = xr.Variable([f"dim_{i}" for i in range(pixels.ndim)], pixels)
    lazy = variables(source, levels, "gaussian")
    for target, wanted in zip(targets, expected, strict=True):
        assert (target.count == 1).all(), "every chunk is written once"
        np.testing.assert_array_equal(target.pixels, wanted)
    for variable, wanted in zip(lazy, expected[1:], strict=True):
        np.testing.assert_array_equal(variable[...].values, wanted)
    assert derived([source, *lazy]) == (tuple(levels), "gaussian")


def test_the_finest_level_is_read_little_more_than_once() -> None:
    levels = [PlannedLevel((256, 256), (1, 1), (1, 1)), PlannedLevel((128, 128), (2, 2), (2, 2))]
    targets = [Stored(level.shape, "u1", (16, 16)) for level in levels]
    reads: Counter[Any] = Counter()

    def read(box: tuple[slice, ...]) -> np.ndarray:
        reads["pixels"] += math.prod(b.stop - b.start for b in box)
        return np.zeros([b.stop - b.start for b in box], "u1")

    build_by_levels(lambda _: read, levels, steps(levels), targets, threads=2)
    assert 256**2 < reads["pixels"] <= 256**2 * (36 / 32) ** 2


def test_errors_stop_it() -> None:
    levels = [PlannedLevel((256,), (1,), (1,)), PlannedLevel((128,), (2,), (2,))]
    targets = [Stored(level.shape, "u1", (2,)) for level in levels]
    reads: list[Any] = []

    def read(box: tuple[slice, ...]) -> np.ndarray:
        reads.append(box)
        raise ZeroDivisionError("of the reader")

    with pytest.raises(ZeroDivisionError):
        build_by_levels(lambda _: read, levels, steps(levels), targets, threads=2)
    assert len(reads) <= 8


# ---- in a store --------------------------------------------------------------------------------


def image(shape: tuple[int, ...] = (20, 90, 77), dtype: Any = "u2") -> xr.DataArray:
    coords = {
        dim: (dim, 0.5 * np.arange(n), {"units": "micrometer"})
        for dim, n in zip("zyx", shape, strict=True)
    }
    pixels = np.random.default_rng(1).integers(0, 5000, shape).astype(dtype)
    return xr.DataArray(pixels, coords=coords, dims=("z", "y", "x"))


@pytest.mark.parametrize(
    "options",
    [
        {"version": "0.4", "chunks": (8, 32, 32)},
        {"version": "0.5", "chunks": (8, 32, 32)},
        {"version": "0.5", "chunks": (8, 16, 16), "shards": (16, 32, 32)},
        {"version": "0.6"},
    ],
)
def test_what_is_written_is_what_is_computed(tmp_path: Path, options: dict[str, Any]) -> None:
    array = image()
    how: dict[str, Any] = {"scale_factors": [2, {"y": 3, "x": 2}], "method": "gaussian"}
    array.ngff.to_zarr(tmp_path / "a.ome.zarr", **how, **options)
    written = xr.open_datatree(tmp_path / "a.ome.zarr")
    for found, wanted in zip(
        written.ngff.levels, array.ngff.pyramid(**how).ngff.levels, strict=True
    ):
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.x.values, wanted.x.values)
    assert written.attrs["ome"]["type"] == "gaussian"
    assert "smoothed by a Gaussian" in written.attrs["ome"]["metadata"]["description"]


def test_regions_and_appended_planes_are_smoothed(tmp_path: Path) -> None:
    array = image()
    first = array.isel(z=slice(0, 13))
    first.ngff.to_zarr(
        tmp_path / "a.ome.zarr", scale_factors=[2, 2], method="gaussian", chunks=(4, 8, 8)
    )
    array.isel(z=slice(13, None)).ngff.append(tmp_path / "a.ome.zarr", dim="z")
    changed = array.copy(deep=True)
    changed[5:9, 40:43, 20:] = 9999
    changed[5:9, 40:43, 20:].ngff.write_region(tmp_path / "a.ome.zarr")
    written = xr.open_datatree(tmp_path / "a.ome.zarr")
    wanted = changed.ngff.pyramid(scale_factors=[2, 2], method="gaussian")
    for found, level in zip(written.ngff.levels, wanted.ngff.levels, strict=True):
        np.testing.assert_array_equal(found.values, level.values)
