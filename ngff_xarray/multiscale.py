"""An image of one level -> a tree with the levels above it, computed when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import geometry, image, layout, pyramid, units
from ngff_xarray.describe import described, ome_attrs, other_attributes
from ngff_xarray.errors import NotOmeError, SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.lazy import Coordinates
from ngff_xarray.model import Axis, Image, Level
from ngff_xarray.pyramid import PlannedLevel
from ngff_xarray.text import printable
from ngff_xarray.transforms import Scale, Transformation, Translation, simplify
from ngff_xarray.transforms import Sequence as Steps

Factors = int | Mapping[str, int]


def multiscale(
    obj: Obj,
    *,
    levels: int | None = None,
    scale_factors: Sequence[Factors] | None = None,
    sizes: Sequence[Mapping[str, int]] | None = None,
    smallest: int | Mapping[str, int] | None = None,
    method: str | None = None,
    keep_ids: bool = False,
) -> xr.DataTree:
    """Return an image with the levels of a pyramid, which are computed when pixels are asked for.

    Parameters
    ----------
    obj
        The image; of a tree of several levels, the finest is taken.
    levels
        How many levels there are to be. By default a level that fits into one chunk is the last.
    scale_factors
        How many pixels of one level become one of the next, a number for all axes of space or a
        dict by axis, for each level above the finest. By default the axes with the smallest pixels
        are halved, until pixels are as deep as they are wide; then all are.
    sizes
        How many pixels each level above the finest has, by axis; an axis that is left out stays as
        it is. Only sizes that whole factors make are possible.
    smallest
        The last level is the first that has no more pixels along any axis of space, or along those
        that are named.
    method
        ``"mean"`` (of the pixels of the finest level, rounded half to even), ``"mode"``,
        ``"nearest"``, ``"max"``, ``"min"`` or ``"median"`` (of the pixels of the level before), or
        ``"gaussian"`` (smoothed, which keeps out what a level cannot show; see
        `ngff_xarray.pyramid.smoothing`). By default the mode for label images, which never makes a
        label that was not there, and the mean for others. Pixels that are NaN do not count.
    keep_ids
        Whether labels keep all their ids: with the mode, an id that would have no pixel of a level
        gets one of a block of the level before that it lies in, unless each of these is the only
        pixel of another id. All other pixels are the mode. Each time point and channel is an image
        of its own. Which ids these are takes a look at all of a level: what is written is read
        once, but of levels that are computed the first pixel takes a while. Regions that are
        written later have the mode again.

    Returns
    -------
    DataTree
        With the nodes ``0``, ``1``, …; translations say where the pixels of each level are.

    Raises
    ------
    SelectionError
        If the arguments make no sense, or not for this image.

    Examples
    --------
    >>> import numpy as np, ngff_xarray
    >>> image = xr.DataArray(np.arange(64.0).reshape(8, 8), dims=("y", "x"))
    >>> tree = multiscale(image, scale_factors=[2, {"x": 4}])
    >>> [level.shape for level in tree.ngff.levels]
    [(8, 8), (4, 4), (4, 1)]
    >>> tree.ngff.level(1).x.values
    array([0.5, 2.5, 4.5, 6.5])
    >>> tree = multiscale(image, sizes=[{"y": 4, "x": 2}])
    >>> [level.shape for level in tree.ngff.levels]
    [(8, 8), (4, 2)]
    """
    finest = image.levels(obj)[0]
    is_labels = image.kind(obj) == "labels"
    if method is None:
        method = _default(finest, is_labels=is_labels or keep_ids)
    _check_keeps(finest, method, keep_ids)
    centred = pyramid.is_centred(method, finest.dtype)
    axes = image.axes(finest)
    is_space = [axis.type == "space" for axis in axes]
    chunks = pyramid.chunk_sizes(finest.shape, is_space, finest.dtype.itemsize)
    planned = _planned(finest, axes, chunks, levels, scale_factors, sizes, smallest)
    content = described(finest)
    if not isinstance(content, Image):
        raise NotOmeError(
            "expected an image or a label image: take one of the images in it, .ngff.images"
        )
    place = geometry.placement(finest, axes)
    if "omero" not in image.ome(finest):  # which was made up: a writer finds the real ranges
        content = replace(content, omero=None)
    placed = [
        Level(str(number), _placed(place, level, centred=centred))
        for number, level in enumerate(planned)
    ]
    made = replace(content.multiscale, levels=tuple(placed))
    if len(planned) > 1:
        said = _provenance(planned, axes, method, keep_ids=keep_ids)
        made = replace(made, type=method, metadata=said)
    frames = [i for i, axis in enumerate(axes) if axis.type != "space" and _stays(planned, i)]
    above = pyramid.variables(finest.variable, planned, method, frames if keep_ids else None)
    arrays = (finest.variable, *above)
    tree = _tree(replace(content, multiscale=made), arrays, chunks, finest, is_labels=is_labels)
    return _with_rest(tree, obj)


def _default(finest: xr.DataArray, *, is_labels: bool) -> str:
    if is_labels:
        return "mode"
    return "mean" if finest.dtype.kind in "biuf" else "nearest"


def _check_keeps(finest: xr.DataArray, method: str, keep_ids: bool) -> None:
    if keep_ids and (method != "mode" or finest.dtype.kind not in "biu"):
        raise SelectionError(
            f"keep_ids: only labels have ids: expected integers and method='mode', found "
            f"{finest.dtype} and {printable(method, 40)!r}"
        )


def _stays(planned: Sequence[PlannedLevel], axis: int) -> bool:
    """Tell whether an axis has as many pixels at each level."""
    return all(level.factors[axis] == 1 for level in planned)


def _planned(
    finest: xr.DataArray,
    axes: Sequence[Axis],
    chunks: Sequence[int],
    levels: int | None,
    scale_factors: Sequence[Factors] | None,
    sizes: Sequence[Mapping[str, int]] | None,
    smallest: int | Mapping[str, int] | None,
) -> tuple[PlannedLevel, ...]:
    given = {
        "levels": levels,
        "smallest": smallest,
        "scale_factors": scale_factors,
        "sizes": sizes,
    }
    told = [name for name, value in given.items() if value is not None]
    if len(told) > 1:
        raise SelectionError(f"give one of {', '.join(given)}; found {', '.join(told)}")
    if levels is not None:
        _check_number("levels", levels)
    if scale_factors is not None:
        return _by_factors(finest, axes, scale_factors)
    if sizes is not None:
        return _by_sizes(finest, axes, sizes)
    until = chunks if smallest is None else _until(axes, finest.shape, smallest)
    return pyramid.plan(finest.shape, _pixel_sizes(finest, axes), until, levels=levels)


def _until(axes: Sequence[Axis], shape: Sequence[int], smallest: Any) -> list[int]:
    """Return how many pixels the last level may have along each axis."""
    if not isinstance(smallest, Mapping):
        _check_number("smallest", smallest)
        return [smallest] * len(axes)
    _check_axes("smallest", smallest, axes)
    for name, size in smallest.items():
        _check_number(f"smallest: {name}", size)
    return [smallest.get(axis.name, size) for axis, size in zip(axes, shape, strict=True)]


def _check_number(name: str, value: Any) -> None:
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (is_number and value > 0):
        raise SelectionError(f"{name}: expected a number of at least 1, found {value!r}")


def _check_axes(what: str, found: Mapping[str, Any], axes: Sequence[Axis]) -> None:
    unknown = [name for name in found if name not in {axis.name for axis in axes}]
    if unknown:
        names = ", ".join(axis.name for axis in axes)
        raise SelectionError(
            f"{what}: there is no axis {printable(unknown[0], 40)!r}; the axes are {names}"
        )


def _by_sizes(
    finest: xr.DataArray, axes: Sequence[Axis], sizes: Sequence[Mapping[str, int]]
) -> tuple[PlannedLevel, ...]:
    found = list(pyramid.plan(finest.shape, [None] * finest.ndim, finest.shape, levels=1))
    if not isinstance(sizes, list | tuple) or not all(isinstance(e, Mapping) for e in sizes):
        raise SelectionError(
            f"sizes: expected a list with a dict by axis for each level above the finest, found "
            f"{printable(sizes, 80)}"
        )
    for each in sizes:
        _check_axes("sizes", each, axes)
        step = [
            _factor(axis.name, before, each.get(axis.name, before))
            for axis, before in zip(axes, found[-1].shape, strict=True)
        ]
        if max(step, default=1) == 1:
            raise SelectionError(
                f"sizes: expected a level that is smaller than the one before, found {each!r}"
            )
        found.append(pyramid.below(found[-1], step))
    return tuple(found)


def _factor(name: str, before: int, size: Any) -> int:
    """Return how many pixels become one, so that there are so many."""
    if size == before:
        return 1
    _check_number(f"sizes: {name}", size)
    factor = -(-before // size)
    if -(-before // factor) != size:
        near = sorted({-(-before // f) for f in (factor, max(factor - 1, 1))})
        raise SelectionError(
            f"sizes: whole factors make no {size} of {before} pixels along {name}; the nearest "
            f"that would do: {' or '.join(map(str, near))}"
        )
    return int(factor)


def _by_factors(
    finest: xr.DataArray, axes: Sequence[Axis], scale_factors: Sequence[Factors]
) -> tuple[PlannedLevel, ...]:
    found = list(pyramid.plan(finest.shape, [None] * finest.ndim, finest.shape, levels=1))
    if not isinstance(scale_factors, list | tuple):
        raise SelectionError(f"scale_factors: expected a list, found {scale_factors!r}")
    for factors in scale_factors:
        if isinstance(factors, Mapping):
            _check_axes("scale_factors", factors, axes)
            step = [factors.get(axis.name, 1) for axis in axes]
        else:
            step = [factors if axis.type == "space" else 1 for axis in axes]
        whole = all(isinstance(n, int | np.integer) and n > 0 for n in step)
        if not whole or max(step) == 1:
            raise SelectionError(
                f"scale_factors: expected whole numbers, one of them at least 2, found {factors!r}"
            )
        found.append(pyramid.below(found[-1], [int(n) for n in step]))
    return tuple(found)


def _pixel_sizes(finest: xr.DataArray, axes: Sequence[Axis]) -> list[float | None]:
    """Return the pixel sizes of the axes of space in one unit, where they all have units."""
    sizes = image.pixel_sizes(finest)
    space = [axis for axis in axes if axis.type == "space"]
    unit = next((axis.unit for axis in space), None)
    alike = all(axis.unit is not None for axis in space)
    return [
        None
        if axis.type != "space"
        else abs(sizes.get(axis.name, 1.0)) * (units.factor(axis.unit, unit) if alike else 1.0)
        for axis in axes
    ]


def _provenance(
    planned: Sequence[PlannedLevel], axes: Sequence[Axis], method: str, *, keep_ids: bool
) -> dict[str, Any]:
    """Return how the levels are made (SPEC "multiscales": ``metadata``)."""
    steps = [
        {axis.name: factor for axis, factor in zip(axes, level.step, strict=True) if factor > 1}
        for level in planned[1:]
    ]
    description = pyramid.DESCRIPTIONS[method]
    if keep_ids:
        description += "; an id that would have no pixel gets one of a block that it lies in"
    kept = {"keep_ids": True} if keep_ids else {}
    return {
        "description": description,
        "method": "ngff_xarray.multiscale.multiscale",
        "version": metadata.version("ngff-xarray"),
        "kwargs": {"method": method, "scale_factors": steps, **kept},
    }


def _placed(finest: Transformation, level: PlannedLevel, *, centred: bool) -> Transformation:
    """Return where the pixels of a level are, by where those of the finest are."""
    shift = tuple((factor - 1) / 2 if centred else 0.0 for factor in level.factors)
    steps = (Scale(tuple(map(float, level.factors))), Translation(shift), finest)
    return simplify(Steps(steps), len(shift))


def _tree(
    content: Image,
    arrays: Sequence[xr.Variable],
    chunks: Sequence[int],
    finest: xr.DataArray,
    *,
    is_labels: bool,
) -> xr.DataTree:
    name = "labels" if is_labels else "image"
    while name in finest.dims:
        name += "_"
    ome = ome_attrs(content)
    nodes = {"/": xr.Dataset(attrs={"ome": ome})}
    coordinates = Coordinates()
    for level, variable in zip(content.multiscale.levels, arrays, strict=True):
        coords: dict[Any, Any] = dict(coordinates.of_level(content, level, variable.shape))
        if level is content.multiscale.levels[0]:
            coords |= finest.coords
        own = variable.copy(deep=False)
        own.attrs = {**variable.attrs, "ome": ome}
        own.encoding = layout.of_level(finest.encoding, own.shape, chunks)
        nodes[level.path] = xr.Dataset({name: own}, coords=coords)
    tree = xr.DataTree.from_dict(nodes)
    tree.encoding = {"level_paths": tuple(level.path for level in content.multiscale.levels)}
    return tree


def _with_rest(tree: xr.DataTree, obj: Obj) -> xr.DataTree:
    """Return the tree with what else an object has that is a tree: attributes, label images."""
    if not isinstance(obj, xr.DataArray):
        tree.attrs = {**other_attributes(obj), **tree.attrs}
    version = image.version(obj)
    if version is not None:
        tree.encoding = {**tree.encoding, "ome_version": version}
    if isinstance(obj, xr.DataTree) and "labels" in obj.children:
        tree["labels"] = obj["labels"].copy(deep=False)
    return tree
