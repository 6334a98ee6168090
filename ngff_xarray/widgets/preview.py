"""A function on one region, and its result in the viewer, before it is run on everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_xarray import image, ops, selection
from ngff_xarray.analyse import images
from ngff_xarray.analyse.applying import chosen
from ngff_xarray.analyse.blocks import planned
from ngff_xarray.analyse.functions import Function, Result
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.widgets.viewer import Viewer, view

if TYPE_CHECKING:
    from typing import Unpack

    from ngff_xarray.analyse.applying import ApplyOptions


def preview(
    obj: Obj,
    func: Callable[..., Any],
    region: Mapping[str, Any],
    *,
    to: Any = None,
    level: object = 0,
    **options: Unpack[ApplyOptions],
) -> Viewer:
    """Return a viewer of a region and of what a function makes of it; nothing is written.

    Parameters
    ----------
    obj
        An image.
    func
        A function, as `ngff_xarray.analyse.applying.apply` takes it. It gets the region with its
        halo as one block.
    region
        Where, as ``tree.ngff.sel`` takes it: ``{"x": slice("40 µm", "90 µm"), "z": "3 µm"}``.
    to, level, options
        As `apply` takes them, so that one call serves both; those of storing mean nothing here.

    Raises
    ------
    SelectionError
        If the function returns a table, or the region is not in the image.
    BlockError
        If the function fails.

    Examples
    --------
    >>> import xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> viewer = preview(tree, lambda block: block > 100, {"y": slice("10 µm", "40 µm")})
    >>> [label.name for label in viewer.view.layers[0].labels]
    ['preview']
    >>> viewer.close()
    """
    array = chosen(obj, ops.which_level(image.levels(obj), level), options.get("channels"))
    where = selection.positions(array, region)
    box = tuple(_side(where.get(str(dim), slice(0, n))) for dim, n in array.sizes.items())
    whole = {axis.name: "1 px" for axis in image.axes(array) if axis.type != "channel"}
    blocks = planned(
        array, whole, options.get("halo"), array.shape, options.get("boundary", "clip")
    )
    block = blocks.around(box)
    function = Function.of(func, array, blocks, options.get("kwargs") or {}, 1)
    found = function.called(block)
    if not isinstance(found, Result):
        raise SelectionError("preview: the function returned a table, which is no picture")
    single = {dim: 0 for dim, at in where.items() if not isinstance(at, slice)}
    made = images.part(function, found, block)
    made = made.isel({dim: at for dim, at in single.items() if dim in made.dims})
    if made.ndim < 2:
        raise SelectionError(
            f"preview: the function returned {' x '.join(map(str, made.dims)) or 'one number'}, "
            "which is no picture: expected an image, or labels"
        )
    cropped: Any = selection.sel(obj, region)  # type: ignore[type-var]  # of any of them
    if made.dtype.kind in "biu":
        found_labels = made.astype("uint32").rename("labels")
        return view(cropped, labels=found_labels.assign_attrs(ome={"name": "preview"}))
    return view({"image": cropped, "result": made})


def _side(at: Any) -> slice:
    if isinstance(at, slice):
        return at
    if isinstance(at, int | np.integer):
        return slice(int(at), int(at) + 1)
    raise SelectionError(f"preview: expected a region or a position, found {at!r}")
