"""Where the patches of an image lie: on a grid or around points, and in which order they come."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, pyramid, units
from ngff_xarray.analyse.below import pixels_at
from ngff_xarray.analyse.blocks import pixels
from ngff_xarray.boxes import Box
from ngff_xarray.errors import SelectionError
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

Pad = Literal["reflect", "constant"] | None
Starts = NDArray[np.int64]
"""The first pixel of each patch (n, axes), along all axes but that of channels."""

BY = ("chunks",)
"""What of a store is read whole: a shard may be more than there is memory for."""

_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_TOUCH = 1e-6  # of a pixel of a mask: what a patch reaches into it at the least
_WINDOW = 4  # groups of patches that are mixed
_PART = 2 * _WINDOW  # of the memory that one group may need: a window leaves room for the next


def axes_of(array: xr.DataArray) -> list[str]:
    """Return the axes that patches have a place along: all but that of channels."""
    channel = image.channel_dim(array)
    return [str(dim) for dim in array.dims if dim != channel]


def patch_sizes(array: xr.DataArray, size: Any, pad: Pad) -> dict[str, int]:
    """Return how many pixels a patch has along the axes that it keeps.

    Parameters
    ----------
    array
        A level of an image.
    size
        A length for all axes of space with several pixels, or one by axis; None is all of an axis.
    pad
        What patches have beyond the ends of the image.

    Raises
    ------
    SelectionError
        If it is no length, or more than the image has.

    Examples
    --------
    >>> array = xr.DataArray(np.zeros((3, 8, 9)), dims=("z", "y", "x"))
    >>> patch_sizes(array, "2 px", None), patch_sizes(array, {"y": None, "x": "4 px"}, None)
    ({'z': 2, 'y': 2, 'x': 2}, {'y': 8, 'x': 4})
    """
    if isinstance(size, Mapping):
        whole = {dim: "1 px" for dim, length in size.items() if length is None}
        told = pixels(array, "size", {**size, **whole})
        told |= {dim: array.sizes[dim] for dim in whole}
    else:
        told = pixels(array, "size", size)
        told = {dim: n for dim, n in told.items() if array.sizes[dim] > 1}
    if not told:
        raise SelectionError(
            "size: expected a length such as '20 µm' or '64 px', or one by axis: "
            "{'y': '64 px', 'x': '64 px'}"
        )
    for dim, n in told.items():
        if n < 1:
            raise SelectionError(f"size: expected at least one pixel along {dim}")
        if pad is None and n > array.sizes[dim]:
            raise SelectionError(
                f"size: {n} pixels along {dim} are more than the {array.sizes[dim]} of the image: "
                "give a smaller size, or pad='reflect'"
            )
    return {dim: told[dim] for dim in axes_of(array) if dim in told}


def overlaps(array: xr.DataArray, size: Mapping[str, int], overlap: Any) -> dict[str, int]:
    """Return how many pixels neighbouring patches share, by axis.

    Parameters
    ----------
    array, size
        A level of an image, and how many pixels a patch has along the axes that it keeps.
    overlap
        A share of the size, as 0.25 or ``"25 %"``; a length with its unit; or these by axis.

    Raises
    ------
    SelectionError
        If it is neither, or all of a patch.

    Examples
    --------
    >>> array = xr.DataArray(np.zeros((80, 90)), dims=("y", "x"))
    >>> overlaps(array, {"y": 8, "x": 8}, 0.25), overlaps(array, {"y": 8, "x": 8}, {"x": "3 px"})
    ({'y': 2, 'x': 2}, {'x': 3})
    """
    if overlap is None:
        return {}
    if not isinstance(overlap, Mapping):
        space = {axis.name for axis in image.axes(array) if axis.type == "space"}
        overlap = {
            dim: overlap for dim, n in size.items() if dim in space and 1 < n < array.sizes[dim]
        }
    found = {}
    for dim, each in overlap.items():
        if dim not in size:
            raise SelectionError(
                f"overlap: patches have no size along {printable(dim, 40)!r}; they have one along "
                f"{', '.join(size)}"
            )
        share = _share(each)
        found[dim] = (
            pixels(array, "overlap", {dim: each})[dim] if share is None else int(share * size[dim])
        )
        if not found[dim] < size[dim]:
            raise SelectionError(
                f"overlap: {found[dim]} pixels along {dim} are not less than the {size[dim]} of a "
                "patch: give a smaller overlap= or a larger size="
            )
    return found


def _share(overlap: Any) -> float | None:
    """Return what share of a patch is meant; None if that is a length."""
    told = _SHARE.fullmatch(overlap) if isinstance(overlap, str) else None
    is_number = isinstance(overlap, int | float | np.number) and not isinstance(overlap, bool)
    if told is None and not is_number:
        return None
    share = float(overlap) if told is None else float(told[1]) / 100
    if not 0 <= share < 1:
        raise SelectionError(
            f"overlap={printable(overlap, 40)!r}: expected a share of the patch, at least 0 and "
            "less than 1, or a length with its unit, such as '5 µm' or '16 px'"
        )
    return share


# ---- on a grid ---------------------------------------------------------------------------------


def starts_along(n: int, size: int, overlap: int, pad: Pad) -> NDArray[np.int64]:
    """Return where the patches along an axis begin.

    The last one is shifted inwards so that it ends with the image, or has pixels beyond its end.

    Examples
    --------
    >>> starts_along(10, 4, 1, None), starts_along(9, 4, 0, None), starts_along(9, 4, 0, "reflect")
    (array([0, 3, 6]), array([0, 4, 5]), array([0, 4, 8]))
    """
    step = size - overlap
    if pad is not None:
        return np.arange(max(1, -(-(n - overlap) // step)), dtype=np.int64) * step
    found = np.arange(0, n - size + 1, step, dtype=np.int64)
    return found if found[-1] == n - size else np.append(found, n - size)


def grid(
    array: xr.DataArray, size: Mapping[str, int], overlap: Mapping[str, int], pad: Pad
) -> Starts:
    """Return where the patches on a grid begin, one chunk of the image after another."""
    along = [
        starts_along(array.sizes[dim], size.get(dim, 1), overlap.get(dim, 0), pad)
        for dim in axes_of(array)
    ]
    starts = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, len(along))
    chunks = _chunk_of(array, starts, (1,) * len(along))
    return starts[np.lexsort([*starts.T[::-1], *chunks.T[::-1]])]


# ---- around points -----------------------------------------------------------------------------


def around(array: xr.DataArray, size: Mapping[str, int], table: pd.DataFrame, pad: Pad) -> Starts:
    """Return where the patches around the points of a table begin, in the order of its rows.

    Parameters
    ----------
    array, size, pad
        As `patch_sizes` takes and returns them.
    table
        Columns, or levels of the index, called as the axes or ``centroid_x``, in the axes' units or
        those that ``table.attrs["units"]`` says.

    Raises
    ------
    SelectionError
        If a column is missing, or a point is not in the image.
    """
    starts = np.zeros((len(table), len(axes_of(array))), np.int64)
    for i, dim in enumerate(axes_of(array)):
        n, wanted = array.sizes[dim], size.get(dim, 1)
        name = next((c for c in (dim, f"centroid_{dim}") if _has(table, c)), None)
        if name is None:
            if wanted < n:
                raise SelectionError(
                    f"where: the table has no column {dim} or centroid_{dim}, along which the "
                    f"image has {n} pixels; it has {printable(', '.join(map(str, table)), 200)}"
                )
            continue
        values = np.asarray(
            table[name] if name in table.columns else table.index.get_level_values(name), "f8"
        )
        said = table.attrs.get("units")
        unit = said.get(name) if isinstance(said, Mapping) else None
        attrs = {} if unit is None else {"units": unit}
        at = pixels_at(array[dim], xr.DataArray(values, dims=dim, attrs=attrs))
        outside = np.flatnonzero((at < 0) | ~np.isfinite(values))
        if outside.size:
            row = int(outside[0])
            raise SelectionError(
                f"where: row {row} has {name} {values[row]:.6g}, which is not in the image (and "
                f"{outside.size - 1} other rows): drop them first"
            )
        first = at - wanted // 2
        starts[:, i] = first if pad is not None else np.clip(first, 0, n - wanted)
    return starts


def _has(table: pd.DataFrame, name: str) -> bool:
    return name in table.columns or name in table.index.names


# ---- where a mask is set -----------------------------------------------------------------------


class Mask:
    """Says how much of a box of an image a mask covers, whatever the sizes of its pixels.

    Parameters
    ----------
    mask
        Pixels that are set or not, placed by coordinates. An axis that it lacks, or with one pixel,
        says nothing of where.
    array
        The level of the image that boxes are of.
    keep
        How many bytes of it to keep in memory.

    Raises
    ------
    SelectionError
        If it has other axes, or no coordinates.
    """

    def __init__(self, mask: xr.DataArray, array: xr.DataArray, keep: int) -> None:
        dims = axes_of(array)
        unknown = [d for d in mask.dims if d not in dims and mask.sizes[d] > 1]
        if unknown:
            raise SelectionError(
                f"where: the mask has the axis {printable(unknown[0], 40)!r}, expected some of "
                f"{', '.join(dims)}"
            )
        self._dims = dims
        self._own = [str(dim) for dim in mask.dims]
        self._edges = [_rising(geometry.edges(array[dim])) for dim in dims]
        self._falls = [_falls(array[dim]) for dim in dims]
        self._theirs = {
            dim: _edges_in(mask, dim, array) for dim in self._own if mask.sizes[dim] > 1
        }
        self._read = pyramid.reader(pyramid.bare(mask.variable), 1, keep=keep, by=BY)

    def share(self, box: Box) -> tuple[float, bool]:
        """Return how much of a box is set, 0 to 1, and whether anything is."""
        where, weights = {}, {}
        for dim, side, edges, falls in zip(self._dims, box, self._edges, self._falls, strict=True):
            if dim not in self._theirs:
                continue
            first, last = side.start, side.stop
            if falls:
                first, last = edges.size - 1 - last, edges.size - 1 - first
            found = _covered(*self._theirs[dim], float(edges[first]), float(edges[last]))
            if found is None:
                return 0.0, False
            where[dim], weights[dim] = found
        part = self._read(tuple(where.get(dim, slice(0, 1)) for dim in self._own)) != 0
        if not part.any():
            return 0.0, False
        share: Any = part
        for dim in reversed(self._own):
            share = share @ weights.get(dim, np.ones(1))
        return float(share), True


def _rising(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return edges[::-1] if edges[0] > edges[-1] else edges


def _falls(coordinate: xr.DataArray) -> bool:
    values = coordinate.values
    return bool(values.size > 1 and values[0] > values[-1])


def _edges_in(
    mask: xr.DataArray, dim: str, array: xr.DataArray
) -> tuple[NDArray[np.float64], bool]:
    """Return the rising edges of the pixels of a mask, and whether its pixels fall."""
    coordinate = mask[dim]
    if dim not in mask.coords and dim in array.coords:
        if mask.sizes[dim] != array.sizes[dim]:
            raise SelectionError(
                f"where: the mask has {mask.sizes[dim]} pixels along {dim} and no coordinates, the "
                f"image has {array.sizes[dim]}: give it coordinates"
            )
        coordinate = array[dim]
    factor = units.factor(geometry.unit(coordinate), geometry.unit(array[dim]))
    return _rising(geometry.edges(coordinate) * factor), _falls(coordinate)


def _covered(
    edges: NDArray[np.float64], falls: bool, low: float, high: float
) -> tuple[slice, NDArray[np.float64]] | None:
    """Return which pixels of a mask lie in a range, and how much of it each of them has."""
    slack = _TOUCH * (edges[-1] - edges[0]) / (edges.size - 1)
    first = max(0, int(np.searchsorted(edges, low + slack, side="right")) - 1)
    last = min(edges.size - 1, int(np.searchsorted(edges, high - slack, side="left")))
    if first >= last:
        return None
    clipped = np.clip(edges[first : last + 1], low, high)
    weights = np.diff(clipped) / (high - low)
    if falls:
        count = edges.size - 1
        return slice(count - last, count - first), weights[::-1]
    return slice(first, last), weights


# ---- in which order ----------------------------------------------------------------------------


def shuffled(
    array: xr.DataArray, size: Mapping[str, int], starts: Starts, memory: int, seed: int
) -> NDArray[np.int64]:
    """Return an order of patches in which each chunk of the image is read few times.

    Patches of neighbouring chunks are a group. Groups come in random order, and a few at a time are
    mixed: as many as the memory holds the chunks of.

    Parameters
    ----------
    array, size, starts
        A level of an image, how many pixels a patch has, and where the patches are.
    memory
        Bytes of chunks that are kept.
    seed
        Which order.
    """
    rng = np.random.default_rng(seed)
    groups = _chunk_of(array, starts, _together(array, size, memory))
    _, group = np.unique(groups, axis=0, return_inverse=True)
    count = int(np.max(group, initial=-1)) + 1
    window = rng.permutation(count)[group.ravel()] // _WINDOW
    return np.lexsort([rng.random(len(starts)), window])


def _chunks(array: xr.DataArray) -> list[Sequence[int]]:
    """Return the sizes of the chunks along the axes that patches have a place along."""
    found = pyramid.chunks_of(array.variable, BY)
    if found is None:
        return [[array.sizes[dim]] for dim in axes_of(array)]
    own = dict(zip(map(str, array.dims), found, strict=True))
    return [own[dim] for dim in axes_of(array)]


def _chunk_of(array: xr.DataArray, starts: Starts, together: Sequence[int]) -> NDArray[np.int64]:
    """Return which chunk each patch begins in, (n, axes), or which group of neighbouring ones."""
    found = np.empty_like(starts)
    for i, (sizes, times) in enumerate(zip(_chunks(array), together, strict=True)):
        ends = np.cumsum(sizes)[:-1]
        found[:, i] = np.searchsorted(ends, starts[:, i], side="right") // times
    return found


def _together(array: xr.DataArray, size: Mapping[str, int], memory: int) -> list[int]:
    """Return how many chunks along each axis make a group whose patches the memory has room for."""
    chunks = _chunks(array)
    channels = array.sizes.get(image.channel_dim(array) or "", 1)
    largest = [max(sizes, default=1) for sizes in chunks]
    dims = axes_of(array)

    def needed(times: Sequence[int]) -> int:
        sides = (  # the last patch of a group reaches into the chunks after it
            min(array.sizes[dim], n * chunk + -(-(size.get(dim, 1) - 1) // chunk) * chunk)
            for dim, n, chunk in zip(dims, times, largest, strict=True)
        )
        return math.prod(sides) * channels * array.dtype.itemsize

    times = [1] * len(chunks)
    while True:
        short = [
            (times[i] * largest[i], i) for i, sizes in enumerate(chunks) if times[i] < len(sizes)
        ]
        larger = [
            [2 * n if i == axis else n for i, n in enumerate(times)] for _, axis in sorted(short)
        ]
        fitting = [each for each in larger if needed(each) * _PART <= memory]
        if not fitting:
            return times
        times = fitting[0]
