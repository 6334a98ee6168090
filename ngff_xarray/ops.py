"""Verbs on xarray objects that hold an image: a tree of levels, one level, or an array."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from ngff_xarray import units
from ngff_xarray.errors import MissingDependencyError, NotOmeError, SelectionError
from ngff_xarray.image import (
    Obj,
    axes,
    group_kind,
    level_nodes,
    levels,
    pixel_sizes,
    plane_dims,
    with_ome,
)

ObjT = TypeVar("ObjT", xr.DataArray, xr.Dataset, xr.DataTree)


def level(
    obj: Obj,
    number: int | None = None,
    *,
    pixel_size: object = None,
    max_pixels: int | None = None,
    nbytes: int | str | None = None,
) -> xr.DataArray:
    """Return one level of an image, chosen by exactly one of the criteria.

    Parameters
    ----------
    number
        Its place, 0 being the finest and -1 the coarsest.
    pixel_size
        A length (``"0.5 µm"``, a quantity, or a number in the axes' unit): the coarsest level
        whose pixels are no larger, or the finest if all are. Axes that are coarser than this at
        the finest level already (z, often) do not count.
    max_pixels
        The finest level whose y-x plane has no more pixels, or the coarsest if none has.
    nbytes
        The finest level that takes no more memory (``"100 MB"``), or the coarsest.

    Raises
    ------
    SelectionError
        If there is no level of that number, or not exactly one criterion.
    UnitError
        If the pixel size is no length.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> tree = xr.open_datatree(sample("cell"))
    >>> level(tree, pixel_size="0.5 µm").shape, level(tree, nbytes="100 kB").shape
    ((1, 165, 138), (1, 330, 275))
    """
    arrays = levels(obj)
    return arrays[
        level_number(
            arrays, number=number, pixel_size=pixel_size, max_pixels=max_pixels, nbytes=nbytes
        )
    ]


def level_number(arrays: Sequence[xr.DataArray], **criteria: object) -> int:
    """Return which of the levels fits exactly one criterion, as `level` takes them."""
    name, value = _criterion(**criteria)
    return _CRITERIA[name](arrays, value)


def which_level(arrays: Sequence[xr.DataArray], which: object) -> int:
    """Return which of the levels a number or a pixel size means."""
    by_number = isinstance(which, int | np.integer)
    return (_by_number if by_number else _by_pixel_size)(arrays, which)


def _criterion(**criteria: object) -> tuple[str, Any]:
    given = [(name, value) for name, value in criteria.items() if value is not None]
    if len(given) != 1:
        found = ", ".join(name for name, _ in given) or "none"
        raise SelectionError(
            f"choose a level by exactly one of {', '.join(criteria)}; found {found}"
        )
    return given[0]


def _by_number(arrays: Sequence[xr.DataArray], number: Any) -> int:
    if not isinstance(number, int | np.integer) or isinstance(number, bool):
        raise SelectionError(f"level: expected a number, found {number!r}")
    if not -len(arrays) <= number < len(arrays):
        sizes = "; ".join(f"{i}: {_sizes(array)}" for i, array in enumerate(arrays))
        raise SelectionError(f"there is no level {number}; the levels are {sizes}")
    return int(number)


def _sizes(array: xr.DataArray) -> str:
    return " x ".join(f"{dim} {size}" for dim, size in array.sizes.items())


def _by_pixel_size(arrays: Sequence[xr.DataArray], wanted: object) -> int:
    limits = _limits(arrays[0], wanted)
    if not limits:
        return 0
    good = 0
    for i, array in enumerate(arrays):
        sizes = pixel_sizes(array)
        if all(sizes.get(dim, 0) <= limit * (1 + 1e-9) for dim, limit in limits.items()):
            good = i
    return good


def _limits(finest: xr.DataArray, wanted: object) -> dict[str, float]:
    """Return the largest pixel size wanted on each space axis that has finer ones."""
    sizes = pixel_sizes(finest)
    limits = {}
    for axis in axes(finest):
        if axis.type == "space" and axis.name in sizes:
            limit = units.magnitude(wanted, axis.unit)
            if not limit > 0:
                raise SelectionError(f"pixel_size: expected more than 0, found {wanted!r}")
            if sizes[axis.name] <= limit * (1 + 1e-9):
                limits[axis.name] = limit
    return limits


def _by_plane(arrays: Sequence[xr.DataArray], most: Any) -> int:
    if isinstance(most, bool) or not isinstance(most, int | float | np.number):
        raise SelectionError(f"max_pixels: expected a number, found {most!r}")
    fitting = (math.prod(array.sizes[dim] for dim in plane_dims(array)) <= most for array in arrays)
    return next((i for i, fits in enumerate(fitting) if fits), len(arrays) - 1)


def _by_nbytes(arrays: Sequence[xr.DataArray], most: int | str) -> int:
    budget = units.byte_count(most)
    return next((i for i, array in enumerate(arrays) if array.nbytes <= budget), len(arrays) - 1)


_CRITERIA: Mapping[str, Callable[[Sequence[xr.DataArray], Any], int]] = {
    "number": _by_number,
    "pixel_size": _by_pixel_size,
    "max_pixels": _by_plane,
    "nbytes": _by_nbytes,
}


def level_dataset(tree: xr.DataTree, which: object) -> xr.Dataset:
    """Return one level as a Dataset of its own, with the image's attributes.

    ``which`` is the level's number, or a pixel size as `level` takes it.
    """
    nodes = level_nodes(tree)
    kind = group_kind(tree)
    if kind is not None:
        raise NotOmeError(
            f"this is a {kind}, no image: open it with xr.open_datatree(path), or one of its "
            "images with group=…"
        )
    if not nodes:
        raise NotOmeError("no level is left to open: the image variable was dropped")
    node, _ = nodes[which_level(levels(tree), which)]
    dataset = node.to_dataset().assign_attrs(tree.attrs)
    dataset.encoding = {**tree.encoding, **node.encoding}
    return dataset


def map_levels(tree: xr.DataTree, func: Callable[..., xr.DataArray], **kwargs: Any) -> xr.DataTree:
    """Return the tree with a function applied to the array of every level; labels stay.

    Parameters
    ----------
    func
        Takes a DataArray and gives one back.
    **kwargs
        For ``func``.

    Raises
    ------
    TypeError
        If ``func`` gives back something else.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> tree = xr.open_datatree(sample("cell"))
    >>> map_levels(tree, lambda image: image.max("c"))["1/image"].dims
    ('y', 'x')
    """
    results = {}
    for (node, name), array in zip(level_nodes(tree), levels(tree), strict=True):
        result = func(array, **kwargs)
        if not isinstance(result, xr.DataArray):
            raise TypeError(f"func must return a DataArray, found {type(result).__name__}")
        results[node.path] = with_ome(result, array.attrs.get("ome")).to_dataset(name=name)
    return rebuilt(tree, results)


def rebuilt(tree: xr.DataTree, changed: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """Return a tree of its own with the Datasets of some nodes changed."""
    nodes = {}
    for node in tree.subtree:
        dataset = changed.get(node.path)
        if dataset is None:
            dataset = node.to_dataset(inherit=False)
        else:
            dataset = dataset.assign_attrs({**node.attrs, **dataset.attrs})
            dataset.encoding = node.encoding
        nodes[node.path.removeprefix(tree.path.rstrip("/")) or "/"] = dataset
    return xr.DataTree.from_dict(nodes, name=tree.name)


def quantify(obj: ObjT) -> ObjT:
    """Return the object with pint quantities as coordinates, through pint-xarray.

    Only coordinates get units, so that no pixel is read; the unit of the pixel values, where
    there is one, is the caller's to attach.

    Raises
    ------
    MissingDependencyError
        If pint-xarray is not installed.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> image = quantify(xr.open_dataset(sample("cell"))["image"])
    >>> str(image["x"].pint.units)
    'micrometer'
    """
    try:
        import pint_xarray  # noqa: F401  # registers the accessor
    except ImportError as error:
        raise MissingDependencyError("pint-xarray", "pint", "quantify()") from error
    if isinstance(obj, xr.DataTree):
        return map_levels(obj, quantify)
    known = {axis.name: axis.unit for axis in axes(obj) if axis.unit and axis.name in obj.coords}
    bare = xr.Dataset(coords={name: obj.coords[name].drop_attrs() for name in known})
    quantified = bare.pint.quantify(known)
    for name, unit in known.items():
        attrs = {key: value for key, value in obj.coords[name].attrs.items() if key != "units"}
        if "pixel_size" in attrs:
            # with its unit, which the coordinate may change; as text, which can be written
            attrs["pixel_size"] = f"{attrs['pixel_size']!r} {unit}"
        quantified[name].attrs.update(attrs)
    return obj.assign_coords(quantified.coords)
