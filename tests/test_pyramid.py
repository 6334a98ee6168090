"""Downsampling kernels, against their definitions block by block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ngff_xarray.pyramid import mean, reduction

UNTIMED = settings(deadline=None)
INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
SHAPES = array_shapes(min_dims=1, max_dims=3, max_side=9)


def blocks(array: np.ndarray, factors: tuple[int, ...]) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield the index of each block and the values in it."""
    shape = [math.ceil(size / factor) for size, factor in zip(array.shape, factors, strict=True)]
    for index in product(*map(range, shape)):
        block = [slice(i * f, i * f + f) for i, f in zip(index, factors, strict=True)]
        yield index, array[tuple(block)]


def values(dtype: str) -> st.SearchStrategy[int]:
    """All that a small dtype holds; of a large one what sums exactly in float64."""
    info = np.iinfo(dtype)
    return st.integers(max(info.min, -(2**40)), min(info.max, 2**40))


# ---- mean --------------------------------------------------------------------------------------


@UNTIMED
@given(st.data(), st.sampled_from(INTEGERS), SHAPES)
def test_the_mean_of_integers_rounds_half_to_even(
    data: st.DataObject, dtype: str, shape: tuple[int, ...]
) -> None:
    array = data.draw(arrays(dtype, shape, elements=values(dtype)))
    factors = data.draw(st.tuples(*[st.integers(1, 5)] * len(shape)))
    found = mean(array, factors)
    expected = np.empty_like(found)
    for index, block in blocks(array, factors):
        expected[index] = round(Fraction(sum(map(int, block.flat)), block.size))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("factors", [(3, 4), (5, 6), (6, 6), (10, 10), (2, 3, 4)])
def test_ties_of_any_block_size_go_to_the_even(factors: tuple[int, ...]) -> None:
    shape = (200 * factors[0], *factors[1:])
    array = np.random.default_rng(0).integers(0, 256, shape).astype("u1")
    found = mean(array, factors)
    exact = {
        index: Fraction(int(block.sum()), block.size) for index, block in blocks(array, factors)
    }
    assert any(value.denominator == 2 for value in exact.values())  # else there are no ties
    assert {index: found[index] for index in exact} == {i: round(v) for i, v in exact.items()}


@UNTIMED
@given(st.data(), st.sampled_from(["f4", "f8"]), SHAPES)
def test_the_mean_of_floats(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    elements = st.floats(-(2.0**60), 2.0**60, width=32)
    array = data.draw(arrays(dtype, shape, elements=elements))
    factors = data.draw(st.tuples(*[st.integers(1, 5)] * len(shape)))
    found = mean(array, factors)
    assert found.dtype == array.dtype
    for index, block in blocks(array, factors):
        exact = sum(map(Fraction, map(float, block.flat))) / block.size
        largest = float(np.abs(block).max())
        # of the result's dtype one rounding, of the float64 sum one an addition
        noise = np.finfo(dtype).eps * abs(float(exact)) + 1e-13 * largest + 1e-45
        assert abs(float(found[index]) - float(exact)) <= noise


def test_the_mean_of_odd_sizes() -> None:
    flat = np.array([[0, 2, 9], [4, 6, 9], [8, 10, 255]], "u1")
    assert mean(flat, (2, 2)).tolist() == [[3, 9], [9, 255]]
    assert mean(flat, (1, 2)).tolist() == [[1, 9], [5, 9], [9, 255]]
    assert mean(flat, (1, 1)).tolist() == flat.tolist()
    assert mean(flat, (5, 7)).tolist() == [[34]]  # 303 / 9
    volume = np.arange(27, dtype="f4").reshape(3, 3, 3)
    assert mean(volume, (2, 2, 2)).tolist() == [
        [[6.5, 8], [11, 12.5]],
        [[20, 21.5], [24.5, 26]],
    ]


def test_not_a_number_does_not_count() -> None:
    array = np.array([1, np.nan, 3, 5, np.nan, np.nan])
    np.testing.assert_array_equal(mean(array, (2,)), [1, 4, np.nan])


def test_the_argument_stays_as_it_was() -> None:
    for array in (np.arange(6.0), np.arange(6)):
        before = array.copy()
        mean(array, (2,))
        mean(array, (1,))
        np.testing.assert_array_equal(array, before)


# ---- labels ------------------------------------------------------------------------------------


def halved_labels(labels: np.ndarray, axes: Any) -> np.ndarray:
    """Return the commonest id of every block of two pixels along each of the axes."""
    method = reduction("mode", labels.dtype)
    factors = [2 if axis in axes else 1 for axis in range(labels.ndim)]
    return method.reduce(method.begin(labels), factors, 1).values


def commonest(block: np.ndarray) -> int:
    """Return the value that is there most often, of several the largest."""
    counts = Counter(block.flat)
    return int(max(counts, key=lambda value: (counts[value], value)))


@UNTIMED
@given(st.data(), st.sampled_from(INTEGERS), SHAPES)
def test_halved_labels(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    info = np.iinfo(dtype)
    # few ids, so that they meet, and the extremes, where sums and differences overflow
    ids = st.sampled_from([0, 1, 2, 3, info.max, info.max - 1, info.min])
    array = data.draw(arrays(dtype, shape, elements=ids))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)).map(sorted))
    factors = tuple(2 if axis in axes else 1 for axis in range(len(shape)))
    found = halved_labels(array, axes)
    expected = np.empty_like(found)
    for index, block in blocks(array, factors):
        expected[index] = commonest(block)
    np.testing.assert_array_equal(found, expected, strict=True)
    assert found.dtype == array.dtype


@UNTIMED
@given(arrays("u4", array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_no_id_is_invented(array: np.ndarray) -> None:
    found = array
    for _ in range(4):
        found = halved_labels(found, range(array.ndim))
    assert set(found.flat) <= set(array.flat)
    assert found.shape == (1,) * array.ndim


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[7, 7], [7, 3]], [[7]]),
        ([[0, 0], [0, 9]], [[0]]),  # background in the majority wins
        ([[0, 0], [9, 9]], [[9]]),  # a tie is the larger one's
        ([[1, 2], [3, 4]], [[4]]),
        ([[1, 1], [8, 9]], [[1]]),
        ([[5, 5, 1]], [[5, 1]]),
        ([[5, 5, 1], [5, 5, 2], [0, 3, 4]], [[5, 2], [3, 4]]),
    ],
)
def test_majorities_and_ties(labels: list[list[int]], expected: list[list[int]]) -> None:
    assert halved_labels(np.array(labels), (0, 1)).tolist() == expected


def test_only_the_axes_asked_for_are_halved() -> None:
    labels = np.arange(24).reshape(2, 3, 4)
    assert halved_labels(labels, ()).tolist() == labels.tolist()
    assert halved_labels(labels, (2,)).tolist() == labels[:, :, 1::2].tolist()
    assert halved_labels(labels, (1, 2)).shape == (2, 2, 2)
