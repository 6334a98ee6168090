"""How a block of pixels becomes one: the methods of a pyramid, block by block.

A reduction is carried from level to level, a part of the image at a time: `begin` makes a state of
pixels, `reduce` a state of the next level, `pixels` what is stored of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.errors import SelectionError
from ngff_xarray.pyramid.plan import PlannedLevel, below
from ngff_xarray.text import printable

Array = NDArray[Any]
_Reduce = Callable[[Array, Sequence[int]], Array]
Method = Literal["mean", "mode", "nearest", "max", "min", "median", "gaussian"]
METHODS: tuple[Method, ...] = get_args(Method)
DESCRIPTIONS: Mapping[str, str] = {
    "mean": "the mean of the pixels of the finest level, rounded half to even if they are integers",
    "mode": "the commonest of the pixels of the level before, of several the largest",
    "nearest": "the first of the pixels of the level before",
    "max": "the largest of the pixels of the finest level",
    "min": "the smallest of the pixels of the finest level",
    "median": "the median of the pixels of the level before",
    "gaussian": "pixels of the level before, as it is stored, smoothed by a Gaussian with a sigma "
    "of sqrt((factor ** 2 - 1) / (8 * ln(2))) of these, over a block and those beside it",
}
"""What a pixel of a level is, by method."""


@dataclass
class State:
    """What is carried upward of some part of a level.

    Parameters
    ----------
    values
        One for each pixel: sums, for the mean.
    counts
        How many pixels of the finest level are in each sum, where some were NaN.
    """

    values: Array
    counts: Array | None = None


class Reduction(Protocol):
    """A method: see `reduction`."""

    def begin(self, pixels: Array) -> State:
        """Return the state of pixels of the finest level."""
        ...

    def reduce(self, state: State, factors: Sequence[int], total: int) -> State:
        """Return the state of the next level.

        Parameters
        ----------
        state
            Of a part that begins with a block.
        factors
            The size of a block along each axis; blocks at the far ends hold what is left.
        total
            The most pixels of the finest level that a block has of now on.
        """
        ...

    def pixels(self, state: State, counts: Sequence[Array]) -> Array:
        """Return the pixels to be stored of a state.

        Parameters
        ----------
        state
            Of a level.
        counts
            How many pixels of the finest level it has along each axis, one for each pixel.
        """
        ...

    def empty(self, shape: Sequence[int], total: int) -> State:
        """Return room for the states of the parts of a level."""
        ...


def is_centred(method: str, dtype: np.dtype[Any]) -> bool:
    """Tell whether a pixel stands for the middle of its block, and not for the block's first pixel.

    Raises
    ------
    SelectionError
        If there is no such method, or not for pixels of this type.
    """
    if method not in METHODS:
        raise SelectionError(
            f"method={printable(method, 40)!r}: expected one of {', '.join(METHODS)}"
        )
    if dtype.kind not in "biuf" and method != "nearest":
        raise SelectionError(f"{method} of {dtype} pixels: only method='nearest' takes any pixels")
    return method != "nearest"


def reduction(method: str, dtype: np.dtype[Any]) -> Reduction:
    """Return a method for pixels of a type, block by block.

    Parameters
    ----------
    method
        Any but ``"gaussian"``, which is no matter of single blocks. ``"mean"``: of all pixels of
        the finest level, rounded half to even where they are integers (those of 64 bits as well as
        floats are), without those that are NaN. ``"mode"``: the
        commonest, of several the largest: for labels. ``"nearest"``: the first. ``"max"``,
        ``"min"``, ``"median"``: without NaN.
    dtype
        That of the pixels.

    Raises
    ------
    SelectionError
        If there is no such method, or not for these pixels.

    Examples
    --------
    >>> mean = reduction("mean", np.dtype("u1"))
    >>> sums = mean.reduce(mean.begin(np.array([[1, 2, 9], [3, 4, 9]], "u1")), (2, 2), 4)
    >>> mean.pixels(sums, [np.array([2]), np.array([2, 1])])
    array([[2, 9]], dtype=uint8)
    """
    is_centred(method, dtype)
    return _Mean(dtype) if method == "mean" else _Blocks(method, dtype)


def mean(array: Array, factors: Sequence[int]) -> Array:
    """Return the mean of every block of pixels, in the array's dtype.

    Parameters
    ----------
    array
        Integers (the mean is rounded half to even) or floats (without those that are NaN).
    factors
        The size of a block along each axis. Blocks at the far ends hold what is left.

    Returns
    -------
    ndarray
        Of shape ``ceil(size / factor)`` along each axis.

    Examples
    --------
    >>> mean(np.array([[1, 2, 9], [3, 4, 9]], dtype="u1"), (2, 2))
    array([[2, 9]], dtype=uint8)
    """
    method = _Mean(array.dtype)
    level = below(PlannedLevel(array.shape, (1,) * array.ndim, (1,) * array.ndim), factors)
    state = method.reduce(method.begin(array), factors, math.prod(factors))
    return method.pixels(state, level.counts(array.shape, (0,) * array.ndim, level.shape))


class _Mean:
    """The mean of all pixels of the finest level: sums are carried upward, and divided once."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype

    def _sums(self, total: int) -> np.dtype[Any]:
        """Return the smallest type that holds sums of so many pixels."""
        kind, bits = self._dtype.kind, 8 * self._dtype.itemsize
        if kind == "b":
            kind, bits = "u", 1
        needed = bits + (total - 1).bit_length()
        if kind in "ui" and needed <= 64:
            return np.dtype(f"{kind}{2 if needed <= 16 else 4 if needed <= 32 else 8}")
        return np.dtype("f8")

    def begin(self, pixels: Array) -> State:
        if pixels.dtype.kind != "f":
            return State(pixels)
        missing = np.isnan(pixels)
        if not missing.any():
            return State(pixels)
        return State(np.where(missing, pixels.dtype.type(0), pixels), (~missing).astype("f8"))

    def reduce(self, state: State, factors: Sequence[int], total: int) -> State:
        dtype = self._sums(total)
        counts = state.counts
        if counts is not None:
            counts = _added(counts, factors, counts.dtype)
        return State(_added(state.values, factors, dtype), counts)

    def empty(self, shape: Sequence[int], total: int) -> State:
        return State(np.empty(shape, self._dtype if total == 1 else self._sums(total)))

    def pixels(self, state: State, counts: Sequence[Array]) -> Array:
        sums = state.values
        if state.counts is not None:
            with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
                return np.asarray(sums / state.counts, self._dtype)
        same = [int(each[0]) if (each == each[0]).all() else 0 for each in counts]
        count = math.prod(same)
        if count == 1:
            return sums.astype(self._dtype, copy=False)
        if sums.dtype.kind in "ui" and count and count & (count - 1) == 0:
            return _shifted(sums, count.bit_length() - 1).astype(self._dtype)
        divisor = math.prod(np.ix_(*counts), start=np.ones((), "f8"))
        return rounded(sums / divisor, self._dtype)


def rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return floats as pixels of a type, rounded half to even where these are integers."""
    if dtype.kind in "iu" and dtype.itemsize == 8:  # whose ends no float has
        info = np.iinfo(dtype)
        values = np.clip(values, info.min, np.nextafter(float(info.max), 0))
    return np.asarray(np.rint(values) if dtype.kind in "biu" else values, dtype)


def _shifted(sums: Array, bits: int) -> Array:
    """Return sums over a power of two, rounded half to even."""
    found = sums >> bits
    found &= 1
    found += sums
    found += (1 << (bits - 1)) - 1
    found >>= bits
    return found


def _added(array: Array, factors: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return the sum of every block; the slowest axis first, whose rows are the longest."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            array = _folded(array, axis, factor, np.add, dtype)
    return array.astype(dtype, copy=False)


def _folded(array: Array, axis: int, factor: int, fold: Any, dtype: np.dtype[Any]) -> Array:
    """Return what a function of two makes of every so many pixels along an axis."""
    size = array.shape[axis]
    whole = size // factor
    found = np.empty(
        [-(-size // factor) if i == axis else n for i, n in enumerate(array.shape)], dtype
    )
    before = (slice(None),) * axis
    for part, count in ((slice(0, whole), factor), (slice(whole, None), size - whole * factor)):
        if not count or not found[(*before, part)].size:
            continue
        first = part.start * factor
        stop = whole * factor if count == factor else size
        views = [array[(*before, slice(first + i, stop, factor))] for i in range(count)]
        out = found[(*before, part)]
        if count == 1:
            out[...] = views[0]
            continue
        fold(views[0], views[1], out=out, dtype=dtype)
        for view in views[2:]:
            fold(out, view, out=out, dtype=dtype)
    return found


class _Blocks:
    """A method that makes pixels of the next level out of those of the one before."""

    def __init__(self, method: str, dtype: np.dtype[Any]) -> None:
        self._reduce, self._dtype = _METHODS[method], dtype

    def begin(self, pixels: Array) -> State:
        return State(pixels)

    def reduce(self, state: State, factors: Sequence[int], total: int) -> State:
        return State(self._reduce(state.values, factors))

    def empty(self, shape: Sequence[int], total: int) -> State:
        return State(np.empty(shape, self._dtype))

    def pixels(self, state: State, counts: Sequence[Array]) -> Array:
        return state.values


def _nearest(array: Array, factors: Sequence[int]) -> Array:
    return array[tuple(slice(None, None, factor) for factor in factors)]


def _fold(fold: Any) -> _Reduce:
    def reduce(array: Array, factors: Sequence[int]) -> Array:
        for axis, factor in enumerate(factors):
            if factor > 1:
                array = _folded(array, axis, factor, fold, array.dtype)
        return array

    return reduce


def _whole_blocks(reduce: Callable[[Array, list[int]], Array]) -> _Reduce:
    """Let a function of pixels that are whole blocks of one size take any."""

    def all_blocks(array: Array, factors: Sequence[int]) -> Array:
        shape = [-(-n // factor) for n, factor in zip(array.shape, factors, strict=True)]
        found = np.empty(shape, array.dtype)
        for part, sizes in _of_one_size(array.shape, factors):
            pixels = array[_inside(part, factors, sizes)]
            found[part] = pixels if max(sizes, default=1) == 1 else reduce(pixels, sizes)
        return found

    return all_blocks


def mixed_blocks(
    array: Array, factors: Sequence[int]
) -> Iterator[tuple[tuple[NDArray[np.intp], ...], Array]]:
    """Yield where blocks have several values, and these: a row for each pixel of a block.

    Blocks of one size come together; those at the far ends hold what is left.
    """
    for part, sizes in _of_one_size(array.shape, factors):
        pixels = array[_inside(part, factors, sizes)]
        places = np.nonzero(_differ(pixels, sizes))
        if places[0].size:
            at = tuple(place + side.start for place, side in zip(places, part, strict=True))
            yield at, _gathered(pixels, sizes, places)


def _inside(part: Sequence[slice], factors: Sequence[int], sizes: Sequence[int]) -> Any:
    """Return the pixels of blocks of one size."""
    return tuple(
        slice(p.start * f, p.start * f + (p.stop - p.start) * n)
        for p, f, n in zip(part, factors, sizes, strict=True)
    )


def _of_one_size(
    shape: Sequence[int], factors: Sequence[int]
) -> Iterator[tuple[tuple[slice, ...], list[int]]]:
    """Yield the parts of the next level whose blocks have the same size, and that size."""
    sides = []
    for size, factor in zip(shape, factors, strict=True):
        whole, left = divmod(size, factor)
        parts = [(slice(0, whole), factor), (slice(whole, whole + 1), left)]
        sides.append([(part, count) for part, count in parts if count and part.start < part.stop])
    for side in itertools.product(*sides):
        yield tuple(part for part, _ in side), [count for _, count in side]


def _commonest(pixels: Array, sizes: list[int]) -> Array:
    """Return the commonest value of blocks, of several the largest; most blocks have one only."""
    found: Array = pixels[tuple(slice(None, None, n) for n in sizes)].copy()
    places = np.nonzero(_differ(pixels, sizes))
    if not places[0].size:
        return found
    stack = np.sort(_gathered(pixels, sizes, places), axis=0)
    # the length of the run that ends at each value: the last of the longest ones wins
    kind = "u1" if len(stack) < 256 else "u4"
    best, run = stack[0].copy(), np.ones(stack.shape[1], kind)
    longest = run.copy()
    for before, value in itertools.pairwise(stack):
        run *= value == before
        run += 1
        np.copyto(best, value, where=run >= longest)
        np.maximum(longest, run, out=longest)
    found[places] = best
    return found


def _differ(pixels: Array, sizes: list[int]) -> NDArray[np.bool_]:
    """Tell which blocks have several values: axis by axis, those of the first are the longest."""
    found = None
    for axis, size in enumerate(sizes):
        before = (slice(None),) * axis
        steps = [(*before, slice(i, None, size)) for i in range(size)]
        first, *others = (pixels[step] for step in steps)
        differ = np.zeros(first.shape, np.bool_)
        for other in others:
            differ |= first != other
        if found is not None:
            for step in steps:
                differ |= found[step]
        pixels, found = first, differ
    return np.zeros(pixels.shape, np.bool_) if found is None else found


def _gathered(pixels: Array, sizes: list[int], places: Sequence[NDArray[np.intp]]) -> Array:
    """Return the values of some blocks, a row for each pixel of a block."""
    corners = tuple(place * n for place, n in zip(places, sizes, strict=True))
    first = np.ravel_multi_index(corners, pixels.shape)
    inside = np.ix_(*(np.arange(n) for n in sizes))
    offsets = np.ravel_multi_index(inside, pixels.shape).reshape(-1, 1)
    return pixels.ravel().take(offsets + first)


def _median(pixels: Array, sizes: list[int]) -> Array:
    corners = itertools.product(*map(range, sizes))
    views = [
        pixels[tuple(slice(at, None, n) for at, n in zip(corner, sizes, strict=True))]
        for corner in corners
    ]
    stack = np.sort(np.stack(views), axis=0)  # NaN comes last
    if stack.dtype.kind == "f":
        count = (~np.isnan(stack)).sum(axis=0)
        low = _taken(stack, np.maximum(count - 1, 0) // 2)
        high = _taken(stack, np.minimum(count // 2, len(stack) - 1))
        return np.asarray(low + (high - low) / 2, stack.dtype)
    low, high = stack[(len(views) - 1) // 2], stack[len(views) // 2]
    if stack.dtype.kind == "b":
        return np.asarray(low & high)
    unsigned = np.dtype(f"u{stack.dtype.itemsize}")
    gap = high.view(unsigned) - low.view(unsigned)  # which signed integers may not hold
    found = low + (gap >> 1).astype(low.dtype)
    found += (gap & found.view(unsigned) & 1).astype(low.dtype)  # half to even
    return np.asarray(found)


def _taken(stack: Array, places: NDArray[np.intp]) -> Array:
    found: Array = np.take_along_axis(stack, places[None], axis=0)[0]
    return found


_METHODS: Mapping[str, _Reduce] = {
    "nearest": _nearest,
    "max": _fold(np.fmax),
    "min": _fold(np.fmin),
    "mode": _whole_blocks(_commonest),
    "median": _whole_blocks(_median),
}
