"""Where the objects of a label image are: their centres and boxes, found a block at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image
from ngff_xarray.errors import NotOmeError, UnsupportedError
from ngff_xarray.export.looks import placed
from ngff_xarray.progress import Bar
from ngff_xarray.write.levels import blocks

if TYPE_CHECKING:
    import pandas as pd


def label_boxes(
    array: xr.DataArray, axes: Mapping[str, str], bar: Bar | None = None
) -> pd.DataFrame:
    """Return a row an object and time: its centre and its box, in the units of the axes.

    Parameters
    ----------
    array
        A level of a label image; of several channels the first counts. 0 is the background.
    axes
        The letter of each dimension in the names of the columns: ``{"y": "y", "x": "x"}``.
    bar
        Counts the bytes that are read.

    Returns
    -------
    pandas.DataFrame
        ``label_id``, ``timepoint`` (the number of the time), ``pixels``, and for each letter
        ``anchor_x`` (the mean of the pixels' centres), ``bb_min_x`` and ``bb_max_x`` (the outer
        edges of the pixels).

    Raises
    ------
    NotOmeError
        If it holds no integers.
    UnsupportedError
        If it is rotated or sheared.

    Examples
    --------
    >>> labels = xr.DataArray(np.array([[0, 3, 3], [0, 0, 3]]), dims=("y", "x"))
    >>> found = label_boxes(labels, {"y": "y", "x": "x"})
    >>> found[["label_id", "bb_min_x", "bb_max_x"]].values.tolist()
    [[3.0, 0.5, 2.5]]
    """
    import pandas as pd

    if array.dtype.kind not in "bui":
        raise NotOmeError(
            f"labels must be integers, found {array.dtype}: convert them, as with .astype('uint32')"
        )
    dims = list(axes)
    place = placed(array, dims)
    if place.scale is None:
        raise UnsupportedError(
            "this label image is rotated or sheared: no box of its axes holds an object: resample "
            "it first: tree.ngff.resample(system=…)"
        )
    found = pd.concat(_parts(array, dims, bar or Bar()))
    how = {"pixels": "sum"}
    for dim in dims:
        how |= {f"sum {dim}": "sum", f"min {dim}": "min", f"max {dim}": "max"}
    rows = found.groupby(["timepoint", "label_id"]).agg(how)
    columns: dict[str, Any] = {"label_id": rows.index.get_level_values("label_id")}
    columns["timepoint"] = rows.index.get_level_values("timepoint")
    columns["pixels"] = rows["pixels"].to_numpy()
    for dim, scale, origin in zip(dims, place.scale, place.origin, strict=True):
        letter, half = axes[dim], abs(scale) / 2
        ends = [rows[f"{end} {dim}"].to_numpy() * scale + origin for end in ("min", "max")]
        columns[f"anchor_{letter}"] = (
            rows[f"sum {dim}"].to_numpy() / rows["pixels"] * scale + origin
        )
        columns[f"bb_min_{letter}"] = np.minimum(*ends) - half
        columns[f"bb_max_{letter}"] = np.maximum(*ends) + half
    return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})


def _parts(array: xr.DataArray, dims: Sequence[str], bar: Bar) -> list[pd.DataFrame]:
    """Return what is found of the objects in each block."""
    channel = image.channel_dim(array)
    if channel is not None:
        array = array.isel({channel: slice(0, 1)})
    time = next((axis.name for axis in image.axes(array) if axis.type == "time"), None)
    unit = array.encoding.get("shards") or array.encoding.get("chunks") or array.shape
    unit = [min(size, whole) for size, whole in zip(unit, array.shape, strict=True)]
    bar.more(array.nbytes)
    names = [str(dim) for dim in array.dims]
    # with nothing in it first, for what every column holds
    nothing = np.empty((0,) * array.ndim, array.dtype)
    found = [_objects(nothing, [0] * array.ndim, names, dims, time)]
    for block in blocks(array.shape, unit, array.dtype.itemsize * 4):
        pixels = np.asarray(array[block].values)
        found.append(_objects(pixels, [part.start for part in block], names, dims, time))
        bar.did(pixels.nbytes)
        bar.show()
    return found


def _objects(
    pixels: NDArray[Any],
    starts: Sequence[int],
    names: Sequence[str],
    dims: Sequence[str],
    time: str | None,
) -> pd.DataFrame:
    """Return the number of pixels of each object, and of their indices the sum and the ends."""
    import pandas as pd

    pixels = pixels.view(np.uint8) if pixels.dtype == bool else pixels
    at = dict(zip(names, np.nonzero(pixels), strict=True))
    values = pixels[pixels != 0]
    when = at[time] + starts[names.index(time)] if time is not None else np.zeros_like(values, int)
    order = np.lexsort((values, when))
    values, when = values[order], when[order]
    changes = (values[1:] != values[:-1]) | (when[1:] != when[:-1])
    first = np.flatnonzero(np.concatenate([np.ones(min(values.size, 1), bool), changes]))
    columns = {
        "timepoint": when[first],
        "label_id": values[first],
        "pixels": np.diff(np.append(first, values.size)),
    }
    for dim in dims:
        index = at[dim][order] + starts[names.index(dim)]
        for what, ufunc in (("sum", np.add), ("min", np.minimum), ("max", np.maximum)):
            reduced = ufunc.reduceat(index, first) if first.size else np.empty(0, np.int64)
            columns[f"{what} {dim}"] = reduced
    return pd.DataFrame(columns)
